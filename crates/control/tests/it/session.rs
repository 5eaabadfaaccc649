//! Signing in, tokens, and who one is.

use std::net::SocketAddr;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use http::Request;
use lantern_control::{seed_dev, seed_first};
use lantern_edge::request::Peer;
use lantern_edge::token::Tokens;
use lantern_net::{RealClock, RealIds};
use lantern_policy::Role;
use lantern_store::{Keys, db_test};
use lantern_types::edge::Clock as _;
use lantern_types::{DEV_TENANT, Dur, Secret};
use serde_json::{Value, json};

use crate::app::{Answer, TestApp, Wishes, person, request};

const LOGIN: &str = "/auth/login";

fn login(email: &str, password: &str, peer: [u8; 4]) -> Request<Body> {
    let mut request = request("POST", LOGIN, None, Some(json!({"email": email, "password": password})));
    request.extensions_mut().insert(Peer(SocketAddr::from((peer, 5))));
    request
}

#[tokio::test]
async fn the_seeded_user_signs_in_and_is_who_they_are() {
    let test = TestApp::new().await;
    seed_dev(&test.app).await.unwrap();
    seed_dev(&test.app).await.unwrap();
    let answer = test.send(login(" Admin@Lantern.dev ", "lantern", [1; 4])).await.is(200);
    let user = &answer.json["user"];
    assert_eq!(user["tenantId"], DEV_TENANT.to_string());
    assert_eq!((user["email"].as_str(), user["role"].as_str()), (Some("admin@lantern.dev"), Some("owner")));
    let token = answer.json["token"].as_str().unwrap();
    let mut me = test.get(token, "/auth/me").await.is(200).json;
    let fields = me.as_object_mut().unwrap();
    for (name, want) in [("expiresAt", "expiresAt"), ("signInExpiresAt", "refreshExpiresAt")] {
        // A token's times are whole seconds.
        let second = |at: &Value| at.as_str().unwrap().get(..19).unwrap().to_owned();
        assert_eq!(second(&fields.remove(name).unwrap()), second(&answer.json[want]), "{name}");
    }
    assert_eq!(&me, user);
    assert_eq!(answer.json["expiresIn"], 3_600);
}

#[tokio::test]
async fn the_first_account_owns_a_tenant_of_its_own_and_keeps_its_password() {
    let test = TestApp::new().await;
    let secret = |text: &str| Secret::new(text.to_owned());
    seed_first(&test.app, " Ada@Example.com", secret("correct horse battery")).await.unwrap();
    seed_first(&test.app, "ada@example.com", secret("another password")).await.unwrap();
    let user = test.send(login("ada@example.com", "correct horse battery", [1; 4])).await.is(200).json;
    assert_eq!(user["user"]["role"], "owner");
    assert_ne!(user["user"]["tenantId"], test.a.id.to_string());
    test.send(login("ada@example.com", "another password", [1; 4])).await.is(401);
}

#[tokio::test]
async fn every_way_of_not_signing_in_says_the_same() {
    let test = TestApp::new().await;
    seed_dev(&test.app).await.unwrap();
    for (email, password) in [("admin@lantern.dev", "wrong"), ("nobody@lantern.dev", "lantern"), ("x", "y")] {
        let answer = test.send(login(email, password, [1; 4])).await.refused(401, "invalid_credentials");
        assert_eq!(answer.json["error"], "invalid credentials");
    }
    let empty = test.send(request("POST", LOGIN, None, Some(json!({"email": "", "password": 5})))).await;
    assert_eq!(empty.refused(400, "invalid_body").paths(), ["email", "password"]);
}

#[tokio::test]
async fn tries_are_limited_for_each_address_from_each_peer() {
    let test = TestApp::new().await;
    seed_dev(&test.app).await.unwrap();
    for _ in 0..10 {
        test.send(login("admin@lantern.dev", "wrong", [1; 4])).await.is(401);
    }
    let late =
        test.send(login("ADMIN@lantern.dev", "lantern", [1; 4])).await.refused(429, "login_rate_limited");
    assert!(late.header("retry-after").parse::<u64>().unwrap() <= 6);
    // Nobody else is locked out, and a header does not make one somebody else.
    test.send(login("admin@lantern.dev", "lantern", [2; 4])).await.is(200);
    let mut lying = login("admin@lantern.dev", "lantern", [1; 4]);
    lying.headers_mut().insert("x-forwarded-for", "9.9.9.9".parse().unwrap());
    test.send(lying).await.is(429);
    test.clock.pass(Dur::from_secs(6));
    test.send(login("admin@lantern.dev", "lantern", [1; 4])).await.is(200);
}

