//! `lantern retention`: for how long what was said in runs is kept, and what would be removed.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::api::{Api, Call};
use crate::cli::console::Console;
use crate::cli::failure::Failure;
use crate::cli::format::{line, text};

const SETTING: &str = "/v1/settings/retention";
const PREVIEW: &str = "/v1/retention/preview";

/// Flags of `lantern retention`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without flags it shows the time in force. Content is what was said: inputs, outputs, prompts, arguments \
                        and labels. What happened is kept: steps, times, costs."
)]
pub(crate) struct RetentionArgs {
    /// Keep content so long after a run's end: 90d, 12h, never to remove it, default to leave it to the server
    #[arg(long, value_name = "TIME")]
    content: Option<String>,
    /// Count what would be removed, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Does what was asked.
pub(crate) async fn run(console: &Console, api: &Api, args: &RetentionArgs) -> Result<(), Failure> {
    let wanted = match args.content.as_deref() {
        None => json!({}),
        Some("default") => json!({ "content": null }),
        Some(time) => json!({ "content": time }),
    };
    if args.dry_run {
        let found = api.fetch(Call::post(PREVIEW, wanted)).await?;
        return console.answer(&found, || counted(&found));
    }
    let shown = match args.content {
        Some(_) => api.fetch(Call::post(SETTING, wanted)).await?,
        None => api.fetch(Call::get(SETTING)).await?,
    };
    console.answer(&shown, || said(&shown))
}

fn said(shown: &Value) -> String {
    let by = if text(shown, "source") == "tenant" { "the tenant" } else { "the server" };
    match text(shown, "content") {
        "" => format!("content is kept for ever, as {by} says"),
        time => format!("content is removed {} after a run's end, as {by} says", line(time)),
    }
}

fn counted(found: &Value) -> String {
    let number = |name: &str| found.get(name).and_then(Value::as_i64).unwrap_or_default();
    let time = match text(found, "content") {
        "" => return "nothing would be removed: content is kept for ever".to_owned(),
        time => line(time),
    };
    let runs = number("runs");
    if runs == 0 {
        return format!("no run with content is over for {time} or longer");
    }
    let some = match number("measuredRuns") {
        measured if measured < runs => format!(" of the oldest {measured}"),
        _ => String::new(),
    };
    let large = match number("largeBodies") {
        0 => String::new(),
        large => format!(", and {large} large bodies beside it"),
    };
    format!(
        "{runs} runs are over for {time} or longer, from {} to {}; {} bytes{some} in the database{large} would be removed",
        line(text(found, "oldest")),
        line(text(found, "newest")),
        number("bytes"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_removed_is_said_in_one_line() {
        let found = |runs: i64, measured: i64, large: i64| {
            counted(
                &json!({ "content": "90d", "runs": runs, "measuredRuns": measured, "bytes": 7, "largeBodies": large,
                "oldest": "a", "newest": "b" }),
            )
        };
        assert_eq!(
            counted(&json!({ "content": null, "runs": 0 })),
            "nothing would be removed: content is kept for ever"
        );
        assert_eq!(found(0, 0, 0), "no run with content is over for 90d or longer");
        assert!(found(2, 2, 0).ends_with("from a to b; 7 bytes in the database would be removed"));
        assert!(found(3, 2, 1).ends_with(
            "7 bytes of the oldest 2 in the database, and 1 large bodies beside it would be removed"
        ));
    }
}
