//! The keys that receipts are checked with, for everybody; and that there are none of agents' identities yet.

use axum::extract::State;
use lantern_edge::route::public_get;
use lantern_edge::{Code, Error, Json, Refusal, Result, Route};
use lantern_receipts::{ALGORITHM, Published};
use serde::Serialize;
use utoipa::ToSchema;

use super::DOCS;
use crate::App;

pub(super) fn table() -> Vec<Route<App>> {
    vec![
        public_get("/.well-known/lantern-receipts", "The keys that receipts are signed with", well_known),
        public_get("/v1/.well-known/lantern-receipts", "The same", well_known),
        public_get("/.well-known/jwks.json", "The same keys as a JSON Web Key Set", jwks),
        public_get("/.well-known/lantern-agent-identity", "The key of running agents' identities", identity)
            .refuses(&[Refusal::NotSupported]),
    ]
}

/// The keys that receipts are signed with: the one in use, and those before it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReceiptKeys)]
#[expect(clippy::struct_field_names, reason = "the names of the JSON")]
struct Keys {
    /// `Ed25519`.
    algorithm: &'static str,
    /// The key in use: base64 of its 32 bytes.
    public_key: String,
    /// The first eight bytes of its SHA-256, in hex. Receipts name it `keyId`.
    key_fingerprint: String,
    docs: &'static str,
    /// Every key, the newest first. A receipt is good with the one that it names, in use or not.
    keys: Vec<Key>,
}

/// One of them.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReceiptKey)]
#[expect(clippy::struct_field_names, reason = "the names of the JSON")]
struct Key {
    key_id: String,
    public_key: String,
    since: String,
    /// Until when it was in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

/// The key that identities of running agents are checked with.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AgentIdentityKey)]
struct Identity {
    algorithm: &'static str,
    public_key: String,
    key_fingerprint: String,
    docs: &'static str,
}

/// A JSON Web Key Set (RFC 7517, RFC 8037).
#[derive(Serialize, ToSchema)]
#[schema(as = JsonWebKeySet)]
struct Set {
    keys: Vec<Jwk>,
}

/// One key of it.
#[derive(Serialize, ToSchema)]
#[schema(as = JsonWebKey)]
struct Jwk {
    kty: &'static str,
    crv: &'static str,
    alg: &'static str,
    #[serde(rename = "use")]
    purpose: &'static str,
    kid: String,
    x: String,
}

async fn well_known(State(app): State<App>) -> Result<Json<Keys>> {
    let published = app.notary.published().await?;
    // One is always in use; it is the newest unless clocks went back.
    let current = published.iter().find(|key| key.until.is_none()).or_else(|| published.first());
    let (public_key, key_fingerprint) =
        current.map(|key| (key.key.to_string(), key.key.id())).unwrap_or_default();
    Ok(Json(Keys {
        algorithm: ALGORITHM,
        public_key,
        key_fingerprint,
        docs: DOCS,
        keys: published.iter().map(shown).collect(),
    }))
}

fn shown(published: &Published) -> Key {
    Key {
        key_id: published.key.id(),
        public_key: published.key.to_string(),
        since: published.since.to_string(),
        until: published.until.map(|until| until.to_string()),
    }
}

async fn jwks(State(app): State<App>) -> Result<Json<Set>> {
    let key = |published: &Published| Jwk {
        kty: "OKP",
        crv: "Ed25519",
        alg: "EdDSA",
        purpose: "sig",
        kid: published.key.id(),
        x: lantern_receipts::base64url(&published.key.bytes()),
    };
    Ok(Json(Set { keys: app.notary.published().await?.iter().map(key).collect() }))
}

/// Whoever asks is told that there are none, and not that the address is wrong.
async fn identity() -> Result<Json<Identity>> {
    Err(Error::new(
        Code::AgentIdentityUnsupported,
        "running agents have no identities of their own on this server",
    ))
}