#[tokio::test]
async fn a_peer_that_tries_many_addresses_is_limited_too() {
    let test = TestApp::new().await;
    for n in 0..30 {
        test.send(login(&format!("user{n}@lantern.dev"), "guess", [1; 4])).await.is(401);
    }
    test.send(login("fresh@lantern.dev", "guess", [1; 4])).await.refused(429, "login_rate_limited");
    test.send(login("fresh@lantern.dev", "guess", [2; 4])).await.is(401);
    test.clock.pass(Dur::from_secs(2));
    test.send(login("fresh@lantern.dev", "guess", [1; 4])).await.is(401);
}

#[tokio::test]
async fn tokens_end_and_foreign_ones_never_begin() {
    let test = TestApp::new().await;
    let person = person(test.a.id, Role::Owner);
    let token = test.tokens.issue(&person, test.clock.now()).unwrap();
    test.get(&token, "/auth/me").await.is(200);
    let ids = RealIds::new(std::sync::Arc::new(RealClock::new()));
    let foreign = Tokens::new(&Keys::from_ids(&ids)).unwrap().issue(&person, test.clock.now()).unwrap();
    let payload = token.split('.').nth(1).unwrap();
    let none = format!("{}.{payload}.", B64.encode(r#"{"alg":"none","typ":"JWT"}"#));
    let claims: Value = serde_json::from_slice(&B64.decode(payload).unwrap()).unwrap();
    let secret = jsonwebtoken::EncodingKey::from_secret(b"lantern-dev-jwt-secret-do-not-use-in-production");
    let symmetric = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &secret).unwrap();
    for bad in [foreign, none, symmetric, format!("{token}x"), "hlx_live_".to_owned(), "\u{7f}".repeat(3)] {
        test.send(request("GET", "/v1/agents", Some(&bad.replace('\u{7f}', "~")), None))
            .await
            .refused(401, "unauthorized");
    }
    test.clock.pass(Dur::from_secs(3_600));
    test.get(&token, "/v1/agents").await.refused(401, "unauthorized");
}

async fn signed_in(test: &TestApp) -> Value {
    seed_dev(&test.app).await.unwrap();
    test.send(login("admin@lantern.dev", "lantern", [1; 4])).await.is(200).json
}

async fn refresh(test: &TestApp, token: &Value) -> Answer {
    test.send(request("POST", "/auth/refresh", None, Some(json!({"refreshToken": token})))).await
}

async fn is_in(test: &TestApp, signed_in: &Value) -> bool {
    let answer = test.get(signed_in["token"].as_str().unwrap(), "/auth/me").await;
    if answer.status == 200 {
        return true;
    }
    answer.refused(401, "unauthorized");
    false
}

db_test!(a_refresh_token_renews_once_and_a_copy_ends_the_sign_in, async |db| {
    let test = TestApp::over(db, Wishes::default()).await;
    let first = signed_in(&test).await;
    let other = test.send(login("admin@lantern.dev", "lantern", [1; 4])).await.is(200).json;
    test.clock.pass(Dur::from_secs(3_600));
    assert!(!is_in(&test, &first).await, "an hour is over");
    let second = refresh(&test, &first["refreshToken"]).await.is(200).json;
    assert_eq!(second["user"], first["user"]);
    assert_ne!(second["refreshToken"], first["refreshToken"]);
    let third = refresh(&test, &second["refreshToken"]).await.is(200).json;
    assert!(is_in(&test, &second).await && is_in(&test, &third).await);

    // Whoever comes second with it, thief or owner: nobody can say which, so both are out.
    refresh(&test, &second["refreshToken"]).await.refused(401, "refresh_token_reused");
    assert!(!is_in(&test, &second).await && !is_in(&test, &third).await);
    for token in [&first, &second, &third] {
        refresh(&test, &token["refreshToken"]).await.refused(401, "invalid_refresh_token");
    }
    let kept = refresh(&test, &other["refreshToken"]).await.is(200).json;
    assert!(is_in(&test, &kept).await, "another sign-in is its own");
});

db_test!(of_two_at_once_one_is_renewed, async |db| {
    let test = TestApp::over(db, Wishes::default()).await;
    let mut token = signed_in(&test).await;
    for _ in 0..5 {
        let (one, two) =
            tokio::join!(refresh(&test, &token["refreshToken"]), refresh(&test, &token["refreshToken"]));
        let mut statuses = [one.status.as_u16(), two.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 401]);
        let renewed = if one.status == 200 { one } else { two };
        assert!(!is_in(&test, &renewed.json).await, "two had the token");
        token = test.send(login("admin@lantern.dev", "lantern", [1; 4])).await.is(200).json;
    }
});

