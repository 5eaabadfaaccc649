//! Model providers of a tenant: a key, a base URL of its own, or both.
//!
//! Invariant: a key is sealed before it is written and never shown again; one that is a secret's reference stays with the secret, and is
//! looked up whenever it is used. Saving replaces the whole row, so that
//! nobody can send a stored key to another address by changing the address alone. Whether an address may be reached is
//! decided when it is dialled; one that is written as a number and never may be is refused when it is saved.

use std::net::IpAddr;

use axum::extract::State;
use http::Uri;
use lantern_edge::route::{delete_route, get_route, post_route};
use lantern_edge::{Body, Code, Error, Fields, Json, Model, NoContent, Path, Refusal, Result, Route};
use lantern_policy::action::{DeleteProvider, ListProviders, SaveProvider};
use lantern_policy::egress::{self, Reach};
use lantern_policy::route::{Choices, Provider as Choice};
use lantern_policy::{Permit, Scope};
use lantern_store::routing::{self, Routing};
use lantern_store::seal::Place;
use lantern_store::{Row, Value};
use lantern_types::llm::{Cause, Unlisted};
use lantern_types::{At, Reference, Secret, SecretName, secret};
use serde::Serialize;
use utoipa::ToSchema;

use crate::App;
use crate::app::{OwnEndpoint, ProbeAsk};
use crate::features::secrets;

const NAME_MAX: usize = 63;
const KEY_BYTES_MAX: usize = 4_096;
const URL_BYTES_MAX: usize = 2_048;
/// Models remembered of a provider.
const MODELS_MAX: usize = 500;

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        get_route("/v1/settings/llm-providers", "List the tenant's providers, then the operator's", list),
        post_route("/v1/settings/llm-providers", "Save a provider: what is not said is not kept", save)
            .refuses(&[Refusal::NotFound]),
        delete_route("/v1/settings/llm-providers/{provider}", "Forget a provider", delete),
        post_route("/v1/settings/llm-providers/{provider}/test", "Ask a provider for its models, now", test),
    ]
}

// Model

struct NewProvider {
    provider: String,
    api_key: Option<Secret<String>>,
    base_url: Option<String>,
}

impl Model for NewProvider {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let provider = fields.required_text("provider", 1_024);
        if provider.as_deref().is_some_and(|name| !valid_name(name)) {
            fields.issue("provider", "expected 1 to 63 lower-case letters, digits, `-`, `_` or `.`");
        }
        let api_key = fields.text("apiKey", KEY_BYTES_MAX).map(|key| key.trim().to_owned());
        if api_key.as_deref().is_some_and(|key| !is_key(key)) {
            fields.issue("apiKey", KEY_WORDS);
        }
        // Without it the key would go to the vendor: another spelling must not be passed over.
        let base_url =
            fields.text("baseUrl", URL_BYTES_MAX).or_else(|| fields.text("baseURL", URL_BYTES_MAX));
        if let Some(problem) = base_url.as_deref().and_then(url_problem) {
            fields.issue("baseUrl", problem);
        }
        Some(Self { provider: provider?, api_key: api_key.map(Secret::new), base_url })
    }
}

const KEY_WORDS: &str = "expected visible ASCII characters without spaces";

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

fn valid_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(inner)
}

/// Why this cannot be a base URL, if it cannot.
pub fn url_problem(text: &str) -> Option<&'static str> {
    let Ok(uri) = text.parse::<Uri>() else {
        return Some("expected a URL such as https://models.example.com/v1");
    };
    match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(_)) if text.contains('#') => Some("must not have a fragment"),
        (Some("http" | "https"), Some(_)) if uri.query().is_some() => Some("must not have a query"),
        (Some("http" | "https"), Some(authority)) if authority.as_str().contains('@') => {
            Some("must not hold credentials; send the key as apiKey")
        }
        (Some("http" | "https"), Some(_)) => None,
        _ => Some("expected an http or https URL"),
    }
}

