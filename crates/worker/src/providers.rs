//! Which models a tenant can reach, and how: its own providers, the operator's, and the offline model.

use std::collections::BTreeMap;
use std::sync::Arc;

use lantern_llm::{Endpoint, OfflinePace, Target};
use lantern_net::{Client, Reach};
use lantern_policy::route::{Choices, OFFLINE, Provider};
use lantern_policy::{Admitted, Scope};
use lantern_store::seal::Place;
use lantern_store::{Db, Vault};
use lantern_types::edge::BoxFuture;
use lantern_types::llm::{LlmCall, LlmReply};
use lantern_types::{Dur, Failure, Route, Secret};

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
}

impl Rules {
    /// What a tenant without providers of its own chooses from.
    pub fn choices(&self) -> Choices {
        let provider = |shared: &Shared| Provider {
            name: shared.name.clone(),
            self_hosted: !shared.vendor,
            models: shared.models.clone(),
        };
        Choices {
            providers: self.shared.iter().map(provider).collect(),
            offline_stands_in: self.offline_stands_in,
        }
    }
}

/// The real models.
pub struct Providers {
    db: Db,
    vault: Vault,
    client: Client,
    rules: Arc<Rules>,
}

const LIST: &str =
    "SELECT provider, base_url, api_key, models FROM llm_providers WHERE tenant_id = $1 ORDER BY provider";

/// Every statement of this file.
pub const STATEMENTS: &[&str] = &[LIST];

/// One provider of one tenant, opened.
struct Configured {
    name: String,
    base_url: String,
    api_key: Option<Secret<String>>,
    vendor: bool,
    models: Vec<String>,
    reach: Reach,
}

impl Providers {
    /// Models over `client`, by these rules.
    pub fn new(db: Db, vault: Vault, client: Client, rules: Arc<Rules>) -> Self {
        Self { db, vault, client, rules }
    }

    /// The tenant's providers first, then the operator's of other names.
    async fn configured(&self, scope: Scope) -> Result<Vec<Configured>, Failure> {
        let rows = self
            .db
            .read(scope, |tx| Box::pin(async move { tx.all(LIST, &[]).await }))
            .await
            .map_err(unavailable)?;
        let mut found = Vec::new();
        for row in rows {
            let name = row.text("provider").map_err(unavailable)?;
            let own = row.opt_text("base_url").map_err(unavailable)?;
            let sealed = row.opt_bytes("api_key").map_err(unavailable)?;
            let models = row.text("models").map_err(unavailable)?;
            let Some(base_url) = own.clone().or_else(|| self.rules.vendor_urls.get(&name).cloned()) else {
                continue;
            };
            found.push(Configured {
                api_key: self.open_key(scope, &name, sealed).await?,
                vendor: own.is_none() || own.as_ref() == self.rules.vendor_urls.get(&name),
                models: serde_json::from_str(&models).unwrap_or_default(),
                reach: if self.rules.private { Reach::Private } else { Reach::Public },
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
                api_key: shared.api_key.clone(),
                vendor: shared.vendor,
                models: shared.models.clone(),
                reach: Reach::Private,
            })
            .collect();
        found.extend(shared);
        Ok(found)
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

fn unavailable(error: lantern_store::Error) -> Failure {
    Failure::transient("unavailable", error.to_string())
}

impl Llm for Providers {
    fn choices(&self, scope: Scope) -> BoxFuture<'_, Result<Choices, Failure>> {
        Box::pin(async move {
            let providers = self.configured(scope).await?;
            let providers = providers
                .into_iter()
                .map(|p| Provider { name: p.name, self_hosted: !p.vendor, models: p.models })
                .collect();
            Ok(Choices { providers, offline_stands_in: self.rules.offline_stands_in })
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
            let target = if route.provider == OFFLINE {
                Target::Offline(self.rules.pace)
            } else {
                let found = self.configured(scope).await?.into_iter().find(|p| p.name == route.provider);
                let Some(provider) = found else {
                    return Err(Failure::refused(
                        "no_llm",
                        format!("{} is no longer configured", route.provider),
                    ));
                };
                Target::Endpoint(Endpoint {
                    provider: provider.name,
                    base_url: provider.base_url,
                    api_key: provider.api_key,
                    reach: provider.reach,
                })
            };
            lantern_llm::call(&self.client, &target, &call, timeout, &mut *say).await
        })
    }
}
