//! `lantern runs fork`, `replay` and `diff`: a run as the beginning of another, and where two runs part.

use clap::Args;
use lantern_net::RealClock;
use lantern_types::{MicroUsd, RunId};
use serde_json::{Map, Value, json};

use super::{labels, path, price};
use crate::cli::api::{Api, Call};
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure};
use crate::cli::follow::Follow;
use crate::cli::format::{block, count, dollars, line, number, text, usd};
use crate::cli::input;
use crate::cli::table::Column;

const STEPS: &[Column] = &[Column::whole("STEP"), Column::text("KIND"), Column::text("DIFFERS")];

/// Flags of `lantern runs fork`.
#[derive(Debug, Args)]
#[command(
    after_help = "What came before the step is reused: it costs nothing and is not done again. See where the two runs \
                        part with `lantern runs diff RUN FORK`."
)]
pub(crate) struct ForkArgs {
    /// The run's id
    run: RunId,
    /// The first step that is done anew; without it, the one at which the run failed
    #[arg(long, value_name = "STEP")]
    from: Option<String>,
    /// What the fork is asked, in place of what the run was: JSON, text, @file, or @- for standard input
    #[arg(long, value_name = "JSON|TEXT|@FILE")]
    input: Option<String>,
    /// Another version of the agent: its number or id
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Another model or capability
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Other instructions: text, @file, or @- for standard input
    #[arg(long, value_name = "TEXT|@FILE")]
    system: Option<String>,
    /// Another value for a field of the agent, as JSON; may be repeated
    #[arg(long = "set", value_name = "FIELD=JSON")]
    set: Vec<String>,
    /// The most the fork may cost, in dollars
    #[arg(long, value_name = "USD", value_parser = price, allow_negative_numbers = true)]
    max_cost_usd: Option<MicroUsd>,
    /// A label of the fork; may be repeated. It has none of the run's
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Show the fork live until it is over
    #[arg(short, long)]
    follow: bool,
}

/// Flags of `lantern runs replay`.
#[derive(Debug, Args)]
#[command(
    after_help = "A replay reuses all that the run did. It sends nothing and costs nothing, whatever happens. With --from it is a \
                  fork: from that step on it is done and paid for anew."
)]
pub(crate) struct ReplayArgs {
    /// The run's id
    run: RunId,
    /// The first step that is done anew; without it, none is
    #[arg(long, value_name = "STEP")]
    from: Option<String>,
    /// Show the replay live until it is over
    #[arg(short, long)]
    follow: bool,
}

/// Forks a run.
pub(super) async fn fork(console: &Console, api: &Api, args: &ForkArgs) -> Result<Exit, Failure> {
    let mut body = Map::new();
    let mut set = |name: &str, value: Option<Value>| value.map(|value| body.insert(name.to_owned(), value));
    set("fromStep", args.from.clone().map(Value::from));
    set("version", args.version.clone().map(Value::from));
    set("maxCostUsd", args.max_cost_usd.map(|most| most.to_wire().into()));
    set("labels", labels(&args.labels)?);
    let overrides = overrides(console, args)?;
    set("overrides", Some(overrides).filter(|fields| !fields.is_empty()).map(Value::Object));
    if let Some(argument) = &args.input {
        let read = input::read(argument, std::io::stdin())?;
        read.note.iter().for_each(|note| console.warn(note));
        body.insert("input".to_owned(), input::as_input(&read)?);
    }
    begin(console, api, args.run, ("fork", body.into()), args.follow).await
}

/// Replays a run.
pub(super) async fn replay(console: &Console, api: &Api, args: &ReplayArgs) -> Result<Exit, Failure> {
    let body = args.from.as_ref().map_or_else(|| json!({}), |step| json!({ "fromStep": step }));
    begin(console, api, args.run, ("replay", body), args.follow).await
}

async fn begin(
    console: &Console,
    api: &Api,
    run: RunId,
    (verb, body): (&str, Value),
    follow: bool,
) -> Result<Exit, Failure> {
    let made = api.fetch(Call::post(format!("{}/{verb}", path(run)), body)).await?;
    let id: RunId = text(&made, "id").parse().map_err(|_| api.stranger())?;
    let from = made.pointer("/forkedFrom/stepId").and_then(Value::as_str);
    let from = from.map(|step| format!(" from {}", line(step))).unwrap_or_default();
    if !follow {
        console.answer(&made, || format!("started the run {id}, a {verb} of {run}{from}"))?;
        if !console.json() {
            console.note(&format!("see where they part: lantern runs diff {run} {id}"));
        }
        return Ok(Exit::Ok);
    }
    console.note(&format!("run {id}, a {verb} of {run}{from}"));
    let clock = RealClock::new();
    Follow { api, clock: &clock, run: id, from_start: true, patient: true, coming: false }
        .to_the_end(console)
        .await
}

