//! Invitations: how somebody comes into a tenant that is there already.
//!
//! Invariant: nobody invites to a role above their own. Whether an address has an account in another tenant is told to nobody but
//! whoever has its invitation. Taking one is one statement that removes its row, in the transaction that makes the person: of all
//! who bring it one comes in.

use axum::extract::State;
use http::HeaderMap;
use lantern_edge::audit::Who;
use lantern_edge::openapi::PAGING;
use lantern_edge::request::Peer;
use lantern_edge::route::{delete_route, fresh_post_route, get_route, public_post};
use lantern_edge::{
    Body, Code, Created, Error, Fields, Model, NoContent, Page, Paging, Params, Path, Refusal, Result, Route,
    Witness,
};
use lantern_policy::action::{Invite, ListInvitations, WithdrawInvitation};
use lantern_policy::{Permit, Principal, Role, people};
use lantern_store::system::{self, Account};
use lantern_store::{Row, TenantTx, Value, Where};
use lantern_types::{At, Dur, InvitationId, Secret, UserId};
use serde::Serialize;
use utoipa::ToSchema;

use super::accounts::{NAME_BYTES_MAX, USER, address, new_password};
use super::session::{self, Device, SignedIn};
use super::slips::{self, Slip};
use crate::App;

/// How long an invitation is good when nobody says.
const DAYS: u64 = 7;
const DAYS_MAX: u64 = 30;
/// Invitations of one tenant that wait.
const WAITING_MAX: u32 = 1_000;

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        get_route("/v1/invitations", "List invitations that wait", list).takes(&PAGING),
        // Kept for no `Idempotency-Key`: its text is in one answer.
        fresh_post_route("/v1/invitations", "Invite somebody into the tenant", invite)
            .refuses(&[Refusal::Conflict]),
        delete_route("/v1/invitations/{id}", "Take an invitation back", withdraw),
        public_post("/auth/invitations/accept", "Come into a tenant by an invitation, and sign in", accept)
            .refuses(&[Refusal::Unauthenticated, Refusal::Conflict]),
    ]
}

// Model

struct Asked {
    email: String,
    role: Role,
    days: u64,
}

impl Model for Asked {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.refuse_unread();
        let email = address(fields);
        let role = super::people::role(fields, Some(Role::Member));
        let days = fields.integer("expiresInDays", 1..=DAYS_MAX).unwrap_or(DAYS);
        Some(Self { email: email?, role: role?, days })
    }
}

pub(super) struct Acceptance {
    token: Secret<String>,
    password: Secret<String>,
    name: Option<String>,
}

impl Model for Acceptance {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let token = fields.required_text("token", slips::BYTES_MAX).map(Secret::new);
        let password = new_password(fields, "password");
        let name = fields.text("name", NAME_BYTES_MAX).map(|name| name.trim().to_owned());
        Some(Self { token: token?, password: password?, name: name.filter(|name| !name.is_empty()) })
    }
}

/// An invitation that waits.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Invitation {
    #[schema(value_type = String, format = "uuid")]
    id: InvitationId,
    email: String,
    /// The role that comes with it.
    role: String,
    created_at: String,
    expires_at: String,
    #[serde(skip)]
    sort: At,
}

/// A new invitation, with what is to be handed to whoever is invited. It is in this answer and nowhere else.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct IssuedInvitation {
    invitation: Invitation,
    token: String,
}

// Store

const LIST: &str = "SELECT id, email, role, created_at, expires_at FROM invitations WHERE tenant_id = $1";
const MEMBER: &str = "SELECT 1 AS one FROM users WHERE tenant_id = $1 AND email_key = $2";
const SWEEP: &str = "DELETE FROM invitations WHERE tenant_id = $1 AND (email_key = $2 OR expires_at <= $3)";
const INSERT: &str = "INSERT INTO invitations (tenant_id, id, hash, email, email_key, role, invited_by,
    created_at, expires_at) SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9 WHERE
    (SELECT count(*) FROM (SELECT 1 FROM invitations WHERE tenant_id = $1 LIMIT $10) AS waiting) < $10";
const WITHDRAW: &str = "DELETE FROM invitations WHERE tenant_id = $1 AND id = $2";
const FIND: &str = "SELECT email, role FROM invitations
    WHERE tenant_id = $1 AND id = $2 AND hash = $3 AND expires_at > $4";
