//! Second factors: a code of an authenticator app beside the password, and codes for when the app is gone.
//!
//! Invariant: the secret is sealed for its person and is in one answer; a recovery code is stored as its digest. A code is taken
//! once, by the one statement that moves its step on or removes its row. Putting a factor in place and taking it away ask for the
//! password again: a sign-in that was stolen does neither.

use std::net::IpAddr;

use axum::extract::State;
use lantern_edge::request::Peer;
use lantern_edge::route::{delete_route, fresh_post_route, get_route};
use lantern_edge::{Body, Code, Error, Fields, Json, Model, NoContent, Path, Refusal, Result, Route, totp};
use lantern_policy::action::{ChangeFactor, ReadFactor, RemoveFactor};
use lantern_policy::people::{self, Change};
use lantern_policy::{Act, Permit, Principal, Scope};
use lantern_store::seal::Place;
use lantern_store::system::{self, Account};
use lantern_store::{Db, TenantTx, Value};
use lantern_types::{At, Digest, Secret, UserId};
use serde::Serialize;
use utoipa::ToSchema;

use super::passwords::{self, Caller};
use super::people::{found, named, not_found, refused};
use super::session::{PASSWORD_BYTES_MAX, not_signed_in, rate_limited};
use crate::App;

/// More than a code of either kind has.
pub(super) const CODE_BYTES_MAX: usize = 64;
const RECOVERY_CODES: usize = 10;
/// Random bytes of a recovery code.
const RECOVERY_BYTES: usize = 10;
/// Before every step of the clock.
const NEVER: i64 = -1;

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        get_route("/auth/totp", "Read whether one signs in with a code", read).refuses(&[Refusal::Conflict]),
        // Kept for no `Idempotency-Key`: the secret and the recovery codes are in one answer each.
        fresh_post_route("/auth/totp", "Begin to sign in with a code: get a secret for an app", enrol)
            .refuses(&[Refusal::Conflict, Refusal::RateLimited]),
        fresh_post_route(
            "/auth/totp/confirm",
            "Show that the app makes codes, and sign in with them from now on",
            confirm,
        )
        .refuses(&[Refusal::Conflict, Refusal::RateLimited]),
        fresh_post_route("/auth/totp/disable", "Sign in without a code again", disable)
            .refuses(&[Refusal::Conflict, Refusal::RateLimited]),
        delete_route("/v1/members/{id}/totp", "Let a member sign in without a code", remove),
    ]
}

// Model

struct Password(Secret<String>);

impl Model for Password {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.required_text("password", PASSWORD_BYTES_MAX).map(Secret::new).map(Self)
    }
}

struct Shown(String);

impl Model for Shown {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.required_text("code", CODE_BYTES_MAX).map(Self)
    }
}

/// Whether somebody signs in with a code.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Factor {
    enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    confirmed_at: Option<String>,
    /// Recovery codes that were not used yet.
    recovery_codes_left: i64,
}

/// What an authenticator app is given. It is in this answer and nowhere else.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct FactorSecret {
    /// In base 32, to be typed.
    secret: String,
    /// The same as an address, for a picture that the app looks at.
    uri: String,
}

/// Codes of one use, for when the app is gone. They are in this answer and nowhere else.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RecoveryCodes {
    recovery_codes: Vec<String>,
}

// Store

const GET: &str = "SELECT secret, used_step, confirmed_at, (SELECT count(*) FROM recovery_codes r
    WHERE r.tenant_id = $1 AND r.user_id = $2) AS codes FROM second_factors
    WHERE tenant_id = $1 AND user_id = $2";
const DROP_UNCONFIRMED: &str =
    "DELETE FROM second_factors WHERE tenant_id = $1 AND user_id = $2 AND confirmed_at IS NULL";
const KEEP: &str = "INSERT INTO second_factors (tenant_id, user_id, secret, used_step, created_at)
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT (tenant_id, user_id) DO NOTHING";
const CONFIRM: &str = "UPDATE second_factors SET confirmed_at = $3, used_step = $4
    WHERE tenant_id = $1 AND user_id = $2 AND secret = $5 AND confirmed_at IS NULL";
const TAKE_STEP: &str =
    "UPDATE second_factors SET used_step = $3 WHERE tenant_id = $1 AND user_id = $2 AND used_step < $3";
const KEEP_CODE: &str = "INSERT INTO recovery_codes (tenant_id, user_id, hash) VALUES ($1, $2, $3)";
const TAKE_CODE: &str = "DELETE FROM recovery_codes WHERE tenant_id = $1 AND user_id = $2 AND hash = $3";
const DROP_CODES: &str = "DELETE FROM recovery_codes WHERE tenant_id = $1 AND user_id = $2";
const DROP: &str = "DELETE FROM second_factors WHERE tenant_id = $1 AND user_id = $2";

/// Every statement of this file.
pub(crate) const STATEMENTS: &[&str] =
    &[GET, DROP_UNCONFIRMED, KEEP, CONFIRM, TAKE_STEP, KEEP_CODE, TAKE_CODE, DROP_CODES, DROP];

