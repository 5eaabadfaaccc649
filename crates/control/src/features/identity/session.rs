//! Signing in, and who one is.
//!
//! Invariant: an unknown address, a wrong password and a role that is none all answer the same words after the same
//! work. Tries are limited for each address from each peer, so that nobody can lock somebody else out, and for each peer
//! over all addresses, so that nobody can try one password on everybody.

use axum::extract::State;
use lantern_edge::request::Peer;
use lantern_edge::route::{get_route, public_post};
use lantern_edge::token::Person;
use lantern_edge::{Body, Code, Error, Fields, Json, Model, Result, Route};
use lantern_policy::action::ReadSelf;
use lantern_policy::{Permit, Principal, Role};
use lantern_store::system::{self, SignIn};
use lantern_types::{Secret, TenantId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::App;

const EMAIL_BYTES_MAX: usize = 320;
const PASSWORD_BYTES_MAX: usize = 1_024;

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![public_post("/auth/login", "Sign in", login), get_route("/auth/me", "Read the caller", me)]
}

struct Login {
    email: String,
    password: Secret<String>,
}

impl Model for Login {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let email = fields.required_text("email", EMAIL_BYTES_MAX);
        let password = fields.required_text("password", PASSWORD_BYTES_MAX).map(Secret::new);
        Some(Self { email: email?, password: password? })
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = SignedIn)]
struct Session {
    token: String,
    user: User,
}

/// The caller, as the contract shows it: a key has no id, address or name of its own.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct User {
    id: String,
    #[schema(value_type = String, format = "uuid")]
    tenant_id: TenantId,
    email: String,
    name: String,
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<String>>,
}

async fn login(State(app): State<App>, peer: Peer, Body(login): Body<Login>) -> Result<Json<Session>> {
    let now = app.clock.now();
    let email = login.email.trim().to_lowercase();
    let peer = peer.0.ip();
    // The peer first: so nobody fills the other buckets with addresses that they make up.
    let taken = app.inner.logins_of_peer.take(peer, now);
    taken.and_then(|()| app.inner.logins.take((email.clone(), peer), now)).map_err(|wait| {
        Error::new(Code::LoginRateLimited, "too many login attempts; please try again later")
            .retry_after(wait)
    })?;
    let found = system::user_by_email(&app.db, email).await?;
    let stored = found.as_ref().map(|user| user.password_hash.clone());
    let verified = app.inner.passwords.verify(login.password, stored).await?;
    let person = found.filter(|_| verified).and_then(person);
    let person = person.ok_or_else(|| Error::new(Code::InvalidCredentials, "invalid credentials"))?;
    let token = app.inner.gate.tokens().issue(&person, now)?;
    tracing::info!(tenant = %person.tenant, user = %person.id, "signed in");
    let user = User {
        id: person.id.to_string(),
        tenant_id: person.tenant,
        email: person.email,
        name: person.name,
        role: person.role.as_str(),
        scopes: None,
    };
    Ok(Json(Session { token, user }))
}

fn person(user: SignIn) -> Option<Person> {
    let role = Role::parse(&user.role)?;
    Some(Person { tenant: user.tenant, id: user.id, email: user.email, name: user.name, role })
}

async fn me(permit: Permit<ReadSelf>) -> Json<User> {
    let actor = permit.actor();
    Json(match &actor.principal {
        Principal::User { id, email, name, role } => User {
            id: id.to_string(),
            tenant_id: actor.tenant,
            email: email.clone(),
            name: name.clone(),
            role: role.as_str(),
            scopes: None,
        },
        Principal::Key { scopes, .. } => User {
            id: String::new(),
            tenant_id: actor.tenant,
            email: String::new(),
            name: String::new(),
            role: "service",
            scopes: Some(scopes.clone()),
        },
    })
}
