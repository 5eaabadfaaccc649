//! Secrets: what a tenant hands in and nobody reads back, in versions.
//!
//! Invariant: a value is sealed for its tenant, table, column, secret, version and name, so that it opens in no other row and under no
//! other name. The newest version that is enabled is the one that counts; numbers of versions are used once. Values leave by
//! [`resolve`] and [`Current::is`] alone, and never for whoever asks over HTTP. Decides nothing: callers say what is written, and at
//! which revision.

mod keys;

use lantern_policy::Scope;
use lantern_types::{At, Reference, Secret, SecretId, SecretName};
use zeroize::Zeroize as _;

use crate::db::{TenantTx, Where};
use crate::error::{Error, Result};
use crate::seal::{self, Place, Sealer};
use crate::value::{Row, Value};

pub use keys::{KeyRow, Rekeyed, rekey};

/// What values are sealed for: the table and the column that they lie in.
const SEALED: &str = "secret_versions.sealed";

const GET: &str = "SELECT id, name, revision, last_version, created_at, updated_at FROM secrets
    WHERE tenant_id = $1 AND name = $2";
const LIST: &str =
    "SELECT id, name, revision, last_version, created_at, updated_at FROM secrets WHERE tenant_id = $1";
const VERSIONS: &str = "SELECT version, enabled, created_at FROM secret_versions
    WHERE tenant_id = $1 AND secret_id = $2 ORDER BY version DESC";
// With its key, so that none can go in between.
const CURRENT: &str = "SELECT s.id, s.name, v.version, v.sealed, k.version AS key_version, k.wrapped
    FROM secrets s
    JOIN secret_versions v ON v.tenant_id = s.tenant_id AND v.secret_id = s.id
    JOIN secret_keys k ON k.tenant_id = v.tenant_id AND k.version = v.key_version
    WHERE s.tenant_id = $1 AND s.name = $2 AND v.enabled = 1 ORDER BY v.version DESC LIMIT 1";
const INSERT: &str =
    "INSERT INTO secrets (tenant_id, id, name, revision, last_version, created_at, updated_at)
    SELECT $1, $2, $3, 1, 1, $4, $4
    WHERE (SELECT count(*) FROM (SELECT 1 FROM secrets WHERE tenant_id = $1 LIMIT $5) AS kept) < $5";
const REVISE: &str = "UPDATE secrets SET revision = revision + 1, last_version = $4, updated_at = $5
    WHERE tenant_id = $1 AND id = $2 AND revision = $3";
// Under the newest key, or not at all: an older one may be on its way out.
const ADD: &str =
    "INSERT INTO secret_versions (tenant_id, secret_id, version, key_version, sealed, enabled, created_at)
    SELECT $1, $2, $3, $4, $5, 1, $6
    WHERE NOT EXISTS (SELECT 1 FROM secret_keys WHERE tenant_id = $1 AND version > $4)";
const ENABLE: &str = "UPDATE secret_versions SET enabled = $4
    WHERE tenant_id = $1 AND secret_id = $2 AND version = $3";
const REMOVE_VERSION: &str =
    "DELETE FROM secret_versions WHERE tenant_id = $1 AND secret_id = $2 AND version = $3";
const REMOVE_VERSIONS: &str = "DELETE FROM secret_versions WHERE tenant_id = $1 AND secret_id = $2";
const REMOVE: &str = "DELETE FROM secrets WHERE tenant_id = $1 AND id = $2 AND revision = $3";
const PROVIDER: &str = "SELECT api_key, secret FROM llm_providers WHERE tenant_id = $1 AND provider = $2";

/// Every statement of these files.
#[cfg(feature = "testing")]
pub(crate) fn statements() -> Vec<&'static str> {
    let own = [
        GET,
        LIST,
        VERSIONS,
        CURRENT,
        INSERT,
        REVISE,
        ADD,
        ENABLE,
        REMOVE_VERSION,
        REMOVE_VERSIONS,
        REMOVE,
        PROVIDER,
    ];
    own.into_iter().chain(keys::STATEMENTS.iter().copied()).collect()
}

