//! Second factors: put in place, asked for, used up, taken away. On both databases.

use lantern_edge::totp;
use lantern_policy::Role;
use lantern_types::Dur;
use lantern_types::edge::Clock as _;
use serde_json::{Value, json};

use crate::app::{Answer, TestApp, on_both, person, request};
use crate::members::{PASSWORD, joined, login};

const EMAIL: &str = "ada@example.com";
const TOTP: &str = "/auth/totp";

on_both! {
    a_code_is_asked_for_and_taken_once: asked_for;
    a_recovery_code_is_taken_once: recovered;
    a_factor_is_nothing_until_it_is_confirmed: confirmed;
    a_factor_is_taken_away_by_its_owner_or_whoever_is_above: taken_away;
    codes_are_not_guessed: guessed;
}

/// The bytes of a secret that was shown in base 32.
fn bytes(secret: &str) -> Vec<u8> {
    let value = |letter: char| "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".find(letter).unwrap();
    let five = |letter| format!("{:05b}", value(letter)).into_bytes();
    let bits = String::from_utf8(secret.chars().flat_map(five).collect()).unwrap();
    (0..bits.len() / 8).map(|n| u8::from_str_radix(&bits[8 * n..8 * n + 8], 2).unwrap()).collect()
}

/// The code that the app shows now.
pub(crate) fn code(test: &TestApp, secret: &[u8]) -> String {
    totp::code(secret, totp::step(test.clock.now()))
}

fn token(signed_in: &Value) -> &str {
    signed_in["token"].as_str().unwrap()
}

async fn begin(test: &TestApp, by: &str) -> Vec<u8> {
    let begun = test.post(by, TOTP, json!({"password": PASSWORD})).await.is(200).json;
    let secret = begun["secret"].as_str().unwrap();
    assert!(begun["uri"].as_str().unwrap().contains(&format!("secret={secret}&")), "{begun}");
    bytes(secret)
}

/// Somebody who signs in with a code: signed in, their secret, and their recovery codes.
pub(crate) async fn enrolled(test: &TestApp) -> (Value, Vec<u8>, Vec<String>) {
    let ada = joined(test, EMAIL, "member").await;
    let secret = begin(test, token(&ada)).await;
    let shown = json!({"code": code(test, &secret)});
    let done = test.post(token(&ada), &format!("{TOTP}/confirm"), shown).await.is(200).json;
    let codes = done["recoveryCodes"].as_array().unwrap();
    let codes: Vec<String> = codes.iter().map(|code| code.as_str().unwrap().to_owned()).collect();
    test.clock.pass(totp::STEP);
    (ada, secret, codes)
}

async fn with(test: &TestApp, password: &str, code: &str) -> Answer {
    let body = json!({"email": EMAIL, "password": password, "code": code});
    test.send(request("POST", "/auth/login", None, Some(body))).await
}

async fn asked_for(test: &TestApp) {
    let (ada, secret, codes) = enrolled(test).await;
    assert_eq!((secret.len(), codes.len()), (20, 10));
    let shown = test.get(token(&ada), TOTP).await.is(200);
    assert_eq!((&shown.json["enabled"], &shown.json["recoveryCodesLeft"]), (&json!(true), &json!(10)));
    assert!(!shown.text.contains(&totp::base32(&secret)), "it was in one answer");
    login(test, EMAIL, PASSWORD).await.refused(401, "second_factor_required");
    // Whoever does not know the password learns nothing of codes.
    login(test, EMAIL, "wrong").await.refused(401, "invalid_credentials");
    with(test, "wrong", &code(test, &secret)).await.refused(401, "invalid_credentials");
    with(test, PASSWORD, "000000").await.refused(401, "wrong_code");

    let now = code(test, &secret);
    let (one, other) = tokio::join!(with(test, PASSWORD, &now), with(test, PASSWORD, &now));
    let mut statuses = [one.status.as_u16(), other.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401], "of all who bring a code one comes in: {} {}", one.text, other.text);
    with(test, PASSWORD, &now).await.refused(401, "wrong_code");
    test.clock.pass(Dur::from_secs(600));
    let before = totp::code(&secret, totp::step(test.clock.now()) - 2);
    with(test, PASSWORD, &before).await.refused(401, "wrong_code");
    with(test, PASSWORD, &format!(" {} ", code(test, &secret))).await.is(200);

    // A page is asked, too.
    let mut page =
        request("POST", "/auth/session", None, Some(json!({"email": EMAIL, "password": PASSWORD})));
    page.headers_mut().insert("x-lantern-page", "1".parse().unwrap());
    test.send(page).await.refused(401, "second_factor_required");
}

