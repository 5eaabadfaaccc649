//! Single sign-on against a scripted issuer: who comes in, who does not, and what is tried on the way. On both databases.

use axum::body::Body;
use http::Request;
use lantern_control::{SsoProvider, SsoSetup};
use lantern_net::Client;
use lantern_policy::Role;
use lantern_policy::sso::{Kind, Rules};
use lantern_store::Db;
use lantern_types::{Dur, Secret, TenantId};
use serde_json::{Value, json};

use crate::app::{Answer, TestApp, Wishes, person, request};
use crate::issuer::{CLIENT, Issuer, SECRET, Signs, Trouble, pairs};
use crate::members::{PASSWORD, joined};

const NOW: i64 = 1_800_000_000;
const ADA: &str = "ada@example.com";

/// Makes `NAME::sqlite` and `NAME::postgres` of each function, each with an application and an issuer of its own.
macro_rules! on_both {
    ($($name:ident: $test:path;)+) => {$(
        mod $name {
            use super::*;

            #[tokio::test]
            async fn sqlite() {
                $test(&Place::over(Db::inline_sqlite().unwrap()).await).await;
            }

            #[test]
            fn postgres() {
                lantern_store::testing::on_postgres(async |db| $test(&Place::over(db).await).await);
            }
        }
    )+};
}

on_both! {
    who_is_new_comes_from_a_domain_that_has_a_tenant: from_a_domain;
    signing_in_by_an_issuer_gives_no_role: no_role;
    a_state_counts_once_in_the_browser_that_it_was_made_for: state;
    an_account_is_not_captured_by_its_address: captured;
    an_issuer_of_one_tenant_signs_in_its_people_alone: two_tenants;
    an_invitation_lets_in_whoever_has_its_address: invited;
    an_identity_is_linked_by_whoever_has_the_password: linked;
    a_second_factor_is_asked_for_here_too: factored;
    a_program_is_signed_in_by_what_it_alone_knows: program;
    what_is_over_counts_no_more: over;
    who_comes_in_is_in_the_audit_log: audited;
}

/// An application whose people sign in by an issuer.
struct Place {
    test: TestApp,
    issuer: Issuer,
}

/// A browser's jar, as far as signing in needs it.
#[derive(Clone, Default)]
struct Browser {
    cookie: Option<String>,
}

fn provider(name: &str, issuer: &str, rules: Rules) -> SsoProvider {
    SsoProvider {
        name: name.to_owned(),
        label: name.to_uppercase(),
        issuer: issuer.to_owned(),
        client_id: CLIENT.to_owned(),
        client_secret: Secret::new(SECRET.to_owned()),
        private_address: true,
        rules,
    }
}

impl Place {
    async fn over(db: Db) -> Self {
        let issuer = Issuer::start(NOW);
        let tenant = |n: u128| TenantId::from_uuid(uuid::Uuid::from_u128(n));
        let rules = |tenant, joins: &[(&str, TenantId)]| Rules {
            kind: Kind::Oidc,
            tenant,
            domains: Vec::new(),
            joins: joins.iter().map(|(domain, tenant)| ((*domain).to_owned(), *tenant)).collect(),
        };
        let providers = vec![
            provider("any", &issuer.url, rules(None, &[("joins.example", tenant(10))])),
            provider("ten", &issuer.url, rules(Some(tenant(10)), &[])),
            provider("twenty", &issuer.url, rules(Some(tenant(20)), &[])),
            provider("hub", &issuer.url, Rules { kind: Kind::GitHub, ..rules(None, &[]) }),
            provider("gone", "http://127.0.0.1:9", rules(None, &[])),
        ];
        let client = Client::new().unwrap();
        let sso = SsoSetup { public_url: "https://lantern.example/".to_owned(), providers, client };
        Self { test: TestApp::over(db, Wishes { sso: Some(sso), ..Wishes::default() }).await, issuer }
    }

    fn says(&self, claims: Value) {
        self.issuer.script().claims = claims;
    }

    /// Somebody else, of this address.
    fn says_of(&self, subject: &str, email: &str) {
        self.issuer.script().subject = subject.to_owned();
        self.says(json!({"email": email}));
    }

    async fn send(&self, browser: &mut Browser, request: Request<Body>) -> Answer {
        let mut request = request;
        if let Some(cookie) = &browser.cookie {
            request.headers_mut().insert("cookie", cookie.parse().unwrap());
        }
        let answer = self.test.send(request).await;
        for line in answer.headers.get_all("set-cookie") {
            let line = line.to_str().unwrap();
            let Some(rest) = line.strip_prefix("__Host-lantern_sso=") else { continue };
            assert!(
                line.contains("; Path=/; ") && line.contains("; HttpOnly; ") && line.ends_with("; Secure"),
                "{line}"
            );
            assert!(!line.contains("Domain"), "{line}");
            let value = rest.split(';').next().unwrap();
            browser.cookie = Some(format!("__Host-lantern_sso={value}")).filter(|_| !value.is_empty());
        }
        answer
    }