/// A secret, without what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRow {
    /// Its id.
    pub id: SecretId,
    /// Its name.
    pub name: SecretName,
    /// How often it was changed, and once more.
    pub revision: i64,
    /// The number of the newest version that there ever was.
    pub last_version: i64,
    /// When it was made.
    pub created_at: At,
    /// When it was changed last.
    pub updated_at: At,
    /// Its versions, the newest first.
    pub versions: Vec<VersionRow>,
}

/// A version, without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRow {
    /// Its number, from 1.
    pub version: i64,
    /// Whether it may be used.
    pub enabled: bool,
    /// When it was handed in.
    pub created_at: At,
}

impl SecretRow {
    /// The version that counts, if any does.
    pub fn current(&self) -> Option<i64> {
        self.versions.iter().find(|version| version.enabled).map(|version| version.version)
    }
}

/// The version of a secret that counts, opened.
pub struct Current {
    /// Its number.
    pub version: i64,
    value: Secret<String>,
}

impl Current {
    /// Whether it says this.
    pub fn is(&self, value: &Secret<String>) -> bool {
        let (own, other) = (self.value.expose().as_bytes(), value.expose().as_bytes());
        aws_lc_rs::constant_time::verify_slices_are_equal(own, other).is_ok()
    }
}

/// What is done to one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It may be used from now on, or no more.
    Enable(bool),
    /// It goes, with its value.
    Remove,
}

/// What a reference leads to.
pub struct Found {
    /// What it says.
    pub value: Secret<String>,
    /// The secret that says so. `None` when it is a key that a provider was saved with.
    pub name: Option<SecretName>,
    /// Which version of it.
    pub version: Option<i64>,
}

impl Found {
    fn of(name: &SecretName, current: Current) -> Self {
        Self { value: current.value, name: Some(name.clone()), version: Some(current.version) }
    }
}

/// The secret that a reference leads to, for the tenant of this scope. `None` when there is none, when no version of it is enabled, or
/// when the reference is to another tenant's: whoever needs it refuses, and goes on without in no case. Nothing is kept in memory
/// here: what is disabled or removed is gone for whoever asks next.
pub async fn resolve(sealer: &Sealer, scope: Scope, reference: &Reference) -> Result<Option<Found>> {
    match reference {
        Reference::Secret { tenant: Some(tenant), .. } if *tenant != scope.tenant() => Ok(None),
        Reference::Secret { name, .. } => {
            Ok(current(sealer, scope, name).await?.map(|current| Found::of(name, current)))
        }
        Reference::Provider(provider) => provider_key(sealer, scope, provider).await,
        // Nobody can install one yet.
        Reference::Connector { .. } => Ok(None),
    }
}

/// The version of a secret that counts. `None` when there is none.
pub async fn current(sealer: &Sealer, scope: Scope, name: &SecretName) -> Result<Option<Current>> {
    let key = Value::from(name.as_str());
    let row = sealer.db().glance(scope, move |tx| Box::pin(async move { tx.one(CURRENT, &[key]).await }));
    let Some(row) = row.await? else { return Ok(None) };
    let value = open(sealer, scope, &row)?;
    Ok(Some(Current { version: row.int("version")?, value }))
}

/// The tenant's own key of a provider: its own, or the secret's that it names.
async fn provider_key(sealer: &Sealer, scope: Scope, provider: &str) -> Result<Option<Found>> {
    let name = Value::from(provider);
    let row = sealer.db().glance(scope, move |tx| Box::pin(async move { tx.one(PROVIDER, &[name]).await }));
    let Some(row) = row.await? else { return Ok(None) };
    if let Some(sealed) = row.opt_bytes("api_key")? {
        let place = Place { purpose: "llm_provider", row: provider.as_bytes() };
        let value = text(sealer.open(scope, place, &sealed).await?)?;
        return Ok(Some(Found { value, name: None, version: None }));
    }
    let Some(name) = row.opt_text("secret")?.and_then(|name| SecretName::parse(&name).ok()) else {
        return Ok(None);
    };
    Ok(current(sealer, scope, &name).await?.map(|current| Found::of(&name, current)))
}