#[tokio::test]
async fn a_sign_in_lasts_a_month_unused_and_a_year_at_most() {
    let (day, test) = (Dur::from_secs(86_400), TestApp::new().await);
    let mut token = signed_in(&test).await;
    let idle = test.send(login("admin@lantern.dev", "lantern", [1; 4])).await.is(200).json;
    test.clock.pass(day.times(30));
    refresh(&test, &idle["refreshToken"]).await.refused(401, "invalid_refresh_token");
    refresh(&test, &token["refreshToken"]).await.refused(401, "invalid_refresh_token");
    token = test.send(login("admin@lantern.dev", "lantern", [1; 4])).await.is(200).json;
    for _ in 0..13 {
        test.clock.pass(day.times(28));
        token = refresh(&test, &token["refreshToken"]).await.is(200).json;
    }
    test.clock.pass(Dur::from_secs(1_800));
    assert!(is_in(&test, &token).await);
    test.clock.pass(day);
    refresh(&test, &token["refreshToken"]).await.refused(401, "invalid_refresh_token");
}

#[tokio::test]
async fn who_signs_out_is_out_here_or_everywhere() {
    let test = TestApp::new().await;
    let (one, two, three) = (signed_in(&test).await, signed_in(&test).await, signed_in(&test).await);
    let token = |signed_in: &Value| signed_in["token"].as_str().unwrap().to_owned();
    test.post(&token(&one), "/auth/logout", json!({})).await.is(204);
    assert!(!is_in(&test, &one).await && is_in(&test, &two).await);
    refresh(&test, &one["refreshToken"]).await.refused(401, "invalid_refresh_token");
    test.post(&token(&one), "/auth/logout", json!({})).await.refused(401, "unauthorized");
    test.post(&token(&two), "/auth/logout", json!({"everywhere": true})).await.is(204);
    assert!(!is_in(&test, &two).await && !is_in(&test, &three).await);
    test.get(&test.a.owner, "/auth/me").await.is(200);
    let key = test.key(&["admin"]).await;
    test.post(&key, "/auth/logout", json!({})).await.refused(409, "not_signed_in");
}

#[tokio::test]
async fn nothing_but_a_refresh_token_renews() {
    let test = TestApp::new().await;
    let token = signed_in(&test).await;
    for other in [token["token"].clone(), json!("hlx_ref_"), json!("x"), json!("\u{0}")] {
        let answer = refresh(&test, &other).await;
        assert!(answer.status == 401 || answer.status == 400, "{}", answer.text);
    }
    // Nor does one open anything by itself.
    test.get(token["refreshToken"].as_str().unwrap(), "/auth/me").await.refused(401, "unauthorized");
    let foreign = TestApp::new().await;
    let theirs = signed_in(&foreign).await;
    refresh(&test, &theirs["refreshToken"]).await.refused(401, "invalid_refresh_token");
    assert_eq!(refresh(&test, &json!(5)).await.refused(400, "invalid_body").paths(), ["refreshToken"]);
}

#[tokio::test]
async fn a_role_counts_from_the_moment_it_is_changed() {
    const DEMOTE: &str =
        "UPDATE users SET role = 'viewer', name = 'New' WHERE tenant_id = $1 AND role = 'owner'";
    let test = TestApp::new().await;
    test.post(&test.a.owner, "/v1/agents", json!({"name": "a"})).await.is(201);
    test.app.db.write(test.a.scope, |tx| Box::pin(async move { tx.exec(DEMOTE, &[]).await })).await.unwrap();
    test.post(&test.a.owner, "/v1/agents", json!({"name": "b"})).await.refused(403, "role_missing");
    assert_eq!(test.get(&test.a.owner, "/auth/me").await.is(200).json["name"], "New");
}

fn signup(body: Value, peer: [u8; 4]) -> Request<Body> {
    let mut request = request("POST", "/auth/signup", None, Some(body));
    request.extensions_mut().insert(Peer(SocketAddr::from((peer, 5))));
    request
}

