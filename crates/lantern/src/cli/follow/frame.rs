//! One frame of a run's event stream, and what it says in a few words.
//!
//! Lenient where the stream is concerned: an unknown kind or a missing field is shown as well as it can be, because
//! an older client must be able to watch a newer server. Pure.

use lantern_net::sse;
use lantern_types::{At, RunId};
use serde_json::Value;

use crate::cli::follow::question::{Question, about, lift, resume};
use crate::cli::format::{count, cut, dollars, line, number, text, time, usd};

/// A result is told in this many columns; the whole of it is in the run.
const PREVIEW_COLUMNS: usize = 72;

/// What is said of a reply that is not whole.
const CUT: &str = "cut at the token limit";

/// What is said of a step that went out a second time.
pub(crate) const REISSUED: &str = "sent again under the same key";

/// What is said of a step of a fork or replay that is taken over from the run before.
pub(crate) const REUSED: &str = "reused, not done again";

/// A frame as it came.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// The event's number; `None` for what is not stored (token deltas, the end, an error).
    pub(crate) seq: Option<u64>,
    /// The run that it belongs to.
    pub(crate) run: Option<RunId>,
    /// What kind of event it is.
    pub(crate) kind: String,
    /// The step it is about.
    pub(crate) step: Option<String>,
    /// When it happened.
    pub(crate) at: Option<At>,
    /// What happened.
    pub(crate) data: Value,
    /// The frame's JSON on one line.
    pub(crate) raw: String,
    /// Of a question that the caller may not answer: who may. Not from the stream.
    pub(crate) others: Vec<String>,
}

impl Frame {
    /// Reads one server-sent event.
    pub(crate) fn read(event: sse::Event) -> Self {
        let whole: Value = serde_json::from_str(&event.data).unwrap_or_default();
        let kind =
            if text(&whole, "kind").is_empty() { event.event } else { text(&whole, "kind").to_owned() };
        let stored = !matches!(kind.as_str(), "llm_delta" | "end" | "error" | "heartbeat");
        let id = event.id.and_then(|id| id.parse().ok());
        // A frame that names no id comes with that of the one before it: a kind that is not known here is then either
        // none of the numbered ones, or one that was shown.
        let named = |seq: &u64| id.is_none_or(|id| id == *seq);
        let seq = whole.get("seq").and_then(Value::as_u64).or(id).filter(|seq| stored && named(seq));
        let step = Some(text(&whole, "stepId")).filter(|step| !step.is_empty()).map(str::to_owned);
        let run = text(&whole, "runId").parse().ok();
        let at = ["ts", "createdAt"].iter().find_map(|name| text(&whole, name).parse().ok());
        let data = ["data", "payload"].iter().find_map(|name| whole.get(*name)).cloned().unwrap_or_default();
        // In JSON a line end can only stand between tokens, where a space does as well.
        let raw = event.data.replace('\n', " ");
        Self { seq, run, kind, step, at, data, raw, others: Vec::new() }
    }

    /// The run's status, when this is the stream's last frame.
    pub(crate) fn end_status(&self) -> Option<&str> {
        (self.kind == "end").then(|| text(&self.data, "status"))
    }

    /// The code and the words of an error that ends the stream.
    pub(crate) fn error(&self) -> Option<(&str, &str)> {
        (self.kind == "error").then(|| (text(&self.data, "code"), text(&self.data, "error")))
    }

    /// The piece of text that a token delta carries.
    pub(crate) fn delta(&self) -> &str {
        let fields = ["text", "content", "delta"];
        fields.iter().map(|name| text(&self.data, name)).find(|text| !text.is_empty()).unwrap_or_default()
    }

    /// The step's kind and name, where the frame tells them.
    pub(crate) fn label(&self) -> (&str, &str) {
        (text(&self.data, "type"), text(&self.data, "name"))
    }

    /// `provider/model`, as much of it as is known.
    pub(crate) fn model(&self) -> String {
        match (text(&self.data, "provider"), text(&self.data, "model")) {
            ("", model) => line(model),
            (provider, "") => line(provider),
            (provider, model) => line(&format!("{provider}/{model}")),
        }
    }

