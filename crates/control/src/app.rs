//! What every handler works with: the store, the clock, and the few things that live as long as the process.
//!
//! Invariant: cheap to clone, because every request has one. Holds no request's data.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use axum::response::Response;
use lantern_edge::audit;
use lantern_edge::idempotency::{Answers, Remembers};
use lantern_edge::limit::{Buckets, Rate, Windows};
use lantern_edge::prefer::{Held, Holds};
use lantern_edge::{Code, Cors, Error, Gate, Metrics, Result};
use lantern_net::Shutdown;
use lantern_policy::egress::Reach;
use lantern_policy::network::Network;
use lantern_policy::strategy::Strategy;
use lantern_policy::{Catalogue, Scope};
use lantern_schema::Checker;
use lantern_store::retention::Kept;
use lantern_store::{Db, InForce, Keys, Notary, Standing, Vault, watched};
use lantern_types::edge::{BoxFuture, Clock, IdGen, Tasks};
use lantern_types::llm::Unlisted;
use lantern_types::{At, Dur, Limits, Secret, TenantId, ToolDef, UserId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::features;
use crate::features::runtime::Runtime;
use crate::lockout::Lockout;
use crate::password::Passwords;
use crate::sso::{Sso, SsoSetup};

/// The contract's limit on sign-ins, for each address from each peer.
const LOGINS: Rate = Rate { count: 10, per: Dur::from_secs(60), burst: 10 };

/// Sign-ins from one peer, whichever addresses it names.
const LOGINS_OF_PEER: Rate = Rate { count: 30, per: Dur::from_secs(60), burst: 30 };

/// Codes of a second factor that are tried on one account, by somebody who knows its password.
const CODES: Rate = Rate { count: 10, per: Dur::from_secs(600), burst: 5 };

/// New accounts from one peer.
const SIGNUPS_OF_PEER: Rate = Rate { count: 60, per: Dur::from_secs(60), burst: 60 };

/// What the process brings.
pub struct Setup {
    /// The database.
    pub db: Db,
    /// Seals and opens what is sealed.
    pub vault: Vault,
    /// Issues the receipts of runs that are over.
    pub notary: Notary,
    /// The instance key, from which the tokens' key is derived.
    pub keys: Keys,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Fresh ids.
    pub ids: Arc<dyn IdGen>,
    /// Where background work runs.
    pub tasks: Arc<dyn Tasks>,
    /// The limits in force, for everybody.
    pub limits: InForce,
    /// The policies in force, for everybody.
    pub standing: Standing,
    /// The model catalogue in force.
    pub catalogue: Arc<Catalogue>,
    /// The tools that workers of this build have.
    pub tools: Vec<ToolDef>,
    /// How many runs a tenant may start in a window of time, and how many of them at once; `None` for any number.
    pub spawn: Option<Rate>,
    /// Whether anybody who can reach the server may make an account, with a tenant of its own.
    pub signup: bool,
    /// Model providers, as far as the settings pages know them.
    pub providers: Providers,
    /// Ends event streams when the process stops.
    pub stop: Shutdown,
    /// The origins of web pages that may call, such as `http://localhost:3001`.
    pub cors_origins: Vec<String>,
    /// Proxies that are believed about whom they ask for.
    pub trusted_proxies: Arc<[Network]>,
    /// For how long the content of ended runs is kept, where their tenant does not say.
    pub content_kept: Kept,
    /// The node of this process, if it runs workloads.
    pub runtime: Option<Runtime>,
    /// Where spans of runs are exported to, as it is shown; `None` when none are made.
    pub traces: Option<String>,
    /// The issuers that people sign in by, if there are any.
    pub sso: Option<SsoSetup>,
}

/// What the settings pages know of model providers.
pub struct Providers {
    /// Those that need no base URL, because their vendor's is known: that one.
    pub vendor_urls: BTreeMap<String, String>,
    /// Those that the operator configured for everybody.
    pub shared: Vec<SharedProvider>,
    /// Which addresses a tenant's provider may have.
    pub reach: Reach,
    /// Whether nothing but the offline model answers when a tenant has configured nothing.
    pub offline: bool,
    /// How models are chosen that nobody named.
    pub strategy: Strategy,
    /// Lists a provider's models, within a deadline of its own.
    pub probe: Probe,
}

/// A provider that the operator configured for everybody.
#[derive(Clone, Debug)]
pub struct SharedProvider {
    /// Its name.
    pub name: String,
    /// The operator named an address that is not the vendor's own.
    pub own_address: bool,
}

/// Lists the models of a provider.
pub type Probe = Arc<dyn Fn(ProbeAsk) -> BoxFuture<'static, Result<Vec<String>, Unlisted>> + Send + Sync>;

/// Which provider is asked for its models.
#[derive(Debug)]
pub struct ProbeAsk {
    /// Its name.
    pub provider: String,
    /// The tenant's own endpoint; `None` asks the operator's provider of that name.
    pub own: Option<OwnEndpoint>,
}

/// A tenant's own endpoint.
#[derive(Debug)]
pub struct OwnEndpoint {
    /// `None` means the vendor's.
    pub base_url: Option<String>,
    /// Its key, if it has one.
    pub api_key: Option<Secret<String>>,
}

/// The state of the router.
#[derive(Clone)]
pub struct App {
    /// The database.
    pub db: Db,
    /// Seals and opens what is sealed.
    pub vault: Vault,
    /// Issues the receipts of runs that are over.
    pub notary: Notary,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Fresh ids.
    pub ids: Arc<dyn IdGen>,
    /// Where background work runs.
    pub tasks: Arc<dyn Tasks>,
    /// The limits in force, for everybody.
    pub limits: InForce,
    /// The policies in force, for everybody.
    pub standing: Standing,
    /// The model catalogue in force.
    pub catalogue: Arc<Catalogue>,
    /// The tools that workers of this build have.
    pub tools: Arc<[ToolDef]>,
    /// For how long the content of ended runs is kept, where their tenant does not say.
    pub content_kept: Kept,
    /// Ends event streams when the process stops.
    pub stop: Shutdown,
    pub(crate) inner: Arc<Inner>,
}

/// What is the process's own.
pub(crate) struct Inner {
    pub(crate) gate: Gate,
    pub(crate) answers: Answers,
    pub(crate) passwords: Passwords,
    pub(crate) logins: Buckets<(String, IpAddr)>,
    pub(crate) logins_of_peer: Buckets<IpAddr>,
    pub(crate) lockout: Lockout,
    pub(crate) codes: Buckets<(UserId, Option<IpAddr>)>,
    pub(crate) signup: bool,
    pub(crate) signups: Buckets<IpAddr>,
    // Sections under this lock are one look or one replacement.
    pub(crate) spawns: RwLock<Option<Arc<Spawns>>>,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) schemas: Checker,
    pub(crate) metrics: Metrics,
    pub(crate) providers: Providers,
    pub(crate) cors: Cors,
    pub(crate) runtime: Option<Runtime>,
    pub(crate) trusted: Arc<[Network]>,
    pub(crate) audit: audit::Log,
    /// Where spans of runs are exported to, as it is shown; `None` when none are made.
    pub(crate) traces: Option<String>,
    pub(crate) sso: Sso,
}

