//! Passwords that are changed and reset, and sign-ins that are seen and ended. On both databases.

use lantern_control::reset_by_operator;
use lantern_policy::Role;
use lantern_types::Dur;
use lantern_types::edge::Clock as _;
use serde_json::{Value, json};

use crate::app::{Answer, TestApp, on_both, person, request};
use crate::members::{PASSWORD, joined, login};

const EMAIL: &str = "ada@example.com";
const NEW: &str = "another horse battery";

on_both! {
    a_new_password_ends_the_other_sign_ins: changed;
    a_reset_is_good_once_and_ends_every_sign_in: reset_once;
    a_reset_is_made_by_whoever_is_above: reset_by_whom;
    an_operator_makes_a_reset_for_anybody: operator;
    a_sign_in_beside_a_reset_leaves_nobody_in: beside_a_reset;
    somebody_sees_and_ends_their_own_sign_ins: own_sign_ins;
}

fn token(signed_in: &Value) -> &str {
    signed_in["token"].as_str().unwrap()
}

async fn is_in(test: &TestApp, signed_in: &Value) -> bool {
    test.get(token(signed_in), "/auth/me").await.status == 200
}

async fn change(test: &TestApp, by: &str, current: &str, new: &str) -> Answer {
    test.post(by, "/auth/password", json!({"currentPassword": current, "newPassword": new})).await
}

async fn reset(test: &TestApp, token: &str) -> Answer {
    let body = json!({"token": token, "newPassword": NEW});
    test.send(request("POST", "/auth/password-reset", None, Some(body))).await
}

async fn changed(test: &TestApp) {
    let first = joined(test, EMAIL, "viewer").await;
    let second = login(test, EMAIL, PASSWORD).await.is(200).json;
    let wrong = change(test, token(&first), "wrong", NEW).await.refused(400, "wrong_password");
    assert_eq!(wrong.paths(), ["currentPassword"]);
    let short = change(test, token(&first), PASSWORD, "short").await.refused(400, "invalid_body");
    assert_eq!(short.paths(), ["newPassword"]);
    assert!(is_in(test, &second).await, "nothing has changed");
    change(test, token(&first), PASSWORD, NEW).await.is(204);
    assert!(is_in(test, &first).await && !is_in(test, &second).await);
    login(test, EMAIL, PASSWORD).await.refused(401, "invalid_credentials");
    login(test, EMAIL, NEW).await.is(200);
    change(test, &test.key(&["admin"]).await, PASSWORD, NEW).await.refused(409, "not_signed_in");
    // A sign-in that was stolen finds the password out no faster than anybody.
    for _ in 0..20 {
        if change(test, token(&first), "guess", NEW).await.status == 429 {
            return;
        }
    }
    panic!("as many guesses as anybody likes");
}

async fn reset_once(test: &TestApp) {
    let ada = joined(test, EMAIL, "member").await;
    let path = format!("/v1/members/{}/password-reset", ada["user"]["id"].as_str().unwrap());
    let make = async |by: &str| {
        let made = test.post(by, &path, json!({})).await.is(201).json;
        made["token"].as_str().unwrap().to_owned()
    };
    let (replaced, good) = (make(&test.a.admin).await, make(&test.a.admin).await);
    reset(test, &replaced).await.refused(401, "invalid_reset_token");
    assert!(is_in(test, &ada).await, "a reset that nobody has used changes nothing");
    login(test, EMAIL, PASSWORD).await.is(200);
    let (one, other) = tokio::join!(reset(test, &good), reset(test, &good));
    let mut statuses = [one.status.as_u16(), other.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 401], "{} {}", one.text, other.text);
    assert!(!is_in(test, &ada).await, "whoever had the old password is out");
    login(test, EMAIL, PASSWORD).await.refused(401, "invalid_credentials");
    let ada = login(test, EMAIL, NEW).await.is(200).json;

    let late = make(&test.a.admin).await;
    change(test, token(&ada), NEW, PASSWORD).await.is(204);
    reset(test, &late).await.refused(401, "invalid_reset_token");
    // What was made for a member is none for the owner that they become.
    let early = make(&test.a.admin).await;
    let id = ada["user"]["id"].as_str().unwrap();
    test.patch(&test.a.owner, &format!("/v1/members/{id}"), json!({"role": "owner"})).await.is(200);
    reset(test, &early).await.refused(401, "invalid_reset_token");
    let late = make(&test.a.owner).await;
    test.clock.pass(Dur::from_secs(3_600));
    reset(test, &late).await.refused(401, "invalid_reset_token");
    // Nobody learns from any of these who has an account.
    for bad in ["", "hlx_rst_", "x"].map(|bad| format!("{bad} ")) {
        assert!([400, 401].contains(&reset(test, &bad).await.status.as_u16()));
    }
}

