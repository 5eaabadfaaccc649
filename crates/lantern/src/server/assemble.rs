//! Puts a server process together, runs it, and takes it apart in order.

use std::fs::DirBuilder;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use lantern_control::{App, Providers as Known, Setup, SharedProvider, SsoSetup};
use lantern_edge::route::mount;
use lantern_gateway::{Doors, Reachable};
use lantern_ledger::Ledger;
use lantern_llm::{Endpoint, list_models};
use lantern_net::{Client, Hangups, Reach, RealClock, RealIds, Signals, TaskSet};
use lantern_node::{Boxes, Node};
use lantern_policy::{Catalogue, workload};
use lantern_store::audit::Marks;
use lantern_store::lease::Reader;
use lantern_store::retention::Kept;
use lantern_store::{
    Db, InForce, Keys, Notary, PostgresOptions, Relay, Sealer, SqliteOptions, Standing, Vault, stops,
};
use lantern_types::edge::{Clock, IdGen, Tasks};
use lantern_types::llm::Unlisted;
use lantern_types::{Dur, Secret};
use lantern_worker::providers::{Providers, Rules, Shared};
use lantern_worker::tools::{self, Builtin};
use lantern_worker::traces::Collector;
use lantern_worker::{Deps, Options, Tools};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use super::account::Accounts;
use super::advice::{self, Advice};
use super::config::Config;
use super::reload::{self, Live, Read};
use super::{account, bodies, boxes, dashboard, key, migrate, models};
use crate::cli::DEFAULT_URL;
use crate::env;

/// How a process was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// On a laptop: seeded, unlimited, the offline model stands in.
    Dev,
    /// For real.
    Serve,
}

/// What the ready line says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names of the ready line's JSON")]
pub(crate) struct Ready {
    pub(crate) ready: bool,
    pub(crate) api: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) login: Option<Login>,
    /// Which model answers who names none; `null` when nothing does.
    pub(crate) model: Option<String>,
    pub(crate) next: String,
    /// Emergency stops that hold.
    #[serde(skip_serializing_if = "is_none")]
    pub(crate) stops: u64,
    data_dir: String,
    database: &'static str,
    bodies: &'static str,
    version: &'static str,
    pid: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
const fn is_none(count: &u64) -> bool {
    *count == 0
}

/// The seeded login of `dev`.
#[derive(Debug, Serialize)]
pub(crate) struct Login {
    pub(crate) email: &'static str,
    pub(crate) password: &'static str,
}

/// How long a tenant's model server may take to list its models.
const PROBE_MAX: Dur = Dur::from_secs(10);

/// Copies of the database from before migrations that `dev` keeps: nobody else makes a backup there.
const COPIES: usize = 2;

/// What both halves of the process stand on.
struct Ground {
    db: Db,
    vault: Vault,
    notary: Notary,
    keys: Keys,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdGen>,
    tasks: TaskSet,
    client: Client,
    // The door of the tools: its public reach includes what the operator opened.
    fetcher: Client,
    catalogue: Arc<Catalogue>,
    content_kept: Kept,
    limits: InForce,
    traces: Option<Traced>,
    standing: Standing,
}

/// Who takes the spans of runs, and how that is shown.
struct Traced {
    collector: Arc<Collector>,
    shown: String,
}

