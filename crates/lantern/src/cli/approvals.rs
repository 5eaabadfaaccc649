//! `lantern approvals`: what waits for a person, of all runs, and decisions.
//!
//! Invariant: every flag becomes a filter of the server, which decides; a decision names its approval whole, to be copied.

use clap::{Args, Subcommand};
use lantern_types::{ApprovalId, MicroUsd, RunId};
use serde_json::{Value, json};

use crate::cli::api::{Api, Call, encode};
use crate::cli::console::{Console, fields};
use crate::cli::failure::{Exit, Failure};
use crate::cli::format::{block, dollars, line, text, time, usd};
use crate::cli::input;
use crate::cli::table::Column;

/// What a list says of an approval.
const COLUMNS: &[Column] = &[
    Column::whole("ID"),
    Column::text("AGENT"),
    Column::text("STEP"),
    Column::whole("STATUS"),
    Column::text("ABOUT"),
    Column::spare("ASKED"),
    Column::whole("EXPIRES"),
];

/// What can be done with approvals.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List what waits for somebody, the oldest first, or what was decided, the newest first
    List(ListArgs),
    /// Show one approval: what is asked, of whom, and what was decided
    Get {
        /// The approval's id
        approval: ApprovalId,
    },
    /// Let a step that waits go on, or more be spent of a budget that asks
    Grant(GrantArgs),
    /// Forbid a step that waits
    Deny(DecisionArgs),
    /// Let an approval step go on, and say what it gives to the steps after it
    Answer {
        /// The approval's id
        approval: ApprovalId,
        /// The answer: JSON, text, @file, or @- for standard input
        #[arg(value_name = "JSON|TEXT|@FILE")]
        answer: String,
        /// Why, for the journal
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
}

/// Flags of `lantern approvals list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only those in one of these states: pending, granted, denied, expired, withdrawn [default: pending]
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    status: Vec<String>,
    /// Only those of runs of this agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Only those of this run
    #[arg(long, value_name = "RUN")]
    run: Option<RunId>,
    /// At most this many
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Go on where an earlier list was cut
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

/// Flags of `lantern approvals grant`.
#[derive(Debug, Args)]
pub(crate) struct GrantArgs {
    #[command(flatten)]
    decision: DecisionArgs,
    /// Of a budget: let so many dollars more through, and not the rest of its day or month
    #[arg(long, value_name = "USD")]
    more: Option<String>,
}

/// Flags of `lantern approvals grant` and `deny`.
#[derive(Debug, Args)]
pub(crate) struct DecisionArgs {
    /// The approval's id
    approval: ApprovalId,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

/// Does what was asked.
pub(crate) async fn run(console: &Console, api: &Api, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List(args) => list(console, api, args).await,
        Verb::Get { approval } => {
            let answer = api.fetch(Call::get(path(approval))).await?;
            console.answer(&answer, || described(&answer))
        }
        Verb::Grant(GrantArgs { decision, more }) => {
            let more = more.as_deref().map(positive).transpose()?;
            decide(console, api, decision, ("grant", more)).await
        }
        Verb::Deny(args) => decide(console, api, args, ("deny", None)).await,
        Verb::Answer { approval, answer, note } => {
            let read = input::read(&answer, std::io::stdin())?;
            read.note.iter().for_each(|note| console.warn(note));
            let body = json!({ "approved": true, "answer": input::as_value(read)?, "note": note });
            let answer = api.fetch(Call::post(format!("{}/answer", path(approval)), body)).await?;
            console.answer(&answer, || decided(&answer))
        }
    }
}

async fn list(console: &Console, api: &Api, args: ListArgs) -> Result<(), Failure> {
    let path = filtered(&args);
    let narrowed = !path.ends_with('?');
    let listed = api.list_from(&path, args.limit, args.cursor).await?;
    let approvals = listed.entries;
    if console.json() {
        console.value(&Value::Array(approvals))?;
    } else if approvals.is_empty() {
        console.note(if narrowed {
            "no approvals match: see what waits with `lantern approvals list`"
        } else {
            "nothing waits for anybody"
        });
    } else {
        console.table(COLUMNS, &approvals.iter().map(row).collect::<Vec<_>>())?;
    }
    console.more_from(listed.more, args.limit, listed.cursor.as_deref());
    Ok(())
}

