//! Signing in, staying signed in, signing out, and who one is.
//!
//! Invariant: an unknown address, a wrong password and a role that is none all answer the same words after the same
//! work. Tries are limited for each address from each peer, so that nobody can lock somebody else out, and for each peer
//! over all addresses, so that nobody can try one password on everybody; and what many peers try on one address waits, but not
//! from where its owner is signed in (`lantern_policy::lockout`). A refresh token is good once; one that comes a second
//! time was copied, by whom nobody can say, and ends its sign-in.

use std::net::IpAddr;

use axum::extract::State;
use http::{HeaderMap, header};
use lantern_edge::audit::Who;
use lantern_edge::refresh::Refresh;
use lantern_edge::request::Peer;
use lantern_edge::route::{fresh_post_route, get_route, public_post};
use lantern_edge::token::{self, Person};
use lantern_edge::{Body, Code, Error, Fields, Json, Model, NoContent, Refusal, Result, Route, Witness};
use lantern_policy::action::{ReadSelf, SignOut};
use lantern_policy::{Permit, Principal, Role, Scope};
use lantern_store::sign_ins::{self, NewSignIn};
use lantern_store::system::{self, Account, PresentedSignIn};
use lantern_types::{At, Dur, Secret, SignInId, TenantId, UserId};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::factors::{self, Passed};
use crate::App;

pub(super) const EMAIL_BYTES_MAX: usize = 320;
pub(super) const PASSWORD_BYTES_MAX: usize = 1_024;
/// What the audit log calls signing in.
const SIGN_IN: &str = "auth.sign_in";
const REFRESH_TOKEN_BYTES_MAX: usize = 256;
/// As much of a client's name for itself is kept.
const CLIENT_CHARS_MAX: usize = 200;
/// A sign-in that is not renewed for so long is over.
const IDLE_MAX: Dur = Dur::from_secs(30 * 86_400);
/// And so is one that is this old, however often it was renewed.
const AGE_MAX: Dur = Dur::from_secs(365 * 86_400);

/// Locks a person while their password is this one, so that who changes it finds the sign-in that it began.
const STILL: &str = "UPDATE users SET name = name WHERE tenant_id = $1 AND id = $2 AND password_hash = $3";

/// Every statement of this file.
pub(crate) const STATEMENTS: &[&str] = &[STILL];

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        public_post("/auth/login", "Sign in", login)
            .refuses(&[Refusal::Unauthenticated, Refusal::RateLimited]),
        public_post("/auth/refresh", "Renew a sign-in by its refresh token", refresh)
            .refuses(&[Refusal::Unauthenticated]),
        // Kept for no `Idempotency-Key`: a second sign-out has nobody to answer.
        fresh_post_route("/auth/logout", "Sign out", logout),
        get_route("/auth/me", "Read the caller", me),
    ]
}

pub(super) struct Login {
    email: String,
    password: Secret<String>,
    /// Of a second factor.
    code: Option<String>,
}

impl Model for Login {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let email = fields.required_text("email", EMAIL_BYTES_MAX);
        let password = fields.required_text("password", PASSWORD_BYTES_MAX).map(Secret::new);
        let code = fields.text("code", factors::CODE_BYTES_MAX).filter(|code| !code.trim().is_empty());
        Some(Self { email: email?, password: password?, code })
    }
}

struct Renewal(Secret<String>);

impl Model for Renewal {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let token = fields.required_text("refreshToken", REFRESH_TOKEN_BYTES_MAX).map(Secret::new);
        token.map(Self)
    }
}

struct Leaving {
    everywhere: bool,
}

impl Model for Leaving {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { everywhere: fields.boolean("everywhere").unwrap_or_default() })
    }
}

/// Who is signed in, with what they show from now on.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SignedIn {
    /// The access token, for the `Authorization` header.
    token: String,
    /// Seconds that the access token is good.
    expires_in: i64,
    expires_at: String,
    /// Good once, for the next access token.
    refresh_token: String,
    refresh_expires_at: String,
    user: User,
}

/// The caller, as the contract shows it: a key has no id, address or name of its own.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct User {
    id: String,
    #[schema(value_type = String, format = "uuid")]
    tenant_id: TenantId,
    email: String,
    name: String,
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<String>>,
    /// When what the caller shows ends by itself: their access token, or their key.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// When a person's sign-in ends unless it is renewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    sign_in_expires_at: Option<String>,
}

impl User {
    fn of(person: Person) -> Self {
        Self {
            id: person.id.to_string(),
            tenant_id: person.tenant,
            email: person.email,
            name: person.name,
            role: person.role.as_str(),
            scopes: None,
            expires_at: None,
            sign_in_expires_at: None,
        }
    }

    /// Somebody whose sign-in ends then and not before.
    pub(super) fn until(person: Person, at: At) -> Self {
        let at = Some(at.to_string());
        Self { expires_at: at.clone(), sign_in_expires_at: at, ..Self::of(person) }
    }
}

