//! `lantern routing`: how models are chosen when several would do, and which models an alias means.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::cli::api::{Api, Call};
use crate::cli::console::Console;
use crate::cli::failure::Failure;
use crate::cli::format::{line, text};

const SETTING: &str = "/v1/settings/routing";
/// The word that leaves something to the server.
const DEFAULT: &str = "default";

/// What can be done with the choice among models.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show what counts, and the tenant's own table of aliases
    Show,
    /// Say what counts when several models would do
    #[command(after_help = "\
A caller's header `lantern-strategy` counts before an agent's own `strategy`, that before this, and this before the \
server's LANTERN_ROUTE_STRATEGY. A run has no header.")]
    Set(SetArgs),
    /// Say which models an alias means, in the order in which they are tried
    #[command(after_help = "\
Example: lantern routing alias chat-large lab/llama-3 house/phi-4")]
    Alias(AliasArgs),
}

/// Flags of `lantern routing set`.
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// balanced, cheap, best or fast; default leaves it to the server
    strategy: String,
}

/// Flags of `lantern routing alias`.
#[derive(Debug, Args)]
pub(crate) struct AliasArgs {
    /// The alias, such as auto or chat-large
    alias: String,
    /// Models, each as MODEL or PROVIDER/MODEL
    #[arg(required_unless_present = "default")]
    models: Vec<String>,
    /// Let it mean what the catalogue says
    #[arg(long, conflicts_with = "models")]
    default: bool,
}

/// Does what was asked.
pub(crate) async fn run(console: &Console, api: &Api, verb: Verb) -> Result<(), Failure> {
    let shown = match verb {
        Verb::Show => api.fetch(Call::get(SETTING)).await?,
        Verb::Set(SetArgs { strategy }) => {
            let strategy = if strategy == DEFAULT { Value::Null } else { strategy.into() };
            api.fetch(Call::post(SETTING, json!({ "strategy": strategy }))).await?
        }
        Verb::Alias(args) => api.fetch(Call::post(SETTING, entry(args))).await?,
    };
    console.answer(&shown, || said(&shown))
}

/// The change of one entry of the table.
fn entry(AliasArgs { alias, models, default }: AliasArgs) -> Value {
    let mut aliases = Map::new();
    aliases.insert(alias, if default { Value::Null } else { models.into() });
    json!({ "aliases": aliases })
}

fn said(shown: &Value) -> String {
    let by = if text(shown, "source") == "tenant" { "the tenant" } else { "the server" };
    let mut lines = vec![format!("{}, as {by} says", line(text(shown, "strategy")))];
    for (alias, models) in shown.get("aliases").and_then(Value::as_object).into_iter().flatten() {
        let models = models.as_array().into_iter().flatten().filter_map(Value::as_str);
        let models: Vec<String> = models.map(line).collect();
        lines.push(format!("{} means {}", line(alias), models.join(", then ")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_and_what_is_sent() {
        let shown = json!({ "strategy": "cheap", "source": "tenant", "serverStrategy": "balanced",
            "aliases": { "chat-large": ["lab/llama", "gpt-4o"] } });
        assert_eq!(said(&shown), "cheap, as the tenant says\nchat-large means lab/llama, then gpt-4o");
        let bare = json!({ "strategy": "balanced", "source": "server", "aliases": {} });
        assert_eq!(said(&bare), "balanced, as the server says");
        let args = |models: &[&str], default| {
            let models = models.iter().map(ToString::to_string).collect();
            AliasArgs { alias: "auto".to_owned(), models, default }
        };
        assert_eq!(entry(args(&["a", "b"], false)), json!({ "aliases": { "auto": ["a", "b"] } }));
        assert_eq!(entry(args(&[], true)), json!({ "aliases": { "auto": null } }));
    }
}
