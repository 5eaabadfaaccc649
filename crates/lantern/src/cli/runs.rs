//! `lantern runs` and `lantern logs`: start runs, look at them, steer them, follow them.
//!
//! Invariant: a run belongs to the server. Nothing that happens to this process (a lost connection, Ctrl-C, its end)
//! stops it; only `cancel` does.

mod batch;
mod explain;
mod feedback;
mod fork;
mod list;
mod wait;

pub(crate) use list::{Moment, moment};

use clap::{Args, Subcommand, ValueEnum};
use lantern_net::http::{HeaderName, HeaderValue};
use lantern_net::{RealClock, RealIds};
use lantern_types::edge::{Clock as _, IdGen as _};
use lantern_types::{Dur, MicroUsd, Priority, RunId};
use serde_json::{Map, Value, json};
use std::sync::Arc;

use crate::cli::api::{Api, Call, encode};
use crate::cli::console::{Console, Paint, fields};
use crate::cli::failure::{Exit, Failure};
use crate::cli::follow::question::resume;
use crate::cli::follow::waits::Waits;
use crate::cli::follow::{Follow, origin, result, summary, waits};
use crate::cli::format::{cut, line, text, time};
use crate::cli::input;
use crate::cli::watch::{WatchArgs, watch};

/// How soon a decision is tried again that came before its question.
const AGAIN: Dur = Dur::from_millis(250);
/// As much of a run's input as is shown.
const INPUT_COLUMNS: usize = 120;

/// What can be done with runs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Start a run
    Create(CreateArgs),
    /// Show one run and what it answered
    Get {
        /// The run's id
        run: RunId,
    },
    /// List runs, the newest first
    List(list::ListArgs),
    /// Watch runs live on the whole screen, and steer them
    Watch(WatchArgs),
    /// Stop a run for good
    Cancel {
        /// The run's id
        run: RunId,
        /// Why, for the journal
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Let a run start nothing new until it is resumed
    Pause {
        /// The run's id
        run: RunId,
    },
    /// Let a paused run go on
    Resume {
        /// The run's id
        run: RunId,
    },
    /// Start a run that goes on from a step of this one, perhaps otherwise
    Fork(fork::ForkArgs),
    /// Start a run that does what this one did, for nothing, or from a step on anew
    Replay(fork::ReplayArgs),
    /// Show where two runs part
    Diff {
        /// The one run's id
        a: RunId,
        /// The other's
        b: RunId,
    },
    /// Show which model each call of a run went to, and why
    Explain {
        /// The run's id
        run: RunId,
    },
    /// Send a run a signal that it waits for
    Signal {
        /// The run's id
        run: RunId,
        /// The signal's name
        name: String,
        /// What to send: JSON, text, @file, or @- for standard input
        #[arg(long, value_name = "JSON|TEXT|@FILE")]
        value: Option<String>,
    },
    /// Allow a step that waits for approval
    Approve(DecisionArgs),
    /// Forbid a step that waits for approval
    Deny(DecisionArgs),
    /// Say whether a step that is in doubt happened
    Resolve {
        /// The run's id
        run: RunId,
        /// The step
        step: String,
        /// Whether it happened
        #[arg(long, value_enum, hide_possible_values = true, value_name = "yes|no")]
        happened: Happened,
        /// What it answered, if it happened: JSON, text, @file, or @- for standard input
        #[arg(long, value_name = "JSON|TEXT|@FILE")]
        result: Option<String>,
    },
    /// Say what you think of a run
    Rate(feedback::RateArgs),
    /// List what was thought of a run
    Feedback {
        /// The run's id
        run: RunId,
    },
    /// List runs of an agent that are worth trying again
    Rehearse(feedback::RehearseArgs),
    /// Remove what was said in a run that is over, and keep what happened
    Redact {
        /// The run's id
        run: RunId,
        /// Do not ask
        #[arg(long)]
        force: bool,
    },
    /// Remove a run that is over
    Delete {
        /// The run's id
        run: RunId,
        /// Do not ask
        #[arg(long)]
        force: bool,
    },
}

/// Flags of `lantern runs create`.
#[derive(Debug, Args)]
#[command(after_help = "A JSON file is sent as it is; any other text as {\"text\": \"...\"}.\n\n\
                        A run that is followed goes on when this command is interrupted; `lantern logs RUN -f` \
                        continues where it stopped.")]
