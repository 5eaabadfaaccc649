//! The people of a tenant: who they are, what role they have, and their leaving.
//!
//! Invariant: a change is decided by `lantern_policy::people` under a lock that all such changes of a tenant take, so that two
//! owners who remove each other at once do not both succeed. Whoever loses a role or leaves loses what they handed out with it:
//! keys beyond their new role, invitations, and resets that somebody made for the person they were.

use axum::extract::State;
use lantern_edge::openapi::PAGING;
use lantern_edge::route::{delete_route, get_route, patch_route};
use lantern_edge::{
    Body, Code, Error, Fields, Json, Model, NoContent, Page, Paging, Params, Path, Refusal, Result, Route,
};
use lantern_policy::action::{ChangeRole, ListMembers, RemoveMember, SignMemberOut};
use lantern_policy::people::{self, Change, Refused};
use lantern_policy::{Permit, Role, Scope};
use lantern_store::{Error as StoreError, Row, TenantTx, Where, identities, sign_ins};
use lantern_types::{At, UserId};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::factors;
use crate::App;

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        get_route("/v1/members", "List the people of the tenant", list).takes(&PAGING),
        patch_route("/v1/members/{id}", "Give a member another role", change)
            .refuses(&[Refusal::NotFound, Refusal::Conflict]),
        delete_route("/v1/members/{id}", "Remove a member", remove).refuses(&[Refusal::Conflict]),
        delete_route("/v1/members/{id}/sign-ins", "Sign a member out everywhere", sign_out),
    ]
}

// Model

/// Reads a role, which is `usual` when none is said.
pub(super) fn role(fields: &mut Fields<'_>, usual: Option<Role>) -> Option<Role> {
    let words = Role::ALL.map(Role::as_str);
    fields.describe("role", || match usual {
        Some(_) => {
            json!({ "type": ["string", "null"], "enum": ["viewer", "member", "admin", "owner", null] })
        }
        None => json!({ "type": "string", "enum": words }),
    });
    let said = match usual {
        Some(_) => fields.text("role", 16),
        None => fields.required_text("role", 16),
    };
    let Some(said) = said else { return usual };
    let role = Role::parse(&said);
    if role.is_none() {
        fields.issue("role", format!("expected one of {}", words.join(", ")));
    }
    role
}

struct Wanted(Role);

impl Model for Wanted {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.refuse_unread();
        role(fields, None).map(Self)
    }
}

/// Somebody who may sign in to the tenant.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Member)]
struct Member {
    #[schema(value_type = String, format = "uuid")]
    id: UserId,
    email: String,
    name: String,
    /// `viewer`, `member`, `admin` or `owner`.
    role: String,
    created_at: String,
    /// When a sign-in of theirs that lasts was last renewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen_at: Option<String>,
    #[serde(skip)]
    sort: At,
}

// Store

const LIST: &str =
    "SELECT u.id, u.email, u.name, u.role, u.created_at, (SELECT max(s.used_at) FROM sign_ins s
    WHERE s.tenant_id = u.tenant_id AND s.user_id = u.id) AS seen_at FROM users u WHERE u.tenant_id = $1";
/// Locks the owners of the tenant, and counts them.
const OWNERS: &str = "UPDATE users SET role = role WHERE tenant_id = $1 AND role = 'owner'";
const ROLE: &str = "SELECT role FROM users WHERE tenant_id = $1 AND id = $2";
const SET_ROLE: &str = "UPDATE users SET role = $3 WHERE tenant_id = $1 AND id = $2";
const REMOVE: &str = "DELETE FROM users WHERE tenant_id = $1 AND id = $2";
const REVOKE_KEYS: &str = "UPDATE api_keys SET revoked_at = $3 WHERE tenant_id = $1 AND created_by = $2
    AND revoked_at IS NULL AND (scopes LIKE $4 OR scopes LIKE $5)";
pub(super) const TAKE_BACK: &str = "DELETE FROM invitations WHERE tenant_id = $1 AND invited_by = $2";
pub(super) const FORGET_RESET: &str = "DELETE FROM password_resets WHERE tenant_id = $1 AND user_id = $2";