db_test!(who_signs_up_owns_a_tenant_of_their_own, async |db| {
    let test = TestApp::over(db, Wishes::default()).await;
    let new = json!({"email": " Ada@Example.com ", "password": "correct horse", "name": "Ada"});
    let made = test.send(signup(new.clone(), [1; 4])).await.is(201).json;
    let user = &made["user"];
    assert_eq!((user["email"].as_str(), user["name"].as_str()), (Some("Ada@Example.com"), Some("Ada")));
    assert_eq!(user["role"], "owner");
    let token = made["token"].as_str().unwrap();
    assert_eq!(test.get(token, "/auth/me").await.is(200).json["id"], user["id"]);
    assert_eq!(test.get(token, "/v1/agents").await.is(200).json, json!([]));
    test.post(token, "/v1/agents", json!({"name": "mine"})).await.is(201);
    test.get(&test.a.owner, "/v1/agents/mine").await.refused(404, "agent_not_found");
    test.send(login("ada@example.com", "correct horse", [1; 4])).await.is(200);
    refresh(&test, &made["refreshToken"]).await.is(200);

    let again = json!({"email": "ADA@example.com", "password": "another password"});
    let answer = test.send(signup(again, [1; 4])).await.refused(409, "email_registered");
    assert_eq!(answer.json["error"], "email already registered");
    test.send(login("ada@example.com", "another password", [1; 4])).await.is(401);
    let unnamed = json!({"email": "grace@example.com", "password": "correct horse"});
    assert_eq!(test.send(signup(unnamed, [1; 4])).await.is(201).json["user"]["name"], "grace");
});

#[tokio::test]
async fn a_bad_account_is_not_made() {
    let test = TestApp::new().await;
    let long = "x".repeat(64 << 10);
    for (body, paths) in [
        (json!({}), vec!["email", "password"]),
        (json!({"email": "ada", "password": "correct horse"}), vec!["email"]),
        (json!({"email": "a\u{0}@b.c", "password": "correct horse"}), vec!["email"]),
        (json!({"email": "a@b.c", "password": "short"}), vec!["password"]),
        (json!({"email": "a@b.c", "password": "elevenchars"}), vec!["password"]),
        (json!({"email": "a@b.c", "password": "correct horse", "name": long}), vec!["name"]),
        (json!({"email": format!("{long}@b.c"), "password": long}), vec!["email", "password"]),
    ] {
        assert_eq!(test.send(signup(body, [1; 4])).await.refused(400, "invalid_body").paths(), paths);
    }
    // Whoever is not signed in may not send much: many such bodies are held at once.
    let huge = json!({"email": "a@b.c", "password": "x".repeat(1 << 20)});
    test.send(signup(huge, [1; 4])).await.refused(413, "body_too_large");
    test.send(login("a@b.c", "correct horse", [1; 4])).await.is(401);
}

#[tokio::test]
async fn new_accounts_are_limited_for_each_peer_and_can_be_closed() {
    let test = TestApp::new().await;
    let taken = json!({"email": "x@example.com", "password": "correct horse"});
    test.send(signup(taken.clone(), [1; 4])).await.is(201);
    for _ in 0..59 {
        test.send(signup(taken.clone(), [1; 4])).await.refused(409, "email_registered");
    }
    test.send(signup(taken.clone(), [1; 4])).await.refused(429, "signup_rate_limited");
    test.send(signup(taken.clone(), [2; 4])).await.refused(409, "email_registered");
    let closed = TestApp::with(Wishes { signup: false, ..Wishes::default() }).await;
    closed.send(signup(taken, [1; 4])).await.refused(403, "signup_closed");
}