async fn login(
    State(app): State<App>,
    peer: Peer,
    witness: Witness,
    headers: HeaderMap,
    Body(login): Body<Login>,
) -> Result<Json<SignedIn>> {
    let account = account(&app, peer, &witness, login).await?;
    begin(&app, account, &Device::of(peer, &headers)).await.map(Json)
}

/// The account of somebody who knows its password.
pub(super) async fn account(app: &App, peer: Peer, witness: &Witness, login: Login) -> Result<Account> {
    let now = app.clock.now();
    let email = login.email.trim().to_lowercase();
    let peer = peer.0.ip();
    // The peer first: so nobody fills the other buckets with addresses that they make up.
    let taken = app.inner.logins_of_peer.take(peer, now);
    taken.and_then(|()| app.inner.logins.take((email.clone(), peer), now)).map_err(rate_limited)?;
    let found = system::user_by_email(&app.db, email.clone()).await?;
    if let Err(wait) = app.inner.lockout.enter(&email, now) {
        if !knows(app, found.as_ref(), peer).await? {
            return Err(rate_limited(wait));
        }
        app.inner.lockout.count(&email, now);
    }
    let stored = found.as_ref().map(|account| account.password_hash.clone());
    let verified = app.inner.passwords.verify(login.password, stored).await?;
    if let Some((tenant, id)) = found.as_ref().map(|found| (found.tenant, found.id)) {
        let who = if verified { Who::Person(id) } else { Who::Stranger(id) };
        witness.names(tenant, who, SIGN_IN);
    }
    let account = found.filter(|_| verified);
    let account = account.ok_or_else(|| Error::new(Code::InvalidCredentials, "invalid credentials"))?;
    app.inner.lockout.right(&email);
    factored(app, &account, peer, login.code.as_deref(), (witness, SIGN_IN)).await?;
    Ok(account)
}