pub(crate) struct CreateArgs {
    /// The agent to run
    #[arg(long, value_name = "NAME", required_unless_present = "batch")]
    agent: Option<String>,
    /// What the run gets: JSON, text, @file, or @- for standard input
    #[arg(long, value_name = "JSON|TEXT|@FILE")]
    input: Option<String>,
    /// Start the runs of a file, or of standard input with @-, all or none: one JSON object a line, as the API takes them
    #[arg(long, value_name = "@FILE", conflicts_with_all = ["input", "follow", "wait", "max_cost_usd", "labels"])]
    batch: Option<String>,
    /// Show the run live until it is over
    #[arg(short, long, visible_alias = "stream")]
    follow: bool,
    /// Wait at most so long for the run to be over, and show what came of it
    #[arg(long, value_name = "SECONDS", conflicts_with = "follow")]
    wait: Option<u32>,
    /// Start no second run when this command is repeated with the same key
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// The most the run may cost, in dollars
    #[arg(long, value_name = "USD", value_parser = price, allow_negative_numbers = true)]
    max_cost_usd: Option<MicroUsd>,
    /// Before which others of the tenant it goes when there is no room for all: from -5 to 5, and 0 without it
    #[arg(long, value_name = "N", value_parser = priority, allow_negative_numbers = true)]
    priority: Option<Priority>,
    /// A label; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
}

/// Flags of `lantern runs approve` and `deny`.
#[derive(Debug, Args)]
pub(crate) struct DecisionArgs {
    /// The run's id
    run: RunId,
    /// The step that waits
    step: String,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Wait at most so long for the run to come to the step
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u32>,
}

/// Whether a step in doubt happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Happened {
    /// It did.
    #[value(alias = "true")]
    Yes,
    /// It did not; it will be done again if it still is wanted.
    #[value(alias = "false")]
    No,
}

/// Flags of `lantern logs`.
#[derive(Debug, Args)]
#[command(
    after_help = "An interrupted `logs -f` or `runs create --follow` is continued by the next `logs -f` of \
                        the same run."
)]
pub(crate) struct LogsArgs {
    /// The run's id
    run: RunId,
    /// Go on until the run is over, and show how it ended
    #[arg(short, long)]
    follow: bool,
    /// With --follow: show everything, also what an interrupted command has shown already
    #[arg(long, requires = "follow")]
    from_start: bool,
}

/// Does what was asked.
pub(crate) async fn run(console: &Console, api: &Api, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Create(args) => return create(console, api, &args).await,
        Verb::Get { run } => {
            let mut answer = api.fetch(Call::get(path(run))).await?;
            let open = if matches!(text(&answer, "status"), "queued" | "running" | "paused") {
                open(console, api, run).await
            } else {
                None
            };
            if let (Some(open), Some(fields)) = (&open, answer.as_object_mut()) {
                fields.insert("waitsFor".to_owned(), open.json(run));
            }
            let open = open.unwrap_or_default();
            let shown = || describe(&answer, (run, &open), console.paint, console.terminal);
            console.answer(&answer, shown)?;
        }
        Verb::Fork(args) => return fork::fork(console, api, &args).await,
        Verb::Replay(args) => return fork::replay(console, api, &args).await,
        Verb::Diff { a, b } => fork::diff(console, api, (a, b)).await?,
        Verb::Explain { run } => explain::explain(console, api, run).await?,
        Verb::Watch(args) => return Box::pin(watch(console, api, &args)).await,
        Verb::List(args) => list::list(console, api, args).await?,
        Verb::Cancel { run, reason } => {
            steer(console, api, run, "cancel", json!({ "reason": reason })).await?;
        }
        Verb::Pause { run } => {
            let answer = steer(console, api, run, "pause", json!({})).await?;
            if !console.json() && text(&answer, "status") == "paused" {
                console.note(&format!("let it go on: {}", resume(reached(run, &answer))));
            }
        }
        Verb::Resume { run } => {
            let answer = api.fetch(Call::post(format!("{}/resume", path(run)), json!({}))).await?;
            let asks = !console.json() && text(&answer, "status") == "paused";
            let open = if asks { open(console, api, reached(run, &answer)).await } else { None };
            console.answer(&answer, || resumed(run, &answer, &open.unwrap_or_default()))?;
        }
        Verb::Signal { run, name, value } => {
            let body = json!({ "value": value_of(console, value.as_deref())? });
            tell(console, api, format!("{}/signals/{}", path(run), encode(&name)), body).await?;
        }
        Verb::Approve(args) => decide(console, api, &args, true).await?,
        Verb::Deny(args) => decide(console, api, &args, false).await?,
        Verb::Resolve { run, step, happened, result } => {
            let mut body = json!({ "happened": happened == Happened::Yes });
            if let Some(output) = value_of(console, result.as_deref())? {
                body = json!({ "happened": happened == Happened::Yes, "output": output });
            }
            tell(console, api, format!("{}/steps/{}/resolve", path(run), encode(&step)), body).await?;
        }
        Verb::Rate(args) => feedback::rate(console, api, args).await?,
        Verb::Feedback { run } => feedback::feedback(console, api, run).await?,
        Verb::Rehearse(args) => feedback::rehearse(console, api, args).await?,
        Verb::Redact { run, force } => {
            confirmed(console, force, &format!("remove what was said in the run {run}, for good"))?;
            let redacted = api.fetch(Call::post(format!("{}/redact", path(run)), json!({}))).await?;
            console.answer(&redacted, || format!("removed what was said in the run {run}"))?;
        }
        Verb::Delete { run, force } => {
            confirmed(console, force, &format!("remove the run {run} and its journal"))?;
            api.send(Call::delete(path(run))).await?;
            console.answer(&json!({ "id": run, "deleted": true }), || format!("removed the run {run}"))?;
        }
    }
    Ok(Exit::Ok)
}

