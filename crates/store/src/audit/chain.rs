//! What an entry of the audit log says, to the byte, and how it is chained to the one before.
//!
//! Invariant: an entry's hash is SHA-256 over its line of JSON, which has the hash of the entry before in it; the line that is exported
//! is the same with the hash as its last member. So a file can be checked by whoever has nothing but it. Pure.

use lantern_types::{At, Digest, RequestId, TenantId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What the first entry has for the hash of the one before.
pub const NOTHING: [u8; 32] = [0; 32];
/// What stands between an entry and its hash.
const HASH: &str = ",\"hash\":\"";

/// Something that was done, or was not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it was answered.
    pub at: At,
    /// `user`, `api_key`, `workload` or `nobody`.
    pub actor: String,
    /// The row of the person or key, or the run of the workload.
    pub principal: Option<Uuid>,
    /// The action, `resource.verb`.
    pub action: String,
    /// The path of what it was done to.
    pub resource: String,
    /// `succeeded`, `replayed`, `denied`, `refused`, `failed` or `abandoned`.
    pub outcome: String,
    /// The status of the answer; 0 when there was none.
    pub status: u16,
    /// The code of the error.
    pub code: Option<String>,
    /// How many calls it stands for.
    pub times: u32,
    /// The digest of what was changed, as it was.
    pub before: Option<Digest>,
    /// The same, as it is now.
    pub after: Option<Digest>,
    /// The request; of several the first.
    pub request: RequestId,
    /// The address that it came from.
    pub source: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    id: i64,
    tenant_id: TenantId,
    at: String,
    actor: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal_id: Option<Uuid>,
    action: &'a str,
    resource: &'a str,
    outcome: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    times: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Digest>,
    request_id: RequestId,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_address: Option<&'a str>,
    prev: Digest,
}

impl Entry {
    /// The line of the entry with this number after one with that hash.
    pub fn line(&self, tenant: TenantId, id: i64, prev: Digest) -> String {
        let line = Line {
            id,
            tenant_id: tenant,
            at: self.at.to_string(),
            actor: &self.actor,
            principal_id: self.principal,
            action: &self.action,
            resource: &self.resource,
            outcome: &self.outcome,
            status: self.status,
            code: self.code.as_deref(),
            times: self.times,
            before: self.before,
            after: self.after,
            request_id: self.request,
            source_address: self.source.as_deref(),
            prev,
        };
        // Nothing in it can fail to be written: text, numbers and digests.
        serde_json::to_string(&line).unwrap_or_default()
    }
}

/// The hash of a line.
pub fn hash(line: &str) -> Digest {
    Digest::of(line.as_bytes())
}

/// A line as it is exported: with its hash.
pub fn exported(line: &str, hash: Digest) -> String {
    format!("{}{HASH}{hash}\"}}", line.strip_suffix('}').unwrap_or(line))
}

/// A line of an exported log that is what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The entry's number.
    pub id: i64,
    /// The hash of the entry before.
    pub prev: Digest,
    /// Its own.
    pub hash: Digest,
}

#[derive(Deserialize)]
struct Said {
    id: i64,
    prev: Digest,
    hash: Digest,
}

/// Reads an exported line; `None` when its hash is not that of what it says.
pub fn link(exported: &str) -> Option<Link> {
    let (line, _) = exported.rsplit_once(HASH)?;
    let Said { id, prev, hash: said } = serde_json::from_str(exported).ok()?;
    let hash = hash(&format!("{line}}}"));
    (hash == said && exported == self::exported(&format!("{line}}}"), hash)).then_some(Link {
        id,
        prev,
        hash,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lantern_types::DEV_TENANT;

    fn entry() -> Entry {
        Entry {
            at: At::from_micros(1_800_000_000_000_001),
            actor: "user".to_owned(),
            principal: Some(Uuid::from_u128(7)),
            action: "agents.update".to_owned(),
            resource: "/v1/agents/a,\"hash\":\"b".to_owned(),
            outcome: "succeeded".to_owned(),
            status: 200,
            code: None,
            times: 1,
            before: Some(Digest::of(b"1")),
            after: None,
            request: RequestId::from_uuid(Uuid::from_u128(9)),
            source: Some("192.0.2.1".to_owned()),
        }
    }

    #[test]
    fn an_exported_line_is_checked_by_itself_and_nothing_in_it_can_be_changed() {
        let prev = Digest::of(b"before");
        let line = entry().line(DEV_TENANT, 3, prev);
        let text = exported(&line, hash(&line));
        assert_eq!(link(&text), Some(Link { id: 3, prev, hash: hash(&line) }));
        for place in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[place] ^= 1;
            let other = String::from_utf8_lossy(&other);
            assert_eq!(link(&other), None, "{place}: {other}");
        }
        assert_eq!(link(&line), None);
        assert_eq!(link(""), None);
    }

    #[test]
    fn whatever_differs_makes_another_hash() {
        let base = entry();
        let of = |entry: &Entry| hash(&entry.line(DEV_TENANT, 3, Digest::of(b"")));
        let first = of(&base);
        let others = [
            Entry { at: At::from_micros(1), ..base.clone() },
            Entry { actor: "api_key".to_owned(), ..base.clone() },
            Entry { principal: None, ..base.clone() },
            Entry { action: "x".to_owned(), ..base.clone() },
            Entry { resource: "x".to_owned(), ..base.clone() },
            Entry { outcome: "x".to_owned(), ..base.clone() },
            Entry { status: 201, ..base.clone() },
            Entry { code: Some("x".to_owned()), ..base.clone() },
            Entry { times: 2, ..base.clone() },
            Entry { before: None, ..base.clone() },
            Entry { after: base.before, ..base.clone() },
            Entry { request: RequestId::from_uuid(Uuid::nil()), ..base.clone() },
            Entry { source: None, ..base.clone() },
        ];
        assert!(others.iter().all(|other| of(other) != first));
        assert_ne!(hash(&base.line(DEV_TENANT, 4, Digest::of(b""))), first);
        assert_ne!(hash(&base.line(DEV_TENANT, 3, Digest::of(b"x"))), first);
    }
}
