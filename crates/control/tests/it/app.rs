//! The application under test: a router over a database, two tenants, and requests to it.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use lantern_control::testing::{Answered, undocumented};
use lantern_control::{
    App, Probe, ProbeAsk, Providers, Rate, Runtime, Setup, SharedProvider, SsoSetup, router,
};
use lantern_edge::token::{Person, Tokens};
use lantern_net::{RealClock, RealIds, Shutdown, TaskSet};
use lantern_policy::egress::Reach;
use lantern_policy::strategy::Strategy;
use lantern_policy::{Catalogue, Role, Scope};
use lantern_store::sign_ins::{self, NewSignIn};
use lantern_store::{Blobs, Db, Keys, Sealer, Vault};
use lantern_types::edge::{BoxFuture, Clock};
use lantern_types::llm::Unlisted;
use lantern_types::{At, Dur, EffectClass, Limits, SignInId, TenantId, ToolDef, ToolName, UserId};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tower::ServiceExt as _;
use uuid::Uuid;

/// Makes `NAME::sqlite` and `NAME::postgres` of each function, each with an application of its own.
macro_rules! on_both {
    ($($name:ident: $test:path;)+) => {$(
        mod $name {
            use super::*;

            #[tokio::test]
            async fn sqlite() {
                $test(&$crate::app::TestApp::new().await).await;
            }

            #[test]
            fn postgres() {
                use $crate::app::{TestApp, Wishes};
                lantern_store::testing::on_postgres(async |db| $test(&TestApp::over(db, Wishes::default()).await).await);
            }
        }
    )+};
}

pub(crate) use on_both;

/// Every answer of this clock is later than the one before, so that lists have an order; tests move it on.
pub(crate) struct HandClock {
    micros: AtomicI64,
    endless: AtomicBool,
}

impl HandClock {
    pub(crate) fn pass(&self, dur: Dur) {
        self.micros.fetch_add(dur.micros(), Ordering::Relaxed);
    }

    /// From now on no sleep ends: whatever goes on was woken.
    pub(crate) fn sleep_endlessly(&self) {
        self.endless.store(true, Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn now(&self) -> At {
        At::from_micros(self.micros.fetch_add(1, Ordering::Relaxed))
    }
    fn sleep(&self, dur: Dur) -> BoxFuture<'static, ()> {
        let night = tokio::time::sleep(dur.std());
        if self.endless.load(Ordering::Relaxed) { Box::pin(std::future::pending()) } else { Box::pin(night) }
    }
}

/// What the fake provider was asked, and what it answers.
#[derive(Default)]
pub(crate) struct Probed {
    pub(crate) asked: Mutex<Vec<String>>,
    pub(crate) fails: Mutex<Option<Unlisted>>,
}

/// One tenant with its owner's token.
#[derive(Clone)]
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    pub(crate) scope: Scope,
    pub(crate) owner: String,
    pub(crate) admin: String,
    pub(crate) member: String,
    /// The weakest of them.
    pub(crate) viewer: String,
}

pub(crate) struct TestApp {
    pub(crate) app: App,
    pub(crate) router: Router,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) stop: Shutdown,
    pub(crate) probed: Arc<Probed>,
    pub(crate) tokens: Tokens,
    pub(crate) a: Tenant,
    pub(crate) b: Tenant,
}

/// What differs between tests.
pub(crate) struct Wishes {
    pub(crate) limits: Limits,
    pub(crate) spawn: Option<Rate>,
    pub(crate) reach: Reach,
    pub(crate) signup: bool,
    pub(crate) content_kept: Option<Dur>,
    pub(crate) receipt_seed: Option<[u8; 32]>,
    pub(crate) runtime: Option<Runtime>,
    pub(crate) traces: Option<String>,
    pub(crate) sso: Option<SsoSetup>,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            spawn: None,
            reach: Reach::Private,
            signup: true,
            content_kept: None,
            receipt_seed: None,
            runtime: Some(crate::runtime::runtime()),
            traces: None,
            sso: None,
        }
    }
}

const TENANT: &str =
    "INSERT INTO tenants (tenant_id, slug, name, tier, created_at) VALUES ($1, $2, $2, 'team', 1)";
const USER: &str =
    "INSERT INTO users (tenant_id, id, email, email_key, name, role, password_hash, created_at)
    VALUES ($1, $2, $3, $3, $4, $4,
    '$argon2id$v=19$m=9216,t=4,p=1$bGFudGVybi1ub2JvZHktIQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA', 1)";
const START: i64 = 1_800_000_000_000_000;