    /// `1,204 in, 88 out`, or nothing when no tokens were used.
    pub(crate) fn tokens(&self) -> String {
        match (number(&self.data, "tokens_in"), number(&self.data, "tokens_out")) {
            (0, 0) => String::new(),
            (input, output) => format!("{} in, {} out", count(input), count(output)),
        }
    }

    /// What it cost, or nothing when it cost nothing.
    pub(crate) fn cost(&self) -> String {
        let cost = dollars(self.data.get("cost_usd").unwrap_or(&Value::Null));
        if cost.micros() == 0 { String::new() } else { usd(cost) }
    }

    /// `code: message`, as much of it as there is.
    pub(crate) fn trouble(&self) -> String {
        let code = text(&self.data, "code");
        let message =
            ["error", "reason"].iter().map(|name| text(&self.data, name)).find(|text| !text.is_empty());
        match (code, message) {
            ("", message) => line(message.unwrap_or_default()),
            (code, None) => line(code),
            (code, Some(message)) => line(&format!("{code}: {message}")),
        }
    }

    /// The frame in a few words, on one line.
    pub(crate) fn words(&self) -> String {
        let data = &self.data;
        let (kind, name) = self.label();
        let parts = match self.kind.as_str() {
            "run_started" => {
                let cap = dollars(data.get("capUsd").unwrap_or(&Value::Null));
                vec![line(text(data, "program")), format!("may cost {}", usd(cap)), origin(data)]
            }
            "step_started" | "child_started" => vec![line(kind), line(name), self.arguments()],
            "sleep_started" => vec![line(name), due(data, "until ")],
            "signal_waiting" => vec![line(name), due(data, "until "), self.command()],
            "step_admitted" => vec![self.model(), held(data)],
            "step_completed" | "sleep_completed" | "child_completed" => {
                let outcome = data.get("result").or_else(|| data.get("output"));
                let (cut, reused) = (self.cut().to_owned(), self.reused().to_owned());
                vec![line(name), reused, self.model(), self.tokens(), self.cost(), cut, preview(outcome)]
            }
            "step_retrying" => vec![self.trouble(), due(data, "again at ")],
            "approval_requested" => {
                vec![due_at(data, "expiresAt", "answer before "), self.command()]
            }
            "budget_asked" => {
                vec![due_at(data, "expiresAt", "answer before "), self.command()]
            }
            "step_in_doubt" => vec![self.trouble(), self.command()],
            "paused" if !text(data, "stopId").is_empty() => {
                vec![pairs(data), lift(&line(text(data, "stopId")), text(data, "scope"))]
            }
            "paused" => vec![pairs(data), self.run.map(resume).unwrap_or_default()],
            "progress_blocked" => {
                vec![format!("the last {} steps repeat each other", number(data, "period"))]
            }
            "run_succeeded" => vec![preview(data.get("output"))],
            "step_denied" | "step_failed" | "step_abandoned" | "run_failed" | "run_cancelled" => {
                vec![self.reused().to_owned(), self.trouble()]
            }
            "step_reissued" => vec![REISSUED.to_owned()],
            _ => vec![pairs(data)],
        };
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")
    }

    /// What a step is asked to do; of one that is approved first, what the person decides on.
    fn arguments(&self) -> String {
        let asked = if self.label().0 == "approval" { about(self) } else { String::new() };
        if asked.is_empty() { preview(self.data.get("arguments")) } else { asked }
    }

    /// The command that helps a step that waits for somebody, or who they are when they are others.
    fn command(&self) -> String {
        let question = Question::asked(self, "").zip(self.run);
        question.map(|(question, run)| question.help(run)).unwrap_or_default()
    }