fn overrides(console: &Console, args: &ForkArgs) -> Result<Map<String, Value>, Failure> {
    let mut fields = Map::new();
    for said in &args.set {
        let (name, value) = said.split_once('=').ok_or_else(|| {
            Failure::usage(format!("--set {said}: not FIELD=JSON")).hint("such as --set maxTurns=3")
        })?;
        // A bare word is text, as everywhere on a command line.
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        fields.insert(name.to_owned(), value);
    }
    if let Some(model) = &args.model {
        fields.insert("model".to_owned(), model.as_str().into());
    }
    if let Some(argument) = &args.system {
        let read = input::read(argument, std::io::stdin())?;
        read.note.iter().for_each(|note| console.warn(note));
        fields.insert("systemPrompt".to_owned(), read.text.into());
    }
    Ok(fields)
}

/// Shows where two runs part.
pub(super) async fn diff(console: &Console, api: &Api, (a, b): (RunId, RunId)) -> Result<(), Failure> {
    let found = api.fetch(Call::get(format!("{}/diff/{b}", path(a)))).await?;
    if console.json() {
        return console.value(&found);
    }
    let steps = found.get("steps").and_then(Value::as_array).cloned().unwrap_or_default();
    let row = |step: &Value| ["stepId", "kind", "differs"].map(|name| line(text(step, name))).to_vec();
    console.table(STEPS, &steps.iter().map(row).collect::<Vec<_>>())?;
    console.say(&told(&found))
}

fn told(found: &Value) -> String {
    let side = |name: &str| found.get(name).cloned().unwrap_or_default();
    let of = |run: &Value| {
        let used = count(number(run, "tokensIn").saturating_add(number(run, "tokensOut")));
        let cost = usd(dollars(run.get("costUsd").unwrap_or(&Value::Null)));
        format!("{}, {cost}, {used} tokens", line(text(run, "status")))
    };
    let mut lines = vec![format!("\na  {}\nb  {}", of(&side("a")), of(&side("b")))];
    for (name, what) in [("sameVersion", "version"), ("sameInput", "input")] {
        if found.get(name) == Some(&Value::Bool(false)) {
            lines.push(format!("they have another {what}"));
        }
    }
    let Some(first) = found.get("firstDivergence") else {
        lines.push("no step differs".to_owned());
        return lines.join("\n");
    };
    lines.push(format!(
        "they part at {} ({}), after {} steps that are the same",
        line(text(first, "stepId")),
        line(text(first, "differs")),
        number(found, "sharedSteps")
    ));
    for name in ["a", "b"] {
        let Some(side) = first.get(name) else { continue };
        let what = if text(first, "differs") == "request" { "request" } else { "output" };
        let value = side.get(what).map(ToString::to_string);
        let error = Some(text(side, "error")).filter(|error| !error.is_empty()).map(str::to_owned);
        let said = value.or(error).unwrap_or_else(|| line(text(side, "state")));
        lines.push(format!("{name}  {}", block(&said)));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_where_two_runs_part() {
        let run =
            |status: &str| json!({ "status": status, "costUsd": 0.5, "tokensIn": 1000, "tokensOut": 1 });
        let mut found = json!({ "a": run("succeeded"), "b": run("failed"), "sameVersion": false, "sameInput": true,
            "sharedSteps": 2, "firstDivergence": { "stepId": "llm-2", "differs": "output",
                "a": { "state": "settled", "output": { "text": "yes" } }, "b": { "state": "failed", "error": "busy: later" } } });
        let words = told(&found);
        for part in [
            "a  succeeded, $0.50,",
            "b  failed,",
            "they have another version\n",
            "they part at llm-2 (output), after 2 steps that are the same\n",
            "a  {\"text\":\"yes\"}\nb  busy: later",
        ] {
            assert!(words.contains(part), "{part:?} in {words}");
        }
        found.as_object_mut().unwrap().remove("firstDivergence");
        assert!(told(&found).ends_with("no step differs"), "{}", told(&found));
    }
}