    /// Where the issuer is asked.
    async fn begin(&self, browser: &mut Browser, provider: &str, body: Value) -> String {
        let path = format!("/auth/oauth/{provider}/start");
        let begun = self.send(browser, request("POST", &path, None, Some(body))).await.is(200);
        assert!(begun.header("set-cookie").contains("; Max-Age=600; HttpOnly; SameSite=Lax"));
        begun.json["redirect_url"].as_str().unwrap().to_owned()
    }

    /// Where a browser is sent that comes back to this address.
    async fn back(&self, browser: &mut Browser, address: &str) -> String {
        let path = address.strip_prefix("https://lantern.example").unwrap();
        let back = self.send(browser, request("GET", path, None, None)).await.is(302);
        assert_eq!((back.text.as_str(), back.header("cache-control")), ("", "no-store"));
        back.header("location").to_owned()
    }

    /// The way there and back: where it ends.
    async fn come(&self, browser: &mut Browser, provider: &str, body: Value) -> String {
        let sent_to = self.begin(browser, provider, body).await;
        self.back(browser, &self.issuer.consent(&sent_to)).await
    }

    /// What the page does then.
    async fn finish(&self, browser: &mut Browser, body: Value) -> Answer {
        let mut request = request("POST", "/auth/session/sso", None, Some(body));
        request.headers_mut().insert("x-lantern-page", "1".parse().unwrap());
        self.send(browser, request).await
    }

    /// All of it.
    async fn sign_in(&self, provider: &str) -> Answer {
        let mut browser = Browser::default();
        let landed = self.come(&mut browser, provider, json!({})).await;
        assert_eq!(landed, format!("/sign-in?sso={provider}"));
        self.finish(&mut browser, json!({})).await
    }

    /// The code with which somebody lands on the sign-in page, whom nothing signs in.
    async fn lands(&self, provider: &str) -> String {
        let mut browser = Browser::default();
        let landed = self.come(&mut browser, provider, json!({})).await;
        self.finish(&mut browser, json!({})).await.refused(401, "sso_expired");
        code(&landed)
    }
}

/// What a landing says went wrong.
fn code(landed: &str) -> String {
    let (page, query) = landed.split_once('?').unwrap();
    assert_eq!(page, "/sign-in", "{landed}");
    pairs(query).remove("error").unwrap_or_default()
}

async fn from_a_domain(place: &Place) {
    let Place { test, .. } = place;
    place.says_of("new-1", "Grace@joins.example");
    let mut browser = Browser::default();
    let landed = place.come(&mut browser, "any", json!({"next": "/runs?status=failed"})).await;
    assert_eq!(landed, "/sign-in?sso=any&next=%2Fruns%3Fstatus%3Dfailed");
    let pass = browser.clone();
    let signed = place.finish(&mut browser, json!({})).await.is(200);
    assert_eq!(
        (&signed.json["email"], &signed.json["role"]),
        (&json!("Grace@joins.example"), &json!("member"))
    );
    assert_eq!(signed.json["tenantId"], test.a.id.to_string());
    assert_eq!(signed.json["name"], "Ada Lovelace");
    assert!(signed.json.get("token").is_none(), "{}", signed.text);
    let session = signed
        .headers
        .get_all("set-cookie")
        .iter()
        .find(|line| line.to_str().unwrap().starts_with("lantern_session="));
    assert!(session.unwrap().to_str().unwrap().contains("; SameSite=Strict"));
    // The pass is spent, in this browser and in a copy of it.
    place.finish(&mut pass.clone(), json!({})).await.refused(401, "sso_expired");
    // Once more it is the same person; and their password is nobody's.
    let again = place.sign_in("any").await.is(200);
    assert_eq!(again.json["id"], signed.json["id"]);
    for password in ["", "x", "correct horse battery"] {
        let body = json!({"email": "grace@joins.example", "password": password});
        let tried = test.send(request("POST", "/auth/login", None, Some(body))).await;
        assert!(matches!(tried.status.as_u16(), 400 | 401), "{}", tried.text);
    }
    let id = signed.json["id"].as_str().unwrap();
    // Somebody of another domain is nobody here, though everything about them is true.
    place.says_of("new-2", "eve@elsewhere.example");
    place.sign_in("any").await.refused(403, "sso_no_account");
    // Whoever left is gone, and comes anew.
    test.delete(&test.a.owner, &format!("/v1/members/{id}")).await.is(204);
    place.says_of("new-1", "Grace@joins.example");
    assert_ne!(place.sign_in("any").await.is(200).json["id"], id);
}

