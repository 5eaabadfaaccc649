//! `lantern keys`: list, create and revoke API keys.
//!
//! Invariant: a new key's text goes to standard output, alone, and nowhere else; nothing here keeps it.

use clap::{Args, Subcommand};
use lantern_types::ApiKeyId;
use serde_json::{Map, Value, json};

use crate::cli::api::{Api, Call, Listed};
use crate::cli::console::Console;
use crate::cli::failure::Failure;
use crate::cli::format::{line, text, time};
use crate::cli::runs::confirmed;
use crate::cli::table::Column;

const PATH: &str = "/v1/api-keys";

/// What a list says of a key.
const COLUMNS: &[Column] = &[
    Column::whole("ID"),
    Column::text("NAME"),
    Column::spare("PREFIX"),
    Column::text("SCOPES"),
    Column::whole("STATUS"),
    Column::spare("EXPIRES"),
    Column::spare("LAST USED"),
    Column::spare("CREATED"),
];

/// What can be done with API keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make a key and show it, this once
    #[command(after_help = "The key alone goes to standard output: KEY=$(lantern keys create --name ci)")]
    Create(CreateArgs),
    /// List keys, the newest first, without their secrets
    List {
        /// At most this many
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Take a key back, for good
    Revoke {
        /// The key's id
        key: ApiKeyId,
        /// Do not ask
        #[arg(long)]
        force: bool,
    },
}

/// Flags of `lantern keys create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// What the key is for
    #[arg(long)]
    name: String,
    /// What it may do: read, write, admin, runtime:read, runtime:write or runtime:admin; may be repeated [default: write]
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// How long it is good, as in 30d or 12h [default: for ever]
    #[arg(long, value_name = "TIME")]
    expires_in: Option<String>,
}

/// Does what was asked.
pub(crate) async fn run(console: &Console, api: &Api, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Create(args) => create(console, api, args).await,
        Verb::List { limit } => list(console, api, limit).await,
        Verb::Revoke { key, force } => {
            confirmed(console, force, &format!("revoke the key {key}"))?;
            api.send(Call::delete(format!("{PATH}/{key}"))).await?;
            console.answer(&json!({ "id": key, "revoked": true }), || format!("revoked the key {key}"))
        }
    }
}

async fn create(console: &Console, api: &Api, args: CreateArgs) -> Result<(), Failure> {
    let mut body = Map::new();
    body.insert("name".to_owned(), args.name.into());
    if !args.scopes.is_empty() {
        body.insert("scopes".to_owned(), args.scopes.into());
    }
    if let Some(life) = args.expires_in {
        body.insert("expiresIn".to_owned(), life.into());
    }
    let made = api.fetch(Call::post(PATH, body.into())).await?;
    if text(&made, "rawKey").is_empty() {
        return Err(api.stranger());
    }
    console.answer(&made, || line(text(&made, "rawKey")))?;
    if !console.json() {
        let key = made.get("key").unwrap_or(&Value::Null);
        let (name, id) = (line(text(key, "name")), line(text(key, "id")));
        console.note(&format!("made the key {name}, {id}; keep it now, it is not shown again"));
    }
    Ok(())
}

async fn list(console: &Console, api: &Api, limit: u32) -> Result<(), Failure> {
    let Listed { entries: keys, more, .. } = api.list(PATH, limit).await?;
    if console.json() {
        console.value(&Value::Array(keys))?;
    } else if keys.is_empty() {
        console.note("no keys yet: make one with `lantern keys create`");
    } else {
        console.table(COLUMNS, &keys.iter().map(row).collect::<Vec<_>>())?;
    }
    console.more(more, limit);
    Ok(())
}

fn row(key: &Value) -> Vec<String> {
    let scopes = key.get("scopes").and_then(Value::as_array).into_iter().flatten();
    let scopes: Vec<&str> = scopes.filter_map(Value::as_str).collect();
    let column = |name: &str| text(key, name).to_owned();
    let at = |name: &str| time(text(key, name));
    let scopes = scopes.join(", ");
    let times = [at("expiresAt"), at("lastUsedAt"), at("createdAt")];
    [column("id"), column("name"), column("prefix"), scopes, column("status")]
        .into_iter()
        .chain(times)
        .collect()
}