/// A password that was right while it was looked at lets nobody in once it is another.
async fn beside_a_reset(test: &TestApp) {
    let ada = joined(test, EMAIL, "member").await;
    let path = format!("/v1/members/{}/password-reset", ada["user"]["id"].as_str().unwrap());
    for current in [PASSWORD, NEW, NEW] {
        let made = test.post(&test.a.admin, &path, json!({})).await.is(201).json;
        let (entered, done) =
            tokio::join!(login(test, EMAIL, current), reset(test, made["token"].as_str().unwrap()));
        done.is(204);
        assert!(entered.status == 401 || !is_in(test, &entered.json).await, "{}", entered.text);
    }
}

async fn reset_by_whom(test: &TestApp) {
    let path = |role| format!("/v1/members/{}/password-reset", person(test.a.id, role).id);
    let none = json!({});
    test.post(&test.a.member, &path(Role::Viewer), none.clone()).await.refused(403, "role_missing");
    test.post(&test.a.admin, &path(Role::Owner), none.clone()).await.refused(403, "role_above");
    test.post(&test.a.admin, &path(Role::Admin), none.clone()).await.refused(409, "own_account");
    test.post(&test.a.owner, &path(Role::Owner), none.clone()).await.refused(409, "own_account");
    let key = test.key(&["admin"]).await;
    test.post(&key, &path(Role::Admin), none.clone()).await.refused(403, "role_above");
    test.post(&test.b.owner, &path(Role::Viewer), none.clone()).await.refused(404, "member_not_found");
    let other = joined(test, EMAIL, "owner").await["user"]["id"].as_str().unwrap().to_owned();
    let made = test.post(&test.a.owner, &format!("/v1/members/{other}/password-reset"), none).await.is(201);
    assert_eq!(made.json["memberId"], other.as_str());
}

async fn operator(test: &TestApp) {
    joined(test, EMAIL, "owner").await;
    let make = async |email: &str| {
        let now = test.clock.now();
        reset_by_operator(&test.app.db, &*test.app.ids, now, email).await.unwrap()
    };
    assert!(make("nobody@example.com").await.is_none());
    let (made, until) = make(" ADA@example.com").await.unwrap();
    assert!(until > test.clock.now());
    reset(test, made.expose()).await.is(204);
    reset(test, made.expose()).await.refused(401, "invalid_reset_token");
    login(test, EMAIL, NEW).await.is(200);
}

async fn own_sign_ins(test: &TestApp) {
    const SIGN_INS: &str = "/auth/sign-ins";
    let first = joined(test, EMAIL, "viewer").await;
    let mut asked = request("POST", "/auth/login", None, Some(json!({"email": EMAIL, "password": PASSWORD})));
    asked.headers_mut().insert("user-agent", format!("browser/1 {}", "x".repeat(500)).parse().unwrap());
    let second = test.send(asked).await.is(200).json;
    let listed = test.get(token(&second), SIGN_INS).await.is(200).json;
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 2, "one's own alone: {listed:?}");
    assert_eq!((&listed[0]["current"], &listed[1]["current"]), (&json!(true), &json!(false)));
    let client = listed[0]["client"].as_str().unwrap();
    assert!(client.starts_with("browser/1") && client.len() == 200, "{client}");
    assert_eq!(listed[0]["source"], "0.0.0.0");
    assert_eq!(listed[1].get("client"), None);

    let path = format!("{SIGN_INS}/{}", listed[1]["id"].as_str().unwrap());
    test.delete(&test.a.owner, &path).await.refused(404, "sign_in_not_found");
    test.delete(token(&second), &path).await.is(204);
    test.delete(token(&second), &path).await.refused(404, "sign_in_not_found");
    assert!(!is_in(test, &first).await && is_in(test, &second).await);
    let key = test.key(&["admin"]).await;
    test.get(&key, SIGN_INS).await.refused(409, "not_signed_in");

    let id = second["user"]["id"].as_str().unwrap();
    let path = format!("/v1/members/{id}/sign-ins");
    test.delete(&test.a.member, &path).await.refused(403, "role_missing");
    test.delete(&test.b.owner, &path).await.refused(404, "member_not_found");
    test.delete(&test.a.admin, &path).await.is(204);
    assert!(!is_in(test, &second).await);
    login(test, EMAIL, PASSWORD).await.is(200);
}
