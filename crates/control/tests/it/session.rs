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
use lantern_store::Keys;
use lantern_types::edge::Clock as _;
use lantern_types::{DEV_TENANT, Dur, Secret};
use serde_json::json;

use crate::app::{TestApp, person, request};

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
    assert_eq!(&test.get(token, "/auth/me").await.is(200).json, user);
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
    let claims: serde_json::Value = serde_json::from_slice(&B64.decode(payload).unwrap()).unwrap();
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