const TAKE: &str =
    "DELETE FROM invitations WHERE tenant_id = $1 AND id = $2 AND hash = $3 AND expires_at > $4";

/// Every statement of this file.
pub(crate) const STATEMENTS: &[&str] = &[LIST, MEMBER, SWEEP, INSERT, WITHDRAW, FIND, TAKE];

/// What inviting comes to.
enum Invited {
    Yes,
    /// They are a member.
    Member,
    /// Too many others wait.
    Full,
}

async fn insert(
    tx: &mut TenantTx<'_>,
    key: String,
    now: At,
    params: &[Value],
) -> lantern_store::Result<Invited> {
    if tx.one(MEMBER, &[key.clone().into()]).await?.is_some() {
        return Ok(Invited::Member);
    }
    // Whoever is invited anew has the newest invitation and no other.
    tx.exec(SWEEP, &[key.into(), now.into()]).await?;
    Ok(if tx.exec(INSERT, params).await? > 0 { Invited::Yes } else { Invited::Full })
}

fn read(row: &Row) -> lantern_store::Result<Invitation> {
    let sort = row.at("created_at")?;
    Ok(Invitation {
        id: row.id("id")?,
        email: row.text("email")?,
        role: row.text("role")?,
        created_at: sort.to_string(),
        expires_at: row.at("expires_at")?.to_string(),
        sort,
    })
}

// Routes

async fn list(
    permit: Permit<ListInvitations>,
    State(app): State<App>,
    params: Params,
) -> Result<Page<Invitation>> {
    let paging = Paging::of(&params)?;
    let (before, limit) = (paging.before, paging.fetch());
    let waiting = app.clock.now() + Dur::from_micros(1);
    let invitations = app.db.read(permit.scope(), move |tx| {
        Box::pin(async move {
            let before = before.map(|(at, id)| (at, InvitationId::from_uuid(id)));
            let older =
                Where::new().at_least("expires_at", Some(waiting)).before(("created_at", "id"), before);
            let rows = tx.all_where(LIST, older, "created_at DESC, id DESC", limit).await?;
            rows.iter().map(read).collect()
        })
    });
    let invitations: Vec<Invitation> = invitations.await?;
    Ok(Page::cut(invitations, &paging, &params, |invitation| (invitation.sort, invitation.id.uuid())))
}

/// Invite somebody into the tenant. The answer has the invitation's text, once: hand it to them yourself. An earlier invitation of
/// the same address is taken back.
async fn invite(
    permit: Permit<Invite>,
    State(app): State<App>,
    Body(Asked { email, role, days }): Body<Asked>,
) -> Result<Created<IssuedInvitation>> {
    let principal = &permit.actor().principal;
    people::may_give(people::standing(principal), role).map_err(super::people::refused)?;
    let invited_by: Value = match principal {
        Principal::User { id, .. } => (*id).into(),
        Principal::Key { id, .. } => (*id).into(),
    };
    let (scope, now) = (permit.scope(), app.clock.now());
    let id = InvitationId::from_uuid(app.ids.uuid());
    let (token, hash) = slips::mint(&*app.ids, slips::INVITATION, scope.tenant(), id.uuid());
    let (key, expires_at) = (email.to_lowercase(), now + Dur::from_secs(86_400).times(days));
    let words = [email.clone().into(), key.clone().into(), role.as_str().into()];
    let params: Vec<Value> = [
        &[id.into(), hash.into()],
        &words[..],
        &[invited_by, now.into(), expires_at.into(), WAITING_MAX.into()],
    ]
    .concat();
    let invited =
        app.db.write(scope, move |tx| Box::pin(async move { insert(tx, key, now, &params).await })).await?;
    match invited {
        Invited::Yes => {}
        Invited::Member => return Err(Error::new(Code::AlreadyMember, "they are a member of this tenant")),
        Invited::Full => {
            let words = format!("{WAITING_MAX} invitations wait, and there may be no more: take some back");
            return Err(Error::new(Code::TooManyInvitations, words));
        }
    }
    tracing::info!(tenant = %scope.tenant(), invitation = %id, role = role.as_str(), "invited somebody");
    let invitation = Invitation {
        id,
        email,
        role: role.as_str().to_owned(),
        created_at: now.to_string(),
        expires_at: expires_at.to_string(),
        sort: now,
    };
    let body = IssuedInvitation { invitation, token };
    Ok(Created { location: format!("/v1/invitations/{id}"), body })
}