/// The fault of the reference: whoever signed in was an owner.
async fn no_role(place: &Place) {
    let Place { test, .. } = place;
    place.says_of("new-1", "grace@joins.example");
    place.says(
        json!({"email": "grace@joins.example", "role": "owner", "roles": ["owner"], "groups": ["owner"]}),
    );
    let signed = place.sign_in("any").await.is(200).json;
    assert_eq!(signed["role"], "member");
    let id = signed["id"].as_str().unwrap();
    test.patch(&test.a.owner, &format!("/v1/members/{id}"), json!({"role": "viewer"})).await.is(200);
    assert_eq!(place.sign_in("any").await.is(200).json["role"], "viewer");
}

async fn state(place: &Place) {
    place.says_of("new-1", "grace@joins.example");
    let mut browser = Browser::default();
    let sent_to = place.begin(&mut browser, "any", json!({})).await;
    let asked = pairs(sent_to.split_once('?').unwrap().1);
    assert_eq!(asked["state"].len(), 48, "the contract's");
    assert_eq!(asked["redirect_uri"], "https://lantern.example/auth/oauth/any/callback");
    assert!(!sent_to.contains(browser.cookie.as_deref().unwrap().split_once('=').unwrap().1));
    let address = place.issuer.consent(&sent_to);
    let wrong = address.replace(&asked["state"], &"0".repeat(48));
    let (mut other, mut none) = (Browser::default(), Browser::default());
    place.begin(&mut other, "any", json!({})).await;
    for (browser, address) in [
        (&mut browser.clone(), wrong.as_str()),
        (&mut browser.clone(), "https://lantern.example/auth/oauth/any/callback?code=x"),
        (&mut browser.clone(), "https://lantern.example/auth/oauth/any/callback"),
        // Somebody else's browser, as when a link is planted, and one that has nothing.
        (&mut other, &address),
        (&mut none, &address),
        // Another issuer's address of this server.
        (&mut browser.clone(), &address.replace("/any/", "/ten/")),
    ] {
        assert_eq!(code(&place.back(browser, address).await), "sso_expired", "{address}");
    }
    assert_eq!(place.issuer.asked("/token"), 0, "nothing of this asked the issuer");
    // It still is good for whom it was made, once.
    let mut copy = browser.clone();
    assert_eq!(place.back(&mut browser, &address).await, "/sign-in?sso=any");
    assert_eq!(code(&place.back(&mut copy, &address).await), "sso_expired");
    place.finish(&mut browser, json!({})).await.is(200);
    // What an issuer or somebody in its place says of an error is not passed on.
    let sent_to = place.begin(&mut browser, "any", json!({})).await;
    let state = pairs(sent_to.split_once('?').unwrap().1)["state"].clone();
    let said = format!("https://lantern.example/auth/oauth/any/callback?state={state}&error=%3Cscript%3E");
    assert_eq!(place.back(&mut browser, &said).await, "/sign-in?sso=any&error=sso_failed");
    let sent_to = place.begin(&mut browser, "any", json!({})).await;
    let state = pairs(sent_to.split_once('?').unwrap().1)["state"].clone();
    let said = format!("https://lantern.example/auth/oauth/any/callback?state={state}&error=access_denied");
    assert_eq!(place.back(&mut browser, &said).await, "/sign-in?sso=any&error=sso_denied");
    // Nobody is sent elsewhere.
    for next in [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example/",
        "/%2Fevil.example",
        "javascript:alert(1)",
    ] {
        let landed = place.come(&mut Browser::default(), "any", json!({ "next": next })).await;
        assert_eq!(landed, "/sign-in?sso=any", "{next}");
        let query = next.replace('%', "%25").replace('\\', "%5C");
        let path = format!("/auth/oauth/any/start?next={query}");
        let begun = place.send(&mut browser, request("GET", &path, None, None)).await.is(200);
        let address = place.issuer.consent(begun.json["redirect_url"].as_str().unwrap());
        assert_eq!(place.back(&mut browser, &address).await, "/sign-in?sso=any", "{next}");
        place.test.clock.pass(Dur::from_secs(60));
    }
    // No page of another origin signs its visitors in.
    place.come(&mut browser, "any", json!({})).await;
    let bare = request("POST", "/auth/session/sso", None, Some(json!({})));
    place.send(&mut browser, bare).await.refused(400, "invalid_header");
}

