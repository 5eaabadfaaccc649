//! `lantern secrets`: hand secrets in, see which there are, and put them under another key.
//!
//! Invariant: a value comes from standard input, a hidden question or a file, never from an argument, where every process of the machine
//! could read it; it is sent once and printed nowhere. The server answers no value, so none can be shown.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use lantern_types::Secret;
use serde_json::{Map, Value, json};

use crate::cli::api::{Api, Call, Listed, encode};
use crate::cli::console::Console;
use crate::cli::failure::Failure;
use crate::cli::format::{line, text, time};
use crate::cli::runs::confirmed;
use crate::cli::table::Column;

const PATH: &str = "/v1/secrets";
const KEYS: &str = "/v1/secret-keys";
/// The longest value that a server takes.
const VALUE_BYTES_MAX: usize = 64 << 10;

const SECRETS: &[Column] = &[
    Column::whole("NAME"),
    Column::whole("VERSION"),
    Column::spare("VERSIONS"),
    Column::whole("REFERENCE"),
    Column::spare("UPDATED"),
];
const VERSIONS: &[Column] = &[Column::whole("VERSION"), Column::whole("STATUS"), Column::spare("CREATED")];
const SEALING: &[Column] = &[Column::whole("KEY"), Column::whole("SEALED VALUES"), Column::spare("CREATED")];

/// What can be done with secrets.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Hand in a secret, or a new version of it
    #[command(after_help = "\
The value is read from standard input, without the end of its last line, or from --file as it is. At a terminal it is asked for and not
shown. A value that the newest version has already makes no new one.")]
    Set(SetArgs),
    /// List secrets, the newest first, without their values
    List {
        /// At most this many
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// List the versions of a secret, the newest first
    Versions {
        /// The secret's name
        name: String,
    },
    /// Let a version be used again
    Enable {
        /// The secret's name
        name: String,
        /// The version's number
        version: u32,
    },
    /// Let a version be used no more: the newest that is enabled is the one that counts
    Disable {
        /// The secret's name
        name: String,
        /// The version's number
        version: u32,
    },
    /// Delete a secret with all of its versions, or one version
    Delete {
        /// The secret's name
        name: String,
        /// This version alone
        #[arg(long = "only-version", value_name = "VERSION")]
        version: Option<u32>,
        /// Do not ask
        #[arg(long)]
        force: bool,
    },
    /// List the keys that secrets are sealed under, the newest first
    Keys,
    /// Put all secrets under another key, which may be interrupted and gone on with
    Rekey,
}

/// Flags of `lantern secrets set`.
#[derive(Args, Debug)]
pub(crate) struct SetArgs {
    /// The secret's name: letters, digits, `-`, `_` and `.`
    name: String,
    /// Read the value from this file, as it is
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Fail when there is a secret of this name
    #[arg(long)]
    new: bool,
}

/// Does what was asked.
pub(crate) async fn run(console: &Console, api: &Api, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Set(args) => set(console, api, &args).await,
        Verb::List { limit } => list(console, api, limit).await,
        Verb::Versions { name } => versions(console, api, &name).await,
        Verb::Enable { name, version } => enable(console, api, (&name, version), true).await,
        Verb::Disable { name, version } => enable(console, api, (&name, version), false).await,
        Verb::Delete { name, version, force } => delete(console, api, (&name, version), force).await,
        Verb::Keys => keys(console, api).await,
        Verb::Rekey => rekey(console, api).await,
    }
}

async fn set(console: &Console, api: &Api, args: &SetArgs) -> Result<(), Failure> {
    let value = value(args)?;
    let mut call = Call::put(path(&args.name), json!({ "value": value.expose() }));
    if args.new {
        call = call.header((http::header::IF_NONE_MATCH, http::HeaderValue::from_static("*")));
    }
    let saved = api.fetch(call).await?;
    console.answer(&saved, || {
        let version = saved.get("version").map(Value::to_string).unwrap_or_default();
        format!("version {version} of the secret {} counts", line(text(&saved, "name")))
    })?;
    if !console.json() {
        console.note(&format!("name it where it is used: {}", line(text(&saved, "reference"))));
    }
    Ok(())
}

/// The value, from wherever it is to come.
fn value(args: &SetArgs) -> Result<Secret<String>, Failure> {
    let value = match &args.file {
        Some(file) => in_file(file)?,
        None if io::stdin().is_terminal() => {
            let asked = rpassword::prompt_password(format!("Value of {}: ", args.name));
            asked
                .map(Secret::new)
                .map_err(|error| Failure::usage(format!("cannot read the value: {error}")))?
        }
        None => {
            let value = whole(io::stdin(), "standard input")?;
            let text = value.expose();
            let line = text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text);
            Secret::new(line.to_owned())
        }
    };
    if value.expose().trim().is_empty() {
        let next = "send it on standard input, or name a --file";
        return Err(Failure::usage("there was no value to read").hint(next));
    }
    Ok(value)
}

fn in_file(file: &Path) -> Result<Secret<String>, Failure> {
    let name = file.display();
    let opened = File::open(file).map_err(|error| Failure::usage(format!("cannot read {name}: {error}")))?;
    whole(opened, &name.to_string())
}

