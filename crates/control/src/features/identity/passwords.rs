//! Changing one's password, and getting back in without it.
//!
//! Invariant: no route takes an address and resets something: nobody learns here who has an account. A reset is made by
//! somebody who may, is handed on by them, and is good once, for an hour. A new password ends every sign-in that the old one
//! began, but for the one that changed it.

use axum::extract::State;
use lantern_edge::audit::Who;
use lantern_edge::request::Peer;
use lantern_edge::route::{fresh_post_route, public_post};
use lantern_edge::{Body, Code, Created, Error, Fields, Model, NoContent, Refusal, Result, Route, Witness};
use lantern_policy::action::{ChangePassword, MakeReset};
use lantern_policy::people::{self, Change};
use lantern_policy::{Act, Permit, Principal, Scope};
use lantern_store::{Db, TenantTx, Value, identities, sign_ins, system};
use lantern_types::edge::IdGen;
use lantern_types::{At, Dur, Secret, SignInId, UserId};
use serde::Serialize;
use utoipa::ToSchema;

use super::accounts::new_password;
use super::people::{FORGET_RESET, found, named, not_found, refused};
use super::session::{PASSWORD_BYTES_MAX, not_signed_in, rate_limited};
use super::slips;
use crate::App;

/// How long a reset is good.
const LIFE: Dur = Dur::from_secs(3_600);

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        fresh_post_route("/auth/password", "Change one's password", change)
            .refuses(&[Refusal::Conflict, Refusal::RateLimited]),
        // Kept for no `Idempotency-Key`: its text is in one answer.
        fresh_post_route("/v1/members/{id}/password-reset", "Make a password reset for a member", make)
            .refuses(&[Refusal::NotFound, Refusal::Conflict]),
        public_post("/auth/password-reset", "Choose a new password by a reset", reset)
            .refuses(&[Refusal::Unauthenticated]),
    ]
}

// Model

struct Wanted {
    current: Secret<String>,
    new: Secret<String>,
}

impl Model for Wanted {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let current = fields.required_text("currentPassword", PASSWORD_BYTES_MAX).map(Secret::new);
        let new = new_password(fields, "newPassword");
        Some(Self { current: current?, new: new? })
    }
}

struct Chosen {
    token: Secret<String>,
    new: Secret<String>,
}

impl Model for Chosen {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let token = fields.required_text("token", slips::BYTES_MAX).map(Secret::new);
        let new = new_password(fields, "newPassword");
        Some(Self { token: token?, new: new? })
    }
}

/// A reset, to be handed to the person. Its text is in this answer and nowhere else.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct IssuedReset {
    #[schema(value_type = String, format = "uuid")]
    member_id: UserId,
    token: String,
    expires_at: String,
}

// Store

const PASSWORD: &str = "SELECT password_hash FROM users WHERE tenant_id = $1 AND id = $2";
const REPLACE: &str =
    "UPDATE users SET password_hash = $3 WHERE tenant_id = $1 AND id = $2 AND password_hash = $4";
const SET: &str = "UPDATE users SET password_hash = $3 WHERE tenant_id = $1 AND id = $2";
const ADDRESS: &str = "SELECT email_key FROM users WHERE tenant_id = $1 AND id = $2";
const KEEP: &str = "INSERT INTO password_resets (tenant_id, user_id, hash, created_at, expires_at)
    VALUES ($1, $2, $3, $4, $5)";
const FIND: &str = "SELECT 1 AS one FROM password_resets
    WHERE tenant_id = $1 AND user_id = $2 AND hash = $3 AND expires_at > $4";
const TAKE: &str =
    "DELETE FROM password_resets WHERE tenant_id = $1 AND user_id = $2 AND hash = $3 AND expires_at > $4";

/// Every statement of this file.
pub(crate) const STATEMENTS: &[&str] = &[PASSWORD, REPLACE, SET, ADDRESS, KEEP, FIND, TAKE];

/// Keeps a new reset in place of the one before.
async fn keep(tx: &mut TenantTx<'_>, id: UserId, row: &[Value; 4]) -> lantern_store::Result<()> {
    tx.exec(FORGET_RESET, &[id.into()]).await?;
    tx.exec(KEEP, row).await.map(drop)
}

// Routes

/// Change one's password. Every other sign-in of the caller ends.
async fn change(
    permit: Permit<ChangePassword>,
    State(app): State<App>,
    peer: Peer,
    Body(Wanted { current, new }): Body<Wanted>,
) -> Result<NoContent> {
    let Caller { id, sign_in, stored, .. } = caller(&app, &permit, peer, current, "currentPassword").await?;
    let scope = permit.scope();
    let hash = app.inner.passwords.hash(new).await?;
    let changed = app.db.write(scope, move |tx| {
        Box::pin(async move {
            if tx.exec(REPLACE, &[id.into(), hash.into(), stored.into()]).await? == 0 {
                return Ok(false);
            }
            sign_ins::end_others(tx, id, sign_in).await?;
            tx.exec(FORGET_RESET, &[id.into()]).await?;
            Ok(true)
        })
    });
    // Somebody else was faster, and theirs holds.
    if !changed.await? {
        return Err(wrong("currentPassword"));
    }
    app.inner.gate.revoked();
    tracing::info!(tenant = %scope.tenant(), user = %id, "changed a password");
    Ok(NoContent)
}

/// A person who has shown their password again.
pub(super) struct Caller {
    pub(super) id: UserId,
    pub(super) email: String,
    sign_in: SignInId,
    stored: String,
}