/// Runs a server until a signal says stop; `announce` is called once, when requests are answered.
pub(super) async fn run(
    mut config: Config,
    mode: Mode,
    again: Option<Read>,
    announce: impl FnOnce(&Ready),
) -> Result<()> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let hangups = again.as_ref().map(|_| Hangups::listen()).transpose();
    let mut hangups = hangups.context("cannot listen for signals")?;
    let listener =
        TcpListener::bind(config.listen).await.map_err(|error| advice::address(error, config.listen))?;
    let address = listener.local_addr().context("the listening address")?;
    let ground = ground(&mut config, mode).await?;
    // Before anything is taken up: no run goes by another tenant's limits.
    ground.limits.refresh(&ground.db).await.context("cannot read the limits of tenants")?;
    ground.standing.refresh(&ground.db).await.context("cannot read the policies of tenants")?;
    let rules = Arc::new(match mode {
        Mode::Dev => models::dev(&ground.client).await?,
        Mode::Serve => models::serve(config.private_models)?,
    });
    let late = boxes::LateDoors::default();
    let late_app = boxes::LateApp::default();
    let node = node(&ground, &config, mode, (late.clone(), late_app.clone())).await?;
    let runtime = node.as_ref().map(|node| boxes::runtime(node, boxed(mode)));
    let sso = config.sso.setup(format!("http://{}", reachable(address)), ground.client.clone());
    let app = App::new(Setup { runtime, ..setup(&ground, &config, &rules, sso) })
        .context("cannot set up the API")?;
    let _ = late_app.set(app.clone());
    let accounts = account::seed(&app, mode, address).await?;
    let providers = Arc::new(providers(&ground, rules.clone()));
    let offers = providers.clone();
    let stopping = ground.tasks.stopping();
    let sole = config.postgres.is_none();
    let ledger = Ledger::new(ground.db.clone(), ground.clock.clone(), ground.ids.clone(), sole);
    let deps = deps(&ground, providers, (ledger.clone(), node));
    let choices = match accounts {
        // Its tenant may have saved a provider of its own, which comes first.
        Accounts::Dev(scope) => deps.llm.choices(scope).await.unwrap_or_else(|_| rules.choices()),
        Accounts::Some | Accounts::None => rules.choices(),
    };
    let model = models::answering(&choices, &ground.catalogue);
    let relay = Relay::new(&ground.keys, ground.ids.clone()).context("cannot set up the relay")?;
    ground.db.relay(relay, &ground.tasks, ground.clock.clone(), &stopping);
    ground.db.follow(&ground.tasks, ground.clock.clone(), &stopping);
    let options = Options { sole, ..Options::default() };
    let db = ground.db.clone();
    ledger.keep(&ground.tasks, stopping.clone());
    let work = lantern_worker::run(deps, options, stopping.clone());
    ground.tasks.spawn("worker", Box::pin(work));
    let doors = Doors::open(doors(&ground, &app, offers, ledger));
    let _ = late.set(doors.clone());
    let live = Live { app: app.clone(), limits: ground.limits.clone() };
    let beside = lantern_gateway::router(doors).merge(mount(dashboard::routes()));
    let router = lantern_control::router_beside(app, beside, lantern_gateway::entries());
    let serving = lantern_edge::serve(listener, router, stopping);
    ground.tasks.spawn("api", Box::pin(serving));
    let stops = stops::server::count(&db).await.unwrap_or_default();
    announce(&Ready {
        stops: stops.agents + stops.tenants + stops.server,
        ..ready(&config, accounts, address, model)
    });
    let signal = loop {
        tokio::select! {
            biased;
            signal = signals.recv() => break signal,
            () = next(&mut hangups) => {}
        }
        if let Some(read) = &again {
            config = live.reload(config, read);
        }
    };
    tracing::info!(signal, "stopping: letting runs go and finishing what is under way");
    let cut = tokio::select! {
        biased;
        cut = ground.tasks.shutdown(Dur::from_secs(config.drain_secs)) => cut,
        // A second signal means now.
        _ = signals.recv() => vec!["everything"],
    };
    if !cut.is_empty() {
        tracing::warn!(tasks = ?cut, "did not finish in time; their runs go on after the next start");
    }
    Ok(())
}

/// The next time that the configuration is to be read again.
async fn next(hangups: &mut Option<Hangups>) {
    match hangups {
        Some(hangups) => hangups.recv().await,
        None => std::future::pending().await,
    }
}

async fn ground(config: &mut Config, mode: Mode) -> Result<Ground> {
    let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
    let ids: Arc<dyn IdGen> = Arc::new(RealIds::new(clock.clone()));
    let traces = config.traces.take();
    let config = &*config;
    let dir = &config.data_dir;
    DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(|| {
        let what = format!("cannot make the data folder {}", dir.display());
        Advice::new("data_dir_unusable", what, "name a folder that can be written in --data-dir")
    })?;
    let client = Client::new().context("cannot set up the HTTP client")?;
    let fetcher = Client::opening(config.open_networks.clone())
        .context("cannot set up the HTTP client of the tools")?;
    let postgres = config.postgres.is_some();
    if postgres && let Some(owner) = env::get(env::DATABASE_OWNER_URL).map(Secret::new) {
        migrate::bring(&owner, clock.now()).await?;
    }
    let db =
        open(config, mode, clock.as_ref()).await.map_err(|error| advice::database(error, dir, postgres))?;
    let keys = key::of(&db, dir, ids.as_ref(), !postgres).await?;
    let sealer =
        Sealer::new(db.clone(), &keys, ids.clone(), clock.clone()).context("cannot set up sealing")?;
    let own = key::of_receipts()?;
    Ok(Ground {
        notary: Notary::new(&sealer, own.as_ref()),
        vault: Vault::new(sealer, bodies::open(config, &client, &clock).await?),
        tasks: TaskSet::new(Handle::current()),
        client: client.clone(),
        fetcher,
        catalogue: Arc::new(Catalogue::builtin()?),
        content_kept: config.content_kept,
        limits: InForce::new(config.limits.clone()),
        traces: traces.map(|options| Traced {
            shown: options.shown(),
            collector: Arc::new(options.collector(client.clone())),
        }),
        standing: Standing::default(),
        db,
        keys,
        clock,
        ids,
    })
}

