//! `lantern runs list`: which runs, in the words of the API.
//!
//! Invariant: every flag becomes a filter of the server, which decides; what a list was cut to says how to go on.

use clap::Args;
use lantern_net::RealClock;
use lantern_types::edge::Clock as _;
use lantern_types::{At, Dur, RunId, SessionId};
use serde_json::Value;

use crate::cli::api::{Api, encode};
use crate::cli::console::Console;
use crate::cli::failure::Failure;
use crate::cli::follow::took;
use crate::cli::format::{count, dollars, duration, number, text, time, usd};
use crate::cli::table::Column;

/// What a list says of a run.
pub(super) const COLUMNS: &[Column] = &[
    Column::whole("ID"),
    Column::text("AGENT"),
    Column::whole("STATUS"),
    Column::whole("TOOK"),
    Column::spare("TOKENS"),
    Column::whole("COST"),
    Column::spare("CREATED"),
];

/// Flags of `lantern runs list`.
#[derive(Debug, Default, Args)]
#[command(
    after_help = "Flags add up: a run is listed when all of them hold. A time is RFC 3339 or how long ago: 2026-11-01T09:00:00Z, \
                  90m, 7d. Inputs and outputs are sealed and not searched."
)]
pub(crate) struct ListArgs {
    /// Only runs of this agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Only runs in one of these states: queued, running, paused, succeeded, failed, cancelled
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    status: Vec<String>,
    /// Only runs of this session
    #[arg(long, value_name = "SESSION")]
    session: Option<SessionId>,
    /// Only runs that this run started
    #[arg(long, value_name = "RUN")]
    parent: Option<RunId>,
    /// Only runs made then or later
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Moment>,
    /// Only runs made before then
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Moment>,
    /// Only runs with this label; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<String>,
    /// Only runs whose agent's name, label's value, or id begins so
    #[arg(long, value_name = "TEXT")]
    query: Option<String>,
    /// At most this many
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Go on where an earlier list was cut
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

/// A time that the user said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    At(At),
    Ago(Dur),
}

impl Moment {
    pub(crate) fn at(self, now: At) -> At {
        match self {
            Self::At(at) => at,
            Self::Ago(dur) => now - dur,
        }
    }
}

pub(super) async fn list(console: &Console, api: &Api, args: ListArgs) -> Result<(), Failure> {
    let path = path(&args, RealClock::new().now());
    let narrowed = !path.ends_with('?');
    let listed = api.list_from(&path, args.limit, args.cursor).await?;
    let runs = listed.entries;
    if console.json() {
        console.value(&Value::Array(runs))?;
    } else if runs.is_empty() && narrowed {
        console.note("no runs match: see all with `lantern runs list`");
    } else if runs.is_empty() {
        console.note("no runs: start one with `lantern runs create`");
    } else {
        console.table(COLUMNS, &runs.iter().map(row).collect::<Vec<_>>())?;
    }
    console.more_from(listed.more, args.limit, listed.cursor.as_deref());
    Ok(())
}

fn path(args: &ListArgs, now: At) -> String {
    let said = |name: &'static str, value: Option<String>| value.map(|value| (name, value));
    let when = |moment: Option<Moment>| moment.map(|moment| moment.at(now).to_string());
    let status = (!args.status.is_empty()).then(|| args.status.join(","));
    let filters = [
        said("agent", args.agent.clone()),
        said("status", status),
        said("sessionId", args.session.map(|session| session.to_string())),
        said("parent", args.parent.map(|run| run.to_string())),
        said("created[gte]", when(args.since)),
        said("created[lt]", when(args.until)),
        said("q", args.query.clone()),
    ];
    let labels = args.labels.iter().map(|label| ("label", label.clone()));
    let given = filters.into_iter().flatten().chain(labels);
    let given: Vec<String> =
        given.map(|(name, value)| format!("{}={}", encode(name), encode(&value))).collect();
    format!("/v1/runs?{}", given.join("&"))
}

pub(super) fn row(run: &Value) -> Vec<String> {
    let tokens = number(run, "tokensIn") + number(run, "tokensOut");
    vec![
        text(run, "id").to_owned(),
        text(run, "agentName").to_owned(),
        text(run, "status").to_owned(),
        took(run).map(duration).unwrap_or_default(),
        count(tokens),
        usd(dollars(run.get("costUsd").unwrap_or(&Value::Null))),
        time(text(run, "createdAt")),
    ]
}

pub(crate) fn moment(text: &str) -> Result<Moment, String> {
    let at = text.parse().map(Moment::At).ok();
    at.or_else(|| Dur::parse(text).map(Moment::Ago))
        .ok_or_else(|| "a time as 2026-11-01T09:00:00Z, or how long ago as 90m or 7d".to_owned())
}

/// As the API has it: the first colon ends the key.
fn label(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, _)) if key.contains(':') => {
            Err("a label whose key has a colon cannot be asked for".to_owned())
        }
        Some((key, value)) if !key.is_empty() => Ok(format!("{key}:{value}")),
        _ => Err("a label is KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_filters() {
        let now: At = "2026-11-29T12:00:00Z".parse().unwrap();
        assert_eq!(path(&ListArgs::default(), now), "/v1/runs?");
        let args = ListArgs {
            agent: Some("a b".to_owned()),
            status: vec!["failed".to_owned(), "queued".to_owned()],
            parent: "018f0000-0000-7000-8000-000000000001".parse().ok(),
            since: moment("90m").ok(),
            until: moment("2026-11-29T13:00:00+01:00").ok(),
            labels: vec![label("env=prod").unwrap(), label("note=a=b:c").unwrap()],
            query: Some("re&x".to_owned()),
            ..ListArgs::default()
        };
        let want = "/v1/runs?agent=a%20b&status=failed%2Cqueued&parent=018f0000-0000-7000-8000-000000000001\
                    &created%5Bgte%5D=2026-11-29T10%3A30%3A00Z&created%5Blt%5D=2026-11-29T12%3A00%3A00Z&q=re%26x\
                    &label=env%3Aprod&label=note%3Aa%3Db%3Ac";
        assert_eq!(path(&args, now), want);
    }

    #[test]
    fn times_and_labels_that_make_no_sense_are_refused() {
        assert_eq!(moment("7d"), Ok(Moment::Ago(Dur::from_secs(7 * 86_400))));
        for wrong in ["yesterday", "7", "-1h", "", "2026-11-29"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
        for wrong in ["env", "=x", "a:b=c"] {
            assert!(label(wrong).is_err(), "{wrong}");
        }
        assert_eq!(label("env="), Ok("env:".to_owned()));
    }

    proptest::proptest! {
        /// Any text on the command line is a time or how long ago, a label, or refused.
        #[test]
        fn any_text_is_a_filter_or_refused(text in "[0-9]{0,20}(ms|s|m|h|d|w)?|[0-9TZ:+.-]{0,30}|[a-z=:]{0,9}|\\PC{0,12}") {
            if let Ok(moment) = moment(&text) {
                let args = ListArgs { since: Some(moment), ..ListArgs::default() };
                let now: At = "2026-11-29T12:00:00Z".parse().unwrap();
                let shown = path(&args, now);
                let said = shown.strip_prefix("/v1/runs?created%5Bgte%5D=").unwrap().trim_end_matches('&');
                let said = said.replace("%3A", ":").replace("%2B", "+");
                proptest::prop_assert!(said.parse::<At>().is_ok(), "{} is asked for as {}", text, said);
            }
            if let Ok(label) = label(&text) {
                proptest::prop_assert!(!label.starts_with(':') && label.len() == text.len());
            }
        }
    }
}