/// Asks somebody for the code of their second factor, if they have one, who has shown otherwise that the account is theirs.
pub(super) async fn factored(
    app: &App,
    account: &Account,
    peer: IpAddr,
    code: Option<&str>,
    (witness, action): (&Witness, &'static str),
) -> Result<()> {
    let known = knows(app, Some(account), peer).await?.then_some(peer);
    match factors::pass(app, account, known, code).await? {
        Passed::Yes => Ok(()),
        shown => {
            witness.names(account.tenant, Who::Stranger(account.id), action);
            Err(match shown {
                Passed::Asked => {
                    let words = "this account signs in with a code of its app, too: send it as code";
                    Error::new(Code::SecondFactorRequired, words)
                }
                _ => Error::new(Code::WrongCode, "the code is not a good one, or was used before"),
            })
        }
    }
}

/// Whether the account has a sign-in from there. For nobody's address the same is looked for in vain.
async fn knows(app: &App, account: Option<&Account>, source: IpAddr) -> Result<bool> {
    let nobody = (TenantId::from_uuid(Uuid::nil()), UserId::from_uuid(Uuid::nil()));
    let (tenant, user) = account.map_or(nobody, |account| (account.tenant, account.id));
    let (source, now) = (source.to_string(), app.clock.now());
    let look = app.db.read(Scope::of_lease(tenant), move |tx| {
        Box::pin(async move { sign_ins::knows(tx, user, source, now).await })
    });
    Ok(look.await?)
}

pub(super) fn rate_limited(wait: Dur) -> Error {
    Error::new(Code::LoginRateLimited, "too many login attempts; please try again later").retry_after(wait)
}

pub(super) fn not_signed_in() -> Error {
    Error::new(Code::NotSignedIn, "a key is not signed in; DELETE /v1/api-keys/{id} revokes it")
}

/// What somebody signs in from, as its owner is shown it.
pub(super) struct Device {
    source: IpAddr,
    client: Option<String>,
}

impl Device {
    pub(super) fn of(peer: Peer, headers: &HeaderMap) -> Self {
        let client = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        let client = client.map(|text| text.chars().take(CLIENT_CHARS_MAX).collect());
        Self { source: peer.0.ip(), client }
    }
}

/// Signs somebody in who has shown that they are who this account is of.
pub(super) async fn begin(app: &App, account: Account, device: &Device) -> Result<SignedIn> {
    let now = app.clock.now();
    let until = now + IDLE_MAX;
    let person = keep(app, account, until, device).await?;
    shown(app, person, sign_ins::FIRST, now, until)
}

/// Keeps a sign-in of this account until then.
pub(super) async fn keep(app: &App, account: Account, until: At, device: &Device) -> Result<Person> {
    let now = app.clock.now();
    let sign_in = SignInId::from_uuid(app.ids.uuid());
    let Account { tenant, id, email, name, role, password_hash } = account;
    let role = Role::parse(&role);
    let role = role.ok_or_else(|| Error::new(Code::InvalidCredentials, "invalid credentials"))?;
    let new = NewSignIn { id: sign_in, user: id, expires_at: until };
    let (source, client) = (device.source.to_string(), device.client.clone());
    let kept = app.db.write(Scope::of_lease(tenant), move |tx| {
        Box::pin(async move {
            let still = tx.exec(STILL, &[id.into(), password_hash.into()]).await? > 0;
            if still {
                sign_ins::begin(tx, new, now).await?;
                sign_ins::note(tx, sign_in, source, client).await?;
            }
            Ok(still)
        })
    });
    // The password was changed, or its person removed, while it was looked at.
    if !kept.await? {
        return Err(Error::new(Code::InvalidCredentials, "invalid credentials"));
    }
    tracing::info!(%tenant, user = %id, %sign_in, "signed in");
    Ok(Person { tenant, id, email, name, role, sign_in })
}

/// What renewing a sign-in comes to.
enum Renewed {
    Yes,
    /// Its token had been used before, and it is over.
    Copied,
    /// It was over already.
    No,
}

async fn refresh(
    State(app): State<App>,
    witness: Witness,
    Body(Renewal(token)): Body<Renewal>,
) -> Result<Json<SignedIn>> {
    let now = app.clock.now();
    let invalid = || Error::new(Code::InvalidRefreshToken, "the refresh token is not good; sign in again");
    let Refresh { tenant, sign_in, generation } =
        app.inner.gate.refresh_tokens().read(token.expose()).ok_or_else(invalid)?;
    let row = system::sign_in(&app.db, tenant, sign_in).await?.filter(|row| now < row.expires_at);
    let row = row.ok_or_else(invalid)?;
    let until = (now + IDLE_MAX).min(row.created_at + AGE_MAX);
    let person = person(row).ok_or_else(invalid)?;
    witness.names(tenant, Who::Person(person.id), "auth.refresh");
    let renewed = app.db.write(Scope::of_lease(tenant), move |tx| {
        Box::pin(async move {
            if sign_ins::renew(tx, sign_in, generation, now, until).await? {
                return Ok(Renewed::Yes);
            }
            Ok(if sign_ins::end(tx, sign_in).await? { Renewed::Copied } else { Renewed::No })
        })
    });
    match renewed.await? {
        Renewed::Yes => shown(&app, person, generation + 1, now, until).map(Json),
        Renewed::No => Err(invalid()),
        Renewed::Copied => {
            app.inner.gate.revoked();
            tracing::warn!(%tenant, user = %person.id, %sign_in, "a refresh token came a second time: its sign-in was ended");
            let words = "the refresh token was used before, so somebody has a copy: this sign-in was ended; \
                sign in again";
            Err(Error::new(Code::RefreshTokenReused, words))
        }
    }
}

async fn logout(
    permit: Permit<SignOut>,
    State(app): State<App>,
    Body(leaving): Body<Leaving>,
) -> Result<NoContent> {
    leave(&app, &permit, leaving.everywhere).await.map(|()| NoContent)
}

/// Ends the sign-in that a request was made with, or all of the same person.
pub(super) async fn leave(app: &App, permit: &Permit<SignOut>, everywhere: bool) -> Result<()> {
    let Principal::User { id, sign_in, .. } = permit.actor().principal else {
        return Err(not_signed_in());
    };
    let ended = app.db.write(permit.scope(), move |tx| {
        Box::pin(async move {
            if everywhere {
                sign_ins::end_all(tx, id).await
            } else {
                sign_ins::end(tx, sign_in).await.map(u64::from)
            }
        })
    });
    let ended = ended.await?;
    app.inner.gate.revoked();
    tracing::info!(tenant = %permit.scope().tenant(), user = %id, ended, "signed out");
    Ok(())
}

fn shown(app: &App, person: Person, generation: u32, now: At, until: At) -> Result<SignedIn> {
    let token = app.inner.gate.tokens().issue(&person, now)?;
    let refresh = Refresh { tenant: person.tenant, sign_in: person.sign_in, generation };
    Ok(SignedIn {
        token,
        expires_in: token::LIFE.millis() / 1_000,
        expires_at: (now + token::LIFE).to_string(),
        refresh_token: app.inner.gate.refresh_tokens().issue(&refresh),
        refresh_expires_at: until.to_string(),
        user: User::of(person),
    })
}

fn person(row: PresentedSignIn) -> Option<Person> {
    let PresentedSignIn { tenant, id: sign_in, user: id, email, name, role, .. } = row;
    Some(Person { tenant, id, email, name, role: Role::parse(&role)?, sign_in })
}

async fn me(permit: Permit<ReadSelf>, State(app): State<App>) -> Result<Json<User>> {
    let actor = permit.actor();
    let expires_at = actor.until.map(|at| at.to_string());
    Ok(Json(match &actor.principal {
        Principal::User { id, email, name, role, sign_in } => User {
            id: id.to_string(),
            tenant_id: actor.tenant,
            email: email.clone(),
            name: name.clone(),
            role: role.as_str(),
            scopes: None,
            expires_at,
            sign_in_expires_at: system::sign_in(&app.db, actor.tenant, *sign_in)
                .await?
                .map(|row| row.expires_at.to_string()),
        },
        Principal::Key { scopes, .. } => User {
            id: String::new(),
            tenant_id: actor.tenant,
            email: String::new(),
            name: String::new(),
            role: "service",
            scopes: Some(scopes.clone()),
            expires_at,
            sign_in_expires_at: None,
        },
    }))
}