/// Who asks, once they have shown their password in this field. There are as many tries as at signing in: a sign-in that was
/// stolen is no way to find the password out.
pub(super) async fn caller<A: Act>(
    app: &App,
    permit: &Permit<A>,
    peer: Peer,
    password: Secret<String>,
    field: &str,
) -> Result<Caller> {
    let Principal::User { id, email, sign_in, .. } = permit.actor().principal.clone() else {
        return Err(not_signed_in());
    };
    let tried = (email.to_lowercase(), peer.0.ip());
    app.inner.logins.take(tried, app.clock.now()).map_err(rate_limited)?;
    let read =
        app.db.read(permit.scope(), move |tx| Box::pin(async move { tx.one(PASSWORD, &[id.into()]).await }));
    let stored = read.await?.ok_or_else(not_found)?.text("password_hash")?;
    if app.inner.passwords.verify(password, Some(stored.clone())).await? {
        Ok(Caller { id, email, sign_in, stored })
    } else {
        Err(wrong(field))
    }
}

fn wrong(field: &str) -> Error {
    Error::new(Code::WrongPassword, "this is not your password").with_field(field, "is not your password")
}

/// Make a password reset for a member of a lower role than the caller's; owners make them for each other too. Hand it to them
/// yourself. The one before is good no longer.
async fn make(
    permit: Permit<MakeReset>,
    State(app): State<App>,
    lantern_edge::Path(id): lantern_edge::Path<String>,
) -> Result<Created<IssuedReset>> {
    let (id, scope) = (named(&id)?, permit.scope());
    let principal = &permit.actor().principal;
    if matches!(principal, Principal::User { id: own, .. } if *own == id) {
        let words = "this is your own account: POST /auth/password changes its password";
        return Err(Error::new(Code::OwnAccount, words));
    }
    let by = people::standing(principal);
    let (body, row) = minted(&*app.ids, scope, id, app.clock.now());
    let made = app.db.write(scope, move |tx| {
        Box::pin(async move {
            let Some((of, owners)) = found(tx, id).await? else { return Ok(None) };
            let decided = people::decide(by, of, owners, Change::Reset);
            if decided.is_ok() {
                keep(tx, id, &row).await?;
            }
            Ok(Some(decided))
        })
    });
    made.await?.ok_or_else(not_found)?.map_err(refused)?;
    tracing::info!(tenant = %scope.tenant(), member = %id, "made a password reset");
    Ok(Created { location: format!("/v1/members/{id}/password-reset"), body })
}

/// Choose a new password by a reset. Every sign-in of its person ends; they sign in anew.
async fn reset(
    State(app): State<App>,
    witness: Witness,
    Body(Chosen { token, new }): Body<Chosen>,
) -> Result<NoContent> {
    let invalid = || {
        let words = "the reset is not good: it was used or replaced, or is over; ask for a new one";
        Error::new(Code::InvalidResetToken, words)
    };
    let slip = slips::read(slips::RESET, token.expose()).ok_or_else(invalid)?;
    let (scope, id) = (slip.scope(), UserId::from_uuid(slip.row));
    let shown: [Value; 3] = [id.into(), slip.hash.into(), app.clock.now().into()];
    let found = {
        let shown = shown.clone();
        app.db.read(scope, move |tx| Box::pin(async move { tx.one(FIND, &shown).await })).await?
    };
    found.ok_or_else(invalid)?;
    witness.names(scope.tenant(), Who::Person(id), "auth.reset_password");
    let hash = app.inner.passwords.hash(new).await?;
    let taken = app.db.write(scope, move |tx| {
        Box::pin(async move {
            if tx.exec(TAKE, &shown).await? == 0 {
                return Ok(None);
            }
            tx.exec(SET, &[id.into(), hash.into()]).await?;
            sign_ins::end_all(tx, id).await?;
            // Whoever was in may have linked an identity of theirs.
            identities::forget(tx, id).await?;
            tx.one(ADDRESS, &[id.into()]).await
        })
    });
    // Whoever tried the old one does not keep them waiting.
    app.inner.lockout.forget(&taken.await?.ok_or_else(invalid)?.text("email_key")?);
    app.inner.gate.revoked();
    tracing::info!(tenant = %scope.tenant(), user = %id, "reset a password");
    Ok(NoContent)
}

fn minted(ids: &dyn IdGen, scope: Scope, id: UserId, now: At) -> (IssuedReset, [Value; 4]) {
    let (token, hash) = slips::mint(ids, slips::RESET, scope.tenant(), id.uuid());
    let expires_at = now + LIFE;
    let row = [id.into(), hash.into(), now.into(), expires_at.into()];
    (IssuedReset { member_id: id, token, expires_at: expires_at.to_string() }, row)
}

/// A reset for the account of this address, by whoever has the server's database: its text, and when it is over. `None` when no
/// account has this address.
pub async fn reset_by_operator(
    db: &Db,
    ids: &dyn IdGen,
    now: At,
    email: &str,
) -> lantern_store::Result<Option<(Secret<String>, At)>> {
    let Some(account) = system::user_by_email(db, email.trim().to_lowercase()).await? else {
        return Ok(None);
    };
    let (scope, id) = (Scope::of_lease(account.tenant), account.id);
    let (made, row) = minted(ids, scope, id, now);
    db.write(scope, move |tx| Box::pin(async move { keep(tx, id, &row).await })).await?;
    Ok(Some((Secret::new(made.token), now + LIFE)))
}