/// A secret of this name, with its versions.
pub async fn find(sealer: &Sealer, scope: Scope, name: &SecretName) -> Result<Option<SecretRow>> {
    let name = Value::from(name.as_str());
    let read = sealer.db().read(scope, move |tx| {
        Box::pin(async move {
            let Some(row) = tx.one(GET, &[name]).await? else { return Ok(None) };
            with_versions(tx, &row).await.map(Some)
        })
    });
    read.await
}

/// Up to `limit` secrets, the newest first, older than `before`.
pub async fn list(
    sealer: &Sealer,
    scope: Scope,
    before: Option<(At, SecretId)>,
    limit: u32,
) -> Result<Vec<SecretRow>> {
    let read = sealer.db().read(scope, move |tx| {
        Box::pin(async move {
            let older = Where::new().before(("created_at", "id"), before);
            let rows = tx.all_where(LIST, older, "created_at DESC, id DESC", limit).await?;
            let mut secrets = Vec::with_capacity(rows.len());
            for row in &rows {
                secrets.push(with_versions(tx, row).await?);
            }
            Ok(secrets)
        })
    });
    read.await
}

/// Makes a secret with its first version. `Conflict` when one of that name came in between, or the keys were changed: read again.
/// `false`, and nothing written, when there are `most` already.
pub async fn create(
    sealer: &Sealer,
    scope: Scope,
    (id, name): (SecretId, &SecretName),
    value: &Secret<String>,
    most: u32,
) -> Result<bool> {
    let (key, sealed) = sealed(sealer, scope, (id, 1, name), value).await?;
    let now = sealer.now();
    let made: [Value; 4] = [id.into(), name.as_str().into(), now.into(), most.into()];
    let first: [Value; 5] = [id.into(), 1_i64.into(), key.into(), sealed.into(), now.into()];
    let write = sealer.db().write(scope, move |tx| {
        Box::pin(async move {
            if tx.exec(INSERT, &made).await? == 0 {
                return Ok(false);
            }
            one(tx.exec(ADD, &first).await?)?;
            Ok(true)
        })
    });
    write.await
}

/// Adds a version to a secret as it was read, and answers its number. `Conflict` when it was changed since, or the keys were: read
/// again.
pub async fn add(sealer: &Sealer, scope: Scope, there: &SecretRow, value: &Secret<String>) -> Result<i64> {
    let version = there.last_version + 1;
    let (key, sealed) = sealed(sealer, scope, (there.id, version, &there.name), value).await?;
    let now = sealer.now();
    let id = there.id;
    let revised: [Value; 4] = [id.into(), there.revision.into(), version.into(), now.into()];
    let added: [Value; 5] = [id.into(), version.into(), key.into(), sealed.into(), now.into()];
    let write = sealer.db().write(scope, move |tx| {
        Box::pin(async move {
            one(tx.exec(REVISE, &revised).await?)?;
            one(tx.exec(ADD, &added).await?)?;
            Ok(version)
        })
    });
    write.await
}

/// Changes a version of a secret as it was read. `Conflict` when it was changed since; `false` when it has no such version.
pub async fn change(
    sealer: &Sealer,
    scope: Scope,
    there: &SecretRow,
    version: i64,
    change: Change,
) -> Result<bool> {
    let (id, last) = (there.id, there.last_version);
    let revised: [Value; 4] = [id.into(), there.revision.into(), last.into(), sealer.now().into()];
    let write = sealer.db().write(scope, move |tx| {
        Box::pin(async move {
            one(tx.exec(REVISE, &revised).await?)?;
            let changed = match change {
                Change::Enable(yes) => {
                    tx.exec(ENABLE, &[id.into(), version.into(), i64::from(yes).into()]).await?
                }
                Change::Remove => tx.exec(REMOVE_VERSION, &[id.into(), version.into()]).await?,
            };
            Ok(changed > 0)
        })
    });
    write.await
}