fn filtered(args: &ListArgs) -> String {
    let status = (!args.status.is_empty()).then(|| args.status.join(","));
    let run = args.run.map(|run| run.to_string());
    let given = [("status", status), ("agent", args.agent.clone()), ("runId", run)];
    let given = given.into_iter().filter_map(|(name, value)| value.map(|value| (name, value)));
    let given: Vec<String> = given.map(|(name, value)| format!("{name}={}", encode(&value))).collect();
    format!("/v1/approvals?{}", given.join("&"))
}

/// Dollars that are more than nothing.
fn positive(said: &str) -> Result<MicroUsd, Failure> {
    let amount = MicroUsd::parse_usd(said).filter(|amount| *amount > MicroUsd::ZERO);
    let words = "--more: expected dollars such as 5 or 0.50, and more than nothing";
    amount.ok_or_else(|| Failure::new(Exit::Usage, words))
}

async fn decide(
    console: &Console,
    api: &Api,
    args: DecisionArgs,
    (verb, more): (&str, Option<MicroUsd>),
) -> Result<(), Failure> {
    let mut body = json!({ "note": args.note });
    if let (Some(fields), Some(more)) = (body.as_object_mut(), more) {
        fields.insert("moreUsd".to_owned(), more.to_wire().into());
    }
    let answer = api.fetch(Call::post(format!("{}/{verb}", path(args.approval)), body)).await?;
    console.answer(&answer, || decided(&answer))?;
    if let Some(words) = more.and_then(|more| too_little(&answer, more)) {
        console.note(&words);
    }
    Ok(())
}

/// That what was granted does not let the call through that asked, if so.
fn too_little(approval: &Value, more: MicroUsd) -> Option<String> {
    let budget = approval.get("budget")?;
    let amount = |name: &str| budget.get(name).map(dollars).unwrap_or_default();
    let [cap, spent, hold] = ["maxCostUsd", "spentUsd", "holdUsd"].map(amount);
    let needs = spent.plus(hold).ok()?.minus(cap).ok()?;
    (more < needs).then(|| {
        let (more, hold, needs) = (usd(more), usd(hold), usd(needs));
        format!(
            "{more} more is too little for the call that asked, which could cost {hold}: with {needs} it would fit, \
             and as it is, it asks again"
        )
    })
}

/// What became of a decision: one that nobody has taken in yet lies where it will be.
fn decided(approval: &Value) -> String {
    let (step, run) = (line(text(approval, "stepId")), line(text(approval, "runId")));
    match text(approval, "status") {
        "pending" => format!("{step} of run {run}: the decision waits for the run to take it in"),
        status => format!("{step} of run {run}: {}", line(status)),
    }
}

fn path(approval: ApprovalId) -> String {
    format!("/v1/approvals/{approval}")
}

fn row(approval: &Value) -> Vec<String> {
    vec![
        text(approval, "id").to_owned(),
        text(approval, "agentName").to_owned(),
        text(approval, "stepId").to_owned(),
        text(approval, "status").to_owned(),
        about(approval),
        time(text(approval, "askedAt")),
        time(text(approval, "expiresAt")),
    ]
}

/// What is decided on, in one line: an author's reason, or a tool and what it is called with.
fn about(approval: &Value) -> String {
    match (text(approval, "tool"), approval.get("arguments")) {
        ("", _) => text(approval, "reason").to_owned(),
        (tool, Some(arguments)) => format!("{tool} {arguments}"),
        (tool, None) => tool.to_owned(),
    }
}

