//! `lantern providers`: list, set, test and forget model providers.
//!
//! Invariant: a provider's key comes from standard input, a hidden question or the environment, never from an argument,
//! where every process of the machine could read it; it is sent once and printed nowhere.

use std::io::{self, Read};

use clap::{Args, Subcommand};
use lantern_types::{Reference, Secret, SecretName};
use serde_json::{Map, Value, json};

use crate::cli::api::{Api, Call, encode};
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure};
use crate::cli::format::{line, text, time};
use crate::cli::runs::confirmed;
use crate::cli::table::Column;
use crate::env;

const PATH: &str = "/v1/settings/llm-providers";
/// How a tenant's provider is set.
pub(crate) const SET: &str = "`lantern providers set`";
/// Longer than any key.
const KEY_BYTES_MAX: u64 = 8 << 10;

/// What a list says of a provider.
const COLUMNS: &[Column] = &[
    Column::whole("NAME"),
    Column::whole("KEY"),
    Column::text("BASE URL"),
    Column::spare("SET BY"),
    Column::spare("UPDATED"),
];

/// What can be done with model providers.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List the tenant's providers, then the operator's
    List,
    /// Save a provider; what is not said is not kept
    #[command(after_help = "\
Environment:
  LANTERN_PROVIDER_KEY  the provider's key, where --key-stdin is not given

--api-key is the key of the caller, not the provider's.")]
    Set(SetArgs),
    /// Ask a provider for its models, now
    Test {
        /// The provider's name
        name: String,
    },
    /// Forget a provider and its key
    Delete {
        /// The provider's name
        name: String,
        /// Do not ask
        #[arg(long)]
        force: bool,
    },
}

/// Flags of `lantern providers set`.
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The provider's name
    name: String,
    /// Where it answers, as in http://127.0.0.1:11434/v1 [default: the vendor's own]
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// Read its key from standard input; at a terminal, ask for it without showing it
    #[arg(long)]
    key_stdin: bool,
    /// Its key is this secret, as `lantern secrets list` names it
    #[arg(long, value_name = "NAME", conflicts_with = "key_stdin", value_parser = SecretName::parse)]
    secret: Option<SecretName>,
}

/// Does what was asked.
pub(crate) async fn run(console: &Console, api: &Api, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List => list(console, api).await,
        Verb::Set(args) => set(console, api, args).await,
        Verb::Test { name } => {
            let tested = test(api, &name).await?;
            if tested.get("success") == Some(&Value::Bool(true)) {
                return console.answer(&tested, || line(text(&tested, "message")));
            }
            Err(unusable(&name, "", &tested, SET))
        }
        Verb::Delete { name, force } => {
            confirmed(console, force, &format!("forget the provider {name} and its key"))?;
            api.send(Call::delete(path(&name))).await?;
            console.answer(&json!({ "provider": name, "deleted": true }), || {
                format!("forgot the provider {name}")
            })
        }
    }
}

/// What the server found when it asked a provider for its models.
pub(crate) async fn test(api: &Api, name: &str) -> Result<Value, Failure> {
    api.fetch(Call::post(format!("{}/test", path(name)), json!({}))).await
}

/// The providers that the server knows.
pub(crate) async fn all(api: &Api) -> Result<Vec<Value>, Failure> {
    match api.fetch(Call::get(PATH)).await? {
        Value::Array(providers) => Ok(providers),
        _ => Err(api.stranger()),
    }
}

/// A provider that a test could not use; `at` is where it answers, if that is known, `set` how it is set.
pub(crate) fn unusable(name: &str, at: &str, tested: &Value, set: &str) -> Failure {
    let code = line(text(tested, "code"));
    // The server says it of the name alone.
    let why = text(tested, "error").strip_prefix(&format!("{name} cannot be used: "));
    let why = why.map_or_else(|| code.clone(), line);
    let at = if at.is_empty() { String::new() } else { format!(" at {}", line(at)) };
    let hint = match text(tested, "reason") {
        "name" => format!("check the name in its base URL; set it with {set}"),
        "tls" => format!(
            "use an address whose certificate leads to a public root, or http within your own network; set it with {set}"
        ),
        _ => remedy(&code, set),
    };
    Failure::new(Exit::Failed, format!("{}{at} cannot be used: {why}", line(name))).hint(hint).code(&code)
}

/// What to know of a provider at an address of somebody's own, where the catalogue's prices end.
pub(crate) fn unpriced(name: &str) -> String {
    format!(
        "models of {} that the catalogue has no price for count as free: if somebody charges for them, no budget of a run \
         bounds what they cost",
        line(name)
    )
}