/// Every statement of this file.
pub(crate) const STATEMENTS: &[&str] =
    &[LIST, OWNERS, ROLE, SET_ROLE, REMOVE, REVOKE_KEYS, TAKE_BACK, FORGET_RESET];

/// What the list of scopes of a key that is beyond this role has in it; nothing is beyond an admin. `None` stands for whoever has left.
fn beyond(role: Option<Role>) -> Option<[&'static str; 2]> {
    match role {
        None => Some(["%", "%"]),
        Some(Role::Viewer) => Some(["%admin\"%", "%write\"%"]),
        Some(Role::Member) => Some(["%admin\"%", "%\"runtime:write\"%"]),
        Some(Role::Admin | Role::Owner) => None,
    }
}

/// Takes back what a person handed out with a role that is not theirs any more.
async fn disown(
    tx: &mut TenantTx<'_>,
    id: UserId,
    role: Option<Role>,
    now: At,
) -> lantern_store::Result<u64> {
    tx.exec(TAKE_BACK, &[id.into()]).await?;
    let Some([one, other]) = beyond(role) else { return Ok(0) };
    tx.exec(REVOKE_KEYS, &[id.into(), now.into(), one.into(), other.into()]).await
}

/// Does a change that is allowed; `None` when there is no such person.
async fn perform(
    tx: &mut TenantTx<'_>,
    by: Role,
    id: UserId,
    change: Change,
    now: At,
) -> lantern_store::Result<Option<Result<u64, Refused>>> {
    let Some((of, owners)) = found(tx, id).await? else { return Ok(None) };
    if let Err(refused) = people::decide(by, of, owners, change) {
        return Ok(Some(Err(refused)));
    }
    let revoked = match change {
        Change::Role(role) => {
            tx.exec(SET_ROLE, &[id.into(), role.as_str().into()]).await?;
            // Who asked for it, asked for somebody of another role.
            tx.exec(FORGET_RESET, &[id.into()]).await?;
            if role < of { disown(tx, id, Some(role), now).await? } else { 0 }
        }
        Change::Removal => {
            sign_ins::end_all(tx, id).await?;
            tx.exec(FORGET_RESET, &[id.into()]).await?;
            factors::forget(tx, id).await?;
            identities::forget(tx, id).await?;
            let revoked = disown(tx, id, None, now).await?;
            tx.exec(REMOVE, &[id.into()]).await?;
            revoked
        }
        Change::SignOut => sign_ins::end_all(tx, id).await?,
        Change::Reset => 0,
    };
    Ok(Some(Ok(revoked)))
}

/// The role of a person and how many owners there are, which stay as they are until this transaction has ended.
pub(super) async fn found(tx: &mut TenantTx<'_>, id: UserId) -> lantern_store::Result<Option<(Role, u64)>> {
    let owners = tx.exec(OWNERS, &[]).await?;
    let Some(row) = tx.one(ROLE, &[id.into()]).await? else { return Ok(None) };
    let role = Role::parse(&row.text("role")?);
    let role = role.ok_or_else(|| StoreError::Misuse("a person has a role that is none".to_owned()))?;
    Ok(Some((role, owners)))
}

fn read(row: &Row) -> lantern_store::Result<Member> {
    let sort = row.at("created_at")?;
    Ok(Member {
        id: row.id("id")?,
        email: row.text("email")?,
        name: row.text("name")?,
        role: row.text("role")?,
        created_at: sort.to_string(),
        last_seen_at: row.opt_at("seen_at")?.map(|at| at.to_string()),
        sort,
    })
}

// Routes

async fn list(permit: Permit<ListMembers>, State(app): State<App>, params: Params) -> Result<Page<Member>> {
    let paging = Paging::of(&params)?;
    let (before, limit) = (paging.before, paging.fetch());
    let members = app.db.read(permit.scope(), move |tx| {
        Box::pin(async move {
            let before = before.map(|(at, id)| (at, UserId::from_uuid(id)));
            let older = Where::new().before(("u.created_at", "u.id"), before);
            let rows = tx.all_where(LIST, older, "u.created_at DESC, u.id DESC", limit).await?;
            rows.iter().map(read).collect()
        })
    });
    let members: Vec<Member> = members.await?;
    Ok(Page::cut(members, &paging, &params, |member| (member.sort, member.id.uuid())))
}

