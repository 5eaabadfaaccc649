//! Which models a tenant can reach, and how: its own providers, the operator's, and the offline model.

use std::collections::BTreeMap;
use std::sync::Arc;

use lantern_llm::breakers::trouble;
use lantern_llm::{Breakers, Endpoint, Line, Offer, OfflinePace, Target, keys};
use lantern_net::{Client, Reach};
use lantern_policy::alias::Aliases;
use lantern_policy::route::{Choices, OFFLINE, Provider, conversing, unnamed};
use lantern_policy::strategy::Strategy;
use lantern_policy::{Admitted, Catalogue, Scope};
use lantern_store::routing::{self, Routing};
use lantern_store::seal::Place;
use lantern_store::{Db, Row, Value, Vault, secrets};
use lantern_types::edge::{BoxFuture, Clock};
use lantern_types::llm::{LlmCall, LlmReply, Unlisted};
use lantern_types::{At, Dur, Failure, Reference, Route, Secret, SecretName};

use crate::edge::{Llm, Say};

/// A provider that the operator configured for every tenant.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Its name.
    pub name: String,
    /// Its base URL.
    pub base_url: String,
    /// Its key.
    pub api_key: Option<Secret<String>>,
    /// Whether the URL is the vendor's own.
    pub vendor: bool,
    /// The models it serves, when known.
    pub models: Vec<String>,
}

/// How providers are reached.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The operator's providers.
    pub shared: Vec<Shared>,
    /// The vendor's own base URL of each provider that may be configured without one.
    pub vendor_urls: BTreeMap<String, String>,
    /// Whether tenants may name addresses of the operator's own network.
    pub private: bool,
    /// Whether the offline model stands in when nothing is configured: `dev` only.
    pub offline_stands_in: bool,
    /// How quickly the offline model speaks.
    pub pace: OfflinePace,
    /// What counts when several models would do.
    pub strategy: Strategy,
}

impl Rules {
    /// What a tenant without providers of its own chooses from.
    pub fn choices(&self) -> Choices {
        let provider = |shared: &Shared| Provider {
            name: shared.name.clone(),
            self_hosted: !shared.vendor,
            models: shared.models.clone(),
            keys: 1,
        };
        Choices {
            providers: self.shared.iter().map(provider).collect(),
            offline_stands_in: self.offline_stands_in,
            strategy: self.strategy,
            ..Choices::default()
        }
    }
}

/// The real models.
pub struct Providers {
    db: Db,
    vault: Vault,
    client: Client,
    rules: Arc<Rules>,
    catalogue: Arc<Catalogue>,
    clock: Arc<dyn Clock>,
    breakers: Arc<Breakers>,
}

/// How long a server may take to list its models before one of them is called.
const LIST_WAIT: Dur = Dur::from_secs(10);
/// Models remembered of a provider.
const MODELS_MAX: usize = 500;

const LIST: &str = "SELECT provider, base_url, api_key, secret, models, updated_at FROM llm_providers
    WHERE tenant_id = $1 ORDER BY provider";
const KEEP_MODELS: &str = "UPDATE llm_providers SET models = $4
    WHERE tenant_id = $1 AND provider = $2 AND updated_at = $3";

/// Every statement of this file.
pub const STATEMENTS: &[&str] = &[LIST, KEEP_MODELS];

/// One provider of one tenant, opened.
struct Configured {
    name: String,
    base_url: String,
    /// As many as were saved for it; why there are none, where its secret is not to be had: it is not called without.
    keys: Result<Vec<Secret<String>>, Failure>,
    vendor: bool,
    models: Vec<String>,
    reach: Reach,
    /// When its row was saved; `None` for the operator's.
    saved: Option<At>,
}

impl Configured {
    /// Where it answers, with its first key.
    fn endpoint(&self) -> Result<Endpoint, Failure> {
        self.keyed(0)
    }

    /// The same with one of its keys; with the first when there are no longer so many.
    fn keyed(&self, key: u32) -> Result<Endpoint, Failure> {
        let keys = self.keys.as_ref().map_err(Clone::clone)?;
        let found = usize::try_from(key).ok().and_then(|key| keys.get(key));
        Ok(Endpoint {
            provider: self.name.clone(),
            base_url: self.base_url.clone(),
            api_key: found.or_else(|| keys.first()).cloned(),
            reach: self.reach,
        })
    }
}

impl Providers {
    /// Models over `client`, by these rules.
    pub fn new(
        db: Db,
        vault: Vault,
        client: Client,
        rules: Arc<Rules>,
        catalogue: Arc<Catalogue>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { db, vault, client, rules, catalogue, clock, breakers: Arc::default() }
    }

    /// Who did not answer lately, for those who make calls beside the runs.
    pub fn breakers(&self) -> Arc<Breakers> {
        self.breakers.clone()
    }

    /// The tenant's providers first, then the operator's of other names.
    async fn configured(&self, scope: Scope) -> Result<Vec<Configured>, Failure> {
        let rows = self.db.read(scope, |tx| Box::pin(async move { tx.all(LIST, &[]).await })).await;
        self.opened(scope, rows.map_err(unavailable)?).await
    }

