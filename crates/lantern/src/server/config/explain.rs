//! `lantern config explain`: every key with its value in force, and where that comes from.
//!
//! Invariant: values are those of the decided [`Config`], not decided again here. A secret is shown as set or not, never
//! in part.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::{Map, Value, json};

use super::{Config, address, contents};
use crate::cli::{Column, Console, Failure};
use crate::env::{self, Origin};
use crate::server::advice::Advice;
use crate::server::reload;

/// What is shown of a secret that is set.
pub(in crate::server) const MASK: &str = "********";

/// Flags of `lantern config explain`.
#[derive(Debug, Args)]
#[command(
    after_help = "A flag wins over the environment, that over .env.local (which `dev` alone reads), that over the file, \
                  and that over the default. Secrets are masked. What is `reloadable` a running `serve` takes on when its file is \
                  changed and it gets SIGHUP; all else waits for its next start."
)]
pub(crate) struct ExplainArgs {
    /// The file of `lantern serve`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Whose configuration [default: serve with --config, else dev]
    #[arg(long = "for", value_name = "dev|serve", value_enum, hide_possible_values = true)]
    command: Option<Of>,
    /// As the server will be given it.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// As the server will be given it.
    #[arg(long, value_name = "ADDR", value_parser = address)]
    listen: Option<SocketAddr>,
}

/// A command that is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Of {
    Dev,
    Serve,
}

impl Of {
    const fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Serve => "serve",
        }
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Flag(&'static str),
    Variable(&'static str, Origin),
    File(String),
    /// What the command itself says.
    Command(&'static str),
    Default,
}

/// One line of the explanation.
struct Entry {
    key: String,
    value: Value,
    source: Source,
    /// Whether `SIGHUP` is enough for a change of it.
    reloadable: bool,
}

/// What is explained, as JSON and as rows; the rest is the console's.
pub(crate) struct Explained {
    command: &'static str,
    local: bool,
    entries: Vec<Entry>,
}

/// Decides the configuration as the server would, and says where each value comes from.
pub(crate) fn explain(args: &ExplainArgs) -> Result<Explained> {
    let usual = if args.config.is_some() { Of::Serve } else { Of::Dev };
    let of = args.command.unwrap_or(usual);
    if of == Of::Dev && args.config.is_some() {
        return Err(Advice::config("`dev` reads no file", "leave out --config, or say --for serve").into());
    }
    let local = of == Of::Dev && env::read_local().map_err(|(what, next)| Advice::config(what, next))?;
    env::refuse_strays().map_err(|(what, next)| Advice::config(what, next))?;
    let (listen, data_dir) = (args.listen, args.data_dir.clone());
    let config = match of {
        Of::Dev => Config::dev(listen, data_dir)?,
        Of::Serve => Config::serve(args.config.as_deref(), listen, data_dir)?,
    };
    let said = match &args.config {
        Some(path) => contents(path)?.parse().unwrap_or_default(),
        None => toml::Table::new(),
    };
    let of_key = |key: &str, value: &Value| source(of, args, &said, key, value);
    Ok(Explained { command: of.name(), local, entries: entries(&config.in_force(), of, of_key) })
}

fn source(of: Of, args: &ExplainArgs, said: &toml::Table, key: &str, value: &Value) -> Source {
    let (section, name) = key.split_once('.').unwrap_or_default();
    let flag = match key {
        "server.listen" if args.listen.is_some() => Some("--listen"),
        "server.data_dir" if args.data_dir.is_some() => Some("--data-dir"),
        _ => None,
    };
    let (found, variable) = (flag.map(Source::Flag), env::of_key(key));
    if let Some(found) = found {
        return found;
    }
    // `dev` overrules even the environment there.
    if of == Of::Dev && (key.starts_with("server.spawn_") || key == "models.private_addresses") {
        return Source::Command("dev");
    }
    if let Some((name, origin)) = variable.and_then(|name| env::origin(name).map(|origin| (name, origin))) {
        return Source::Variable(name, origin);
    }
    let in_file =
        said.get(section).and_then(toml::Value::as_table).is_some_and(|keys| keys.contains_key(name));
    match &args.config {
        Some(path) if in_file => Source::File(path.display().to_string()),
        _ if of == Of::Dev && (key == "server.signup" || key == "server.workloads") && !value.is_null() => {
            Source::Command("dev")
        }
        _ if of == Of::Dev && key == "server.log_level" => Source::Command("dev"),
        _ => Source::Default,
    }
}

/// The keys of the file by name, then the variables that have none there.
fn entries(in_force: &Value, of: Of, source: impl Fn(&str, &Value) -> Source) -> Vec<Entry> {
    let mut all = Vec::new();
    for (section, keys) in in_force.as_object().into_iter().flatten() {
        for (name, value) in keys.as_object().into_iter().flatten() {
            let key = format!("{section}.{name}");
            let source = source(&key, value);
            // `dev` reads no file, and a process keeps its flags and its environment.
            let file = matches!(source, Source::File(_) | Source::Default);
            let reloadable = of == Of::Serve && file && reload::reloadable(&key);
            all.push(Entry { source, value: value.clone(), key, reloadable });
        }
    }
    for variable in env::without_key(of.name()) {
        let (value, source) = match env::origin(variable.name) {
            Some(origin) => {
                let value = env::get(variable.name).unwrap_or_default();
                let shown = if variable.secret() { MASK.to_owned() } else { value };
                (Value::String(shown), Source::Variable(variable.name, origin))
            }
            None if variable.default.is_empty() => (Value::Null, Source::Default),
            None => (Value::String(variable.default.to_owned()), Source::Default),
        };
        all.push(Entry { key: variable.name.to_owned(), value, source, reloadable: false });
    }
    all
}

impl Source {
    fn json(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Flag(flag) => ("flag", Some(flag)),
            Self::Variable(name, Origin::Environment) => ("environment", Some(name)),
            Self::Variable(name, Origin::Local) => (env::LOCAL_FILE, Some(name)),
            Self::File(path) => ("file", Some(path)),
            Self::Command(name) => ("command", Some(name)),
            Self::Default => ("default", None),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Flag(flag) => format!("the flag {flag}"),
            Self::Variable(name, Origin::Environment) => format!("the variable {name}"),
            Self::Variable(name, Origin::Local) => format!("{name} in {}", env::LOCAL_FILE),
            Self::File(path) => path.clone(),
            Self::Command(name) => format!("`{name}` itself"),
            Self::Default => "default".to_owned(),
        }
    }
}

impl Explained {
    /// Answers with all of it.
    pub(crate) fn show(&self, console: &Console) -> Result<(), Failure> {
        if self.local {
            console.note(&format!("{} in this folder is part of it", env::LOCAL_FILE));
        }
        if console.json() {
            return console.value(&self.json());
        }
        let rows: Vec<Vec<String>> = self.entries.iter().map(Entry::row).collect();
        console.table(
            &[Column::whole("KEY"), Column::text("VALUE"), Column::text("FROM"), Column::spare("CHANGE")],
            &rows,
        )
    }

    fn json(&self) -> Value {
        let keys: Vec<Value> = self.entries.iter().map(Entry::json).collect();
        json!({ "command": self.command, "local": self.local.then_some(env::LOCAL_FILE), "keys": keys })
    }
}

impl Entry {
    fn json(&self) -> Value {
        let (source, name) = self.source.json();
        let mut entry = Map::new();
        entry.insert("key".to_owned(), json!(self.key));
        entry.insert("value".to_owned(), self.value.clone());
        entry.insert("source".to_owned(), json!(source));
        entry.insert("change".to_owned(), json!(self.change()));
        if let Some(name) = name {
            entry.insert("name".to_owned(), json!(name));
        }
        Value::Object(entry)
    }

    /// What a change of it takes.
    const fn change(&self) -> &'static str {
        if self.reloadable { "reloadable" } else { "restart" }
    }

    fn row(&self) -> Vec<String> {
        let value = match &self.value {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            Value::Array(items) => {
                items.iter().map(|item| item.as_str().unwrap_or_default()).collect::<Vec<_>>().join(",")
            }
            other => other.to_string(),
        };
        vec![self.key.clone(), value, self.source.text(), self.change().to_owned()]
    }
}

