//! How a run ended, in one line, and what it answered.
//!
//! Pure: reads the run's JSON and knows no server.

use lantern_types::{At, Dur, RunId};
use serde_json::Value;

use crate::cli::console::{Paint, Style};
use crate::cli::failure::Exit;
use crate::cli::follow::next::next;
use crate::cli::format::{block, count, dollars, duration, line, number, text, usd};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It did what it was asked.
    Succeeded,
    /// It was told to stop.
    Cancelled,
    /// Anything else that is an end.
    Failed,
}

impl Status {
    /// Reads a terminal status; one that is not known is no success.
    pub(crate) fn read(text: &str) -> Self {
        match text {
            "succeeded" => Self::Succeeded,
            "cancelled" => Self::Cancelled,
            _ => Self::Failed,
        }
    }

    /// The exit code of a command that followed the run.
    pub(crate) const fn exit(self) -> Exit {
        match self {
            Self::Succeeded => Exit::Ok,
            Self::Cancelled => Exit::Cancelled,
            Self::Failed => Exit::Failed,
        }
    }
}

const CUT: &str = "the reply was cut at the token limit: raise maxTokens of the agent, or ask for less";

/// `✔ succeeded in 12.4s · 4,210 in, 512 out · $0.0012`, with why it failed and what is next, or that its reply was cut.
pub(crate) fn summary(run: &Value, paint: Paint) -> String {
    let status = line(text(run, "status"));
    let (mark, style) = match Status::read(&status) {
        Status::Succeeded => ("✔", Style::Good),
        Status::Cancelled => ("■", Style::Warn),
        Status::Failed => ("✘", Style::Bad),
    };
    let took = took(run).map(|dur| format!(" in {}", duration(dur))).unwrap_or_default();
    let tokens = format!("{} in, {} out", count(number(run, "tokensIn")), count(number(run, "tokensOut")));
    let cost = usd(dollars(run.get("costUsd").unwrap_or(&Value::Null)));
    let broke_off = unconfirmed(run).map(|most| format!(" (and up to {most} for calls that broke off)"));
    let cost = cost + &broke_off.unwrap_or_default();
    let head = format!("{} · {tokens} · {cost}", paint.apply(style, &format!("{mark} {status}{took}")));
    let error = run.get("error").filter(|error| error.is_object());
    let why = error.map(|error| paint.apply(style, &why(run, error)));
    let cut = cut(run).then(|| paint.apply(Style::Warn, CUT));
    let next = next(run).map(|next| format!("{} {next}", paint.apply(Style::Bold, "next:")));
    [Some(head), why, cut, next].into_iter().flatten().collect::<Vec<_>>().join("\n")
}

/// Whether the model came to its token limit before the end of what the run answered.
fn cut(run: &Value) -> bool {
    run.get("output").and_then(|output| output.get("truncated")) == Some(&Value::Bool(true))
}

/// What a run that is over may have cost besides, for calls that broke off and were made again.
fn unconfirmed(run: &Value) -> Option<String> {
    let most = dollars(run.get("heldUsd").filter(|_| took(run).is_some())?);
    (!most.is_zero()).then(|| usd(most))
}

fn why(run: &Value, error: &Value) -> String {
    let at = match (text(error, "stepId"), name_of(run, text(error, "stepId"))) {
        ("", _) => String::new(),
        (step, None) => format!(" (step {})", line(step)),
        (step, Some(name)) => format!(" ({}, step {})", line(name), line(step)),
    };
    format!("{}: {}{at}", line(text(error, "code")), block(text(error, "message")))
}

/// The tool, signal or agent of a step, as the run's log of its steps says it.
fn name_of<'a>(run: &'a Value, step: &str) -> Option<&'a str> {
    let mut log = run.get("triggerMeta").and_then(Value::as_array).into_iter().flatten();
    let asked = log.find(|line| text(line, "step") == step && text(line, "status") == "running")?;
    Some(text(asked, "detail")).filter(|name| !name.is_empty() && *name != step)
}

/// What the run answered: its text, or its whole output as JSON. Made safe when it goes to a terminal.
pub(crate) fn result(run: &Value, terminal: bool) -> Option<String> {
    let output = run.get("output").filter(|output| !output.is_null())?;
    let text = match output.get("result").unwrap_or(output) {
        Value::String(text) => text.clone(),
        other => format!("{other:#}"),
    };
    Some(if terminal { block(&text) } else { text })
}

