//! Secrets over HTTP: handed in, listed by name, put under another key, and never read back.
//!
//! Invariant: no answer, log or audit entry has a value in it, and none is kept for an `Idempotency-Key`: values come by `PUT` alone,
//! which is the same however often it is sent. A change that names a revision happens on that revision or not at all.

use axum::extract::State;
use http::HeaderMap;
use lantern_edge::etag::{IfMatch, Versioned, Wished};
use lantern_edge::openapi::PAGING;
use lantern_edge::route::{delete_route, get_route, patch_route, post_route, put_route};
use lantern_edge::{
    Body, Code, Created, Either, Error, Fields, Json, Model, NoContent, Page, Paging, Params, Path, Refusal,
    Result, Route,
};
use lantern_policy::action::{DeleteSecret, ListSecrets, RotateSecretKey, SaveSecret};
use lantern_policy::{Permit, Scope};
use lantern_store::Sealer;
use lantern_store::secrets::{self, Change, SecretRow};
use lantern_types::{Reference, Secret, SecretId, SecretName};
use serde::Serialize;
use utoipa::ToSchema;

use crate::App;

/// The longest value.
const VALUE_BYTES_MAX: usize = 64 << 10;
/// Secrets of one tenant.
const SECRETS_MAX: u32 = 1_000;
/// Versions of one secret.
const VERSIONS_MAX: usize = 100;
/// How often a write is tried that somebody else was quicker with.
const TRIES: usize = 8;
/// How many values one request puts under another key.
const RESEALED_MAX: u32 = 100;

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        get_route("/v1/secrets", "List secrets, without their values", list).takes(&PAGING),
        get_route("/v1/secrets/{name}", "Read what is known of a secret, without its value", get)
            .refuses(&[Refusal::NotFound]),
        put_route("/v1/secrets/{name}", "Hand in a secret, or a new version of it", put)
            .conditional()
            .refuses(&[Refusal::Conflict]),
        delete_route("/v1/secrets/{name}", "Delete a secret with all of its versions", delete).conditional(),
        get_route("/v1/secrets/{name}/versions", "List the versions of a secret", versions)
            .refuses(&[Refusal::NotFound]),
        patch_route("/v1/secrets/{name}/versions/{version}", "Enable or disable a version", enable)
            .conditional(),
        delete_route("/v1/secrets/{name}/versions/{version}", "Delete a version with its value", forget)
            .conditional(),
        get_route("/v1/secret-keys", "List the keys that secrets are sealed under", keys),
        post_route("/v1/secret-keys/rotate", "Put secrets under another key, so many at a time", rotate),
    ]
}

// Model

struct Value {
    value: Secret<String>,
}

impl Model for Value {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.refuse_unread();
        fields.required_text("value", VALUE_BYTES_MAX).map(|value| Self { value: Secret::new(value) })
    }
}

struct Standing {
    enabled: bool,
}

impl Model for Standing {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.refuse_unread();
        fields.required_boolean("enabled").map(|enabled| Self { enabled })
    }
}

struct Wanted {
    /// The key that an earlier answer named.
    to: Option<i64>,
}

impl Model for Wanted {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.refuse_unread();
        let to = fields.integer("toVersion", 1..=u64::from(u32::MAX));
        Some(Self { to: to.and_then(|to| i64::try_from(to).ok()) })
    }
}

/// What is known of a secret.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Secret)]
struct Shown {
    name: String,
    /// How it is named where a secret is used.
    reference: String,
    /// The version that counts: the newest that is enabled. Without one the secret cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<i64>,
    /// The newest first.
    versions: Vec<ShownVersion>,
    created_at: String,
    updated_at: String,
    #[serde(skip)]
    row: (lantern_types::At, SecretId),
}

/// A version of a secret.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SecretVersion)]
struct ShownVersion {
    /// From 1; used once.
    version: i64,
    enabled: bool,
    created_at: String,
}

/// A key that secrets are sealed under.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SecretKey)]
struct ShownKey {
    /// From 1; the newest seals.
    version: i64,
    created_at: String,
    /// How many values are sealed under it.
    sealed: i64,
}

/// How far a change of keys has come.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SecretKeyRotation)]
struct Rotated {
    /// The key that secrets are sealed under now: `toVersion` of the next request. 0 when there is none, because there was no secret.
    key_version: i64,
    /// How many values this request sealed anew.
    resealed: u32,
    /// How many are sealed under older keys still. Ask again until it is 0: the older keys are gone then.
    remaining: i64,
}

impl Shown {
    fn of(row: SecretRow) -> Self {
        Self {
            version: row.current(),
            reference: Reference::to(row.name.clone()).to_string(),
            name: row.name.to_string(),
            versions: row.versions.iter().map(ShownVersion::of).collect(),
            created_at: row.created_at.to_string(),
            updated_at: row.updated_at.to_string(),
            row: (row.created_at, row.id),
        }
    }
}