impl Remembers for App {
    fn gate(&self) -> &Gate {
        &self.inner.gate
    }

    fn answers(&self) -> &Answers {
        &self.inner.answers
    }

    async fn show(&self, scope: Scope, about: Uuid) -> Result<Response> {
        features::runs::routes::show(self, scope, about).await
    }
}

impl Holds for App {
    async fn until_over(&self, about: Held, most: Dur) -> Result<Option<(bool, Response)>> {
        features::runs::wait::held(self, about, most).await
    }
}

/// How many runs each tenant may start: so many in a window, and no more at once than the burst.
pub(crate) struct Spawns {
    windows: Windows<TenantId>,
    buckets: Buckets<TenantId>,
    most: u32,
}

impl Spawns {
    fn new(rate: Rate) -> Self {
        let most = rate.count.min(rate.burst.max(1));
        Self { windows: Windows::new(rate), buckets: Buckets::new(rate), most }
    }

    /// Lets one run be started, or says how long until there may be another.
    pub(crate) fn take(&self, tenant: TenantId, now: At) -> Result<(), Dur> {
        self.take_many(tenant, now, 1)
    }

    /// Lets so many runs be started or none, or says how long until there may be so many.
    pub(crate) fn take_many(&self, tenant: TenantId, now: At, count: u32) -> Result<(), Dur> {
        self.buckets.take_many(tenant, now, count)?;
        self.windows.take_many(tenant, now, count)
    }