async fn open(config: &Config, mode: Mode, clock: &dyn Clock) -> lantern_store::Result<Db> {
    let copies = if mode == Mode::Dev { COPIES } else { 0 };
    match &config.postgres {
        None => {
            let options = SqliteOptions { copies, ..SqliteOptions::at(clock.now()) };
            Db::open_sqlite(&config.data_dir, options).await
        }
        Some(postgres) => {
            let options = PostgresOptions {
                app_url: postgres.app_url.clone(),
                system_url: postgres.system_url.clone(),
                connections: postgres.connections,
            };
            Db::open_postgres(&options).await
        }
    }
}

fn providers(ground: &Ground, rules: Arc<Rules>) -> Providers {
    let (db, vault, client) = (ground.db.clone(), ground.vault.clone(), ground.client.clone());
    Providers::new(db, vault, client, rules, ground.catalogue.clone(), ground.clock.clone())
}

fn doors(ground: &Ground, app: &App, providers: Arc<Providers>, ledger: Ledger) -> lantern_gateway::Setup {
    lantern_gateway::Setup {
        db: ground.db.clone(),
        clock: ground.clock.clone(),
        ids: ground.ids.clone(),
        limits: ground.limits.clone(),
        standing: ground.standing.clone(),
        catalogue: ground.catalogue.clone(),
        breakers: providers.breakers(),
        client: ground.client.clone(),
        gate: app.gate(),
        directory: Arc::new(move |scope| {
            let providers = providers.clone();
            Box::pin(async move {
                let (offers, strategy, aliases) = providers.offers(scope).await?;
                Ok(Reachable { offers, strategy, aliases })
            })
        }),
        ledger,
    }
}

/// The node of this process, where the configuration wants one.
async fn node(
    ground: &Ground,
    config: &Config,
    mode: Mode,
    (doors, app): (boxes::LateDoors, boxes::LateApp),
) -> Result<Option<Arc<Node>>> {
    if !config.workloads.unwrap_or(mode == Mode::Dev) {
        return Ok(None);
    }
    let on = boxes::Ground {
        db: &ground.db,
        vault: &ground.vault,
        marks: Marks::new(&ground.keys).context("cannot mark audit logs")?,
        clock: &ground.clock,
        ids: &ground.ids,
        tasks: Arc::new(ground.tasks.clone()),
        stop: ground.tasks.stopping(),
        limits: &ground.limits,
        opened: config.open_networks.clone(),
        registries: config.private_registries.clone(),
        doors,
        app,
    };
    boxes::open(on, &config.data_dir, boxed(mode)).await.map(Some)
}

/// How boxes go by the way this process was started.
fn boxed(mode: Mode) -> workload::Mode {
    let lax = env::get(env::ALLOW_RUNC_STANDARD).is_some_and(|word| word == "1" || word == "true");
    workload::Mode { dev: mode == Mode::Dev, allow_oci_standard: lax }
}

fn deps(ground: &Ground, providers: Arc<Providers>, (ledger, node): (Ledger, Option<Arc<Node>>)) -> Deps {
    let builtin: Arc<dyn Tools> = Arc::new(Builtin::new(
        ground.fetcher.clone(),
        ground.limits.clone(),
        ground.standing.clone(),
        ground.clock.clone(),
    ));
    Deps {
        db: ground.db.clone(),
        vault: ground.vault.clone(),
        notary: ground.notary.clone(),
        clock: ground.clock.clone(),
        ids: ground.ids.clone(),
        tasks: Arc::new(ground.tasks.clone()),
        llm: providers,
        ledger,
        tools: match node {
            Some(node) => Arc::new(Boxes::beside(builtin, node)),
            None => builtin,
        },
        in_force: ground.limits.clone(),
        limits: ground.limits.base(),
        catalogue: ground.catalogue.clone(),
        content_kept: ground.content_kept,
        reader: Reader { build: env!("LANTERN_BUILD_VERSION"), format: lantern_engine::FORMAT },
        standing: ground.standing.clone(),
        memo: lantern_worker::Memo::default(),
        traces: ground.traces.as_ref().map(|traced| traced.collector.clone()),
    }
}

fn setup(ground: &Ground, config: &Config, rules: &Arc<Rules>, sso: SsoSetup) -> Setup {
    Setup {
        db: ground.db.clone(),
        vault: ground.vault.clone(),
        notary: ground.notary.clone(),
        keys: ground.keys.clone(),
        clock: ground.clock.clone(),
        ids: ground.ids.clone(),
        tasks: Arc::new(ground.tasks.clone()),
        limits: ground.limits.clone(),
        standing: ground.standing.clone(),
        catalogue: ground.catalogue.clone(),
        tools: tools::definitions(),
        spawn: config.spawn.map(reload::rate),
        signup: config.signup.unwrap_or(rules.shared.is_empty()),
        providers: known(ground.client.clone(), rules),
        stop: ground.tasks.stopping(),
        cors_origins: config.cors_origins.clone(),
        trusted_proxies: config.trusted_proxies.clone(),
        content_kept: ground.content_kept,
        runtime: None,
        traces: ground.traces.as_ref().map(|traced| traced.shown.clone()),
        sso: Some(sso),
    }
}