/// Whether the policy would refuse to dial this base URL, as far as that can be told without asking for a name.
fn out_of_reach(reach: Reach, base_url: &str) -> bool {
    let uri: Option<Uri> = base_url.parse().ok();
    let host =
        uri.as_ref().and_then(Uri::host).unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
    let local = host == "localhost" || host.ends_with(".localhost");
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) => !egress::allows(reach, address),
        Err(_) => local && reach == Reach::Public,
    }
}

/// A provider in the list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Provider)]
struct Configured {
    provider: String,
    status: &'static str,
    key_masked: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    base_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'static str>,
    /// It has an address that is not the vendor's own: models without a price in the catalogue count as free there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unpriced_are_free: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ProviderSaved)]
struct Saved {
    status: &'static str,
    provider: String,
    /// What somebody should know who saves it so.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<&'static str>,
}

const FREE: &str = "models that the catalogue has no price for count as free at this base URL: if somebody charges for them, \
                    no budget of a run bounds what they cost";

/// What a test found.
#[derive(Serialize, ToSchema)]
#[schema(as = ProviderTested)]
struct Tested {
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    /// Where it came to an end, when the code does not say so: `name`, `refused`, `tls`, `timeout`, `interrupted`, `status`
    /// or `form`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

// Store

const LIST: &str = "SELECT provider, base_url, key_mask, models, created_at, updated_at FROM llm_providers
    WHERE tenant_id = $1 ORDER BY provider";
const GET: &str =
    "SELECT base_url, api_key, secret, updated_at FROM llm_providers WHERE tenant_id = $1 AND provider = $2";
const SAVE: &str =
    "INSERT INTO llm_providers (tenant_id, provider, base_url, api_key, secret, key_mask, models, created_at,
    updated_at) VALUES ($1, $2, $3, $4, $5, $6, '[]', $7, $7) ON CONFLICT (tenant_id, provider) DO UPDATE SET
    base_url = excluded.base_url, api_key = excluded.api_key, secret = excluded.secret,
    key_mask = excluded.key_mask, models = excluded.models, updated_at = excluded.updated_at";
const KEEP_MODELS: &str = "UPDATE llm_providers SET models = $4
    WHERE tenant_id = $1 AND provider = $2 AND updated_at = $3";
const DELETE: &str = "DELETE FROM llm_providers WHERE tenant_id = $1 AND provider = $2";

/// Every statement of this file.
pub(crate) const STATEMENTS: &[&str] = &[LIST, GET, SAVE, KEEP_MODELS, DELETE];

fn read(app: &App, row: &Row) -> lantern_store::Result<Configured> {
    let (provider, base_url) = (row.text("provider")?, row.opt_text("base_url")?);
    Ok(Configured {
        unpriced_are_free: own_address(app, &provider, base_url.as_deref()),
        provider,
        status: "active",
        key_masked: row.opt_text("key_mask")?.unwrap_or_default(),
        base_url,
        created_at: Some(row.at("created_at")?.to_string()),
        updated_at: Some(row.at("updated_at")?.to_string()),
        source: None,
    })
}

// Service

/// Whether this is another base URL than the vendor's own.
fn own_address(app: &App, provider: &str, base_url: Option<&str>) -> bool {
    let vendors = app.inner.providers.vendor_urls.get(provider).map(String::as_str);
    base_url.is_some_and(|url| vendors != Some(url))
}

/// The providers that a run of the tenant can be routed to: its own, then the operator's.
pub(crate) async fn choices(app: &App, scope: Scope) -> Result<Choices> {
    let rows = app.db.read(scope, |tx| Box::pin(async move { tx.all(LIST, &[]).await })).await?;
    let mut providers = Vec::with_capacity(rows.len());
    for row in &rows {
        let (name, base_url) = (row.text("provider")?, row.opt_text("base_url")?);
        let models = serde_json::from_str(&row.text("models")?).unwrap_or_default();
        let self_hosted = own_address(app, &name, base_url.as_deref());
        providers.push(Choice { self_hosted, name, models, keys: 1 });
    }
    for shared in &app.inner.providers.shared {
        if !providers.iter().any(|own| own.name == shared.name) {
            let (name, self_hosted) = (shared.name.clone(), shared.own_address);
            providers.push(Choice { name, self_hosted, models: Vec::new(), keys: 1 });
        }
    }
    let known = &app.inner.providers;
    let Routing { strategy, aliases } = routing::of(&app.db, scope).await?;
    let strategy = strategy.unwrap_or(known.strategy);
    Ok(Choices { providers, offline_stands_in: known.offline, strategy, aliases, ..Choices::default() })
}

/// The tenant's own endpoint of that name, opened, and when it was saved. The secret that is its key may be none that a provider takes.
async fn own(app: &App, scope: Scope, provider: &str) -> Result<Option<(Result<OwnEndpoint, Unlisted>, At)>> {
    let name = provider.to_owned();
    let row = app.db.read(scope, |tx| Box::pin(async move { tx.one(GET, &[name.into()]).await })).await?;
    let Some(row) = row else { return Ok(None) };
    let api_key = match (row.opt_bytes("api_key")?, row.opt_text("secret")?) {
        (Some(sealed), _) => Some(open(app, scope, provider, &sealed).await?),
        (None, Some(name)) => match of_secret(app, scope, &name).await? {
            Some(key) => Some(key),
            None => return Ok(Some((Err(NO_KEY), row.at("updated_at")?))),
        },
        (None, None) => None,
    };
    Ok(Some((Ok(OwnEndpoint { base_url: row.opt_text("base_url")?, api_key }), row.at("updated_at")?)))
}

async fn open(app: &App, scope: Scope, provider: &str, sealed: &[u8]) -> Result<Secret<String>> {
    let plain = app.vault.sealer().open(scope, place(provider), sealed).await?;
    String::from_utf8(plain).map(Secret::new).map_err(|error| Error::internal(error.utf8_error()))
}

/// What is said of a secret that says something else than a key.
const NO_KEY: Unlisted = Unlisted { code: "provider_auth", cause: None };

/// The key that a secret is; `None` when it is something else. A name that leads to no secret any more is refused, and never passed over.
async fn of_secret(app: &App, scope: Scope, name: &str) -> Result<Option<Secret<String>>> {
    let name = SecretName::parse(name).map_err(Error::internal)?;
    Ok(usable(&secrets::value(app, scope, &name).await?))
}

/// A key without what may stand around it.
fn usable(key: &Secret<String>) -> Option<Secret<String>> {
    let text = key.expose().trim();
    (is_key(text) && text.len() <= KEY_BYTES_MAX).then(|| Secret::new(text.to_owned()))
}

const fn place(provider: &str) -> Place<'_> {
    Place { purpose: "llm_provider", row: provider.as_bytes() }
}