/// The fault of the reference: an account was linked to whoever an issuer said has its address.
async fn captured(place: &Place) {
    let Place { test, .. } = place;
    // Somebody made an account of Ada's address before her, and waits.
    let body = json!({"email": "ADA@example.com", "password": PASSWORD});
    test.send(request("POST", "/auth/signup", None, Some(body))).await.is(201);
    place.sign_in("any").await.refused(403, "sso_not_linked");
    // It has a tenant of its own, and no issuer of another tenant speaks for it.
    place.sign_in("ten").await.refused(403, "sso_not_linked");
    // Nor is an address that nobody verified anybody's.
    for claims in [
        json!({"email_verified": false}),
        json!({"email_verified": "true"}),
        json!({"email_verified": null}),
        json!({"email": null}),
        json!({"email": "nobody"}),
        json!({"email": "a@b c"}),
    ] {
        place.says(claims.clone());
        assert_eq!(place.lands("any").await, "sso_email_unverified", "{claims}");
    }
    let hub = &mut Browser::default();
    for addresses in [
        json!([]),
        json!([{"email": ADA, "primary": true, "verified": false}]),
        json!([{"email": ADA, "primary": false, "verified": true}, {"email": "x@y", "primary": true, "verified": false}]),
    ] {
        place.issuer.script().addresses = addresses;
        assert_eq!(code(&place.come(hub, "hub", json!({})).await), "sso_email_unverified");
    }
}

async fn two_tenants(place: &Place) {
    let Place { test, .. } = place;
    // An owner of the first tenant, whose issuer speaks for them and has never seen them here.
    let owner = person(test.a.id, Role::Owner);
    place.says_of("owner-1", &owner.email);
    place.sign_in("twenty").await.refused(403, "sso_not_linked");
    place.sign_in("any").await.refused(403, "sso_not_linked");
    let signed = place.sign_in("ten").await.is(200);
    assert_eq!((&signed.json["id"], &signed.json["role"]), (&json!(owner.id.to_string()), &json!("owner")));
    // Known now, and still not to the other tenant's.
    place.sign_in("any").await.is(200);
    place.sign_in("twenty").await.refused(403, "sso_no_account");
    // The address of an account that was given to somebody else since.
    place.says_of("owner-2", &owner.email);
    place.sign_in("ten").await.refused(403, "sso_not_linked");
    // Whoever has the other tenant's people cannot say that they are these.
    place.says_of("b-1", &person(test.b.id, Role::Owner).email);
    place.sign_in("ten").await.refused(403, "sso_not_linked");
    assert_eq!(place.sign_in("twenty").await.is(200).json["tenantId"], test.b.id.to_string());
}

async fn invited(place: &Place) {
    let Place { test, .. } = place;
    let invite = async |email: &str, role: &str| {
        let made =
            test.post(&test.a.owner, "/v1/invitations", json!({"email": email, "role": role})).await.is(201);
        made.json["token"].as_str().unwrap().to_owned()
    };
    let token = invite("Ada@Example.com", "admin").await;
    // That one waits is not enough: nobody is put into a tenant that they were not asked about.
    place.sign_in("any").await.refused(403, "sso_no_account");
    let bring = async |provider: &str, token: &str| {
        let mut browser = Browser::default();
        place.come(&mut browser, provider, json!({"invitation": token})).await;
        place.finish(&mut browser, json!({})).await
    };
    // Somebody else's is of no use, nor is it to an issuer of another tenant.
    place.says_of("eve-1", "eve@example.com");
    bring("any", &token).await.refused(403, "sso_no_account");
    place.says_of("ada-1", ADA);
    bring("twenty", &token).await.refused(403, "sso_no_account");
    let signed = bring("any", &token).await.is(200);
    assert_eq!((&signed.json["email"], &signed.json["role"]), (&json!(ADA), &json!("admin")));
    assert_eq!(place.sign_in("any").await.is(200).json["id"], signed.json["id"]);
    let accept = json!({"token": token, "password": PASSWORD});
    test.send(request("POST", "/auth/invitations/accept", None, Some(accept)))
        .await
        .refused(401, "invalid_invitation");
    let bad = json!({"invitation": "hlx_inv_nothing"});
    test.send(request("POST", "/auth/oauth/any/start", None, Some(bad))).await.refused(400, "invalid_body");
    // By GitHub as well, whose address is the primary one and not the one that its profile shows.
    test.clock.pass(Dur::from_secs(120));
    place.issuer.script().addresses = json!([
        {"email": "other@example.com", "primary": false, "verified": true},
        {"email": "hub@example.com", "primary": true, "verified": true},
    ]);
    let token = invite("hub@example.com", "member").await;
    let signed = bring("hub", &token).await.is(200);
    assert_eq!((&signed.json["email"], &signed.json["name"]), (&json!("hub@example.com"), &json!("Ada")));
    assert_eq!(place.sign_in("hub").await.is(200).json["id"], signed.json["id"]);
}

