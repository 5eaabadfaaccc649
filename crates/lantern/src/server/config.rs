//! Configuration: flags over environment over file over defaults. Unknown keys are refused.
//!
//! Invariant: a default stands in the `Default` of its section and nowhere else, and the comment of a key is what
//! `config.example.toml` says of it; `make gen` writes that file.

#[cfg(test)]
mod example;
mod explain;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use lantern_net::Network;
use lantern_node::Origin;
use lantern_store::{BucketOptions, retention};
use lantern_types::{Dur, Limits, Secret};
use serde::Deserialize;
use serde_json::{Value, json};

use super::advice::Advice;
use super::{bodies, logging, sso, traces};
use crate::env;
#[cfg(test)]
pub(crate) use example::default_of;
pub(super) use explain::MASK;
pub(crate) use explain::{ExplainArgs, explain};

/// Where the file is shown.
const GUIDE: &str = "config.example.toml has every key, and docs/serve.md says how to begin";

/// What an address to listen on looks like.
const ADDRESS: &str = "write it as IP:PORT, such as 127.0.0.1:8080 or 0.0.0.0:8080";

/// The file that `serve --config` names.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
struct File {
    /// The process: its address, its folder, and what its tenants may start.
    server: Server,
    /// PostgreSQL. Without the two URLs it is the embedded database in the data folder.
    database: Database,
    /// A bucket for bodies over 64 KiB. Without one they lie in the data folder.
    bodies: bodies::Bodies,
    /// Single sign-on: issuers that people sign in by.
    sso: sso::Sso,
    /// The model providers of tenants.
    models: Models,
    /// The built-in tools.
    tools: Tools,
    /// What is removed by itself.
    retention: Retention,
    /// Sizes, counts, times in microseconds and money in millionths of a dollar.
    limits: Limits,
}