/// Asks a tenant's own endpoint for its models and remembers them, so that capabilities can find one.
async fn probe(
    app: &App,
    scope: Scope,
    provider: String,
    own: OwnEndpoint,
    saved: At,
) -> Result<Vec<String>, Unlisted> {
    let ask = ProbeAsk { provider: provider.clone(), own: Some(own) };
    let mut models = (app.inner.providers.probe)(ask).await?;
    models.truncate(MODELS_MAX);
    let text = serde_json::to_string(&models).unwrap_or_else(|_| "[]".to_owned());
    let params: [Value; 3] = [provider.into(), saved.into(), text.into()];
    let kept = app.db.write(scope, |tx| Box::pin(async move { tx.exec(KEEP_MODELS, &params).await })).await;
    if let Err(error) = kept {
        tracing::warn!(%error, "the models of a provider were not remembered");
    }
    Ok(models)
}

// Routes

async fn list(permit: Permit<ListProviders>, State(app): State<App>) -> Result<Json<Vec<Configured>>> {
    let rows = app.db.read(permit.scope(), |tx| Box::pin(async move { tx.all(LIST, &[]).await })).await?;
    let read = |row| read(&app, row);
    let mut providers = rows.iter().map(read).collect::<lantern_store::Result<Vec<_>>>()?;
    let shared = app.inner.providers.shared.iter();
    let taken = |name: &str| rows.iter().any(|row| row.text("provider").is_ok_and(|own| own == name));
    let others = shared.filter(|shared| !taken(&shared.name));
    providers.extend(others.map(|shared| Configured {
        unpriced_are_free: shared.own_address,
        provider: shared.name.clone(),
        status: "active",
        key_masked: "****env****".to_owned(),
        base_url: None,
        created_at: None,
        updated_at: None,
        source: Some("environment"),
    }));
    Ok(Json(providers))
}