impl TestApp {
    pub(crate) async fn new() -> Self {
        Self::with(Wishes::default()).await
    }

    pub(crate) async fn with(wishes: Wishes) -> Self {
        Self::over(Db::inline_sqlite().unwrap(), wishes).await
    }

    pub(crate) async fn over(db: Db, wishes: Wishes) -> Self {
        let clock = Arc::new(HandClock { micros: AtomicI64::new(START), endless: AtomicBool::new(false) });
        let ids = Arc::new(RealIds::new(Arc::new(RealClock::new())));
        let keys = Keys::from_ids(&*ids);
        let sealer = Sealer::new(db.clone(), &keys, ids.clone(), clock.clone()).unwrap();
        let (stop, probed) = (Shutdown::new(), Arc::new(Probed::default()));
        let setup = Setup {
            notary: lantern_store::Notary::new(
                &sealer,
                wishes.receipt_seed.map(lantern_types::Secret::new).as_ref(),
            ),
            vault: Vault::new(sealer, Blobs::memory()),
            keys: keys.clone(),
            clock: clock.clone(),
            ids,
            tasks: Arc::new(TaskSet::new(Handle::current())),
            content_kept: wishes.content_kept,
            runtime: wishes.runtime,
            traces: wishes.traces,
            sso: wishes.sso,
            limits: wishes.limits.into(),
            standing: lantern_store::Standing::none(),
            catalogue: Arc::new(Catalogue::builtin().unwrap()),
            tools: tools(),
            spawn: wishes.spawn,
            signup: wishes.signup,
            providers: Providers {
                vendor_urls: [("vendor".to_owned(), "https://vendor.example.com/v1".to_owned())].into(),
                shared: vec![SharedProvider { name: "house".to_owned(), own_address: true }],
                reach: wishes.reach,
                offline: false,
                strategy: Strategy::default(),
                probe: probe(probed.clone()),
            },
            stop: stop.clone(),
            trusted_proxies: Arc::new(["10.0.0.0/8".parse().unwrap()]),
            cors_origins: vec!["http://localhost:3001".to_owned(), "https://lantern.example".to_owned()],
            db,
        };
        let app = App::new(setup).unwrap();
        let tokens = Tokens::new(&keys).unwrap();
        let (a, b) = (tenant(&app, &tokens, 10).await, tenant(&app, &tokens, 20).await);
        Self { router: router(app.clone()), app, clock, stop, probed, tokens, a, b }
    }

    /// Sends a request and waits for the head of its answer, which must be as the API's description has it.
    pub(crate) async fn open(&self, request: Request<Body>) -> axum::response::Response {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answer = self.router.clone().oneshot(request).await.unwrap();
        described(&method, &path, answer.status(), answer.headers(), None);
        answer
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let (parts, body) = self.open(request).await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        described(&method, &path, parts.status, &parts.headers, Some(&bytes));
        let binary = parts.headers.get("content-type").is_some_and(|kind| kind == "application/octet-stream");
        let text = if binary { hex::encode(&bytes) } else { String::from_utf8(bytes.to_vec()).unwrap() };
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, text, json }
    }

    pub(crate) async fn get(&self, token: &str, path: &str) -> Answer {
        self.send(request("GET", path, Some(token), None)).await
    }

    pub(crate) async fn post(&self, token: &str, path: &str, body: Value) -> Answer {
        self.send(request("POST", path, Some(token), Some(body))).await
    }

    pub(crate) async fn put(&self, token: &str, path: &str, body: Value) -> Answer {
        self.send(request("PUT", path, Some(token), Some(body))).await
    }

    pub(crate) async fn patch(&self, token: &str, path: &str, body: Value) -> Answer {
        self.send(request("PATCH", path, Some(token), Some(body))).await
    }

    pub(crate) async fn delete(&self, token: &str, path: &str) -> Answer {
        self.send(request("DELETE", path, Some(token), None)).await
    }

    /// A key of tenant `a` with these scopes.
    pub(crate) async fn key(&self, scopes: &[&str]) -> String {
        let made = self.post(&self.a.owner, "/v1/api-keys", json!({"name": "k", "scopes": scopes})).await;
        made.is(201).json["rawKey"].as_str().unwrap().to_owned()
    }

    /// An agent of tenant `a`, made with this body.
    pub(crate) async fn agent(&self, body: Value) -> Value {
        self.post(&self.a.owner, "/v1/agents", body).await.is(201).json
    }

    /// A session of tenant `a` with this agent.
    pub(crate) async fn session(&self, agent: &str) -> String {
        let made = self.post(&self.a.owner, "/v1/sessions", json!({"agentName": agent})).await.is(201).json;
        made["id"].as_str().unwrap().to_owned()
    }

    /// A run of tenant `a`.
    pub(crate) async fn run(&self, body: Value) -> String {
        let made = self.post(&self.a.owner, "/v1/runs", body).await.is(201).json;
        made["id"].as_str().unwrap().to_owned()
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) json: Value,
}