    /// That the model came to its token limit before the end of its reply, if it did.
    pub(crate) fn cut(&self) -> &'static str {
        if text(&self.data, "finish") == "length" { CUT } else { "" }
    }

    /// That the step was taken over from the run that this one is a fork or replay of, if it was.
    pub(crate) fn reused(&self) -> &'static str {
        if self.data.get("reused") == Some(&Value::Bool(true)) { REUSED } else { "" }
    }

    /// The frame as one plain line: time, number, kind, step and words.
    pub(crate) fn plain(&self) -> String {
        let at = self.at.map(|at| time(&at.to_string())).unwrap_or_default();
        let seq = self.seq.map(|seq| seq.to_string()).unwrap_or_default();
        let step = line(self.step.as_deref().unwrap_or("-"));
        let text = format!("{at:<20}  {seq:>4}  {:<18}  {step:<16}  {}", line(&self.kind), self.words());
        text.trim_end().to_owned()
    }
}

fn due(data: &Value, before: &str) -> String {
    due_at(data, "due", before)
}

fn due_at(data: &Value, name: &str, before: &str) -> String {
    match text(data, name) {
        "" => String::new(),
        due => format!("{before}{}", time(due)),
    }
}

/// `a fork of RUN from STEP`, of a run that is one.
pub(crate) fn origin(run: &Value) -> String {
    let Some(from) = run.get("forkedFrom").filter(|from| from.is_object()) else { return String::new() };
    let of = line(text(from, "runId"));
    match (from.get("replay") == Some(&Value::Bool(true)), text(from, "stepId")) {
        (true, _) => format!("a replay of {of}"),
        (false, "") => format!("a fork of {of}"),
        (false, step) => format!("a fork of {of} from {}", line(step)),
    }
}

fn held(data: &Value) -> String {
    let hold = dollars(data.get("holdUsd").unwrap_or(&Value::Null));
    if hold.micros() == 0 { String::new() } else { format!("holds {}", usd(hold)) }
}

/// The fields of an event of which no more is known: `by: ada, reason: enough`.
fn pairs(data: &Value) -> String {
    let fields = data.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let told = fields.map(|(name, value)| match value {
        Value::String(text) => format!("{name}: {text}"),
        other => format!("{name}: {other}"),
    });
    cut(&line(&told.collect::<Vec<_>>().join(", ")), PREVIEW_COLUMNS)
}

/// The beginning of a value; nothing for what says nothing.
fn preview(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => cut(line(text).trim(), PREVIEW_COLUMNS),
        Some(value) => cut(&line(&value.to_string()), PREVIEW_COLUMNS),
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Frames for tests.

    use super::*;
    use serde_json::json;

    const RUN: &str = "018f0000-0000-7000-8000-000000000001";

    /// A frame at second `at` of a run.
    pub(crate) fn frame(seq: u64, at: i64, kind: &str, step: &str, data: Value) -> Frame {
        let ts = At::from_micros(1_790_000_000_000_000 + at * 1_000_000).to_string();
        let whole = json!({ "seq": seq, "kind": kind, "stepId": step, "data": data, "ts": ts, "runId": RUN });
        Frame::read(sse::Event { event: kind.into(), data: whole.to_string(), id: Some(seq.to_string()) })
    }
}

