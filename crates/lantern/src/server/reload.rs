//! `SIGHUP`: `serve` reads its configuration again, and what can change while it runs does.
//!
//! Invariant: a configuration that makes no sense changes nothing. Of one that does, every difference is told: what took effect,
//! and what waits for the next start.

use anyhow::Result;
use lantern_control::{App, Rate};
use lantern_store::InForce;
use lantern_types::Dur;
use lantern_types::limits::OF_PROCESS;
use serde_json::Value;

use super::advice;
use super::config::{Config, Spawn};
use super::logging;

/// Reads the configuration as at the start.
pub(super) type Read = Box<dyn Fn() -> Result<Config> + Send + Sync>;

/// Whether a server takes on a change of this key without a new start.
pub(super) fn reloadable(key: &str) -> bool {
    const KEYS: [&str; 4] =
        ["server.log_level", "server.drain_secs", "server.spawn_rate_per_min", "server.spawn_burst"];
    let limit = key.strip_prefix("limits.");
    KEYS.contains(&key) || limit.is_some_and(|name| !OF_PROCESS.contains(&name))
}

/// A limit on starting runs, as the API takes it.
pub(super) fn rate(Spawn { per_min, burst }: Spawn) -> Rate {
    Rate { count: per_min, per: Dur::from_secs(60), burst }
}

/// What changes without a new start.
pub(super) struct Live {
    pub(super) app: App,
    pub(super) limits: InForce,
}

impl Live {
    /// Reads the configuration again and takes on what it can. Answers with the one in force, which is the old one when the
    /// new one makes no sense.
    pub(super) fn reload(&self, old: Config, read: &Read) -> Config {
        let new = match read() {
            Ok(new) => new,
            Err(error) => {
                let failure = advice::failure(&error);
                tracing::error!(error = %failure.message, "the new configuration makes no sense: the old one stays in force");
                return old;
            }
        };
        let changed = differences(&old.in_force(), &new.in_force());
        let (now, later): (Vec<_>, Vec<_>) = changed.into_iter().partition(|key| reloadable(key));
        // A limit of the process stays as it is among those that change.
        let limits = new.limits.of_process_of(&old.limits);
        if limits != old.limits {
            self.limits.rebase(limits.clone());
        }
        if new.spawn != old.spawn {
            self.app.limit_spawns(new.spawn.map(rate));
        }
        if new.log_level != old.log_level
            && let Err(error) = logging::set(&new.log_level)
        {
            tracing::error!(%error, "the level of the log stays as it is");
        }
        if !later.is_empty() {
            tracing::warn!(keys = later.join(","), "what changed here takes effect at the next start");
        }
        tracing::info!(
            keys = now.join(","),
            "the configuration was read again; what changed here is in force"
        );
        Config { log_level: new.log_level, drain_secs: new.drain_secs, spawn: new.spawn, limits, ..old }
    }
}

/// The keys, `section.name`, whose values differ. A secret that is another one looks the same, and needs a new start anyway.
fn differences(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (section, keys) in new.as_object().into_iter().flatten() {
        for (name, value) in keys.as_object().into_iter().flatten() {
            if old.get(section).and_then(|keys| keys.get(name)) != Some(value) {
                found.push(format!("{section}.{name}"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_differs_is_named_and_known_to_be_reloadable_or_not() {
        let old = json!({"server": {"listen": "a", "drain_secs": 1}, "limits": {"waitMax": 1, "subscribersMax": 1}});
        let new = json!({"server": {"listen": "b", "drain_secs": 2}, "limits": {"waitMax": 2, "subscribersMax": 2}});
        assert!(differences(&old, &old).is_empty());
        let found: Vec<(String, bool)> =
            differences(&old, &new).into_iter().map(|key| (key.clone(), reloadable(&key))).collect();
        for (key, can) in [
            ("server.drain_secs", true),
            ("server.listen", false),
            ("limits.waitMax", true),
            ("limits.subscribersMax", false),
        ] {
            assert!(found.contains(&(key.to_owned(), can)), "{key}: {found:?}");
        }
    }
}
