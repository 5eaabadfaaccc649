//! An entry as a page shows it, with the name of whoever did it while they are there.

use std::collections::{BTreeMap, BTreeSet};

use lantern_policy::Scope;
use lantern_store::Db;
use lantern_store::audit::Kept;
use lantern_types::{ApiKeyId, UserId};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

const PERSON: &str = "SELECT email AS name FROM users WHERE tenant_id = $1 AND id = $2";
const KEY: &str = "SELECT name FROM api_keys WHERE tenant_id = $1 AND id = $2";

/// Every statement of this file.
pub(crate) const STATEMENTS: &[&str] = &[PERSON, KEY];

/// Something that was done, or was not allowed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditEntry)]
pub(super) struct Entry {
    /// Its number, from 1 and without gaps.
    id: i64,
    at: String,
    /// `user`, `api_key`, `workload` for a program in a box, or `nobody` for who did not show that they are this person.
    actor: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    principal_id: Option<Uuid>,
    /// The person's address or the key's name, while they are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor_name: Option<String>,
    action: String,
    /// The path of what it was done to, or of what was made.
    resource: String,
    /// `succeeded`, `replayed`, `denied`, `refused`, `failed` or `abandoned`.
    outcome: String,
    /// The status of the answer; 0 when nobody waited for it.
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// How many calls it stands for.
    times: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    request_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_address: Option<String>,
    hash: String,
}

/// The names of people and keys, by their ids.
pub(super) type Names = BTreeMap<Uuid, String>;

/// Looks up the names of whoever these entries are of.
pub(super) async fn names(db: &Db, scope: Scope, kept: &[Kept]) -> lantern_store::Result<Names> {
    let wanted: BTreeSet<(bool, Uuid)> = kept
        .iter()
        .filter(|kept| kept.entry.actor != "workload")
        .filter_map(|kept| Some((kept.entry.actor == "api_key", kept.entry.principal?)))
        .collect();
    db.read(scope, move |tx| {
        Box::pin(async move {
            let mut names = Names::new();
            for (is_key, id) in wanted {
                let row = if is_key {
                    tx.one(KEY, &[ApiKeyId::from_uuid(id).into()]).await?
                } else {
                    tx.one(PERSON, &[UserId::from_uuid(id).into()]).await?
                };
                if let Some(row) = row {
                    names.insert(id, row.text("name")?);
                }
            }
            Ok(names)
        })
    })
    .await
}

pub(super) fn entry(kept: Kept, names: &Names) -> Entry {
    let Kept { id, entry, hash } = kept;
    Entry {
        id,
        at: entry.at.to_string(),
        actor_name: entry.principal.and_then(|id| names.get(&id).cloned()),
        actor: entry.actor,
        principal_id: entry.principal,
        action: entry.action,
        resource: entry.resource,
        outcome: entry.outcome,
        status: entry.status,
        code: entry.code,
        times: entry.times,
        before: entry.before.map(|digest| digest.to_string()),
        after: entry.after.map(|digest| digest.to_string()),
        request_id: entry.request.to_string(),
        source_address: entry.source,
        hash: hash.to_string(),
    }
}