/// What to do about a model that cannot be used; `set` is how its provider is set.
pub(crate) fn remedy(code: &str, set: &str) -> String {
    match code {
        "provider_unreachable" | "provider_timeout" | "provider_interrupted" | "provider_unavailable" => {
            format!("see that the provider runs and that its address is right; set it with {set}")
        }
        "provider_auth" => format!("give it a key that it accepts; set it with {set}"),
        "egress_denied" => {
            "use a public address, or let the operator set private_addresses = true under [models]".to_owned()
        }
        "" => "look at the server's log".to_owned(),
        code => format!("see docs/errors/{code}.md"),
    }
}

async fn list(console: &Console, api: &Api) -> Result<(), Failure> {
    let providers = all(api).await?;
    if console.json() {
        return console.value(&Value::Array(providers));
    }
    if providers.is_empty() {
        console.note(&format!("no providers yet: save one with {SET}"));
        return Ok(());
    }
    console.table(COLUMNS, &providers.iter().map(row).collect::<Vec<_>>())
}

fn row(provider: &Value) -> Vec<String> {
    let column = |name: &str| text(provider, name).to_owned();
    let by = if text(provider, "source") == "environment" { "the environment" } else { "the tenant" };
    vec![
        column("provider"),
        column("keyMasked"),
        column("baseUrl"),
        by.to_owned(),
        time(text(provider, "updatedAt")),
    ]
}

async fn set(console: &Console, api: &Api, args: SetArgs) -> Result<(), Failure> {
    let key = match &args.secret {
        Some(name) => Some(Secret::new(Reference::to(name.clone()).to_string())),
        None => key(console, &args)?,
    };
    let saved = save(api, &args.name, args.base_url.as_deref(), key).await?;
    let name = line(text(&saved, "provider"));
    console.answer(&saved, || format!("saved the provider {name}"))?;
    // In JSON it stands in the answer.
    if !console.json() && !text(&saved, "warning").is_empty() {
        console.warn(&line(text(&saved, "warning")));
    }
    if !console.json() {
        console.note(&format!("try it: lantern providers test {name}"));
    }
    Ok(())
}

/// Saves a provider, and answers how it is known from then on.
pub(crate) async fn save(
    api: &Api,
    name: &str,
    base_url: Option<&str>,
    key: Option<Secret<String>>,
) -> Result<Value, Failure> {
    let mut body = Map::new();
    body.insert("provider".to_owned(), name.into());
    if let Some(url) = base_url {
        body.insert("baseUrl".to_owned(), url.into());
    }
    if let Some(key) = key {
        body.insert("apiKey".to_owned(), key.expose().as_str().into());
    }
    api.fetch(Call::post(PATH, body.into())).await
}

/// Asks for a provider's key without showing it.
pub(crate) fn asked_key(name: &str) -> Result<Secret<String>, Failure> {
    let key = rpassword::prompt_password(format!("Key of {name}: "));
    whole(&key.map_err(|error| Failure::usage(format!("cannot read the key: {error}")))?)
}

/// The provider's key, if there is one. Somebody's own server may do without.
fn key(console: &Console, args: &SetArgs) -> Result<Option<Secret<String>>, Failure> {
    let given = env::get(env::PROVIDER_KEY);
    let asked = args.key_stdin || (given.is_none() && args.base_url.is_none());
    let key = match given {
        _ if asked && console.interactive() => rpassword::prompt_password(format!("Key of {}: ", args.name)),
        _ if args.key_stdin => piped(io::stdin()),
        Some(key) => Ok(key),
        None if args.base_url.is_some() => return Ok(None),
        None => {
            return Err(Failure::usage(format!("there is no key for {}, and no --base-url", args.name))
                .hint(format!(
                    "pass --key-stdin and send it on standard input, or set {}",
                    env::PROVIDER_KEY
                )));
        }
    };
    let key = key.map_err(|error| Failure::usage(format!("cannot read the key: {error}")))?;
    whole(&key).map(Some)
}

/// A key as it was read, which must be one.
fn whole(key: &str) -> Result<Secret<String>, Failure> {
    let key = Some(key.trim()).filter(|key| !key.is_empty());
    let key = key.ok_or_else(|| Failure::usage("there was no key to read").hint("send it on standard input"));
    key.map(|key| Secret::new(key.to_owned()))
}

fn piped(stdin: impl Read) -> io::Result<String> {
    let mut text = String::new();
    stdin.take(KEY_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn path(name: &str) -> String {
    format!("{PATH}/{}", encode(name))
}