impl Answer {
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }
    /// Asserts a refusal with this status and code, in the form that every refusal has.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status.as_u16(), self.json["code"].as_str()), (status, Some(code)), "{}", self.text);
        assert_eq!(self.json["status"], status);
        assert_eq!(self.json["requestId"], self.header("x-request-id"));
        assert_eq!(self.json["type"], format!("https://lantern.dev/errors/{code}"));
        assert!(!self.json["error"].as_str().unwrap().is_empty());
        self
    }
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
    /// The paths of the fields that were refused.
    pub(crate) fn paths(&self) -> Vec<&str> {
        self.json["fields"].as_array().unwrap().iter().map(|field| field["path"].as_str().unwrap()).collect()
    }
}

/// Holds an answer against the description of the API.
#[track_caller]
fn described(method: &Method, path: &str, status: StatusCode, headers: &HeaderMap, body: Option<&[u8]>) {
    let media = headers.get("content-type").map(|value| value.to_str().unwrap());
    let answer = Answered { method: method.as_str(), path, status: status.as_u16(), media, body };
    assert_eq!(undocumented(&answer), None);
}

pub(crate) fn request(method: &str, path: &str, token: Option<&str>, body: Option<Value>) -> Request<Body> {
    let mut builder = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        builder = builder.header("authorization", format!("Bearer {token}"));
    }
    builder.body(body.map_or_else(Body::empty, |body| Body::from(body.to_string()))).unwrap()
}

pub(crate) fn person(tenant: TenantId, role: Role) -> Person {
    let name = role.as_str();
    // One person for each role, signed in once, each with a row of their own.
    let id = Uuid::from_u128(tenant.uuid().as_u128() * 10 + role as u128);
    let (id, sign_in) = (UserId::from_uuid(id), SignInId::from_uuid(id));
    let house = if tenant == TenantId::from_uuid(Uuid::from_u128(10)) { "" } else { "b." };
    let email = format!("{name}@{house}example.com");
    Person { tenant, id, email, name: name.to_owned(), role, sign_in }
}

async fn tenant(app: &App, tokens: &Tokens, n: u128) -> Tenant {
    let id = TenantId::from_uuid(Uuid::from_u128(n));
    let scope = Scope::of_lease(id);
    app.db
        .write(scope, move |tx| {
            Box::pin(async move {
                tx.exec(TENANT, &[id.to_string().into()]).await?;
                for role in Role::ALL {
                    let Person { id, email, name, sign_in, .. } = person(id, role);
                    let expires_at = At::from_micros(START) + Dur::from_secs(30 * 86_400);
                    tx.exec(USER, &[id.into(), email.into(), name.into()]).await?;
                    let new = NewSignIn { id: sign_in, user: id, expires_at };
                    sign_ins::begin(tx, new, At::from_micros(START)).await?;
                }
                Ok(())
            })
        })
        .await
        .unwrap();
    let issue = |role| tokens.issue(&person(id, role), app.clock.now()).unwrap();
    let [viewer, member, admin, owner] = Role::ALL.map(issue);
    Tenant { id, scope, owner, admin, member, viewer }
}

fn tools() -> Vec<ToolDef> {
    let tool = |name: &str, effect| ToolDef {
        name: ToolName::parse(name).unwrap(),
        description: format!("{name} for tests"),
        input_schema: json!({"type": "object"}),
        effect,
    };
    vec![tool("calc", EffectClass::Pure), tool("pay", EffectClass::Irreversible)]
}

fn probe(probed: Arc<Probed>) -> Probe {
    Arc::new(move |ask: ProbeAsk| {
        let own = ask.own.map(|own| {
            let key = own.api_key.map_or_else(|| "-".to_owned(), |key| key.expose().clone());
            format!(" {} {key}", own.base_url.unwrap_or_else(|| "-".to_owned()))
        });
        probed.asked.lock().unwrap().push(format!("{}{}", ask.provider, own.unwrap_or_default()));
        let fails = *probed.fails.lock().unwrap();
        Box::pin(async move { fails.map_or_else(|| Ok(vec!["small".to_owned(), "large".to_owned()]), Err) })
    })
}