/// What the settings pages know of providers, and how they test one.
fn known(client: Client, rules: &Arc<Rules>) -> Known {
    let probe_rules = rules.clone();
    Known {
        vendor_urls: rules.vendor_urls.clone(),
        shared: rules.shared.iter().map(shared).collect(),
        reach: if rules.private { Reach::Private } else { Reach::Public },
        offline: rules.offline_stands_in && rules.shared.is_empty(),
        strategy: rules.strategy,
        probe: Arc::new(move |ask| {
            let (client, rules) = (client.clone(), probe_rules.clone());
            Box::pin(async move {
                let endpoint = endpoint(&rules, ask)?;
                list_models(&client, &endpoint, PROBE_MAX).await
            })
        }),
    }
}

/// An operator's provider; one that was found on this machine is nobody's choice of an address.
fn shared(shared: &Shared) -> SharedProvider {
    SharedProvider { name: shared.name.clone(), own_address: !shared.vendor && shared.name != models::LOCAL }
}

fn endpoint(rules: &Rules, ask: lantern_control::ProbeAsk) -> Result<Endpoint, Unlisted> {
    let unknown = || Unlisted { code: "no_llm", cause: None };
    if let Some(own) = ask.own {
        let base_url =
            own.base_url.or_else(|| rules.vendor_urls.get(&ask.provider).cloned()).ok_or_else(unknown)?;
        let reach = if rules.private { Reach::Private } else { Reach::Public };
        let api_key = own.api_key.as_ref().and_then(first);
        return Ok(Endpoint { provider: ask.provider, base_url, api_key, reach });
    }
    let shared = rules.shared.iter().find(|shared| shared.name == ask.provider).ok_or_else(unknown)?;
    Ok(Endpoint {
        provider: shared.name.clone(),
        base_url: shared.base_url.clone(),
        api_key: shared.api_key.as_ref().and_then(first),
        reach: Reach::Private,
    })
}

/// Of several keys, the one that is tried.
fn first(keys: &Secret<String>) -> Option<Secret<String>> {
    lantern_llm::keys(keys).into_iter().next()
}

fn ready(config: &Config, accounts: Accounts, address: SocketAddr, model: Option<String>) -> Ready {
    let dev = matches!(accounts, Accounts::Dev(_));
    let api = format!("http://{}", reachable(address));
    Ready {
        ready: true,
        login: dev.then_some(Login { email: "admin@lantern.dev", password: "lantern" }),
        next: match accounts {
            Accounts::None => account::first(),
            Accounts::Some | Accounts::Dev(_) => log_in(&program(), &api),
        },
        stops: 0,
        model,
        api,
        data_dir: config.data_dir.display().to_string(),
        database: if config.postgres.is_some() { "postgresql" } else { "sqlite" },
        bodies: if config.bucket.is_some() { "bucket" } else { "folder" },
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
    }
}

/// The address by which this machine reaches a server that listens on `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The command that logs in to this server and no other.
fn log_in(program: &str, api: &str) -> String {
    if api == DEFAULT_URL { format!("{program} login") } else { format!("{program} login --api-url {api}") }
}

/// How this program is called from a shell: by name when that finds it, else by its path.
fn program() -> String {
    let exe = std::env::current_exe().unwrap_or_default();
    let path = env::get(env::PATH).unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("lantern")).find(|file| file.is_file());
    let by_name = found.is_some_and(|file| file.canonicalize().ok() == exe.canonicalize().ok());
    if by_name { "lantern".to_owned() } else { exe.display().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_command_works_as_it_is_printed() {
        for (listens, want) in [
            ("127.0.0.1:8080", "lantern login"),
            ("0.0.0.0:8080", "lantern login"),
            ("127.0.0.1:9000", "lantern login --api-url http://127.0.0.1:9000"),
            ("0.0.0.0:9000", "lantern login --api-url http://127.0.0.1:9000"),
            ("[::]:8080", "lantern login --api-url http://[::1]:8080"),
            ("10.0.0.5:8080", "lantern login --api-url http://10.0.0.5:8080"),
        ] {
            let api = format!("http://{}", reachable(listens.parse().unwrap()));
            assert_eq!(log_in("lantern", &api), want, "{listens}");
        }
    }
}