/// Shows what happened in a run, and with `-f` what still happens.
pub(crate) async fn logs(console: &Console, api: &Api, args: &LogsArgs) -> Result<Exit, Failure> {
    let clock = RealClock::new();
    let follow = Follow {
        api,
        clock: &clock,
        run: args.run,
        from_start: args.from_start,
        patient: false,
        coming: false,
    };
    if args.follow {
        return follow.to_the_end(console).await;
    }
    follow.history(console).await?;
    Ok(Exit::Ok)
}

/// Goes on when the user said yes, or said so beforehand.
pub(crate) fn confirmed(console: &Console, force: bool, what: &str) -> Result<(), Failure> {
    if force {
        return Ok(());
    }
    if !console.interactive() {
        return Err(Failure::usage(format!("there is nobody to ask whether to {what}")).hint("pass --force"));
    }
    console.ask(&format!("Really {what}? [y/N] "));
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Failure::new(Exit::Failed, "nothing was changed").hint("answer y, or pass --force"))
}

async fn create(console: &Console, api: &Api, args: &CreateArgs) -> Result<Exit, Failure> {
    if let Some(file) = &args.batch {
        let unsaid = batch::Unsaid { agent: args.agent.as_deref(), priority: args.priority };
        return batch::create(console, api, (file, unsaid), idempotency(args)?).await;
    }
    let mut body = Map::new();
    body.insert("agentName".into(), args.agent.as_deref().into());
    if let Some(argument) = &args.input {
        let read = input::read(argument, std::io::stdin())?;
        read.note.iter().for_each(|note| console.warn(note));
        body.insert("input".into(), input::as_input(&read)?);
    }
    if let Some(max) = args.max_cost_usd {
        body.insert("maxCostUsd".into(), max.to_wire().into());
    }
    if let Some(priority) = args.priority {
        body.insert("priority".into(), priority.get().into());
    }
    if let Some(labels) = labels(&args.labels)? {
        body.insert("labels".into(), labels);
    }
    let call = Call::post("/v1/runs", body.into()).header(idempotency(args)?);
    if let Some(seconds) = args.wait {
        return wait::wait(console, api, call, seconds).await;
    }
    let run = api.fetch(call).await?;
    let id: RunId = text(&run, "id").parse().map_err(|_| api.stranger())?;
    if !args.follow {
        console.answer(&run, || format!("started the run {id}"))?;
        if !console.json() {
            console.note(&format!("follow it: lantern logs {id} -f"));
        }
        return Ok(Exit::Ok);
    }
    console.note(&format!("run {id}"));
    let clock = RealClock::new();
    // The key may have named a run that somebody followed before: what this command shows is the whole run.
    Follow { api, clock: &clock, run: id, from_start: true, patient: true, coming: false }
        .to_the_end(console)
        .await
}