async fn linked(place: &Place) {
    let Place { test, .. } = place;
    let ada = joined(test, ADA, "member").await;
    let token = ada["token"].as_str().unwrap();
    place.sign_in("any").await.refused(403, "sso_not_linked");
    let mut browser = Browser::default();
    let landed = place.come(&mut browser, "any", json!({"link": true, "next": "/settings"})).await;
    assert_eq!(landed, "/account?sso=any&next=%2Fsettings");
    // What is to be linked signs nobody in.
    place.finish(&mut browser, json!({})).await.refused(401, "sso_expired");
    let link = async |browser: &mut Browser, password: &str, page: bool| {
        let mut request =
            request("POST", "/auth/identities", Some(token), Some(json!({ "password": password })));
        if page {
            request.headers_mut().insert("x-lantern-page", "1".parse().unwrap());
        }
        place.send(browser, request).await
    };
    link(&mut browser, PASSWORD, false).await.refused(400, "invalid_header");
    link(&mut browser, "wrong", true).await.refused(400, "wrong_password");
    link(&mut Browser::default(), PASSWORD, true).await.refused(401, "sso_expired");
    let mut copy = browser.clone();
    link(&mut browser, PASSWORD, true).await.is(204);
    link(&mut copy, PASSWORD, true).await.refused(401, "sso_expired");
    let signed = place.sign_in("any").await.is(200);
    assert_eq!(signed.json["email"], ADA);
    let listed = test.get(token, "/auth/identities").await.is(200).json;
    assert_eq!((&listed[0]["provider"], &listed[0]["email"]), (&json!("any"), &json!(ADA)));
    assert_eq!(listed.as_array().unwrap().len(), 1);
    // Nobody else has it too, or sees or unlinks it.
    let eve = joined(test, "eve@example.com", "member").await;
    let other = eve["token"].as_str().unwrap();
    test.clock.pass(Dur::from_secs(60));
    place.come(&mut browser, "any", json!({"link": true})).await;
    let mut again = request("POST", "/auth/identities", Some(other), Some(json!({ "password": PASSWORD })));
    again.headers_mut().insert("x-lantern-page", "1".parse().unwrap());
    place.send(&mut browser, again).await.refused(409, "identity_linked");
    let path = format!("/auth/identities/{}", listed[0]["id"].as_str().unwrap());
    test.delete(other, &path).await.refused(404, "identity_not_found");
    assert_eq!(test.get(other, "/auth/identities").await.is(200).json, json!([]));
    // A pass that only signs in links nothing.
    place.come(&mut browser, "any", json!({})).await;
    link(&mut browser, PASSWORD, true).await.refused(401, "sso_expired");
    test.delete(token, &path).await.is(204);
    place.sign_in("any").await.refused(403, "sso_not_linked");
    // A reset begins anew: what somebody linked who had the old password is gone.
    test.clock.pass(Dur::from_secs(60));
    place.come(&mut browser, "any", json!({"link": true})).await;
    link(&mut browser, PASSWORD, true).await.is(204);
    let id = ada["user"]["id"].as_str().unwrap();
    let made =
        test.post(&test.a.owner, &format!("/v1/members/{id}/password-reset"), json!({})).await.is(201).json;
    let reset = json!({"token": made["token"], "newPassword": "another horse battery"});
    test.send(request("POST", "/auth/password-reset", None, Some(reset))).await.is(204);
    place.sign_in("any").await.refused(403, "sso_not_linked");
}

async fn factored(place: &Place) {
    let Place { test, .. } = place;
    let (ada, secret, recovery) = crate::factors::enrolled(test).await;
    let mut browser = Browser::default();
    place.come(&mut browser, "ten", json!({})).await;
    place.finish(&mut browser, json!({})).await.refused(401, "second_factor_required");
    place.finish(&mut browser, json!({"code": "000000"})).await.refused(401, "wrong_code");
    let listed = test.get(ada["token"].as_str().unwrap(), "/auth/identities").await.is(200).json;
    assert_eq!(listed, json!([]), "nothing is linked before the code is right");
    let code = crate::factors::code(test, &secret);
    place.finish(&mut browser, json!({ "code": code })).await.is(200);
    let mut browser = Browser::default();
    place.come(&mut browser, "ten", json!({})).await;
    place.finish(&mut browser, json!({ "code": code })).await.refused(401, "wrong_code");
    place.finish(&mut browser, json!({ "code": recovery[0] })).await.is(200);
}