#[cfg(test)]
mod tests {
    use super::testing::frame;
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_lines_say_what_happened() {
        for (kind, data, want) in [
            ("run_started", json!({ "program": "agent", "capUsd": 5.0 }), "agent  may cost $5.00"),
            (
                "step_started",
                json!({ "type": "llm", "name": "llm-1", "arguments": { "turn": 1 } }),
                "llm  llm-1  {\"turn\":1}",
            ),
            ("step_admitted", json!({ "provider": "p", "model": "m", "holdUsd": 0.5 }), "p/m  holds $0.50"),
            (
                "step_completed",
                json!({ "name": "llm-1", "type": "llm", "result": "a\nb\u{1b}[2J", "tokens_in": 1204,
                    "tokens_out": 88, "cost_usd": 0.000_123, "model": "m" }),
                "llm-1  m  1,204 in, 88 out  $0.000123  a b [2J",
            ),
            (
                "step_completed",
                json!({ "name": "calc", "output": { "value": 7 }, "cost_usd": 0 }),
                "calc  {\"value\":7}",
            ),
            ("step_failed", json!({ "code": "timeout", "error": "too slow" }), "timeout: too slow"),
            (
                "step_retrying",
                json!({ "code": "timeout", "due": "2026-09-21T14:13:20Z" }),
                "timeout  again at 2026-09-21 14:13:20Z",
            ),
            ("run_failed", json!({ "code": "over_budget", "reason": null }), "over_budget"),
            (
                "step_started",
                json!({ "type": "approval", "name": "ship", "arguments": { "reason": "Ship it?" } }),
                "approval  ship  Ship it?",
            ),
            (
                "approval_requested",
                json!({ "expiresAt": "2026-09-21T14:13:20Z" }),
                "answer before 2026-09-21 14:13:20Z  \
                 lantern runs approve 018f0000-0000-7000-8000-000000000001 s",
            ),
            (
                "signal_waiting",
                json!({ "name": "go" }),
                "go  lantern runs signal 018f0000-0000-7000-8000-000000000001 go",
            ),
            (
                "step_in_doubt",
                json!({ "code": "crashed" }),
                "crashed  lantern runs resolve 018f0000-0000-7000-8000-000000000001 s --happened yes|no",
            ),
            (
                "paused",
                json!({ "by": "ada" }),
                "by: ada  lantern runs resume 018f0000-0000-7000-8000-000000000001",
            ),
            (
                "run_started",
                json!({ "program": "agent", "capUsd": 1, "forkedFrom": { "runId": "q", "stepId": "llm-2", "replay": false } }),
                "agent  may cost $1.00  a fork of q from llm-2",
            ),
            (
                "run_started",
                json!({ "program": "agent", "capUsd": 1, "forkedFrom": { "runId": "q", "replay": true } }),
                "agent  may cost $1.00  a replay of q",
            ),
            (
                "step_completed",
                json!({ "name": "calc", "output": 7, "cost_usd": 0, "reused": true }),
                "calc  reused, not done again  7",
            ),
            (
                "step_failed",
                json!({ "code": "timeout", "error": "too slow", "reused": true }),
                "reused, not done again  timeout: too slow",
            ),
            ("a_kind_of_tomorrow", json!({ "x": null }), ""),
        ] {
            assert_eq!(frame(3, 0, kind, "s", data).words(), want, "{kind}");
        }
    }

    #[test]
    fn a_plain_line_has_its_columns() {
        let line = frame(3, 0, "step_failed", "llm-1", json!({ "code": "timeout" })).plain();
        assert_eq!(line, "2026-09-21 14:13:20Z     3  step_failed         llm-1             timeout");
        let bare = Frame::read(sse::Event { event: "odd".into(), data: "{".into(), id: None });
        assert_eq!(bare.plain(), "                            odd                 -");
    }

    #[test]
    fn only_stored_events_have_a_number() {
        assert_eq!(frame(3, 0, "paused", "", json!({})).seq, Some(3));
        assert_eq!(frame(3, 0, "llm_delta", "llm-1", json!({ "text": "a" })).seq, None);
        assert_eq!(frame(9, 0, "end", "", json!({ "status": "failed" })).end_status(), Some("failed"));
        assert_eq!(frame(3, 0, "error", "", json!({ "code": "c", "error": "e" })).error(), Some(("c", "e")));
        let read = |data: &str, id: Option<&str>| {
            Frame::read(sse::Event { event: "odd".into(), data: data.into(), id: id.map(str::to_owned) }).seq
        };
        assert_eq!(read("{\"seq\":4}", None), Some(4));
        assert_eq!(read("{\"seq\":900}", Some("4")), None, "the id is that of the frame before");
        assert_eq!(read("{}", Some("4")), Some(4));
    }

    #[test]
    fn a_frame_is_one_line() {
        let event = sse::Event { event: "x".into(), data: "{\n\"a\":1}".into(), id: None };
        assert_eq!(Frame::read(event).raw, "{ \"a\":1}");
    }
}
