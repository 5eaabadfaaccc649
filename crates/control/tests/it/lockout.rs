//! Known fault S2, "login limiter bypass": who tries passwords waits, whose account it is does not, and nobody learns who has one.

use std::net::SocketAddr;

use lantern_edge::request::Peer;
use lantern_policy::lockout::FREE;
use lantern_types::Dur;
use serde_json::json;

use crate::app::{Answer, TestApp, on_both, request};
use crate::members::{PASSWORD, joined};

const EMAIL: &str = "ada@example.com";

on_both! {
    a_victim_comes_in_from_where_they_are_signed_in: victim;
    an_address_that_nobody_has_is_treated_alike: alike;
    a_reset_lets_a_victim_in_from_anywhere: reset;
}

async fn login(test: &TestApp, peer: u32, email: &str, password: &str) -> Answer {
    let body = json!({"email": email, "password": password});
    let mut asked = request("POST", "/auth/login", None, Some(body));
    asked.extensions_mut().insert(Peer(SocketAddr::from((peer.to_be_bytes(), 5))));
    test.send(asked).await
}

/// An attacker who has a new address for each try.
async fn attack(test: &TestApp, email: &str) {
    for n in 0..FREE {
        login(test, 0x0900_0000 + n, email, "guess").await.refused(401, "invalid_credentials");
    }
}

const HOME: u32 = 0x0101_0101;
const NEW: u32 = 0x0202_0202;

async fn victim(test: &TestApp) {
    joined(test, EMAIL, "member").await;
    login(test, HOME, EMAIL, PASSWORD).await.is(200);
    attack(test, EMAIL).await;
    let late = login(test, 0x0900_ffff, EMAIL, "guess").await.refused(429, "login_rate_limited");
    assert_eq!(late.header("retry-after"), "1");
    // A right guess is not told from a wrong one.
    login(test, 0x0900_fffe, EMAIL, PASSWORD).await.refused(429, "login_rate_limited");
    login(test, HOME, EMAIL, PASSWORD).await.is(200);
    login(test, HOME, EMAIL, "mistyped").await.refused(401, "invalid_credentials");
    login(test, HOME, EMAIL, PASSWORD).await.is(200);
    // From a new place they wait, but not for long, however long it went on.
    for n in 0..20 {
        test.clock.pass(Dur::from_secs(60));
        login(test, 0x0a00_0000 + n, EMAIL, "guess").await.refused(401, "invalid_credentials");
    }
    let late = login(test, NEW, EMAIL, PASSWORD).await.refused(429, "login_rate_limited");
    assert_eq!(late.header("retry-after"), "60");
    test.clock.pass(Dur::from_secs(60));
    login(test, NEW, EMAIL, PASSWORD).await.is(200);
    // And then it is a place that is known.
    login(test, 0x0b00_0000, EMAIL, "guess").await.refused(429, "login_rate_limited");
    login(test, NEW, EMAIL, PASSWORD).await.is(200);
}

async fn alike(test: &TestApp) {
    joined(test, EMAIL, "member").await;
    for email in [EMAIL, "nobody@example.com"] {
        attack(test, email).await;
        let late = login(test, NEW, email, "guess").await.refused(429, "login_rate_limited");
        let words = "too many login attempts; please try again later";
        assert_eq!((late.header("retry-after"), &late.json["error"]), ("1", &json!(words)), "{email}");
    }
}

async fn reset(test: &TestApp) {
    let ada = joined(test, EMAIL, "member").await;
    attack(test, EMAIL).await;
    login(test, NEW, EMAIL, PASSWORD).await.refused(429, "login_rate_limited");
    let path = format!("/v1/members/{}/password-reset", ada["user"]["id"].as_str().unwrap());
    let made = test.post(&test.a.admin, &path, json!({})).await.is(201).json;
    let body = json!({"token": made["token"], "newPassword": "another horse battery"});
    test.send(request("POST", "/auth/password-reset", None, Some(body))).await.is(204);
    login(test, NEW, EMAIL, "another horse battery").await.is(200);
}