    /// The same, and what the tenant says of the choice among them.
    async fn routed(&self, scope: Scope) -> Result<(Vec<Configured>, Strategy, Aliases), Failure> {
        let read = self.db.read(scope, |tx| {
            Box::pin(async move { Ok((tx.all(LIST, &[]).await?, routing::read(tx).await?.0)) })
        });
        let (rows, Routing { strategy, aliases }) = read.await.map_err(unavailable)?;
        let found = self.opened(scope, rows).await?;
        Ok((found, strategy.unwrap_or(self.rules.strategy), aliases))
    }

    async fn opened(&self, scope: Scope, rows: Vec<Row>) -> Result<Vec<Configured>, Failure> {
        let mut found = Vec::new();
        for row in rows {
            let name = row.text("provider").map_err(unavailable)?;
            let own = row.opt_text("base_url").map_err(unavailable)?;
            let sealed = row.opt_bytes("api_key").map_err(unavailable)?;
            let secret = row.opt_text("secret").map_err(unavailable)?;
            let models = row.text("models").map_err(unavailable)?;
            let Some(base_url) = own.clone().or_else(|| self.rules.vendor_urls.get(&name).cloned()) else {
                continue;
            };
            found.push(Configured {
                keys: match (sealed, secret) {
                    (None, Some(secret)) => self.of_secret(scope, &name, &secret).await,
                    (sealed, _) => {
                        Ok(self.open_key(scope, &name, sealed).await?.as_ref().map(keys).unwrap_or_default())
                    }
                },
                vendor: own.is_none() || own.as_ref() == self.rules.vendor_urls.get(&name),
                models: serde_json::from_str(&models).unwrap_or_default(),
                reach: if self.rules.private { Reach::Private } else { Reach::Public },
                saved: Some(row.at("updated_at").map_err(unavailable)?),
                name,
                base_url,
            });
        }
        let shared =
            self.rules.shared.iter().filter(|shared| !found.iter().any(|own| own.name == shared.name));
        let shared: Vec<Configured> = shared
            .map(|shared| Configured {
                name: shared.name.clone(),
                base_url: shared.base_url.clone(),
                keys: Ok(shared.api_key.as_ref().map(keys).unwrap_or_default()),
                vendor: shared.vendor,
                models: shared.models.clone(),
                reach: Reach::Private,
                saved: None,
            })
            .collect();
        found.extend(shared);
        Ok(found)
    }

    /// Everything that the tenant can use, for those who pass calls on, and what it says of the choice. A provider whose secret is not
    /// to be had is none; when no other is left, that is why.
    pub async fn offers(&self, scope: Scope) -> Result<(Vec<Offer>, Strategy, Aliases), Failure> {
        let offer = |found: Configured| {
            let endpoint = found.endpoint()?;
            let more_keys = found.keys.iter().flatten().skip(1).cloned().collect();
            Ok(Offer { endpoint, self_hosted: !found.vendor, more_keys, models: found.models })
        };
        let (found, strategy, aliases) = self.routed(scope).await?;
        let (offers, unusable): (Vec<_>, Vec<_>) = found.into_iter().map(offer).partition(Result::is_ok);
        match unusable.into_iter().find_map(Result::err) {
            Some(failure) if offers.is_empty() => Err(failure),
            _ => Ok((offers.into_iter().flatten().collect(), strategy, aliases)),
        }
    }

    /// The keys that a provider's secret holds now.
    async fn of_secret(
        &self,
        scope: Scope,
        provider: &str,
        secret: &str,
    ) -> Result<Vec<Secret<String>>, Failure> {
        let refused =
            |code, words: String| Failure::refused(code, format!("{provider} cannot be used: {words}"));
        let unknown =
            || refused("secret_not_found", format!("no secret {secret} has a version that is enabled"));
        let name = SecretName::parse(secret).map_err(|_| unknown())?;
        let found = secrets::resolve(self.vault.sealer(), scope, &Reference::to(name)).await;
        let key = found.map_err(unavailable)?.ok_or_else(unknown)?.value;
        let text = key.expose().trim();
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(refused("provider_auth", format!("the secret {secret} holds no key")));
        }
        Ok(keys(&key))
    }

    async fn open_key(
        &self,
        scope: Scope,
        name: &str,
        sealed: Option<Vec<u8>>,
    ) -> Result<Option<Secret<String>>, Failure> {
        let Some(sealed) = sealed else { return Ok(None) };
        let place = Place { purpose: "llm_provider", row: name.as_bytes() };
        let plain = self.vault.sealer().open(scope, place, &sealed).await.map_err(unavailable)?;
        let text =
            String::from_utf8(plain).map_err(|_| Failure::refused("no_llm", "the stored key is not text"))?;
        Ok(Some(Secret::new(text)))
    }
}