/// The run that this one went on as, when it did not end but began anew. A server that has no field for it says so in
/// the output.
pub(crate) fn continued(run: &Value) -> Option<RunId> {
    let alone = run.get("output").and_then(Value::as_object).filter(|output| output.len() == 1);
    let said = alone.and_then(|output| output.get("continuedAs"));
    run.get("continuedAs").filter(|id| !id.is_null()).or(said)?.as_str()?.parse().ok()
}

/// How long the run took, once it is over.
pub(crate) fn took(run: &Value) -> Option<Dur> {
    let at = |name: &str| text(run, name).parse::<At>().ok();
    Some(at("finishedAt")?.since(at("startedAt").or_else(|| at("createdAt"))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(status: &str) -> Value {
        json!({ "status": status, "tokensIn": 4210, "tokensOut": 512, "costUsd": 0.0012,
            "startedAt": "2026-09-21T14:13:20Z", "finishedAt": "2026-09-21T14:13:32.4Z" })
    }

    #[test]
    fn one_line_says_how_it_went() {
        let ok = "✔ succeeded in 12.4s · 4,210 in, 512 out · $0.0012";
        assert_eq!(summary(&run("succeeded"), Paint(false)), ok);
        let mut cut = run("succeeded");
        cut["heldUsd"] = json!(0.0428);
        assert_eq!(summary(&cut, Paint(false)), format!("{ok} (and up to $0.0428 for calls that broke off)"));
        let mut failed = run("failed");
        failed["error"] = json!({ "code": "over_budget", "message": "cap of $1 reached", "stepId": "llm-3" });
        failed["finishedAt"] = Value::Null;
        let want = "✘ failed · 4,210 in, 512 out · $0.0012\nover_budget: cap of $1 reached (step llm-3)\n\
                    next: see what it did with `lantern logs `, and docs/errors/over_budget.md";
        assert_eq!(summary(&failed, Paint(false)), want);
        failed["error"]["stepId"] = json!("llm-3.tool-1");
        failed["triggerMeta"] = json!([{ "step": "llm-3", "status": "running", "detail": "" },
            { "step": "llm-3.tool-1", "status": "running", "detail": "calc" },
            { "step": "llm-3.tool-1", "status": "failed", "detail": "over_budget" }]);
        assert!(summary(&failed, Paint(false)).contains("reached (calc, step llm-3.tool-1)\n"));
        assert!(
            summary(&run("cancelled"), Paint(true)).starts_with("\u{1b}[33m■ cancelled in 12.4s\u{1b}[0m")
        );
    }

    #[test]
    fn the_answer_is_text_or_json() {
        for (output, want) in [
            (json!({ "result": "## Shipped\u{1b}[2J" }), Some("## Shipped\u{fffd}[2J")),
            (json!({ "result": { "a": 1 } }), Some("{\n  \"a\": 1\n}")),
            (json!({ "steps": [] }), Some("{\n  \"steps\": []\n}")),
            (Value::Null, None),
        ] {
            assert_eq!(result(&json!({ "output": output }), true).as_deref(), want);
        }
        assert_eq!(result(&json!({ "output": "a\u{1b}b" }), false).as_deref(), Some("a\u{1b}b"));
    }

    #[test]
    fn a_run_that_goes_on_says_as_which() {
        let id = "018f0000-0000-7000-8000-000000000002";
        for (run, goes_on) in [
            (json!({ "continuedAs": id, "output": null }), true),
            (json!({ "output": { "continuedAs": id } }), true),
            (json!({ "continuedAs": null, "output": { "continuedAs": id } }), true),
            (json!({ "output": { "continuedAs": id, "result": 1 } }), false),
            (json!({ "output": { "continuedAs": "soon" } }), false),
            (json!({ "output": { "result": id } }), false),
            (json!({}), false),
        ] {
            assert_eq!(continued(&run).map(|run| run.to_string()).as_deref(), goes_on.then_some(id), "{run}");
        }
    }

    #[test]
    fn unknown_ends_are_no_success() {
        for (status, exit) in [
            ("succeeded", Exit::Ok),
            ("cancelled", Exit::Cancelled),
            ("failed", Exit::Failed),
            ("?", Exit::Failed),
        ] {
            assert_eq!(Status::read(status).exit(), exit);
        }
    }
}