async fn save(
    permit: Permit<SaveProvider>,
    State(app): State<App>,
    Body(new): Body<NewProvider>,
) -> Result<Json<Saved>> {
    let scope = permit.scope();
    let known = app.inner.providers.vendor_urls.contains_key(&new.provider);
    if new.base_url.is_none() && (!known || new.api_key.is_none()) {
        let message = if known { "apiKey or baseUrl is required" } else { "is required for this provider" };
        let path = if known { "apiKey" } else { "baseUrl" };
        return Err(Error::new(Code::InvalidBody, format!("{path}: {message}")).with_field(path, message));
    }
    if new.base_url.as_deref().is_some_and(|url| out_of_reach(app.inner.providers.reach, url)) {
        let message = "this address may not be reached from here; the operator may allow private ones";
        return Err(
            Error::new(Code::InvalidBody, format!("baseUrl: {message}")).with_field("baseUrl", message)
        );
    }
    let (key, api_key) = kept(&app, scope, &new).await?;
    let now = app.clock.now();
    let row: [Value; 2] = [new.provider.as_str().into(), new.base_url.clone().into()];
    let params = [&row[..], &key[..], &[now.into()][..]].concat();
    app.db.write(scope, |tx| Box::pin(async move { tx.exec(SAVE, &params).await })).await?;
    tracing::info!(tenant = %scope.tenant(), provider = %new.provider, "saved a model provider");
    let warning = own_address(&app, &new.provider, new.base_url.as_deref()).then_some(FREE);
    if let Some(warning) = warning {
        tracing::warn!(tenant = %scope.tenant(), provider = %new.provider, "{warning}");
    }
    let (task, provider) = (app.clone(), new.provider.clone());
    let own = OwnEndpoint { base_url: new.base_url, api_key };
    let ask = async move {
        if let Err(failure) = probe(&task, scope, provider, own, now).await {
            tracing::debug!(code = failure.code, "a new provider did not list its models");
        }
    };
    app.tasks.spawn("provider.models", Box::pin(ask));
    Ok(Json(Saved { status: "saved", provider: new.provider, warning }))
}

/// What is stored of the key that came: sealed, or the name of its secret, and what is shown of it. And the key itself.
async fn kept(app: &App, scope: Scope, new: &NewProvider) -> Result<([Value; 3], Option<Secret<String>>)> {
    let Some(key) = &new.api_key else { return Ok(([Value::Null, Value::Null, Value::Null], None)) };
    if Reference::is_meant(key.expose()) {
        let name = secrets::named(app, scope, "apiKey", key.expose()).await?;
        let api_key = of_secret(app, scope, name.as_str()).await?.ok_or_else(|| {
            let words = format!("the secret {name} holds no key: {KEY_WORDS}");
            Error::new(Code::InvalidBody, format!("apiKey: {words}")).with_field("apiKey", words)
        })?;
        let mask = Reference::to(name.clone()).to_string();
        return Ok(([Value::Null, name.as_str().into(), mask.into()], Some(api_key)));
    }
    let sealed = app.vault.sealer().seal(scope, place(&new.provider), key.expose().as_bytes()).await?;
    Ok(([sealed.into(), Value::Null, secret::masked(key).into()], Some(key.clone())))
}