/// Give a member another role, no higher than the caller's own. With a lower one, keys that they made and that may do more than
/// they still may are revoked, and their invitations are taken back.
async fn change(
    permit: Permit<ChangeRole>,
    State(app): State<App>,
    Path(id): Path<String>,
    Body(Wanted(role)): Body<Wanted>,
) -> Result<Json<Member>> {
    let id = named(&id)?;
    apply(&app, permit.scope(), people::standing(&permit.actor().principal), id, Change::Role(role)).await?;
    let member = app.db.read(permit.scope(), move |tx| {
        Box::pin(async move {
            let one = Where::new().eq("u.id", Some(id));
            tx.all_where(LIST, one, "u.id", 1).await?.iter().map(read).next().transpose()
        })
    });
    member.await?.map(Json).ok_or_else(not_found)
}

/// Remove a member: their sign-ins end, and keys and invitations that they made are taken back. What they did stays.
async fn remove(
    permit: Permit<RemoveMember>,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<NoContent> {
    let by = people::standing(&permit.actor().principal);
    apply(&app, permit.scope(), by, named(&id)?, Change::Removal).await.map(|()| NoContent)
}

async fn sign_out(
    permit: Permit<SignMemberOut>,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<NoContent> {
    let by = people::standing(&permit.actor().principal);
    apply(&app, permit.scope(), by, named(&id)?, Change::SignOut).await.map(|()| NoContent)
}

async fn apply(app: &App, scope: Scope, by: Role, id: UserId, change: Change) -> Result<()> {
    let now = app.clock.now();
    let done = app.db.write(scope, move |tx| Box::pin(async move { perform(tx, by, id, change, now).await }));
    let touched = done.await?.ok_or_else(not_found)?.map_err(refused)?;
    app.inner.gate.revoked();
    tracing::info!(tenant = %scope.tenant(), member = %id, ?change, touched, "a member was changed");
    Ok(())
}

/// What is no id names nobody.
pub(super) fn named(id: &str) -> Result<UserId> {
    id.parse().map_err(|_| not_found())
}

pub(super) fn not_found() -> Error {
    Error::new(Code::MemberNotFound, "no such member")
}

pub(super) fn refused(why: Refused) -> Error {
    match why {
        Refused::Above => Error::new(
            Code::RoleAbove,
            "only somebody of a higher role may do this to them, or give this role",
        ),
        Refused::LastOwner => {
            Error::new(Code::LastOwner, "they are the only owner: make somebody else an owner first")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lantern_policy::Principal;
    use lantern_policy::action::{allows_to, handed_on};
    use lantern_types::{DEV_USER, SignInId};

    /// As the database looks: `%` is anything.
    fn like(text: &str, pattern: &str) -> bool {
        text.contains(pattern.trim_matches('%'))
    }

    #[test]
    fn a_key_beyond_its_makers_role_is_found() {
        let sign_in = SignInId::from_uuid(DEV_USER.uuid());
        for role in Role::ALL {
            let principal =
                Principal::User { id: DEV_USER, email: String::new(), name: String::new(), role, sign_in };
            for scope in ["read", "write", "admin", "runtime:read", "runtime:write", "runtime:admin"] {
                let name = if scope.starts_with("runtime:") { "runtime.x" } else { "x" };
                let within = handed_on(scope).is_some_and(|access| allows_to(&principal, name, access));
                let scopes = json!([scope]).to_string();
                let found =
                    beyond(Some(role)).is_some_and(|words| words.iter().any(|word| like(&scopes, word)));
                assert_eq!(found, !within, "{role:?} {scope}");
                assert!(beyond(None).unwrap().iter().all(|word| like(&scopes, word)));
            }
        }
    }
}