impl ShownVersion {
    fn of(row: &secrets::VersionRow) -> Self {
        Self { version: row.version, enabled: row.enabled, created_at: row.created_at.to_string() }
    }
}

// Service

/// The tenant's secret that some text refers to, where only a secret will do. Refuses what is no such reference, and what leads to none.
pub(crate) async fn named(app: &App, scope: Scope, field: &str, text: &str) -> Result<SecretName> {
    let name = match Reference::parse(text) {
        Ok(Reference::Secret { tenant, name }) if tenant.is_none_or(|tenant| tenant == scope.tenant()) => {
            name
        }
        Ok(Reference::Secret { .. }) => return Err(not_found("this reference is to another tenant's")),
        Ok(_) | Err(_) => {
            let words = "expected the reference of a secret, such as lantern.secret://tenant/NAME";
            return Err(Error::new(Code::InvalidBody, format!("{field}: {words}")).with_field(field, words));
        }
    };
    value(app, scope, &name).await.map(|_| name)
}

/// What a secret says now, for whoever passes it on.
pub(crate) async fn value(app: &App, scope: Scope, name: &SecretName) -> Result<Secret<String>> {
    let reference = Reference::to(name.clone());
    let found = secrets::resolve(app.vault.sealer(), scope, &reference).await?;
    found
        .map(|found| found.value)
        .ok_or_else(|| not_found(&format!("no secret {name} has a version that is enabled")))
}

fn not_found(words: &str) -> Error {
    Error::new(Code::SecretNotFound, words.to_owned())
}

/// A name that could be a secret's; the others need no look-up.
fn parsed(name: &str) -> Result<SecretName> {
    SecretName::parse(name).map_err(|_| {
        let name: String = name.chars().take(80).collect();
        not_found(&format!("there is no secret {name:?}"))
    })
}

async fn there(sealer: &Sealer, scope: Scope, name: &str) -> Result<SecretRow> {
    let name = parsed(name)?;
    let found = secrets::find(sealer, scope, &name).await?;
    found.ok_or_else(|| not_found(&format!("there is no secret {name}")))
}

/// What handing in a value came to.
enum Kept {
    /// It is a version of its own.
    Made(SecretRow, i64),
    /// The version that counts says the same.
    Same(SecretRow),
}