/// `KEY=VALUE`s as the API takes labels; `None` for none.
fn labels(said: &[String]) -> Result<Option<Value>, Failure> {
    let mut labels = Map::new();
    for label in said {
        let (key, value) = label.split_once('=').ok_or_else(|| {
            Failure::usage(format!("--label {label}: not KEY=VALUE")).hint("such as --label env=prod")
        })?;
        labels.insert(key.to_owned(), value.into());
    }
    Ok(Some(labels).filter(|labels| !labels.is_empty()).map(Value::Object))
}

/// The key of this start: the user's, or a fresh one.
fn idempotency(args: &CreateArgs) -> Result<(HeaderName, HeaderValue), Failure> {
    keyed(args.idempotency_key.as_deref())
}

/// The key of a request: this one, or a fresh one, so that a request that is repeated below us counts once.
pub(crate) fn keyed(given: Option<&str>) -> Result<(HeaderName, HeaderValue), Failure> {
    let fresh = || RealIds::new(Arc::new(RealClock::new())).uuid().to_string();
    let key = given.map_or_else(fresh, str::to_owned);
    let wrong = || {
        Failure::usage("an idempotency key has only visible ASCII characters")
            .hint("choose one without spaces and accents, or leave --idempotency-key out")
    };
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong());
    }
    let value = HeaderValue::from_str(&key).map_err(|_| wrong())?;
    Ok((HeaderName::from_static("idempotency-key"), value))
}

/// Asks for a change that answers with the run.
async fn steer(console: &Console, api: &Api, run: RunId, verb: &str, body: Value) -> Result<Value, Failure> {
    let answer = api.fetch(Call::post(format!("{}/{verb}", path(run)), body)).await?;
    console.answer(&answer, || steered(run, &answer))?;
    Ok(answer)
}

/// The run that an order to `run` came to: that one, or the one that it went on as.
fn reached(run: RunId, answer: &Value) -> RunId {
    text(answer, "id").parse().unwrap_or(run)
}

/// `run ID: running`, and before it as which the run that was named went on.
fn stands(named: RunId, answer: &Value) -> String {
    let run = reached(named, answer);
    let before = (run != named).then(|| format!("the run {named} went on as {run}\n"));
    format!("{}run {run}: {}", before.unwrap_or_default(), line(text(answer, "status")))
}

/// The run after an order: one that is ending is not what it was told to be yet.
fn steered(run: RunId, answer: &Value) -> String {
    let ending =
        answer.get("ending").map(|ending| (line(text(ending, "outcome")), time(text(ending, "due"))));
    let ending = ending.map(|(outcome, due)| {
        format!("; {outcome} when its child runs have told what they spent, at the latest at {due}")
    });
    format!("{}{}", stands(run, answer), ending.unwrap_or_default())
}

/// What a run waits for, told beside the answer, which stands also without it.
async fn open(console: &Console, api: &Api, run: RunId) -> Option<Waits> {
    let open = waits(api, run).await;
    open.map_err(|failure| {
        console.warn(&format!("cannot see what the run waits for: {}", failure.message));
    })
    .ok()
}

/// The run after it was told to go on: one that waits for a person goes on when that person has decided.
fn resumed(named: RunId, answer: &Value, open: &Waits) -> String {
    let run = reached(named, answer);
    let waits = open.questions.iter();
    let waits = waits.map(|asked| format!("waits for {}\n  {}", asked.wanted(), asked.help(run)));
    std::iter::once(stands(named, answer)).chain(waits).collect::<Vec<_>>().join("\n")
}

/// Tells the run something; it is taken in as soon as the run can.
async fn tell(console: &Console, api: &Api, path: String, body: Value) -> Result<(), Failure> {
    let answer = api.fetch(Call::post(path, body)).await?;
    console.answer(&answer, || text(&answer, "status").to_owned())
}

async fn decide(console: &Console, api: &Api, args: &DecisionArgs, approved: bool) -> Result<(), Failure> {
    let body = json!({ "approved": approved, "note": args.note });
    let path = format!("{}/approvals/{}", path(args.run), encode(&args.step));
    let clock = RealClock::new();
    let end = clock.now() + Dur::from_secs(args.wait.unwrap_or_default().into());
    loop {
        match tell(console, api, path.clone(), body.clone()).await {
            Err(failure) if early(&failure) && clock.now() < end => {
                clock.sleep(AGAIN.min(end.since(clock.now()))).await;
            }
            told => return told,
        }
    }
}