async fn delete(
    permit: Permit<DeleteProvider>,
    State(app): State<App>,
    Path(provider): Path<String>,
) -> Result<NoContent> {
    let name = named(&provider)?;
    let gone = app
        .db
        .write(permit.scope(), |tx| Box::pin(async move { tx.exec(DELETE, &[name.into()]).await }))
        .await?;
    if gone == 0 { Err(not_found(&provider)) } else { Ok(NoContent) }
}

async fn test(
    permit: Permit<SaveProvider>,
    State(app): State<App>,
    Path(provider): Path<String>,
) -> Result<Json<Tested>> {
    let (scope, name) = (permit.scope(), named(&provider)?);
    let asked = match own(&app, scope, &name).await? {
        Some((Ok(own), saved)) => probe(&app, scope, name, own, saved).await,
        Some((Err(unlisted), _)) => Err(unlisted),
        None if app.inner.providers.shared.iter().any(|shared| shared.name == name) => {
            (app.inner.providers.probe)(ProbeAsk { provider: name, own: None }).await
        }
        None => return Err(not_found(&provider)),
    };
    Ok(Json(match asked {
        Ok(models) => {
            let plural = if models.len() == 1 { "" } else { "s" };
            let message = format!("{provider} answers and lists {} model{plural}", models.len());
            Tested { success: true, message: Some(message), code: None, reason: None, error: None }
        }
        Err(Unlisted { code, cause }) => {
            let words = cause.map_or_else(|| code.to_owned(), |cause| cause.to_string());
            let error = Some(format!("{provider} cannot be used: {words}"));
            Tested { success: false, message: None, code: Some(code), reason: cause.map(Cause::word), error }
        }
    }))
}

/// A name that could be a provider's; the others need no look-up, and might not go into a column.
fn named(provider: &str) -> Result<String> {
    if valid_name(provider) { Ok(provider.to_owned()) } else { Err(not_found(provider)) }
}

fn not_found(provider: &str) -> Error {
    let name: String = provider.chars().take(80).collect();
    Error::new(Code::ProviderNotFound, format!("no provider {name:?} is configured"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_are_plain_http_urls() {
        for (url, fine) in [
            ("https://models.example.com/v1", true),
            ("http://127.0.0.1:11434/v1", true),
            ("http://[::1]:8000", true),
            ("ftp://x/y", false),
            ("file:///etc/passwd", false),
            ("//example.com", false),
            ("example.com/v1", false),
            ("https://user:pw@example.com/v1", false),
            ("https://example.com/v1#frag", false),
            ("https://example.com/v1?key=1", false),
            ("https://exa mple.com", false),
            ("", false),
        ] {
            assert_eq!(url_problem(url).is_none(), fine, "{url}");
        }
    }

    #[test]
    fn addresses_out_of_reach_are_told_before_they_are_dialled() {
        for (url, public, private) in [
            ("https://models.example.com/v1", true, true),
            ("http://93.184.216.34/v1", true, true),
            ("http://127.0.0.1:11434/v1", false, true),
            ("http://LocalHost.:11434/v1", false, true),
            ("http://[::1]:8000", false, true),
            ("http://10.0.0.1/v1", false, true),
            ("http://[::ffff:10.0.0.1]/v1", false, true),
            ("http://169.254.169.254/latest", false, false),
            ("http://[fd00:ec2::254]/latest", false, false),
            ("http://0.0.0.0:80", false, false),
        ] {
            assert_eq!(!out_of_reach(Reach::Public, url), public, "public {url}");
            assert_eq!(!out_of_reach(Reach::Private, url), private, "private {url}");
        }
    }
}