/// Removes a secret as it was read, with its versions. `Conflict` when it was changed since.
pub async fn remove(sealer: &Sealer, scope: Scope, there: &SecretRow) -> Result<()> {
    let (id, revision) = (there.id, there.revision);
    let write = sealer.db().write(scope, move |tx| {
        Box::pin(async move {
            tx.exec(REMOVE_VERSIONS, &[id.into()]).await?;
            one(tx.exec(REMOVE, &[id.into(), revision.into()]).await?)
        })
    });
    write.await
}

/// The keys that the tenant's secrets are sealed under, the newest first.
pub async fn keys(sealer: &Sealer, scope: Scope) -> Result<Vec<KeyRow>> {
    keys::list(sealer, scope).await
}

/// A value sealed for one version under the newest key, and that key's number.
async fn sealed(
    sealer: &Sealer,
    scope: Scope,
    (id, version, name): (SecretId, i64, &SecretName),
    value: &Secret<String>,
) -> Result<(i64, Vec<u8>)> {
    let (number, key) = keys::newest(sealer, scope).await?;
    let row = place_row(id, version, name);
    let sealed = sealer.seal_under(&key, scope, place(&row), value.expose().as_bytes())?;
    Ok((number, sealed))
}

/// Opens the value in a row that has its id, name, version and wrapped key.
fn open(sealer: &Sealer, scope: Scope, row: &Row) -> Result<Secret<String>> {
    let (id, version) = (row.id("id")?, row.int("version")?);
    let name = name(row)?;
    let key = keys::unwrapped(sealer, scope, row)?;
    text(seal::open_under(&key, scope, place(&place_row(id, version, &name)), &row.bytes("sealed")?)?)
}

fn text(mut plain: Vec<u8>) -> Result<Secret<String>> {
    if std::str::from_utf8(&plain).is_err() {
        plain.zeroize();
        return Err(Error::Sealed("it is no text"));
    }
    String::from_utf8(plain).map(Secret::new).map_err(|_| Error::Sealed("it is no text"))
}

const fn place(row: &[u8]) -> Place<'_> {
    Place { purpose: SEALED, row }
}

/// What tells a version from every other of its tenant. The first two have one length, so no two are written alike.
fn place_row(id: SecretId, version: i64, name: &SecretName) -> Vec<u8> {
    [&id.bytes()[..], &version.to_be_bytes(), name.as_str().as_bytes()].concat()
}

fn name(row: &Row) -> Result<SecretName> {
    SecretName::parse(&row.text("name")?)
        .map_err(|_| Error::Corrupt("a secret has a name that is none".into()))
}

async fn with_versions(tx: &mut TenantTx<'_>, row: &Row) -> Result<SecretRow> {
    let id: SecretId = row.id("id")?;
    let versions = tx.all(VERSIONS, &[id.into()]).await?;
    let version = |row: &Row| {
        Ok(VersionRow {
            version: row.int("version")?,
            enabled: row.int("enabled")? == 1,
            created_at: row.at("created_at")?,
        })
    };
    Ok(SecretRow {
        id,
        name: name(row)?,
        revision: row.int("revision")?,
        last_version: row.int("last_version")?,
        created_at: row.at("created_at")?,
        updated_at: row.at("updated_at")?,
        versions: versions.iter().map(version).collect::<Result<_>>()?,
    })
}

/// A guard that let nothing pass.
const fn one(changed: u64) -> Result<()> {
    if changed == 1 { Ok(()) } else { Err(Error::Conflict) }
}