fn described(approval: &Value) -> String {
    let column = |name: &str| text(approval, name).to_owned();
    let names = |name: &str| -> String {
        let list = approval.get(name).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
    };
    let pending = text(approval, "status") == "pending";
    let commands = if pending {
        let id = line(text(approval, "id"));
        format!("lantern approvals grant {id}\nlantern approvals deny {id}")
    } else {
        String::new()
    };
    let head = fields(&[
        ("id", column("id")),
        ("status", column("status")),
        ("agent", column("agentName")),
        ("run", column("runId")),
        ("step", column("stepId")),
        ("reason", column("reason")),
        ("tool", column("tool")),
        ("approvers", names("approvers")),
        ("asked", time(text(approval, "askedAt"))),
        ("expires", time(text(approval, "expiresAt"))),
        ("decided", time(text(approval, "decidedAt"))),
        ("by", column("decidedBy")),
        ("note", column("note")),
    ]);
    let content =
        |name: &str| approval.get(name).map(|value| block(&format!("{value:#}"))).unwrap_or_default();
    let parts = [head, content("arguments"), content("answer"), commands];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "018f0000-0000-8000-8000-00000000000a";

    #[test]
    fn flags_become_filters() {
        let none = || ListArgs { status: vec![], agent: None, run: None, limit: 50, cursor: None };
        assert_eq!(filtered(&none()), "/v1/approvals?");
        let args = ListArgs {
            status: vec!["granted".to_owned(), "denied".to_owned()],
            agent: Some("a b".to_owned()),
            run: "018f0000-0000-7000-8000-000000000001".parse().ok(),
            ..none()
        };
        let want =
            "/v1/approvals?status=granted%2Cdenied&agent=a%20b&runId=018f0000-0000-7000-8000-000000000001";
        assert_eq!(filtered(&args), want);
    }

    #[test]
    fn an_approval_says_what_is_asked_and_how_to_answer() {
        let call = json!({ "id": ID, "agentName": "pays", "runId": "r", "stepId": "p", "status": "pending",
            "tool": "pay", "arguments": { "cents": 5 }, "approvers": [], "askedAt": "2026-11-29T09:00:00Z",
            "expiresAt": "2026-11-30T09:00:00Z" });
        let want = format!(
            "id       {ID}\nstatus   pending\nagent    pays\nrun      r\nstep     p\ntool     pay\n\
             asked    2026-11-29 09:00:00Z\nexpires  2026-11-30 09:00:00Z\n\n{{\n  \"cents\": 5\n}}\n\n\
             lantern approvals grant {ID}\nlantern approvals deny {ID}"
        );
        assert_eq!(described(&call), want);
        assert_eq!(row(&call)[4], "pay {\"cents\":5}");
        let over = json!({ "id": ID, "status": "denied", "reason": "ship?", "approvers": ["a@x.y", "b@x.y"],
            "decidedBy": "a@x.y", "note": "no" });
        let want = format!(
            "id         {ID}\nstatus     denied\nreason     ship?\napprovers  a@x.y, b@x.y\nby         a@x.y\nnote       no"
        );
        assert_eq!(described(&over), want);
        assert_eq!(row(&over)[4], "ship?");
    }

    #[test]
    fn a_grant_that_is_not_enough_says_what_would_be() {
        let approval = json!({"budget": {"maxCostUsd": 1.0, "spentUsd": 0.9, "holdUsd": 0.3}});
        let said = |micros| too_little(&approval, MicroUsd::from_micros(micros));
        assert_eq!(said(200_000), None);
        let words = said(199_999).unwrap();
        assert!(words.contains("with $0.20 it would fit"), "{words}");
        assert_eq!(too_little(&json!({}), MicroUsd::from_micros(1)), None, "of a step");
    }

    #[test]
    fn a_decision_that_nobody_took_in_says_so() {
        let answer = |status: &str| json!({ "runId": "r", "stepId": "s", "status": status });
        assert_eq!(decided(&answer("granted")), "s of run r: granted");
        assert!(decided(&answer("pending")).contains("waits for the run"));
    }
}