async fn program(place: &Place) {
    use base64::Engine as _;
    let Place { test, .. } = place;
    place.says_of("new-1", "grace@joins.example");
    let verifier = "v".repeat(43);
    let digest = lantern_types::Digest::of(verifier.as_bytes());
    let challenge = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest.bytes());
    let path = format!("/auth/oauth/any/terminal?port=40000&challenge={challenge}&handle=0123456789abcdef");
    let mut browser = Browser::default();
    let begin = async |browser: &mut Browser| {
        let begun = place.send(browser, request("GET", &path, None, None)).await.is(302);
        begun.header("location").to_owned()
    };
    let sent_to = begin(&mut browser).await;
    let landed = place.back(&mut browser, &place.issuer.consent(&sent_to)).await;
    let (page, query) = landed.split_once('?').unwrap();
    let handed = pairs(query);
    assert_eq!((page, handed["state"].as_str()), ("http://127.0.0.1:40000/", "0123456789abcdef"));
    // The browser has nothing that would sign it in, and the code alone is nothing.
    assert!(browser.cookie.is_none());
    let exchange = async |code: &str, verifier: Option<&str>| {
        let body = json!({"code": code, "verifier": verifier});
        test.send(request("POST", "/auth/oauth/exchange", None, Some(body))).await
    };
    let code = handed["code"].as_str();
    exchange(code, None).await.refused(401, "sso_expired");
    exchange(code, Some("another")).await.refused(401, "sso_expired");
    exchange("hlx_sso_00", Some(&verifier)).await.refused(401, "sso_expired");
    let mut thief = Browser { cookie: Some(format!("__Host-lantern_sso={code}")) };
    place.finish(&mut thief, json!({})).await.refused(401, "sso_expired");
    let signed = exchange(code, Some(&verifier)).await.is(200).json;
    assert_eq!(signed["user"]["email"], "grace@joins.example");
    test.get(signed["token"].as_str().unwrap(), "/auth/me").await.is(200);
    let renewed = json!({"refreshToken": signed["refreshToken"]});
    test.send(request("POST", "/auth/refresh", None, Some(renewed))).await.is(200);
    exchange(code, Some(&verifier)).await.refused(401, "sso_expired");
    // A page's pass is no program's.
    place.come(&mut browser, "any", json!({})).await;
    let pass = browser.cookie.clone().unwrap();
    exchange(pass.split_once('=').unwrap().1, Some(&verifier)).await.refused(401, "sso_expired");
    // What fails is told the program, too.
    place.says(json!({"email": null}));
    let sent_to = begin(&mut browser).await;
    let landed = place.back(&mut browser, &place.issuer.consent(&sent_to)).await;
    assert_eq!(landed, "http://127.0.0.1:40000/?error=sso_email_unverified&state=0123456789abcdef");
    for wrong in [
        path.replace("port=40000", "port=80"),
        path.replace("port=40000", "port=evil.example"),
        path.replace("port=40000", "port=40000%40evil.example"),
        path.replace(&challenge, "short"),
        path.replace("handle=0123456789abcdef", "handle=0123456789abcdef%26x%3Dy"),
        path.replace("handle=0123456789abcdef", ""),
    ] {
        place.send(&mut browser, request("GET", &wrong, None, None)).await.refused(400, "invalid_query");
    }
}

async fn over(place: &Place) {
    place.says_of("new-1", "grace@joins.example");
    let mut browser = Browser::default();
    let sent_to = place.begin(&mut browser, "any", json!({})).await;
    let address = place.issuer.consent(&sent_to);
    place.test.clock.pass(Dur::from_secs(601));
    assert_eq!(code(&place.back(&mut browser, &address).await), "sso_expired");
    place.issuer.script().now = NOW + 601;
    place.come(&mut browser, "any", json!({})).await;
    place.test.clock.pass(Dur::from_secs(301));
    place.finish(&mut browser, json!({})).await.refused(401, "sso_expired");
}

async fn audited(place: &Place) {
    let Place { test, .. } = place;
    place.says_of("new-1", "grace@joins.example");
    place.sign_in("any").await.is(200);
    place.sign_in("any").await.is(200);
    let member = person(test.a.id, Role::Member);
    place.says_of("member-1", &member.email);
    place.sign_in("any").await.refused(403, "sso_not_linked");
    place.sign_in("ten").await.is(200);
    let listed = test.get(&test.a.owner, "/v1/audit?limit=10").await.is(200).json;
    let entry = |entry: &Value| {
        format!("{} {}", entry["action"].as_str().unwrap(), entry["outcome"].as_str().unwrap())
    };
    let mut entries: Vec<String> = listed.as_array().unwrap().iter().map(entry).collect();
    entries.retain(|entry| entry.starts_with("auth."));
    // A denial is written within a moment.
    entries.retain(|entry| !entry.ends_with("denied"));
    assert_eq!(entries, ["auth.sso_link succeeded", "auth.sso succeeded", "auth.sso_join succeeded"]);
}