/// A factor, opened.
struct Opened {
    sealed: Vec<u8>,
    secret: Secret<Vec<u8>>,
    used_step: i64,
    confirmed_at: Option<At>,
}

/// Takes somebody's factor away.
pub(super) async fn forget(tx: &mut TenantTx<'_>, id: UserId) -> lantern_store::Result<u64> {
    tx.exec(DROP_CODES, &[id.into()]).await?;
    tx.exec(DROP, &[id.into()]).await
}

async fn of(app: &App, scope: Scope, id: UserId) -> Result<Option<Opened>> {
    let row = app.db.read(scope, move |tx| Box::pin(async move { tx.one(GET, &[id.into()]).await })).await?;
    let Some(row) = row else { return Ok(None) };
    let sealed = row.bytes("secret")?;
    let secret = app.vault.sealer().open(scope, place(&id), &sealed).await?;
    Ok(Some(Opened {
        sealed,
        secret: Secret::new(secret),
        used_step: row.int("used_step")?,
        confirmed_at: row.opt_at("confirmed_at")?,
    }))
}

fn place(id: &UserId) -> Place<'_> {
    Place { purpose: "second_factor", row: id.bytes() }
}

/// What is kept of a recovery code: however it is typed, it is the same.
fn digest(code: &str) -> Digest {
    let letters: String = code.chars().filter(char::is_ascii_alphanumeric).collect();
    Digest::of(letters.to_ascii_uppercase().as_bytes())
}

/// How far somebody comes with what they have shown beside their password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// All the way.
    Yes,
    /// A code is asked for, and none was shown.
    Asked,
    /// It is not a good one, or not any more.
    No,
}

/// Whether this code lets somebody in whose password was right, and uses it up.
pub(super) async fn pass(
    app: &App,
    account: &Account,
    known: Option<IpAddr>,
    code: Option<&str>,
) -> Result<Passed> {
    let (scope, id) = (Scope::of_lease(account.tenant), account.id);
    let factor = of(app, scope, id).await?.filter(|factor| factor.confirmed_at.is_some());
    let Some(factor) = factor else { return Ok(Passed::Yes) };
    let Some(code) = code.map(str::trim) else { return Ok(Passed::Asked) };
    // Where they are signed in already they do not share their tries with whoever else has the password.
    app.inner.codes.take((id, known), app.clock.now()).map_err(rate_limited)?;
    let step = totp::check(factor.secret.expose(), code, app.clock.now(), factor.used_step);
    let (sql, shown): (_, Value) = match step {
        Some(step) => (TAKE_STEP, step.into()),
        None => (TAKE_CODE, digest(code).into()),
    };
    let taken = app
        .db
        .write(scope, move |tx| Box::pin(async move { tx.exec(sql, &[id.into(), shown]).await }))
        .await?;
    Ok(if taken > 0 { Passed::Yes } else { Passed::No })
}

// Routes

async fn read(permit: Permit<ReadFactor>, State(app): State<App>) -> Result<Json<Factor>> {
    let id = caller(&permit)?;
    let read =
        app.db.read(permit.scope(), move |tx| Box::pin(async move { tx.one(GET, &[id.into()]).await }));
    let Some(row) = read.await? else {
        return Ok(Json(Factor { enabled: false, confirmed_at: None, recovery_codes_left: 0 }));
    };
    let confirmed_at = row.opt_at("confirmed_at")?.map(|at| at.to_string());
    let recovery_codes_left = row.int("codes")?;
    Ok(Json(Factor { enabled: confirmed_at.is_some(), confirmed_at, recovery_codes_left }))
}

/// Begin to sign in with a code. Nothing is asked for until it is confirmed; until then it may be begun again.
async fn enrol(
    permit: Permit<ChangeFactor>,
    State(app): State<App>,
    peer: Peer,
    Body(Password(password)): Body<Password>,
) -> Result<Json<FactorSecret>> {
    let Caller { id, email, .. } = passwords::caller(&app, &permit, peer, password, "password").await?;
    let (scope, now) = (permit.scope(), app.clock.now());
    let mut secret = [0; totp::SECRET];
    app.ids.fill(&mut secret);
    let sealed = app.vault.sealer().seal(scope, place(&id), &secret).await?;
    let kept = app.db.write(scope, move |tx| {
        Box::pin(async move {
            tx.exec(DROP_UNCONFIRMED, &[id.into()]).await?;
            tx.exec(KEEP, &[id.into(), sealed.into(), NEVER.into(), now.into()]).await
        })
    });
    if kept.await? == 0 {
        let words = "you sign in with a code already: disable that first";
        return Err(Error::new(Code::FactorEnabled, words));
    }
    let secret = totp::base32(&secret);
    Ok(Json(FactorSecret { uri: totp::uri("Lantern", &email, &secret), secret }))
}