async fn withdraw(
    permit: Permit<WithdrawInvitation>,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<NoContent> {
    let not_found = || Error::new(Code::InvitationNotFound, "no such invitation waits");
    let id: InvitationId = id.parse().map_err(|_| not_found())?;
    let withdrawn = app
        .db
        .write(permit.scope(), move |tx| Box::pin(async move { tx.exec(WITHDRAW, &[id.into()]).await }));
    if withdrawn.await? > 0 { Ok(NoContent) } else { Err(not_found()) }
}

/// Come into a tenant by an invitation: with the address and the role that it names, and a password of one's own.
async fn accept(
    State(app): State<App>,
    peer: Peer,
    witness: Witness,
    headers: HeaderMap,
    Body(acceptance): Body<Acceptance>,
) -> Result<Created<SignedIn>> {
    let made = come_in(&app, &witness, acceptance).await?;
    let body = session::begin(&app, made, &Device::of(peer, &headers)).await?;
    Ok(Created { location: "/auth/me".to_owned(), body })
}

/// Whom an invitation is for.
pub(super) struct Named {
    pub(super) email: String,
    pub(super) role: String,
}

/// Whom an invitation is for that was shown; `None` when it is not good.
pub(super) async fn named(app: &App, slip: Slip) -> lantern_store::Result<Option<Named>> {
    let shown = shown(slip, app.clock.now());
    let find = app.db.read(slip.scope(), move |tx| Box::pin(async move { tx.one(FIND, &shown).await }));
    find.await?.map(|row| Ok(Named { email: row.text("email")?, role: row.text("role")? })).transpose()
}

/// Uses an invitation up. `false` when it is not good.
pub(super) async fn take(tx: &mut TenantTx<'_>, slip: Slip, now: At) -> lantern_store::Result<bool> {
    Ok(tx.exec(TAKE, &shown(slip, now)).await? > 0)
}

fn shown(slip: Slip, now: At) -> [Value; 3] {
    [InvitationId::from_uuid(slip.row).into(), slip.hash.into(), now.into()]
}

/// Makes the person whom an invitation names, and uses it up.
pub(super) async fn come_in(app: &App, witness: &Witness, acceptance: Acceptance) -> Result<Account> {
    let Acceptance { token, password, name } = acceptance;
    let invalid = || {
        let words =
            "the invitation is not good: it was used, taken back or replaced, or is over; ask for a new one";
        Error::new(Code::InvalidInvitation, words)
    };
    let slip = slips::read(slips::INVITATION, token.expose()).ok_or_else(invalid)?;
    let scope = slip.scope();
    let Named { email, role } = named(app, slip).await?.ok_or_else(invalid)?;
    let hash = app.inner.passwords.hash(password).await?;
    let (id, now) = (UserId::from_uuid(app.ids.uuid()), app.clock.now());
    let key = email.to_lowercase();
    let name = name.unwrap_or_else(|| email.split('@').next().unwrap_or_default().to_owned());
    let user: [Value; 7] =
        [id.into(), email.into(), key.clone().into(), name.into(), role.into(), hash.into(), now.into()];
    let come = app.db.write(scope, move |tx| {
        Box::pin(async move {
            let taken = take(tx, slip, now).await?;
            if taken {
                tx.exec(USER, &user).await?;
            }
            Ok(taken)
        })
    });
    match come.await {
        Ok(true) => {}
        Ok(false) => return Err(invalid()),
        Err(lantern_store::Error::Conflict) => {
            let words = "this address has an account already, and an account is in one tenant";
            return Err(Error::new(Code::EmailRegistered, words));
        }
        Err(error) => return Err(error.into()),
    }
    let made = system::user_by_email(&app.db, key).await?.ok_or_else(invalid)?;
    witness.names(made.tenant, Who::Person(made.id), "auth.accept_invitation");
    tracing::info!(tenant = %made.tenant, user = %made.id, "came in by an invitation");
    Ok(made)
}