/// Whether a decision was refused because nobody is asked for it yet.
fn early(failure: &Failure) -> bool {
    matches!(failure.code.as_deref(), Some("step_not_found" | "step_not_waiting"))
}

fn value_of(console: &Console, argument: Option<&str>) -> Result<Option<Value>, Failure> {
    let Some(argument) = argument else { return Ok(None) };
    let read = input::read(argument, std::io::stdin())?;
    read.note.iter().for_each(|note| console.warn(note));
    input::as_value(read).map(Some)
}

fn path(run: RunId) -> String {
    format!("/v1/runs/{run}")
}

fn describe(run: &Value, (id, open): (RunId, &Waits), paint: Paint, terminal: bool) -> String {
    let column = |name: &str| text(run, name).to_owned();
    let over = run.get("finishedAt").is_some_and(|at| !at.is_null());
    let paused = open.paused.iter().chain(&open.halted).flat_map(|pause| pause.told(id));
    let asked = open.questions.iter().flat_map(|asked| [("waits for", asked.wanted()), asked.answer(id)]);
    let coming = open.coming.iter().map(|coming| ("waits for", coming.wanted()));
    let waits = paused.chain(asked).chain(coming);
    let mut pairs = vec![
        ("id", column("id")),
        ("agent", column("agentName")),
        ("version", column("agentVersionId")),
        ("status", column("status")),
    ];
    pairs.extend([("origin", origin(run)), ("priority", priority_of(run))]);
    pairs.extend([("labels", labels_of(run)), ("input", input_of(run))]);
    pairs.extend(waits);
    pairs.extend([
        ("created", time(text(run, "createdAt"))),
        ("started", time(text(run, "startedAt"))),
        ("finished", time(text(run, "finishedAt"))),
        ("content", removed(run)),
    ]);
    let head = fields(&pairs);
    let parts = [Some(head), over.then(|| summary(run, paint)), result(run, terminal)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("\n\n")
}

/// Why a run shows neither input nor output.
fn removed(run: &Value) -> String {
    match time(text(run, "contentRemovedAt")) {
        at if at.is_empty() => at,
        at => format!("removed {at}: what happened is kept, and what was said is not"),
    }
}

/// `env=prod, team=x`.
fn labels_of(run: &Value) -> String {
    let labels = run.get("labels").and_then(Value::as_object).into_iter().flatten();
    let labels = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    labels.collect::<Vec<_>>().join(", ")
}

/// The beginning of what the run was asked: its text, or its JSON. Nothing for a run that was asked nothing.
fn input_of(run: &Value) -> String {
    let Some(input) = run.get("input").filter(|input| !input.is_null()) else { return String::new() };
    let alone = input.as_object().filter(|fields| fields.len() == 1).and_then(|fields| fields.get("text"));
    let whole = match alone.unwrap_or(input) {
        Value::String(text) => text.clone(),
        Value::Object(fields) if fields.is_empty() => String::new(),
        other => other.to_string(),
    };
    cut(line(&whole).trim(), INPUT_COLUMNS)
}

fn priority(text: &str) -> Result<Priority, String> {
    let read = text.parse().ok().and_then(Priority::of);
    read.ok_or_else(|| format!("a whole number from {} to {}", Priority::MIN, Priority::MAX))
}

/// Where a run stands among its tenant's, unless it stands where all do.
fn priority_of(run: &Value) -> String {
    let said = run.get("priority").and_then(Value::as_i64).filter(|priority| *priority != 0);
    said.map(|priority| priority.to_string()).unwrap_or_default()
}

pub(crate) fn price(text: &str) -> Result<MicroUsd, String> {
    MicroUsd::parse_usd(text).ok_or_else(|| "dollars with at most six decimals, as in 2.50".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::follow::question::testing::approval;
    use crate::cli::follow::waits::testing::timer;

    fn id() -> RunId {
        "018f0000-0000-7000-8000-000000000001".parse().unwrap()
    }

    #[test]
    fn a_run_is_described() {
        let run = json!({ "id": "r", "agentName": "digest", "status": "succeeded", "tokensIn": 1, "tokensOut": 2,
            "costUsd": 0, "createdAt": "2026-09-21T14:13:20Z", "finishedAt": "2026-09-21T14:13:22Z",
            "output": { "result": "done" } });
        let want = "id        r\nagent     digest\nstatus    succeeded\ncreated   2026-09-21 14:13:20Z\n\
                    finished  2026-09-21 14:13:22Z\n\n✔ succeeded in 2.0s · 1 in, 2 out · $0.00\n\ndone";
        assert_eq!(describe(&run, (id(), &Waits::default()), Paint(false), false), want);
        assert_eq!(
            list::row(&run),
            ["r", "digest", "succeeded", "2.0s", "3", "$0.00", "2026-09-21 14:13:20Z"]
        );
    }

    #[test]
    fn a_run_says_where_it_comes_from_and_what_it_was_asked() {
        let shown = |run: &Value| describe(run, (id(), &Waits::default()), Paint(false), false);
        let run = json!({ "id": "r", "labels": { "env": "prod", "team": "x" }, "input": { "text": "a\nb\u{1b}[2J" },
            "forkedFrom": { "runId": "q", "stepId": "llm-1.tool-1", "replay": false } });
        let want =
            "id      r\norigin  a fork of q from llm-1.tool-1\nlabels  env=prod, team=x\ninput   a b [2J";
        assert_eq!(shown(&run), want);
        let run = json!({ "id": "r", "labels": {}, "input": { "n": 1, "text": "x" },
            "forkedFrom": { "runId": "q", "replay": true } });
        assert_eq!(shown(&run), "id      r\norigin  a replay of q\ninput   {\"n\":1,\"text\":\"x\"}");
        assert_eq!(shown(&json!({ "id": "r", "input": {} })), "id  r");
        let run = json!({ "id": "r", "contentRemovedAt": "2026-09-21T14:13:20Z" });
        let want = "id       r\ncontent  removed 2026-09-21 14:13:20Z: what happened is kept, and what was said is not";
        assert_eq!(shown(&run), want);
        let first = json!({ "id": "r", "priority": -5, "labels": {}, "input": {} });
        assert_eq!(shown(&first), "id        r\npriority  -5");
        assert_eq!(shown(&json!({ "id": "r", "priority": 0 })), "id  r");
        let long = shown(&json!({ "id": "r", "input": "x".repeat(500) }));
        assert!(long.ends_with("x…") && long.chars().count() < 200, "{long}");
    }

    #[test]
    fn a_run_that_waits_says_for_what() {
        let questions = vec![approval("ship", "153 lines changed. Ship it?")];
        let open = Waits {
            questions,
            paused: None,
            halted: None,
            coming: vec![timer("nap", "2026-09-21T14:13:20Z")],
        };
        let run = json!({ "id": "r", "status": "paused" });
        let want = "id           r\nstatus       paused\n\
                    waits for    approval of ship: 153 lines changed. Ship it?\n\
                    answer with  lantern runs approve 018f0000-0000-7000-8000-000000000001 ship\n\
                    waits for    nap until 2026-09-21 14:13:20Z";
        assert_eq!(describe(&run, (id(), &open), Paint(false), false), want);
        let want = "run 018f0000-0000-7000-8000-000000000001: paused\n\
                    waits for approval of ship: 153 lines changed. Ship it?\n  \
                    lantern runs approve 018f0000-0000-7000-8000-000000000001 ship";
        assert_eq!(resumed(id(), &run, &open), want);
        assert_eq!(
            resumed(id(), &json!({ "status": "running" }), &Waits::default()),
            "run 018f0000-0000-7000-8000-000000000001: running"
        );
    }

    #[test]
    fn a_run_that_is_ending_says_how_and_when() {
        let ending = json!({ "outcome": "cancelled", "due": "2026-09-21T14:13:20Z" });
        let want = "run 018f0000-0000-7000-8000-000000000001: running; cancelled when its child runs have told what \
                    they spent, at the latest at 2026-09-21 14:13:20Z";
        assert_eq!(steered(id(), &json!({ "status": "running", "ending": ending })), want);
        let over = steered(id(), &json!({ "status": "cancelled" }));
        assert_eq!(over, "run 018f0000-0000-7000-8000-000000000001: cancelled");
    }

    #[test]
    fn prices_are_exact() {
        assert_eq!(price("0.25").map(MicroUsd::micros), Ok(250_000));
        assert!(price("cheap").is_err() && price("-1").is_err());
    }

    #[test]
    fn priorities_have_their_range() {
        assert_eq!(["-5", "0", "5"].map(|text| priority(text).map(Priority::get)), [Ok(-5), Ok(0), Ok(5)]);
        for text in ["6", "-6", "1.0", "high", ""] {
            assert!(priority(text).is_err(), "{text}");
        }
    }
}