/// What is tried on a token, on keys and on an issuer. One database does: nothing of it comes as far.
#[tokio::test]
async fn a_token_that_is_not_quite_true_signs_nobody_in() {
    let place = Place::over(Db::inline_sqlite().unwrap()).await;
    let url = place.issuer.url.clone();
    let fair = json!({"email": "grace@joins.example"});
    let signed = |claims: Value| (Signs::Es(1), claims);
    for (what, (signs, claims), want) in [
        ("all is well", signed(json!({})), ""),
        ("by RSA", (Signs::Rs, json!({})), ""),
        ("for several, given to us", signed(json!({"aud": ["x", CLIENT], "azp": CLIENT})), ""),
        ("parts of a second", signed(json!({"exp": 30.5})), ""),
        ("a clock within a minute", signed(json!({"exp": -30})), ""),
        ("no algorithm", (Signs::None, json!({})), "sso_failed"),
        ("the public key as a secret", (Signs::PublicKeyAsSecret, json!({})), "sso_failed"),
        ("a key that is not published", (Signs::Es(2), json!({})), "sso_failed"),
        ("another nonce", signed(json!({"nonce": "another"})), "sso_failed"),
        ("no nonce", signed(json!({"nonce": null})), "sso_failed"),
        ("another issuer", signed(json!({"iss": "https://id.example"})), "sso_failed"),
        ("nearly the issuer", signed(json!({"iss": format!("{url}/")})), "sso_failed"),
        ("for somebody else", signed(json!({"aud": "another"})), "sso_failed"),
        ("for nobody", signed(json!({"aud": []})), "sso_failed"),
        ("for several, given to nobody", signed(json!({"aud": ["x", CLIENT]})), "sso_failed"),
        ("for us, given to somebody else", signed(json!({"azp": "another"})), "sso_failed"),
        ("over", signed(json!({"exp": -61})), "sso_failed"),
        ("never over", signed(json!({"exp": null})), "sso_failed"),
        ("over at no time", signed(json!({"exp": "soon"})), "sso_failed"),
        ("from tomorrow", signed(json!({"iat": 86_400})), "sso_failed"),
        ("good from tomorrow", signed(json!({"nbf": 86_400})), "sso_failed"),
        ("of nobody", signed(json!({"sub": ""})), "sso_failed"),
        ("of a long name", signed(json!({"sub": "a".repeat(256)})), "sso_failed"),
        ("not verified", signed(json!({"email_verified": false})), "sso_email_unverified"),
        ("without an address", signed(json!({"email": null})), "sso_email_unverified"),
    ] {
        {
            let mut script = place.issuer.script();
            let mut all = fair.clone();
            all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
            // Times are said from now on.
            for (_, time) in all.as_object_mut().unwrap().iter_mut().filter(|(_, value)| value.is_number()) {
                *time = match time.as_i64() {
                    Some(whole) => (script.now + whole).into(),
                    None => json!(format!("{}.5", script.now + 30).parse::<f64>().unwrap()),
                };
            }
            (script.signs, script.claims) = (signs, all);
        }
        if want.is_empty() {
            place.sign_in("any").await.is(200);
        } else {
            assert_eq!(place.lands("any").await, want, "{what}");
        }
        place.test.clock.pass(Dur::from_secs(40));
        place.issuer.script().now += 40;
    }
}

#[tokio::test]
async fn a_key_is_found_that_is_new_and_nobody_makes_us_look_for_it_at_will() {
    let place = Place::over(Db::inline_sqlite().unwrap()).await;
    place.says_of("new-1", "grace@joins.example");
    place.sign_in("any").await.is(200);
    place.sign_in("any").await.is(200);
    assert_eq!(
        (place.issuer.asked("/keys"), place.issuer.asked("/.well-known/openid-configuration")),
        (1, 1)
    );
    // The issuer has a new key. Within half a minute it is not looked for.
    {
        let mut script = place.issuer.script();
        (script.signs, script.published) = (Signs::Es(2), vec![Signs::Es(2)]);
    }
    assert_eq!(place.lands("any").await, "sso_failed");
    assert_eq!(place.issuer.asked("/keys"), 1);
    place.test.clock.pass(Dur::from_secs(31));
    place.sign_in("any").await.is(200);
    assert_eq!(place.issuer.asked("/keys"), 2);
    // A token that names a key which nobody has is looked for once.
    place.issuer.script().names = Some("nobody's".to_owned());
    for _ in 0..3 {
        assert_eq!(place.lands("any").await, "sso_failed");
    }
    assert_eq!(place.issuer.asked("/keys"), 2);
}