async fn recovered(test: &TestApp) {
    let (ada, _, codes) = enrolled(test).await;
    with(test, PASSWORD, &codes[0]).await.is(200);
    with(test, PASSWORD, &codes[0]).await.refused(401, "wrong_code");
    with(test, PASSWORD, &codes[1].to_lowercase().replace('-', " ")).await.is(200);
    assert_eq!(test.get(token(&ada), TOTP).await.is(200).json["recoveryCodesLeft"], 8);
    // Nobody else's.
    let eve = joined(test, "eve@example.com", "member").await;
    let secret = begin(test, token(&eve)).await;
    let shown = json!({"code": code(test, &secret)});
    test.post(token(&eve), &format!("{TOTP}/confirm"), shown).await.is(200);
    let body = json!({"email": "eve@example.com", "password": PASSWORD, "code": codes[2]});
    test.send(request("POST", "/auth/login", None, Some(body))).await.refused(401, "wrong_code");
}

async fn confirmed(test: &TestApp) {
    let ada = joined(test, EMAIL, "viewer").await;
    let ada = token(&ada);
    let confirm = format!("{TOTP}/confirm");
    test.post(ada, &confirm, json!({"code": "000000"})).await.refused(409, "factor_not_begun");
    test.post(ada, TOTP, json!({"password": "wrong"})).await.refused(400, "wrong_password");
    let first = begin(test, ada).await;
    let second = begin(test, ada).await;
    assert_ne!(first, second);
    login(test, EMAIL, PASSWORD).await.is(200);
    let old = json!({"code": code(test, &first)});
    assert_eq!(test.post(ada, &confirm, old).await.refused(400, "invalid_body").paths(), ["code"]);
    test.post(ada, &confirm, json!({"code": code(test, &second)})).await.is(200);
    // The code that confirmed it was used by that.
    with(test, PASSWORD, &code(test, &second)).await.refused(401, "wrong_code");
    test.post(ada, &confirm, json!({"code": code(test, &second)})).await.refused(409, "factor_not_begun");
    test.post(ada, TOTP, json!({"password": PASSWORD})).await.refused(409, "factor_enabled");
    let key = test.key(&["admin"]).await;
    test.get(&key, TOTP).await.refused(409, "not_signed_in");
}

async fn taken_away(test: &TestApp) {
    let (ada, _, codes) = enrolled(test).await;
    let disable = format!("{TOTP}/disable");
    test.post(token(&ada), &disable, json!({"password": "wrong"})).await.refused(400, "wrong_password");
    test.post(token(&ada), &disable, json!({"password": PASSWORD})).await.is(204);
    login(test, EMAIL, PASSWORD).await.is(200);

    let secret = begin(test, token(&ada)).await;
    let shown = json!({"code": code(test, &secret)});
    let fresh = test.post(token(&ada), &format!("{TOTP}/confirm"), shown).await.is(200).json;
    assert_ne!(fresh["recoveryCodes"][0], codes[0].as_str());
    with(test, PASSWORD, &codes[0]).await.refused(401, "wrong_code");
    let path = |id: &str| format!("/v1/members/{id}/totp");
    let id = ada["user"]["id"].as_str().unwrap();
    test.delete(&test.a.member, &path(id)).await.refused(403, "role_missing");
    test.delete(&test.b.owner, &path(id)).await.refused(404, "member_not_found");
    let owner = person(test.a.id, Role::Owner).id.to_string();
    test.delete(&test.a.admin, &path(&owner)).await.refused(403, "role_above");
    test.delete(&test.a.owner, &path(&owner)).await.refused(409, "own_account");
    test.delete(&test.a.admin, &path(id)).await.is(204);
    login(test, EMAIL, PASSWORD).await.is(200);
    // Whoever leaves takes it along.
    let secret = begin(test, token(&ada)).await;
    let shown = json!({"code": code(test, &secret)});
    test.post(token(&ada), &format!("{TOTP}/confirm"), shown).await.is(200);
    test.delete(&test.a.admin, &format!("/v1/members/{id}")).await.is(204);
}

async fn guessed(test: &TestApp) {
    let (_, secret, _) = enrolled(test).await;
    // From a place where they are not signed in.
    let from = |peer: u8, code: String| {
        let body = json!({"email": EMAIL, "password": PASSWORD, "code": code});
        let mut asked = request("POST", "/auth/login", None, Some(body));
        let peer = lantern_edge::request::Peer(std::net::SocketAddr::from(([9, 9, 9, peer], 5)));
        asked.extensions_mut().insert(peer);
        asked
    };
    // One was used up by confirming.
    for peer in 0..4 {
        test.send(from(peer, "000000".to_owned())).await.refused(401, "wrong_code");
    }
    test.send(from(5, "000000".to_owned())).await.refused(429, "login_rate_limited");
    // Where they are signed in, they do not wait.
    with(test, PASSWORD, &code(test, &secret)).await.is(200);
    test.clock.pass(Dur::from_secs(60));
    test.send(from(6, code(test, &secret))).await.is(200);
}