/// All of it, which must be text and short enough. The end of the last line does not count.
fn whole(from: impl Read, what: &str) -> Result<Secret<String>, Failure> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(VALUE_BYTES_MAX).unwrap_or(u64::MAX);
    let read = from.take(limit.saturating_add(3)).read_to_end(&mut bytes);
    let bytes = Secret::new(bytes);
    read.map_err(|error| Failure::usage(format!("cannot read {what}: {error}")))?;
    if bytes.expose().len() > VALUE_BYTES_MAX + 2 {
        return Err(Failure::usage(format!("{what} has more than {VALUE_BYTES_MAX} bytes")));
    }
    let text = str::from_utf8(bytes.expose()).map_err(|_| {
        Failure::usage(format!("{what} is no text")).hint("encode it, as in `base64 -w0 FILE`")
    })?;
    Ok(Secret::new(text.to_owned()))
}

async fn list(console: &Console, api: &Api, limit: u32) -> Result<(), Failure> {
    let Listed { entries: secrets, more, .. } = api.list(PATH, limit).await?;
    if console.json() {
        console.value(&Value::Array(secrets))?;
    } else if secrets.is_empty() {
        console.note("no secrets yet: hand one in with `lantern secrets set`");
    } else {
        let row = |secret: &Value| {
            let count = secret.get("versions").and_then(Value::as_array).map_or(0, Vec::len);
            let version = secret.get("version").map_or_else(|| "none".to_owned(), Value::to_string);
            let column = |name: &str| text(secret, name).to_owned();
            vec![
                column("name"),
                version,
                count.to_string(),
                column("reference"),
                time(text(secret, "updatedAt")),
            ]
        };
        console.table(SECRETS, &secrets.iter().map(row).collect::<Vec<_>>())?;
    }
    console.more(more, limit);
    Ok(())
}

async fn versions(console: &Console, api: &Api, name: &str) -> Result<(), Failure> {
    let row = |version: &Value| {
        let enabled = version.get("enabled") == Some(&Value::Bool(true));
        let status = if enabled { "enabled" } else { "disabled" };
        vec![number(version, "version"), status.to_owned(), time(text(version, "createdAt"))]
    };
    table(console, api, &format!("{}/versions", path(name)), VERSIONS, row).await
}

async fn keys(console: &Console, api: &Api) -> Result<(), Failure> {
    let row = |key: &Value| vec![number(key, "version"), number(key, "sealed"), time(text(key, "createdAt"))];
    table(console, api, KEYS, SEALING, row).await
}

fn number(value: &Value, name: &str) -> String {
    value.get(name).map(Value::to_string).unwrap_or_default()
}

async fn table(
    console: &Console,
    api: &Api,
    path: &str,
    columns: &[Column],
    row: impl Fn(&Value) -> Vec<String>,
) -> Result<(), Failure> {
    let Value::Array(entries) = api.fetch(Call::get(path)).await? else { return Err(api.stranger()) };
    if console.json() {
        return console.value(&Value::Array(entries));
    }
    if entries.is_empty() {
        console.note("there are none");
        return Ok(());
    }
    console.table(columns, &entries.iter().map(row).collect::<Vec<_>>())
}

async fn enable(
    console: &Console,
    api: &Api,
    (name, version): (&str, u32),
    yes: bool,
) -> Result<(), Failure> {
    let path = format!("{}/versions/{version}", path(name));
    let changed = api.fetch(Call::patch(path, json!({ "enabled": yes }))).await?;
    console.answer(&changed, || {
        let done = if yes { "enabled" } else { "disabled" };
        let counts = match changed.get("version") {
            Some(version) => format!("version {version} counts"),
            None => "no version counts, so the secret cannot be used".to_owned(),
        };
        format!("{done} version {version} of {name}: {counts}")
    })
}

async fn delete(
    console: &Console,
    api: &Api,
    (name, version): (&str, Option<u32>),
    force: bool,
) -> Result<(), Failure> {
    let (what, path) = match version {
        Some(version) => {
            (format!("version {version} of the secret {name}"), format!("{}/versions/{version}", path(name)))
        }
        None => (format!("the secret {name} with all of its versions"), path(name)),
    };
    confirmed(console, force, &format!("delete {what}"))?;
    api.send(Call::delete(path)).await?;
    let mut told = Map::new();
    told.insert("name".to_owned(), name.into());
    told.extend(version.map(|version| ("version".to_owned(), version.into())));
    told.insert("deleted".to_owned(), true.into());
    console.answer(&told.into(), || format!("deleted {what}"))
}

/// Asks for batches until nothing remains. Whoever is interrupted begins again, and goes on where it was.
async fn rekey(console: &Console, api: &Api) -> Result<(), Failure> {
    let path = format!("{KEYS}/rotate");
    let mut body = json!({});
    let mut resealed = 0;
    loop {
        let done = api.fetch(Call::post(path.as_str(), body)).await?;
        let count = |name: &str| done.get(name).and_then(Value::as_u64);
        let (Some(key), Some(some), Some(left)) =
            (count("keyVersion"), count("resealed"), count("remaining"))
        else {
            return Err(api.stranger());
        };
        resealed += some;
        if left == 0 {
            let told = json!({ "keyVersion": key, "resealed": resealed, "remaining": 0 });
            return console.answer(&told, || match key {
                0 => "there is no secret yet, and no key".to_owned(),
                key => format!("key {key} seals all secrets now: {resealed} values were sealed anew"),
            });
        }
        if !console.json() {
            console.note(&format!("{left} values remain under older keys"));
        }
        body = json!({ "toVersion": key });
    }
}

fn path(name: &str) -> String {
    format!("{PATH}/{}", encode(name))
}