/// Show that the app makes codes. From now on signing in asks for one; sign-ins that are there last.
async fn confirm(
    permit: Permit<ChangeFactor>,
    State(app): State<App>,
    Body(Shown(code)): Body<Shown>,
) -> Result<Json<RecoveryCodes>> {
    let (id, scope, now) = (caller(&permit)?, permit.scope(), app.clock.now());
    app.inner.codes.take((id, None), now).map_err(rate_limited)?;
    let nothing = || Error::new(Code::FactorNotBegun, "there is nothing to confirm: POST /auth/totp begins");
    let factor = of(&app, scope, id).await?.filter(|factor| factor.confirmed_at.is_none());
    let factor = factor.ok_or_else(nothing)?;
    let step = totp::check(factor.secret.expose(), code.trim(), now, factor.used_step);
    let step = step.ok_or_else(|| {
        let words = "is not the code that the app shows now";
        Error::new(Code::InvalidBody, format!("code: {words}")).with_field("code", words)
    })?;
    let codes: Vec<String> = (0..RECOVERY_CODES).map(|_| recovery_code(&app)).collect();
    let digests: Vec<Digest> = codes.iter().map(|code| digest(code)).collect();
    let confirmed = app.db.write(scope, move |tx| {
        Box::pin(async move {
            let params = [id.into(), now.into(), step.into(), factor.sealed.into()];
            if tx.exec(CONFIRM, &params).await? == 0 {
                return Ok(false);
            }
            tx.exec(DROP_CODES, &[id.into()]).await?;
            for digest in digests {
                tx.exec(KEEP_CODE, &[id.into(), digest.into()]).await?;
            }
            Ok(true)
        })
    });
    if !confirmed.await? {
        return Err(nothing());
    }
    tracing::info!(tenant = %scope.tenant(), user = %id, "signs in with a code from now on");
    Ok(Json(RecoveryCodes { recovery_codes: codes }))
}

async fn disable(
    permit: Permit<ChangeFactor>,
    State(app): State<App>,
    peer: Peer,
    Body(Password(password)): Body<Password>,
) -> Result<NoContent> {
    let Caller { id, .. } = passwords::caller(&app, &permit, peer, password, "password").await?;
    let scope = permit.scope();
    app.db.write(scope, move |tx| Box::pin(async move { forget(tx, id).await })).await?;
    tracing::info!(tenant = %scope.tenant(), user = %id, "signs in without a code again");
    Ok(NoContent)
}

/// Let a member of a lower role sign in without a code, because their app and their recovery codes are gone; owners do it for each
/// other too.
async fn remove(
    permit: Permit<RemoveFactor>,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<NoContent> {
    let (id, scope) = (named(&id)?, permit.scope());
    let principal = &permit.actor().principal;
    if matches!(principal, Principal::User { id: own, .. } if *own == id) {
        let words = "this is your own account: POST /auth/totp/disable asks for its password";
        return Err(Error::new(Code::OwnAccount, words));
    }
    let by = people::standing(principal);
    let removed = app.db.write(scope, move |tx| {
        Box::pin(async move {
            let Some((of, owners)) = found(tx, id).await? else { return Ok(None) };
            let decided = people::decide(by, of, owners, Change::Reset);
            if decided.is_ok() {
                forget(tx, id).await?;
            }
            Ok(Some(decided))
        })
    });
    removed.await?.ok_or_else(not_found)?.map_err(refused)?;
    tracing::info!(tenant = %scope.tenant(), member = %id, "took a second factor away");
    Ok(NoContent)
}

/// Takes the factor of the account of this address away, by whoever has the server's database. `false` when no account has this
/// address.
pub async fn remove_factor_by_operator(db: &Db, email: &str) -> lantern_store::Result<bool> {
    let Some(account) = system::user_by_email(db, email.trim().to_lowercase()).await? else {
        return Ok(false);
    };
    let removed = db.write(Scope::of_lease(account.tenant), move |tx| {
        Box::pin(async move { forget(tx, account.id).await })
    });
    removed.await.map(|_| true)
}

fn caller<A: Act>(permit: &Permit<A>) -> Result<UserId> {
    match permit.actor().principal {
        Principal::User { id, .. } => Ok(id),
        Principal::Key { .. } => Err(not_signed_in()),
    }
}

/// Sixteen letters in groups of four, to be written down.
fn recovery_code(app: &App) -> String {
    let mut bytes = [0; RECOVERY_BYTES];
    app.ids.fill(&mut bytes);
    let letters: Vec<char> = totp::base32(&bytes).chars().collect();
    letters.chunks(4).map(String::from_iter).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_code_is_the_same_however_it_is_typed() {
        for typed in ["ABCD-EFGH-IJKL-MNOP", "abcdefghijklmnop", " abcd efgh ijkl mnop\n"] {
            assert_eq!(digest(typed), digest("ABCD-EFGH-IJKL-MNOP"), "{typed}");
        }
        assert_ne!(digest("ABCD-EFGH-IJKL-MNOQ"), digest("ABCD-EFGH-IJKL-MNOP"));
    }
}
