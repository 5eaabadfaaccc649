//! API keys: `hlx_live_` and 32 hexadecimal digits, shown once, stored as a hash.
//!
//! Invariant: a key does no more than its scopes say, nor more than its maker could; a revoked or expired key opens
//! nothing, and the event streams that it opened end. Revoking is for good.

use axum::extract::State;
use lantern_edge::auth::{self, KEY_PREFIX};
use lantern_edge::openapi::PAGING;
use lantern_edge::route::{delete_route, get_route, post_route};
use lantern_edge::{
    Body, Code, Created, Error, Fields, Model, NoContent, Page, Paging, Params, Path, Result, Route,
};
use lantern_policy::action::{CreateApiKey, ListApiKeys, RevokeApiKey, allows, handed_on};
use lantern_policy::{Actor, Permit, Principal};
use lantern_store::{Row, TenantTx, Value, Where};
use lantern_types::{ApiKeyId, At, Dur, UserId};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::people::TAKE_BACK;
use crate::App;

const NAME_BYTES_MAX: usize = 200;
const SCOPES: [&str; 6] = ["read", "write", "admin", "runtime:read", "runtime:write", "runtime:admin"];
const DAYS_MAX: u64 = 3_650;
/// How much of a key lists show, so that people can tell keys apart.
const SHOWN: usize = 16;

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        get_route("/v1/api-keys", "List the tenant's keys", list).takes(&PAGING),
        post_route("/v1/api-keys", "Create a key", create),
        delete_route("/v1/api-keys/{id}", "Revoke a key, for good", revoke),
        // Where older clients look for them.
        get_route("/v1/settings/api-keys", "List the tenant's keys", list).takes(&PAGING),
        post_route("/v1/settings/api-keys", "Create a key", create),
        delete_route("/v1/settings/api-keys/{id}", "Revoke a key, for good", revoke),
    ]
}

// Model

struct NewKey {
    name: String,
    scopes: Vec<&'static str>,
    expires_at: Option<At>,
    expires_in: Option<Dur>,
}

impl Model for NewKey {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let name = fields.required_text("name", NAME_BYTES_MAX);
        let asked = fields.texts("scopes", 16, 64).unwrap_or_else(|| vec!["write".to_owned()]);
        for (n, scope) in asked.iter().enumerate().filter(|(_, scope)| !SCOPES.contains(&scope.as_str())) {
            fields.issue(
                format!("scopes[{n}]"),
                format!("expected one of {}, got {scope:?}", SCOPES.join(", ")),
            );
        }
        if asked.is_empty() {
            // To some an empty list is everything, to others nothing: nobody should have to guess.
            fields.issue("scopes", "name at least one scope, or leave the field out for write");
        }
        let expires_at = fields.parsed("expiresAt", "an RFC 3339 time up to 9999-12-30T22:00:00Z");
        let days =
            fields.integer("expiresInDays", 1..=DAYS_MAX).map(|days| Dur::from_secs(86_400).times(days));
        fields.describe("expiresIn", || {
            let about = "How long the key is good: seconds, or text such as `30d`.";
            json!({ "type": ["integer", "string", "null"], "description": about })
        });
        let life = fields.value("expiresIn").map(lifetime);
        if life == Some(None) {
            fields.issue("expiresIn", format!("expected \"30d\", or seconds, up to {DAYS_MAX} days"));
        }
        let life = life.flatten();
        if [expires_at.is_some(), days.is_some(), life.is_some()].iter().filter(|said| **said).count() > 1 {
            fields.issue("expiresAt", "say one of expiresAt, expiresIn and expiresInDays");
        }
        let scopes = SCOPES.into_iter().filter(|scope| asked.iter().any(|asked| asked == scope)).collect();
        let expires_in = days.or(life);
        Some(Self { name: name?, scopes, expires_at, expires_in })
    }
}

/// `"30d"`, `"12h"`, or seconds.
fn lifetime(said: &serde_json::Value) -> Option<Dur> {
    let life = match said.as_str() {
        Some(text) => Dur::parse(text)?,
        None => Dur::from_secs(said.as_u64()?),
    };
    (life > Dur::ZERO && life <= Dur::from_secs(86_400).times(DAYS_MAX)).then_some(life)
}

/// A key, as lists show it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ApiKey)]
struct Key {
    #[schema(value_type = String, format = "uuid")]
    id: ApiKeyId,
    name: String,
    prefix: String,
    scopes: Vec<String>,
    status: &'static str,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    created_by: Option<UserId>,
    #[serde(skip)]
    sort: At,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = IssuedKey)]
struct Issued {
    key: Key,
    raw_key: String,
}

// Store

const INSERT: &str =
    "INSERT INTO api_keys (tenant_id, id, name, prefix, key_hash, scopes, created_by, created_at,
    expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
const LIST: &str =
    "SELECT id, name, prefix, scopes, created_by, created_at, expires_at, revoked_at, last_used_at
    FROM api_keys WHERE tenant_id = $1";
const GET: &str =
    "SELECT id, name, prefix, scopes, created_by, created_at, expires_at, revoked_at, last_used_at
    FROM api_keys WHERE tenant_id = $1 AND id = $2";
const REVOKE: &str =
    "UPDATE api_keys SET revoked_at = COALESCE(revoked_at, $3) WHERE tenant_id = $1 AND id = $2";