/// As a page of this server sends it.
fn paged(method: &str, path: &str, cookie: Option<&str>, body: Option<Value>) -> Request<Body> {
    let mut request = request(method, path, None, body);
    request.headers_mut().insert("x-lantern-page", "1".parse().unwrap());
    if let Some(cookie) = cookie {
        request.headers_mut().insert("cookie", cookie.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn a_page_is_signed_in_by_a_cookie_that_counts_for_pages_alone() {
    let test = TestApp::new().await;
    seed_dev(&test.app).await.unwrap();
    let known = json!({"email": "admin@lantern.dev", "password": "lantern"});
    test.send(request("POST", "/auth/session", None, Some(known.clone())))
        .await
        .refused(400, "invalid_header");
    let answer = test.send(paged("POST", "/auth/session", None, Some(known.clone()))).await.is(200);
    assert_eq!((answer.json["role"].as_str(), answer.text.contains("oken")), (Some("owner"), false));
    let line = answer.header("set-cookie");
    assert!(line.ends_with("; Path=/; Max-Age=604800; HttpOnly; SameSite=Strict"), "{line}");
    let cookie = line.split(';').next().unwrap();

    let me = test.send(paged("GET", "/auth/me", Some(cookie), None)).await.is(200).json;
    assert_eq!((&me["email"], &me["expiresAt"]), (&answer.json["email"], &answer.json["expiresAt"]));
    let agent = json!({"name": "paged"});
    test.send(paged("POST", "/v1/agents", Some(cookie), Some(agent.clone()))).await.is(201);
    for (method, body) in [("GET", None), ("POST", Some(agent))] {
        let mut alone = request(method, "/v1/agents", None, body);
        alone.headers_mut().insert("cookie", cookie.parse().unwrap());
        test.send(alone).await.refused(401, "unauthorized");
    }
    // It is no token, and stands in for none.
    test.get(cookie.split_once('=').unwrap().1, "/auth/me").await.refused(401, "unauthorized");
    let mut both = paged("GET", "/auth/me", Some(cookie), None);
    both.headers_mut().insert("authorization", "Bearer x".parse().unwrap());
    test.send(both).await.refused(401, "unauthorized");

    let left = test.send(paged("DELETE", "/auth/session", Some(cookie), None)).await.is(204);
    assert!(left.header("set-cookie").starts_with("lantern_session=; Path=/; Max-Age=0;"));
    test.send(paged("GET", "/auth/me", Some(cookie), None)).await.refused(401, "unauthorized");
}

#[tokio::test]
async fn a_cookie_is_over_after_a_week_and_bound_to_tls_where_its_page_is() {
    let test = TestApp::new().await;
    seed_dev(&test.app).await.unwrap();
    let known = json!({"email": "admin@lantern.dev", "password": "lantern"});
    let mut asked = paged("POST", "/auth/session", None, Some(known));
    asked.headers_mut().insert("origin", "https://lantern.example".parse().unwrap());
    let answer = test.send(asked).await.is(200);
    let line = answer.header("set-cookie");
    assert!(line.ends_with("; SameSite=Strict; Secure"), "{line}");
    let cookie = line.split(';').next().unwrap();
    test.clock.pass(Dur::from_secs(7 * 86_400 - 1));
    test.send(paged("GET", "/auth/me", Some(cookie), None)).await.is(200);
    test.clock.pass(Dur::from_secs(1));
    test.send(paged("GET", "/auth/me", Some(cookie), None)).await.refused(401, "unauthorized");
}

#[tokio::test]
async fn wrong_passwords_of_pages_count_like_any() {
    let test = TestApp::new().await;
    seed_dev(&test.app).await.unwrap();
    for _ in 0..10 {
        let wrong = json!({"email": "admin@lantern.dev", "password": "wrong"});
        test.send(paged("POST", "/auth/session", None, Some(wrong)))
            .await
            .refused(401, "invalid_credentials");
    }
    let right = json!({"email": "admin@lantern.dev", "password": "lantern"});
    test.send(paged("POST", "/auth/session", None, Some(right.clone())))
        .await
        .refused(429, "login_rate_limited");
    test.send(request("POST", LOGIN, None, Some(right))).await.refused(429, "login_rate_limited");
}

#[tokio::test]
async fn whoever_comes_in_by_a_page_gets_a_cookie_and_no_token() {
    let test = TestApp::new().await;
    let invited = json!({"email": "ada@example.com", "role": "member"});
    let made = test.post(&test.a.owner, "/v1/invitations", invited).await.is(201).json;
    let body = json!({"token": made["token"], "password": "correct horse battery"});
    let path = "/auth/session/invitation";
    test.send(request("POST", path, None, Some(body.clone()))).await.refused(400, "invalid_header");
    let come = test.send(paged("POST", path, None, Some(body.clone()))).await.is(200);
    assert_eq!((come.json["role"].as_str(), come.text.contains("oken")), (Some("member"), false));
    assert_eq!(come.json["tenantId"], test.a.id.to_string());
    let cookie = come.header("set-cookie").split(';').next().unwrap().to_owned();
    let me = test.send(paged("GET", "/auth/me", Some(&cookie), None)).await.is(200).json;
    assert_eq!(me["email"], "ada@example.com");
    test.send(paged("POST", path, None, Some(body))).await.refused(401, "invalid_invitation");
    let entries = test.get(&test.a.owner, "/v1/audit?action=auth.accept_invitation").await.is(200).json;
    assert_eq!((&entries[0]["principalId"], &entries[1]), (&me["id"], &Value::Null), "{entries}");
}