#[tokio::test]
async fn an_issuer_that_is_of_no_use_is_told_as_that() {
    let place = Place::over(Db::inline_sqlite().unwrap()).await;
    let test = &place.test;
    let start =
        async |name: &str| test.send(request("GET", &format!("/auth/oauth/{name}/start"), None, None)).await;
    start("gone").await.refused(502, "sso_unavailable");
    start("nobody").await.refused(400, "sso_not_configured");
    start("../x").await.is(404);
    for (trouble, code) in [
        (Trouble::Html, "sso_failed"),
        (Trouble::Huge, "sso_unavailable"),
        (Trouble::Fails, "sso_unavailable"),
    ] {
        place.issuer.script().trouble = Some(("/.well-known", trouble));
        let refused = start("any").await.refused(502, code);
        assert!(!refused.text.contains("script") && !refused.text.contains("127.0.0.1"), "{}", refused.text);
        let asked = place.issuer.asked("/.well-known/openid-configuration");
        start("any").await.refused(502, "sso_unavailable");
        assert_eq!(place.issuer.asked("/.well-known/openid-configuration"), asked, "not again at once");
        test.clock.pass(Dur::from_secs(11));
    }
    place.issuer.script().trouble = None;
    for description in [
        json!({"issuer": "https://id.example"}),
        json!({"token_endpoint": "file:///etc/passwd"}),
        json!({"authorization_endpoint": "javascript:alert(1)"}),
        json!({"jwks_uri": null}),
        json!({"jwks_uri": "http://ada:pw@127.0.0.1/"}),
    ] {
        place.issuer.script().description = description.clone();
        start("any").await.refused(502, "sso_failed");
        test.clock.pass(Dur::from_secs(11));
    }
    let checked = test.post(&test.a.admin, "/v1/sso/check", json!({})).await.is(200).json;
    let of = |name: &str| checked.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone();
    assert_eq!(of("any"), json!({"name": "any", "ok": false, "code": "sso_failed"}));
    assert_eq!(of("hub"), json!({"name": "hub", "ok": true}));
    assert_eq!(of("gone"), json!({"name": "gone", "ok": false, "code": "sso_unavailable"}));
    test.post(&test.a.member, "/v1/sso/check", json!({})).await.refused(403, "role_missing");
    // It recovers; and takes our secret in the form where it says that it wants that.
    place.issuer.script().description =
        json!({"token_endpoint_auth_methods_supported": ["client_secret_post"]});
    test.clock.pass(Dur::from_secs(11));
    place.says_of("new-1", "grace@joins.example");
    place.sign_in("any").await.is(200);
    // Its other half misbehaves.
    for (path, trouble, code) in [
        ("/token", Trouble::Html, "sso_failed"),
        ("/token", Trouble::Huge, "sso_unavailable"),
        ("/token", Trouble::Fails, "sso_unavailable"),
    ] {
        place.issuer.script().trouble = Some((path, trouble));
        assert_eq!(place.lands("any").await, code);
        test.clock.pass(Dur::from_secs(40));
    }
    let listed = test.send(request("GET", "/auth/oauth", None, None)).await.is(200);
    assert_eq!(listed.json[0], json!({"name": "any", "label": "ANY", "url": "https://lantern.example"}));
    assert!(!listed.text.contains(CLIENT) && !listed.text.contains(&place.issuer.url), "{}", listed.text);
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_hangs_is_waited_for_ten_seconds() {
    let place = Place::over(Db::inline_sqlite().unwrap()).await;
    place.issuer.script().trouble = Some(("/", Trouble::Hangs));
    let asked = place.test.send(request("GET", "/auth/oauth/any/start", None, None)).await;
    asked.refused(502, "sso_unavailable");
}

#[tokio::test]
async fn nobody_tries_at_will() {
    let place = Place::over(Db::inline_sqlite().unwrap()).await;
    let start = async || place.test.send(request("GET", "/auth/oauth/any/start", None, None)).await;
    for _ in 0..30 {
        start().await.is(200);
    }
    start().await.refused(429, "login_rate_limited");
    // A browser that comes back lands all the same.
    let landed = place.back(&mut Browser::default(), "https://lantern.example/auth/oauth/any/callback").await;
    assert_eq!(code(&landed), "login_rate_limited");
}