/// Every statement of this file.
pub(crate) const STATEMENTS: &[&str] = &[INSERT, LIST, GET, REVOKE];

async fn insert(
    tx: &mut TenantTx<'_>,
    id: ApiKeyId,
    params: &[Value],
    now: At,
) -> lantern_store::Result<Option<Key>> {
    tx.exec(INSERT, params).await?;
    tx.one(GET, &[id.into()]).await?.map(|row| read(&row, now)).transpose()
}

fn read(row: &Row, now: At) -> lantern_store::Result<Key> {
    let (expires_at, revoked_at) = (row.opt_at("expires_at")?, row.opt_at("revoked_at")?);
    let status = match (revoked_at, expires_at) {
        (Some(_), _) => "revoked",
        (None, Some(at)) if at <= now => "expired",
        _ => "active",
    };
    let text = |at: Option<At>| at.map(|at| at.to_string());
    let sort = row.at("created_at")?;
    Ok(Key {
        id: row.id("id")?,
        name: row.text("name")?,
        prefix: row.text("prefix")?,
        scopes: serde_json::from_str(&row.text("scopes")?).unwrap_or_default(),
        status,
        created_at: sort.to_string(),
        expires_at: text(expires_at),
        last_used_at: text(row.opt_at("last_used_at")?),
        revoked_at: text(revoked_at),
        created_by: row.opt_id("created_by")?,
        sort,
    })
}

// Routes

async fn list(permit: Permit<ListApiKeys>, State(app): State<App>, params: Params) -> Result<Page<Key>> {
    let paging = Paging::of(&params)?;
    let (before, limit, now) = (paging.before, paging.fetch(), app.clock.now());
    let keys = app
        .db
        .read(permit.scope(), move |tx| {
            Box::pin(async move {
                let before = before.map(|(at, id)| (at, ApiKeyId::from_uuid(id)));
                let older = Where::new().before(("created_at", "id"), before);
                let rows = tx.all_where(LIST, older, "created_at DESC, id DESC", limit).await?;
                rows.iter().map(|row| read(row, now)).collect()
            })
        })
        .await?;
    Ok(Page::cut(keys, &paging, &params, |key| (key.sort, key.id.uuid())))
}

/// Create a key. Its text is in this answer and nowhere else.
async fn create(
    permit: Permit<CreateApiKey>,
    State(app): State<App>,
    Body(new): Body<NewKey>,
) -> Result<Created<Issued>> {
    let now = app.clock.now();
    within_reach(permit.actor(), &new)?;
    let expires_at = new.expires_at.or_else(|| new.expires_in.map(|life| now + life));
    if expires_at.is_some_and(|at| at <= now) {
        return Err(Error::new(Code::InvalidBody, "expiresAt is in the past")
            .with_field("expiresAt", "is in the past"));
    }
    let id = ApiKeyId::from_uuid(app.ids.uuid());
    let raw_key = mint(&app);
    let prefix: String = raw_key.chars().take(SHOWN).collect();
    let params: [Value; 8] = [
        id.into(),
        new.name.into(),
        prefix.into(),
        auth::hash(&raw_key).into(),
        serde_json::to_string(&new.scopes).map_err(Error::internal)?.into(),
        maker(permit.actor()).into(),
        now.into(),
        expires_at.into(),
    ];
    let made = app
        .db
        .write(permit.scope(), move |tx| Box::pin(async move { insert(tx, id, &params, now).await }))
        .await?;
    let key = made.ok_or_else(not_found)?;
    tracing::info!(tenant = %permit.scope().tenant(), key = %id, "made an API key");
    Ok(Created { location: format!("/v1/api-keys/{id}"), body: Issued { key, raw_key } })
}

async fn revoke(
    permit: Permit<RevokeApiKey>,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<NoContent> {
    let id: ApiKeyId = id.parse().map_err(|_| not_found())?;
    let params = [id.into(), app.clock.now().into()];
    let found = app
        .db
        .write(permit.scope(), move |tx| {
            Box::pin(async move {
                // Whoever had the key may have let somebody in with it.
                tx.exec(TAKE_BACK, &[id.into()]).await?;
                tx.exec(REVOKE, &params).await
            })
        })
        .await?;
    if found == 0 {
        return Err(not_found());
    }
    app.inner.gate.revoked();
    tracing::info!(tenant = %permit.scope().tenant(), key = %id, "revoked an API key");
    Ok(NoContent)
}

fn mint(app: &App) -> String {
    let mut bytes = [0; 16];
    app.ids.fill(&mut bytes);
    format!("{KEY_PREFIX}{}", hex::encode(bytes))
}

fn maker(actor: &Actor) -> Option<UserId> {
    match actor.principal {
        Principal::User { id, .. } => Some(id),
        Principal::Key { .. } => None,
    }
}

/// Nobody hands on what they do not have.
fn within_reach(actor: &Actor, new: &NewKey) -> Result<()> {
    let beyond = |scope: &&&str| !handed_on(scope).is_some_and(|access| allows(&actor.principal, access));
    match new.scopes.iter().find(beyond) {
        None => Ok(()),
        Some(scope) => {
            let words = format!("a key cannot be given {scope} by someone without it");
            Err(Error::new(Code::ScopeEscalation, words).with_extra("required_scope", *scope))
        }
    }
}

fn not_found() -> Error {
    Error::new(Code::ApiKeyNotFound, "no such API key")
}