async fn keep(
    app: &App,
    scope: Scope,
    name: &SecretName,
    value: &Secret<String>,
    wished: &Wished,
) -> Result<Kept> {
    let sealer = app.vault.sealer();
    for _ in 0..TRIES {
        let found = secrets::find(sealer, scope, name).await?;
        wished.check(found.as_ref().map(|row| row.revision))?;
        let made = match found {
            None => {
                let id = SecretId::from_uuid(app.ids.uuid());
                match secrets::create(sealer, scope, (id, name), value, SECRETS_MAX).await {
                    Ok(false) => return Err(full(format!("{SECRETS_MAX} secrets"))),
                    made => made.map(|_| 1),
                }
            }
            Some(row) => {
                let current = secrets::current(sealer, scope, name).await?;
                // Somebody added or disabled a version in between: look again.
                if current.as_ref().map(|current| current.version) != row.current() {
                    continue;
                }
                if current.is_some_and(|current| current.is(value)) {
                    return Ok(Kept::Same(row));
                }
                if row.versions.len() >= VERSIONS_MAX {
                    return Err(full(format!("{VERSIONS_MAX} versions of {name}")));
                }
                secrets::add(sealer, scope, &row, value).await
            }
        };
        match made {
            Ok(version) => {
                let row = secrets::find(sealer, scope, name).await?;
                let row = row.ok_or_else(|| not_found("it was deleted as it was made"))?;
                return Ok(Kept::Made(row, version));
            }
            // Somebody else was quicker: look again.
            Err(lantern_store::Error::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(lantern_store::Error::Conflict.into())
}

fn full(what: String) -> Error {
    let words = format!("there are {what}, and there may be no more: delete some");
    Error::new(Code::SecretsFull, words)
}

/// Changes one version, and answers the secret as it is then.
async fn revise(
    app: &App,
    scope: Scope,
    (name, version): (&str, &str),
    asked: &IfMatch,
    change: Change,
) -> Result<SecretRow> {
    let sealer = app.vault.sealer();
    let missing = || not_found(&format!("the secret {name} has no such version"));
    for _ in 0..TRIES {
        let row = there(sealer, scope, name).await?;
        asked.check(row.revision)?;
        let number = version.parse().ok().filter(|n| row.versions.iter().any(|own| own.version == *n));
        let number = number.ok_or_else(missing)?;
        match secrets::change(sealer, scope, &row, number, change).await {
            Ok(true) => return there(sealer, scope, name).await,
            Ok(false) => return Err(missing()),
            Err(lantern_store::Error::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(lantern_store::Error::Conflict.into())
}

// Routes

async fn list(permit: Permit<ListSecrets>, State(app): State<App>, params: Params) -> Result<Page<Shown>> {
    let paging = Paging::of(&params)?;
    let before = paging.before.map(|(at, id)| (at, SecretId::from_uuid(id)));
    let rows = secrets::list(app.vault.sealer(), permit.scope(), before, paging.fetch()).await?;
    let shown = rows.into_iter().map(Shown::of).collect();
    Ok(Page::cut(shown, &paging, &params, |secret: &Shown| (secret.row.0, secret.row.1.uuid())))
}

fn shown(row: SecretRow) -> Versioned<Json<Shown>> {
    Versioned { revision: row.revision, body: Json(Shown::of(row)) }
}

async fn get(
    permit: Permit<ListSecrets>,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Versioned<Json<Shown>>> {
    there(app.vault.sealer(), permit.scope(), &name).await.map(shown)
}

async fn versions(
    permit: Permit<ListSecrets>,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Versioned<Json<Vec<ShownVersion>>>> {
    let row = there(app.vault.sealer(), permit.scope(), &name).await?;
    let versions = row.versions.iter().map(ShownVersion::of).collect();
    Ok(Versioned { body: Json(versions), revision: row.revision })
}

/// Hand in a secret, or a new version of it: 201, with the version's path. A value that the version which counts says already is answered
/// 200, and changes nothing.
async fn put(
    permit: Permit<SaveSecret>,
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Body(Value { value }): Body<Value>,
) -> Result<Versioned<Either<Created<Shown>, Json<Shown>>>> {
    let scope = permit.scope();
    let name = SecretName::parse(&name).map_err(|invalid| {
        Error::new(Code::InvalidBody, format!("name: {invalid}")).with_field("name", invalid.to_string())
    })?;
    match keep(&app, scope, &name, &value, &Wished::of(&headers)?).await? {
        Kept::Made(row, version) => {
            tracing::info!(tenant = %scope.tenant(), secret = %name, version, "a secret was handed in");
            let (revision, location) = (row.revision, format!("/v1/secrets/{name}/versions/{version}"));
            Ok(Versioned { body: Either::A(Created { body: Shown::of(row), location }), revision })
        }
        Kept::Same(row) => Ok(Versioned { revision: row.revision, body: Either::B(Json(Shown::of(row))) }),
    }
}

async fn delete(
    permit: Permit<DeleteSecret>,
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<NoContent> {
    let (scope, asked) = (permit.scope(), IfMatch::of(&headers)?);
    for _ in 0..TRIES {
        let row = there(app.vault.sealer(), scope, &name).await?;
        asked.check(row.revision)?;
        match secrets::remove(app.vault.sealer(), scope, &row).await {
            Ok(()) => {
                tracing::info!(tenant = %scope.tenant(), secret = %row.name, "a secret was deleted");
                return Ok(NoContent);
            }
            Err(lantern_store::Error::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(lantern_store::Error::Conflict.into())
}

/// Enable or disable a version. The newest one that is enabled is the one that counts.
async fn enable(
    permit: Permit<SaveSecret>,
    State(app): State<App>,
    Path((name, version)): Path<(String, String)>,
    headers: HeaderMap,
    Body(Standing { enabled }): Body<Standing>,
) -> Result<Versioned<Json<Shown>>> {
    let (asked, change) = (IfMatch::of(&headers)?, Change::Enable(enabled));
    revise(&app, permit.scope(), (&name, &version), &asked, change).await.map(shown)
}

async fn forget(
    permit: Permit<DeleteSecret>,
    State(app): State<App>,
    Path((name, version)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<NoContent> {
    let asked = IfMatch::of(&headers)?;
    revise(&app, permit.scope(), (&name, &version), &asked, Change::Remove).await.map(|_| NoContent)
}

async fn keys(permit: Permit<ListSecrets>, State(app): State<App>) -> Result<Json<Vec<ShownKey>>> {
    let keys = secrets::keys(app.vault.sealer(), permit.scope()).await?;
    let shown = |key: &secrets::KeyRow| ShownKey {
        version: key.version,
        created_at: key.created_at.to_string(),
        sealed: key.sealed,
    };
    Ok(Json(keys.iter().map(shown).collect()))
}

/// Put secrets under another key, so many at a time. The first request makes the key, unless a change of keys is under way already; those
/// after it name it as `toVersion`, until nothing remains. Secrets can be used and handed in all the while.
async fn rotate(
    permit: Permit<RotateSecretKey>,
    State(app): State<App>,
    Body(Wanted { to }): Body<Wanted>,
) -> Result<Json<Rotated>> {
    let scope = permit.scope();
    let done = secrets::rekey(app.vault.sealer(), scope, to, RESEALED_MAX).await?;
    tracing::info!(tenant = %scope.tenant(), key = done.key, resealed = done.resealed, remaining = done.remaining,
        "secrets were put under another key");
    Ok(Json(Rotated { key_version: done.key, resealed: done.resealed, remaining: done.remaining }))
}