    /// How many runs may be started at once at the most.
    pub(crate) const fn most(&self) -> u32 {
        self.most
    }
}

impl App {
    /// The state for one process. Fails when the instance key cannot sign.
    pub fn new(setup: Setup) -> lantern_store::Result<Self> {
        let gate = Gate::new(setup.db.clone(), &setup.keys, setup.clock.clone(), setup.tasks.clone())?;
        let metrics = Metrics::install();
        metrics.keep(&*setup.tasks, setup.clock.clone(), setup.stop.clone());
        gate.keep(setup.stop.clone());
        let audit = audit::Log::new(setup.db.clone(), &setup.keys, setup.clock.clone())?;
        audit.keep(&*setup.tasks, setup.stop.clone());
        setup.limits.keep(&setup.db, &*setup.tasks, setup.clock.clone(), setup.stop.clone());
        setup.standing.keep(&setup.db, &*setup.tasks, setup.clock.clone(), setup.stop.clone());
        watched::keep(&setup.db, &*setup.tasks, setup.clock.clone(), setup.stop.clone());
        let streams = usize::try_from(setup.limits.base().subscribers_max).unwrap_or(Semaphore::MAX_PERMITS);
        let answers = Answers::new(
            setup.db.clone(),
            setup.vault.sealer().clone(),
            setup.clock.clone(),
            setup.tasks.clone(),
        );
        let inner = Inner {
            gate,
            answers,
            passwords: Passwords::new(setup.ids.clone()),
            logins: Buckets::new(LOGINS),
            logins_of_peer: Buckets::new(LOGINS_OF_PEER),
            lockout: Lockout::default(),
            codes: Buckets::new(CODES),
            signup: setup.signup,
            signups: Buckets::new(SIGNUPS_OF_PEER),
            spawns: RwLock::new(setup.spawn.map(Spawns::new).map(Arc::new)),
            streams: Arc::new(Semaphore::new(streams.min(Semaphore::MAX_PERMITS))),
            schemas: Checker::default(),
            metrics,
            providers: setup.providers,
            cors: Cors::of(&setup.cors_origins),
            runtime: setup.runtime,
            trusted: setup.trusted_proxies,
            audit,
            traces: setup.traces,
            sso: Sso::new(setup.sso),
        };
        Ok(Self {
            db: setup.db,
            vault: setup.vault,
            notary: setup.notary,
            clock: setup.clock,
            ids: setup.ids,
            tasks: setup.tasks,
            limits: setup.limits,
            standing: setup.standing,
            catalogue: setup.catalogue,
            tools: setup.tools.into(),
            content_kept: setup.content_kept,
            stop: setup.stop,
            inner: Arc::new(inner),
        })
    }

    /// Whether anybody may make an account.
    pub fn signup(&self) -> bool {
        self.inner.signup
    }

    /// What tells who is asking, for doors beside these.
    pub fn gate(&self) -> Gate {
        self.inner.gate.clone()
    }

    /// From now on a tenant may start so many runs; what was counted until now is forgotten.
    pub fn limit_spawns(&self, rate: Option<Rate>) {
        let spawns = rate.map(Spawns::new).map(Arc::new);
        *self.inner.spawns.write().unwrap_or_else(PoisonError::into_inner) = spawns;
    }

    /// How many runs each tenant may start, if that is bounded.
    pub(crate) fn spawns(&self) -> Option<Arc<Spawns>> {
        self.inner.spawns.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The limits in force for a tenant.
    pub(crate) fn limits(&self, scope: Scope) -> Arc<Limits> {
        self.limits.of(scope.tenant())
    }

    /// A place among the event streams of this process, kept as long as the stream is. `too_many_streams` when it has enough.
    pub(crate) fn stream_place(&self) -> Result<OwnedSemaphorePermit> {
        self.inner.streams.clone().try_acquire_owned().map_err(|_| {
            Error::new(Code::TooManyStreams, "this server has as many event streams as it takes")
                .retry_after(Dur::from_secs(5))
        })
    }
}