#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
struct Server {
    /// The address to listen on; port 0 picks a free one.
    listen: SocketAddr,
    /// Where to keep the key, large bodies and, without PostgreSQL, the database.
    data_dir: PathBuf,
    /// What is logged: `error`, `warn`, `info`, `debug`, or filter directives such as `info,lantern_store=debug`.
    #[serde(deserialize_with = "level")]
    log_level: String,
    /// Seconds that a stop waits for what is under way.
    drain_secs: u64,
    /// Runs that one tenant may start in a minute, at each process; 0 for no limit.
    spawn_rate_per_min: u32,
    /// Runs that one tenant may start at once before the rate counts. Without it: as many as in a whole minute.
    spawn_burst: Option<u32>,
    /// Whether anybody who reaches the server may make an account, with a tenant of its own. Without it: unless the operator's
    /// own model providers are there for everybody.
    signup: Option<bool>,
    /// Whether this server runs the programs of workloads in boxes on its machine, which takes root. Without it: only in `dev`.
    workloads: Option<bool>,
    /// Registries of images that may be at private addresses: `"https://registry.internal"`, `"http://10.0.0.5:5000"`. They alone may be
    /// asked without TLS, where they say `http`. A public one is in no list.
    #[serde(deserialize_with = "registries")]
    private_registries: Vec<String>,
    /// Origins of web pages that may call the API.
    cors_origins: Vec<String>,
    /// Proxies in front of the server, whose `X-Forwarded-For` says where a request comes from: `"10.0.0.0/8"`, `"192.168.1.5"`.
    /// Nobody else's header is believed.
    #[serde(deserialize_with = "networks")]
    trusted_proxies: Vec<Network>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 8080).into(),
            data_dir: PathBuf::from("data"),
            log_level: "info".to_owned(),
            drain_secs: 30,
            spawn_rate_per_min: 120,
            spawn_burst: None,
            signup: None,
            workloads: None,
            private_registries: Vec::new(),
            cors_origins: vec!["http://localhost:3001".to_owned()],
            trusted_proxies: Vec::new(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
struct Database {
    /// The database as the role that serves tenants.
    app_url: Option<String>,
    /// The database as the role that claims runs and finds accounts.
    system_url: Option<String>,
    /// Connections that this process opens at most, from 2 to 512.
    connections: usize,
}

impl Default for Database {
    fn default() -> Self {
        Self { app_url: None, system_url: None, connections: 16 }
    }
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
struct Models {
    /// Whether tenants may name model servers on private addresses.
    private_addresses: bool,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
struct Tools {
    /// Private networks that `http.fetch` may reach for every tenant: `"10.20.0.0/16"`, `"192.168.1.5"`.
    #[serde(deserialize_with = "networks")]
    private_addresses: Vec<Network>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
struct Retention {
    /// How long what was said in a run is kept after its end, where the tenant does not say: `"90d"`, `"12h"`. What happened is
    /// kept: steps, times, costs. Without it: for ever.
    #[serde(deserialize_with = "kept")]
    content: Option<String>,
}

/// What is logged.
fn level<'de, D: serde::Deserializer<'de>>(file: D) -> Result<String, D::Error> {
    let said = String::deserialize(file)?;
    if logging::is_level(&said) {
        return Ok(said);
    }
    Err(serde::de::Error::custom(format!("{said:?} is no level of a log: write error, warn, info or debug")))
}

/// A time that content is kept for.
fn kept<'de, D: serde::Deserializer<'de>>(file: D) -> Result<Option<String>, D::Error> {
    let said = Option::<String>::deserialize(file)?;
    match &said {
        Some(text) if retention::parse(text).is_none() => {
            Err(serde::de::Error::custom(format!("{text:?} is no time: {}", retention::EXPECTED)))
        }
        _ => Ok(said),
    }
}

/// A list of networks that says which: there is no word for all of them.
fn networks<'de, D: serde::Deserializer<'de>>(file: D) -> Result<Vec<Network>, D::Error> {
    let listed = Vec::<Network>::deserialize(file)?;
    match listed.iter().find(|network| network.is_everything()) {
        Some(all) => {
            Err(serde::de::Error::custom(format!("{all} is every address: list the networks that are meant")))
        }
        None => Ok(listed),
    }
}

/// Registries, each a scheme, a host and a port.
fn registries<'de, D: serde::Deserializer<'de>>(file: D) -> Result<Vec<String>, D::Error> {
    let listed = Vec::<String>::deserialize(file)?;
    match listed.iter().find_map(|text| text.parse::<Origin>().err().map(|error| (text, error))) {
        Some((text, error)) => Err(serde::de::Error::custom(format!("{text:?} is no registry: {error}"))),
        None => Ok(listed),
    }
}

/// Everything a server process needs to know, decided.
#[derive(Debug)]
pub(crate) struct Config {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// Where it keeps its files.
    pub(crate) data_dir: PathBuf,
    /// PostgreSQL, when it is not the embedded database.
    pub(crate) postgres: Option<Postgres>,
    /// The bucket for large bodies, when they do not lie in the data folder.
    pub(crate) bucket: Option<BucketOptions>,
    /// What is logged.
    pub(crate) log_level: String,
    /// How long a stop waits for what is under way.
    pub(crate) drain_secs: u64,
    /// Runs that one tenant may start in a minute; `None` for no limit.
    pub(crate) spawn: Option<Spawn>,
    /// Whether anybody may make an account, where that is said.
    pub(crate) signup: Option<bool>,
    /// Whether it runs workloads, where that is said.
    pub(crate) workloads: Option<bool>,
    /// Registries that may be at private addresses.
    pub(crate) private_registries: Vec<Origin>,
    /// Whether tenants may name model servers on private addresses.
    pub(crate) private_models: bool,
    /// The private networks that tools may reach.
    pub(crate) open_networks: Arc<[Network]>,
    /// The origins of web pages that may call the API.
    pub(crate) cors_origins: Vec<String>,
    /// Proxies that are believed about whom they ask for.
    pub(crate) trusted_proxies: Arc<[Network]>,
    /// The issuers that people sign in by.
    pub(crate) sso: sso::Decided,
    /// For how long content is kept, where its tenant does not say; `None` for ever.
    pub(crate) content_kept: Option<Dur>,
    /// Where spans of runs go, if they do.
    pub(crate) traces: Option<traces::Options>,
    /// The limits in force.
    pub(crate) limits: Limits,
}

/// How PostgreSQL is reached.
#[derive(Debug)]
pub(crate) struct Postgres {
    pub(crate) app_url: Secret<String>,
    pub(crate) system_url: Secret<String>,
    pub(crate) connections: usize,
}

/// How many runs a tenant may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spawn {
    pub(crate) per_min: u32,
    pub(crate) burst: u32,
}

impl Config {
    /// The configuration of `lantern dev`: everything from flags, with no limit on starting runs.
    pub(crate) fn dev(listen: Option<SocketAddr>, data_dir: Option<PathBuf>) -> Result<Self> {
        let base = Self::decide(File::default(), listen, data_dir)?;
        let log_level = env::get(env::LOG_LEVEL).unwrap_or_else(|| "warn".to_owned());
        Ok(Self {
            log_level,
            spawn: None,
            signup: base.signup.or(Some(true)),
            workloads: base.workloads.or(Some(true)),
            private_models: true,
            ..base
        })
    }

    /// The configuration of `lantern serve`.
    pub(crate) fn serve(
        file: Option<&Path>,
        listen: Option<SocketAddr>,
        data_dir: Option<PathBuf>,
    ) -> Result<Self> {
        let file = match file {
            Some(path) => read(path)?,
            None => File::default(),
        };
        Self::decide(file, listen, data_dir)
    }

    /// Logs what is in force, under the names of the file. Nothing of a URL: it may hold a password.
    pub(crate) fn log(&self) {
        let spawn = self.spawn.unwrap_or(Spawn { per_min: 0, burst: 0 });
        let bucket = self.bucket.as_ref();
        tracing::info!(
            server.listen = %self.listen,
            server.data_dir = %self.data_dir.display(),
            server.drain_secs = self.drain_secs,
            server.spawn_rate_per_min = spawn.per_min,
            server.spawn_burst = spawn.burst,
            server.cors_origins = self.cors_origins.join(","),
            server.private_registries = listed(self.private_registries.iter()),
            server.trusted_proxies = listed(self.trusted_proxies.iter()),
            database = if self.postgres.is_some() { "postgresql" } else { "sqlite" },
            database.connections = self.postgres.as_ref().map(|postgres| postgres.connections),
            bodies.bucket = bucket.map(|bucket| bucket.bucket.as_str()),
            bodies.region = bucket.map(|bucket| bucket.region.as_str()),
            bodies.prefix = bucket.map(|bucket| bucket.prefix.as_str()),
            bodies.path_style = bucket.map(|bucket| bucket.path_style),
            sso.providers = self.sso.names(),
            models.private_addresses = self.private_models,
            tools.private_addresses = listed(self.open_networks.iter()),
            retention.content = self.content_kept.map(retention::text),
            traces = self.traces.as_ref().map(traces::Options::shown),
            limits = listed(changed(&self.limits).iter()),
            "the configuration in force; of the limits, those that are not the defaults"
        );
    }

    /// The same in the form of the file. Of a secret it says only that there is one.
    pub(super) fn in_force(&self) -> Value {
        let (spawn, postgres, bucket) = (self.spawn, self.postgres.as_ref(), self.bucket.as_ref());
        let secret = |there: bool| there.then_some(MASK);
        json!({
            "server": {
                "listen": self.listen.to_string(),
                "data_dir": self.data_dir.display().to_string(),
                "log_level": self.log_level,
                "drain_secs": self.drain_secs,
                "spawn_rate_per_min": spawn.map_or(0, |spawn| spawn.per_min),
                "spawn_burst": spawn.map(|spawn| spawn.burst),
                "signup": self.signup,
                "workloads": self.workloads,
                "private_registries": self.private_registries.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "cors_origins": self.cors_origins,
                "trusted_proxies": self.trusted_proxies.iter().map(ToString::to_string).collect::<Vec<_>>(),
            },
            "database": {
                "app_url": secret(postgres.is_some()),
                "system_url": secret(postgres.is_some()),
                "connections": postgres.map(|postgres| postgres.connections),
            },
            "bodies": {
                "bucket": bucket.map(|bucket| &bucket.bucket),
                "endpoint": bucket.map(|bucket| &bucket.endpoint),
                "region": bucket.map(|bucket| &bucket.region),
                "prefix": bucket.map(|bucket| &bucket.prefix),
                "path_style": bucket.map(|bucket| bucket.path_style),
                "access_key_id": bucket.map(|bucket| &bucket.credentials.access_key_id),
                "secret_access_key": secret(bucket.is_some()),
            },
            "sso": self.sso.in_force(),
            "models": { "private_addresses": self.private_models },
            "tools": {
                "private_addresses": self.open_networks.iter().map(ToString::to_string).collect::<Vec<_>>(),
            },
            "retention": { "content": self.content_kept.map(retention::text) },
            "limits": self.limits,
        })
    }

    fn decide(file: File, listen: Option<SocketAddr>, data_dir: Option<PathBuf>) -> Result<Self> {
        let listen = match (listen, env::get(env::LISTEN)) {
            (Some(listen), _) => listen,
            (None, Some(text)) => {
                address(&text).map_err(|next| Advice::config(format!("{} is {text:?}", env::LISTEN), next))?
            }
            (None, None) => file.server.listen,
        };
        let data_dir =
            data_dir.or_else(|| env::get(env::DATA_DIR).map(PathBuf::from)).unwrap_or(file.server.data_dir);
        Ok(Self {
            listen,
            data_dir,
            postgres: postgres(file.database)?,
            bucket: bodies::bucket(file.bodies, env::get)?,
            sso: sso::decide(file.sso, env::get)?,
            log_level: env::get(env::LOG_LEVEL).unwrap_or(file.server.log_level),
            drain_secs: number(env::DRAIN_TIMEOUT)?.unwrap_or(file.server.drain_secs),
            spawn: spawn(
                number(env::SPAWN_RATE_PER_MIN)?.unwrap_or_else(|| file.server.spawn_rate_per_min.into()),
                number(env::SPAWN_BURST)?.or_else(|| file.server.spawn_burst.map(u64::from)),
            ),
            private_models: file.models.private_addresses,
            open_networks: file.tools.private_addresses.into(),
            signup: switch(env::SIGNUP)?.or(file.server.signup),
            workloads: switch(env::WORKLOADS)?.or(file.server.workloads),
            private_registries: file.server.private_registries.iter().flat_map(|text| text.parse()).collect(),
            cors_origins: origins(env::get(env::CORS_ORIGINS), file.server.cors_origins)?,
            trusted_proxies: proxies(env::get(env::TRUSTED_PROXIES), file.server.trusted_proxies)?,
            content_kept: file.retention.content.as_deref().and_then(retention::parse),
            traces: traces::options(env::get)?,
            limits: file.limits,
        })
    }
}

fn contents(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| {
        Advice::config(format!("cannot read {}", path.display()), "name a readable file in --config")
    })
}

fn read(path: &Path) -> Result<File> {
    toml::from_str(&contents(path)?).map_err(|error| {
        let what = format!("{} is not a configuration", path.display());
        let next = remedy(error.message());
        anyhow::Error::new(error).context(Advice::config(what, next))
    })
}

/// A variable that is `true` or `false`.
pub(super) fn switch(name: &'static str) -> Result<Option<bool>> {
    match env::get(name).as_deref() {
        None => Ok(None),
        Some("true" | "1") => Ok(Some(true)),
        Some("false" | "0") => Ok(Some(false)),
        Some(other) => Err(Advice::config(format!("{name} is {other:?}"), "write `true` or `false`").into()),
    }
}

/// An address to listen on, from words of the command line or the environment.
pub(crate) fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.trim().parse().map_err(|_| ADDRESS)
}

/// The limits that are not the defaults: `turnsPerRunMax=3`.
fn changed(limits: &Limits) -> Vec<String> {
    let [now, usual] =
        [limits, &Limits::default()].map(|limits| serde_json::to_value(limits).unwrap_or_default());
    let all = now.as_object().into_iter().flatten();
    all.filter(|(name, value)| usual.get(name.as_str()) != Some(*value))
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

fn listed<T: ToString>(items: impl Iterator<Item = T>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}

/// What to do about a file that cannot be read: ``unknown field `x`, expected one of …``.
fn remedy(message: &str) -> String {
    if message.contains("socket address") {
        return ADDRESS.to_owned();
    }
    suggestion(message).unwrap_or_else(|| GUIDE.to_owned())
}

/// The key that was meant, from the reader's list of those that there are: ``unknown field `x`, expected one of …``.
fn suggestion(message: &str) -> Option<String> {
    if !message.starts_with("unknown field") {
        return None;
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let wrong = quoted.next()?;
    let meant = lantern_types::nearest(wrong, quoted)?;
    Some(format!("did you mean `{meant}`? {GUIDE}"))
}

fn postgres(file: Database) -> Result<Option<Postgres>> {
    let app = env::get(env::DATABASE_APP_URL).or(file.app_url);
    let system = env::get(env::DATABASE_SYSTEM_URL).or(file.system_url);
    match (app, system) {
        (None, None) if env::get(env::DATABASE_URL).is_some() => Err(unread_url().into()),
        (None, None) => Ok(None),
        (Some(app), Some(system)) => Ok(Some(Postgres {
            app_url: Secret::new(app),
            system_url: Secret::new(system),
            connections: file.connections.clamp(2, 512),
        })),
        _ => {
            let what = "PostgreSQL is configured by half";
            let next = format!("set both {} and {}", env::DATABASE_APP_URL, env::DATABASE_SYSTEM_URL);
            Err(Advice::config(what, next).into())
        }
    }
}

/// Somebody who names a database means it: to keep runs in another one would be found out late.
fn unread_url() -> Advice {
    let what = format!("{} is set, and PostgreSQL is not configured", env::DATABASE_URL);
    let next = format!(
        "tenants are kept apart by two roles: set {} and {} (docs/serve.md), or {}= for the embedded database",
        env::DATABASE_APP_URL,
        env::DATABASE_SYSTEM_URL,
        env::DATABASE_URL
    );
    Advice::config(what, next)
}

/// The contract's spawn limit: so many in a minute, all at once unless a burst is named; a rate of 0 means none.
fn spawn(per_min: u64, burst: Option<u64>) -> Option<Spawn> {
    let bounded = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let per_min = bounded(per_min);
    (per_min > 0).then(|| Spawn { per_min, burst: burst.map_or(per_min, bounded).max(1) })
}

/// Origins as browsers write them: without a slash at the end.
fn origins(said: Option<String>, file: Vec<String>) -> Result<Vec<String>> {
    let said = said.map(|text| text.split(',').map(ToOwned::to_owned).collect());
    let listed: Vec<String> = said.unwrap_or(file);
    let plain = listed.iter().map(|origin| origin.trim().trim_end_matches('/'));
    let read = |origin: &str| {
        let host = ["http://", "https://"].iter().find_map(|scheme| origin.strip_prefix(scheme));
        if host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', ' '])) {
            return Ok(origin.to_owned());
        }
        let what = format!("{} has {origin:?}, which is no origin", env::CORS_ORIGINS);
        Err(Advice::config(what, "write origins such as https://app.example.com, separated by commas").into())
    };
    plain.filter(|origin| !origin.is_empty()).map(read).collect()
}

fn proxies(said: Option<String>, file: Vec<Network>) -> Result<Arc<[Network]>> {
    let Some(said) = said else { return Ok(file.into()) };
    let names = said.split(',').map(str::trim).filter(|name| !name.is_empty());
    let listed: Result<Vec<Network>, _> = names.map(str::parse).collect();
    let what = || {
        let next = format!(
            "write networks such as 10.0.0.0/8, with commas between them, in {}",
            env::TRUSTED_PROXIES
        );
        Advice::config(format!("{} is {said:?}", env::TRUSTED_PROXIES), next)
    };
    let listed = listed.with_context(what)?;
    if listed.iter().any(|network| network.is_everything()) {
        return Err(anyhow::Error::new(what()));
    }
    Ok(listed.into())
}

fn number(name: &'static str) -> Result<Option<u64>> {
    let Some(text) = env::get(name) else { return Ok(None) };
    let digits = text.trim().trim_end_matches('s');
    let what = || Advice::config(format!("{name} is {text:?}"), format!("write a whole number in {name}"));
    digits.parse().map(Some).with_context(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_of_zero_means_no_limit() {
        assert_eq!(spawn(120, Some(20)), Some(Spawn { per_min: 120, burst: 20 }));
        assert_eq!(spawn(5, None), Some(Spawn { per_min: 5, burst: 5 }));
        assert_eq!(spawn(0, None), None);
        assert_eq!(spawn(5, Some(0)), Some(Spawn { per_min: 5, burst: 1 }));
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(toml::from_str::<File>("[server]\nlisten = \"127.0.0.1:1\"").is_ok());
        assert!(toml::from_str::<File>("[limits]\nturnsPerRunMax = 3").is_ok());
        for bad in [
            "[server]\nlissten = \"x\"",
            "[sever]",
            "[limits]\nturns = 3",
            "[server]\nlisten = 5",
            "[tools]\nprivate_addresses = true",
            "[tools]\nprivate_addresses = [\"10.20.0.1/16\"]",
            "[tools]\nprivate_addresses = [\"10.20.0.0/16\", \"0.0.0.0/0\"]",
            "[tools]\nprivate_addresses = [\"::/0\"]",
        ] {
            assert!(toml::from_str::<File>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_key_that_was_meant_is_suggested() {
        for (text, meant) in [
            ("[server]\nlissten = 1", Some("`listen`")),
            ("[server]\ndataDir = 1", Some("`data_dir`")),
            ("[sever]", Some("`server`")),
            ("[limits]\nturns_per_run_max = 1", Some("`turnsPerRunMax`")),
            ("[server]\ncolour = 1", None),
            ("[server]\nlisten = 1", None),
        ] {
            let error = toml::from_str::<File>(text).unwrap_err();
            let said = suggestion(error.message());
            assert_eq!(said.is_some(), meant.is_some(), "{text}: {said:?}");
            assert!(meant.is_none_or(|meant| said.unwrap_or_default().contains(meant)), "{text}");
        }
    }

    #[test]
    fn an_address_is_an_ip_and_a_port() {
        assert!(address("127.0.0.1:0").is_ok() && address("[::1]:8080").is_ok());
        for bad in ["8080", "localhost:8080", ":8080", "127.0.0.1"] {
            assert!(address(bad).unwrap_err().contains("IP:PORT"), "{bad}");
            let error = toml::from_str::<File>(&format!("[server]\nlisten = {bad:?}")).unwrap_err();
            assert!(remedy(error.message()).contains("IP:PORT"), "{bad}: {error}");
        }
    }

    #[test]
    fn limits_are_told_when_they_are_not_the_usual() {
        assert!(changed(&Limits::default()).is_empty());
        let file: File = toml::from_str("[limits]\nturnsPerRunMax = 3").unwrap();
        assert_eq!(changed(&file.limits), ["turnsPerRunMax=3"]);
    }

    #[test]
    fn only_dev_trusts_private_model_servers_unasked() {
        for listen in ["127.0.0.1:1", "[::1]:1", "0.0.0.0:1", "10.0.0.5:1"] {
            let listen = listen.parse().ok();
            assert!(!Config::serve(None, listen, None).unwrap().private_models, "{listen:?}");
            assert!(Config::dev(listen, None).unwrap().private_models, "{listen:?}");
        }
        let opened: File = toml::from_str("[models]\nprivate_addresses = true").unwrap();
        assert!(Config::decide(opened, None, None).unwrap().private_models);
    }

    #[test]
    fn tools_reach_what_is_listed_and_nothing_unasked() {
        assert!(Config::serve(None, None, None).unwrap().open_networks.is_empty());
        assert!(Config::dev(None, None).unwrap().open_networks.is_empty());
        let opened: File = toml::from_str("[tools]\nprivate_addresses = [\"10.20.0.0/16\"]").unwrap();
        let opened = Config::decide(opened, None, None).unwrap().open_networks;
        assert_eq!(*opened, ["10.20.0.0/16".parse().unwrap()]);
    }

    #[test]
    fn proxies_are_listed_or_the_files_and_never_everybody() {
        let of = |said: Option<&str>| {
            let file = vec!["192.168.1.5".parse().unwrap()];
            proxies(said.map(ToOwned::to_owned), file).map(|found| listed(found.iter())).ok()
        };
        assert_eq!(of(None).as_deref(), Some("192.168.1.5/32"));
        assert_eq!(of(Some("10.0.0.0/8, fd00::/8")).as_deref(), Some("10.0.0.0/8,fd00::/8"));
        assert_eq!(of(Some("")).as_deref(), Some(""));
        for wrong in ["0.0.0.0/0", "10.0.0.1/8", "proxy", "::/0, 10.0.0.0/8"] {
            assert_eq!(of(Some(wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn origins_are_listed_or_the_files() {
        let of = |said: Option<&str>| {
            origins(said.map(ToOwned::to_owned), vec!["https://c.example".to_owned()]).unwrap()
        };
        assert_eq!(of(None), ["https://c.example"]);
        assert_eq!(of(Some(" https://a.example/, ,http://b:1")), ["https://a.example", "http://b:1"]);
        assert!(origins(None, Vec::new()).unwrap().is_empty());
        for odd in ["zz", "*", "ftp://a", "https://", "https://a/b", "https://u@a"] {
            assert!(origins(Some(odd.to_owned()), Vec::new()).is_err(), "{odd}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(128))]

        /// Any file is a configuration or is refused with what to do, and never takes the server down.
        #[test]
        fn any_text_is_a_configuration_or_refused(
            text in "(\\[(server|database|bodies|models|tools|limits|[a-z]{0,4})\\]\n|(listen|data_dir|drain_secs|private_addresses|turnsPerRunMax|[a-zA-Z_]{0,5}) ?=? ?(\"[ -~é]{0,8}\"|-?[0-9]{1,20}|true|\\[\\]|\\{\\}|[ -~]{0,4})\n){0,5}",
        ) {
            match toml::from_str::<File>(&text) {
                Ok(file) => {
                    let written = toml::to_string(&file).unwrap();
                    let again = toml::from_str::<File>(&written).map_err(|error| error.to_string());
                    proptest::prop_assert_eq!(again.map(|again| toml::to_string(&again).unwrap()), Ok(written));
                }
                Err(error) => proptest::prop_assert!(!remedy(error.message()).is_empty()),
            }
        }
    }
}