impl Providers {
    /// The model that a call for a capability gets from a server whose models were not known when it was admitted: the
    /// first that could hold a conversation. A server that cannot be asked is out of reach for the call, too.
    async fn named(&self, scope: Scope, provider: &Configured, asked: &str) -> Result<String, Failure> {
        let listed;
        let models = if provider.models.is_empty() {
            listed = lantern_llm::list_models(&self.client, &provider.endpoint()?, LIST_WAIT)
                .await
                .map_err(|unlisted| unreached(&provider.name, unlisted))?;
            self.remember(scope, provider, &listed).await;
            &listed
        } else {
            &provider.models
        };
        let same = models.iter().find(|model| *model == asked);
        same.or_else(|| conversing(models)).cloned().ok_or_else(|| {
            let message = format!("{} lists no model that serves {asked:?}", provider.name);
            Failure::refused("model_not_found", message)
        })
    }

    /// Keeps what a tenant's own server listed, unless it was saved anew meanwhile.
    async fn remember(&self, scope: Scope, provider: &Configured, models: &[String]) {
        let Some(saved) = provider.saved else { return };
        let known: Vec<&String> = models.iter().take(MODELS_MAX).collect();
        let text = serde_json::to_string(&known).unwrap_or_else(|_| "[]".to_owned());
        let params: [Value; 3] = [provider.name.as_str().into(), saved.into(), text.into()];
        let kept =
            self.db.write(scope, |tx| Box::pin(async move { tx.exec(KEEP_MODELS, &params).await })).await;
        if let Err(error) = kept {
            tracing::warn!(%error, "the models of a provider were not remembered");
        }
    }
}

/// A list that could not be had, as the failure of the call that needed it. Asking for a list does nothing outside.
fn unreached(provider: &str, Unlisted { code, cause }: Unlisted) -> Failure {
    let words = cause.map_or_else(|| code.to_owned(), |cause| cause.to_string());
    let message = format!("{provider} cannot be used: {words}");
    match code {
        "provider_unreachable"
        | "provider_timeout"
        | "provider_interrupted"
        | "provider_unavailable"
        | "provider_rate_limited" => Failure::transient(code, message),
        _ => Failure::refused(code, message),
    }
}

fn unavailable(error: lantern_store::Error) -> Failure {
    Failure::transient("unavailable", error.to_string())
}

impl Llm for Providers {
    fn choices(&self, scope: Scope) -> BoxFuture<'_, Result<Choices, Failure>> {
        Box::pin(async move {
            let provider = |found: Configured| Provider {
                keys: u32::try_from(found.keys.as_ref().map_or(0, Vec::len)).unwrap_or(u32::MAX).max(1),
                name: found.name,
                self_hosted: !found.vendor,
                models: found.models,
            };
            let (mut found, strategy, aliases) = self.routed(scope).await?;
            // Whoever's secret is not to be had cannot be asked. When nobody else is there, the call says so.
            let mut keyless = Vec::new();
            if found.iter().any(|found| found.keys.is_ok()) {
                keyless.extend(found.extract_if(.., |found| found.keys.is_err()).map(|found| found.name));
            }
            let providers = found.into_iter().map(provider).collect();
            let cooling = self.breakers.cooling(scope.tenant(), self.clock.now());
            let offline_stands_in = self.rules.offline_stands_in;
            Ok(Choices { providers, keyless, offline_stands_in, strategy, aliases, cooling })
        })
    }

    fn call(
        &self,
        scope: Scope,
        route: Route,
        call: Admitted<LlmCall>,
        timeout: Dur,
        mut say: Say,
    ) -> BoxFuture<'_, Result<LlmReply, Failure>> {
        Box::pin(async move {
            let (target, call) = if route.provider == OFFLINE {
                (Target::Offline(self.rules.pace), call)
            } else {
                let found = self.configured(scope).await?.into_iter().find(|p| p.name == route.provider);
                let Some(provider) = found else {
                    return Err(Failure::refused(
                        "no_llm",
                        format!("{} is no longer configured", route.provider),
                    ));
                };
                let call = if unnamed(&route, &self.catalogue) {
                    let model = self.named(scope, &provider, &route.model).await?;
                    call.map(|call| LlmCall { model, ..call })
                } else {
                    call
                };
                (Target::Endpoint(provider.keyed(route.key)?), call)
            };
            let line = Self::line(scope, &route);
            let now = || self.clock.now();
            // Of one that has cooled down, this is the call that tries again.
            let _ = line.as_ref().map(|line| self.breakers.lets(line, now()));
            let came = lantern_llm::call(&self.client, &target, &call, now(), timeout, &mut *say).await;
            if let Some(line) = &line {
                match &came {
                    Ok(_) => self.breakers.answered(line),
                    Err(failure) => {
                        self.breakers.failed(line, trouble(failure), failure.retry_after, now());
                    }
                }
            }
            came
        })
    }
}

impl Providers {
    /// The line that a route goes by. The offline model has none: it always answers.
    fn line(scope: Scope, route: &Route) -> Option<Line> {
        let (provider, model) = (route.provider.clone(), route.model.clone());
        (provider != OFFLINE).then(|| Line { tenant: scope.tenant(), provider, model, key: route.key })
    }
}
