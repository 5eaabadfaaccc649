//! `lantern identities`: by which issuers one logs in, and unlinking one.
//!
//! Linking one takes the browser that came back from the issuer: the account page of the dashboard does it.

use clap::Subcommand;
use lantern_types::IdentityId;
use serde_json::{Value, json};

use crate::cli::api::{Api, Call};
use crate::cli::console::Console;
use crate::cli::failure::Failure;
use crate::cli::format::{line, text, time};
use crate::cli::table::Column;

const PATH: &str = "/auth/identities";

const COLUMNS: &[Column] = &[
    Column::whole("ID"),
    Column::whole("BY"),
    Column::text("EMAIL"),
    Column::whole("USED"),
    Column::spare("LINKED"),
    Column::spare("ISSUER"),
];

/// What can be done with one's identities.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List by which issuers you log in
    List {
        /// At most this many
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Unlink one: whoever the issuer says you are logs in to this account no more
    Unlink {
        /// The identity's id
        identity: IdentityId,
    },
}

/// Does what was asked.
pub(crate) async fn run(console: &Console, api: &Api, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List { limit } => {
            let listed = api.list(PATH, limit).await?;
            if console.json() {
                console.value(&Value::Array(listed.entries))?;
            } else if listed.entries.is_empty() {
                console.note("you log in by no issuer");
            } else {
                console.table(COLUMNS, &listed.entries.iter().map(row).collect::<Vec<_>>())?;
            }
            console.more(listed.more, limit);
            Ok(())
        }
        Verb::Unlink { identity } => {
            api.send(Call::delete(format!("{PATH}/{identity}"))).await?;
            let answer = json!({ "id": identity.to_string(), "unlinked": true });
            console.answer(&answer, || format!("unlinked {identity}"))
        }
    }
}

fn row(identity: &Value) -> Vec<String> {
    let by = match text(identity, "provider") {
        "" => "-".to_owned(),
        name => line(name),
    };
    vec![
        line(text(identity, "id")),
        by,
        line(text(identity, "email")),
        time(text(identity, "lastUsedAt")),
        time(text(identity, "createdAt")),
        line(text(identity, "issuer")),
    ]
}