#[cfg(test)]
mod tests {
    use super::super::File;
    use super::*;

    fn keys(value: &Value) -> Vec<String> {
        let sections = value.as_object().unwrap().iter();
        let of_one = |(section, keys): (&String, &Value)| {
            let keys: Vec<String> =
                keys.as_object().unwrap().keys().map(|key| format!("{section}.{key}")).collect();
            keys
        };
        sections.flat_map(of_one).collect()
    }

    #[test]
    fn every_key_of_the_file_is_explained() {
        let in_force = Config::serve(None, None, None).unwrap().in_force();
        let mut file = keys(&serde_json::to_value(File::default()).unwrap());
        let mut explained = keys(&in_force);
        file.sort_unstable();
        explained.sort_unstable();
        assert_eq!(explained, file);
    }

    #[test]
    fn what_may_be_a_secret_is_one_or_known_not_to_be() {
        for variable in env::without_key("dev").chain(env::without_key("serve")) {
            let telling = ["KEY", "TOKEN", "PASSWORD", "SECRET", "SEED"]
                .iter()
                .any(|word| variable.name.contains(word));
            let harmless = variable.name == env::OFFLINE_TOKENS_PER_SEC;
            let others = [env::DATABASE_OWNER_URL, env::DATABASE_URL, env::OTEL_HEADERS];
            let telling = telling || others.contains(&variable.name);
            assert_eq!(variable.secret(), telling && !harmless, "{}", variable.name);
        }
    }
}
