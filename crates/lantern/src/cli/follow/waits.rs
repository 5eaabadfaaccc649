//! All that a run waits for: the questions to people, and what comes by itself.
//!
//! Each frame about a step says what the step waits for from then on, if anything. What the frames do not say is not
//! guessed. Pure.

use std::collections::{BTreeMap, BTreeSet};

use lantern_types::RunId;
use serde_json::Value;

use crate::cli::follow::frame::Frame;
use crate::cli::follow::question::{Question, about, lift, object, resume};
use crate::cli::format::{dollars, line, text, time};

/// What comes without anybody's help.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cause {
    /// A sleep that ends.
    Timer,
    /// The end of the run that the step started; of an older server its id may not be known.
    Child { run: Option<RunId>, agent: String },
    /// Another attempt, after one that failed with this code.
    Retry { code: String },
    /// Budget that runs which this one started hold.
    Budget,
    /// The end of the run itself, which is decided: what child runs spent is still to be heard.
    Ending { outcome: String },
}

/// Something that comes by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Coming {
    /// Nothing for the run itself.
    step: String,
    cause: Cause,
    /// When, or until when it is waited for; as the server wrote it, nothing where that is not known.
    until: String,
}

impl Coming {
    fn of(frame: &Frame, cause: Cause) -> Self {
        let step = line(frame.step.as_deref().unwrap_or_default());
        Self { step, cause, until: line(text(&frame.data, "due")) }
    }

    /// What the run waits for: `nap until 2026-09-21 14:13:20Z`.
    pub(crate) fn wanted(&self) -> String {
        let (step, at) = (&self.step, time(&self.until));
        match &self.cause {
            Cause::Timer => format!("{step} until {at}"),
            Cause::Child { run, agent } => {
                let run = run.map(|run| format!(" {run}")).unwrap_or_default();
                let until = if at.is_empty() { at } else { format!(", until {at}") };
                format!("{step}: the run{run} of {agent}{until}")
            }
            Cause::Retry { code } => format!("{step}: another attempt at {at}, after {code}"),
            Cause::Budget => format!("{step}: budget that is reserved for child runs"),
            Cause::Ending { outcome } => {
                format!("its end: {outcome} when child runs have told what they spent, or at {at}")
            }
        }
    }

    /// The same as programs read it.
    fn json(&self) -> Value {
        let mut id = String::new();
        let (kind, said) = match &self.cause {
            Cause::Timer => ("timer", vec![]),
            Cause::Child { run, agent } => {
                id.extend(run.map(|run| run.to_string()));
                ("child", vec![("run", id.as_str()), ("agent", agent.as_str())])
            }
            Cause::Retry { code } => ("retry", vec![("code", code.as_str())]),
            Cause::Budget => ("budget", vec![]),
            Cause::Ending { outcome } => ("ending", vec![("outcome", outcome.as_str())]),
        };
        let said: Vec<(&str, &str)> = said.into_iter().chain([("until", self.until.as_str())]).collect();
        object(&self.step, kind, &said)
    }
}

/// Who let a run start nothing new, and when. It waits for somebody who resumes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pause {
    /// Or why the stop was set that holds it.
    by: String,
    /// As the server wrote it.
    since: String,
    /// The emergency stop that holds the run, if it was no person, and what it halts.
    stop: Option<(String, String)>,
}

impl Pause {
    fn of(frame: &Frame) -> Self {
        let since = frame.at.map(|at| at.to_string()).unwrap_or_default();
        let stop = stop_of(frame).map(|stop| (line(stop), line(text(&frame.data, "scope"))));
        let by = line(text(&frame.data, if stop.is_some() { "reason" } else { "by" }));
        Self { by, since, stop }
    }

    /// What the run waits for, and how it is answered, as pairs of name and value.
    pub(crate) fn told(&self, run: RunId) -> [(&'static str, String); 2] {
        if let Some((stop, scope)) = &self.stop {
            let wanted = format!("the emergency stop {stop} ({scope}) to be lifted: {}", self.by);
            return [("waits for", wanted), ("answer with", lift(stop, scope))];
        }
        let who = if self.by.is_empty() { "somebody" } else { &self.by };
        let wanted = format!("somebody who resumes it: {who} paused it at {}", time(&self.since));
        [("waits for", wanted), ("answer with", resume(run))]
    }

    fn json(&self, run: RunId) -> Value {
        if let Some((stop, scope)) = &self.stop {
            let command = lift(stop, scope);
            let said =
                [("stop", stop.as_str()), ("scope", scope), ("reason", &self.by), ("since", &self.since)];
            return object("", "stop", &[said.as_slice(), &[("command", &command)]].concat());
        }
        let command = resume(run);
        object("", "resume", &[("by", &self.by), ("since", &self.since), ("command", &command)])
    }
}

/// The emergency stop that a frame is about, if it is about one.
fn stop_of(frame: &Frame) -> Option<&str> {
    Some(text(&frame.data, "stopId")).filter(|stop| !stop.is_empty())
}

/// All that a run waits for.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    /// The pause that holds it, if one does.
    pub(crate) paused: Option<Pause>,
    /// The emergency stop that holds it, if one does.
    pub(crate) halted: Option<Pause>,
    /// What somebody has to answer, by step.
    pub(crate) questions: Vec<Question>,
    /// What comes by itself, by step.
    pub(crate) coming: Vec<Coming>,
}

impl Waits {
    /// What programs read.
    pub(crate) fn json(&self, run: RunId) -> Value {
        let paused = self.paused.iter().chain(&self.halted).map(|pause| pause.json(run));
        let questions = self.questions.iter().map(|question| question.json(run));
        paused.chain(questions).chain(self.coming.iter().map(Coming::json)).collect()
    }
}

/// What a run has begun to wait for and still does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Open {
    abouts: BTreeMap<String, String>,
    questions: BTreeMap<String, Question>,
    coming: BTreeMap<String, Coming>,
    /// Steps that start a run, as they were asked for.
    children: BTreeMap<String, Coming>,
    /// Of these, those whose runs may still spend what is reserved for them.
    spending: BTreeSet<String>,
    /// Steps that are not admitted yet.
    asking: BTreeMap<String, Coming>,
    paused: Option<Pause>,
    halted: Option<Pause>,
}

impl Open {
    /// Takes in one frame.
    pub(crate) fn apply(&mut self, frame: &Frame) {
        // The end of a run names the step that failed, if one did, and is not about it.
        let Some(step) = frame.step.as_ref().filter(|_| frame.kind != "run_ending") else {
            return self.apply_to_run(frame);
        };
        let about = about(frame);
        if !about.is_empty() {
            self.abouts.insert(step.clone(), about);
        }
        let about = self.abouts.get(step).map(String::as_str).unwrap_or_default();
        put(&mut self.questions, step, Question::asked(frame, about));
        let asks = asks_admission(frame).then(|| Coming::of(frame, Cause::Budget));
        put(&mut self.asking, step, asks);
        if frame.kind == "child_started" {
            let (run, agent) =
                (text(&frame.data, "childRunId").parse().ok(), line(text(&frame.data, "name")));
            self.children.insert(step.clone(), Coming::of(frame, Cause::Child { run, agent }));
        }
        // Another try of a child is another run.
        if let (Some(id), Some(known)) = (frame.data.get("childRunId"), self.children.get_mut(step))
            && frame.kind == "step_readmitted"
            && let Cause::Child { run, .. } = &mut known.cause
        {
            *run = id.as_str().and_then(|id| id.parse().ok());
        }
        let coming = match frame.kind.as_str() {
            "sleep_started" => Some(Coming::of(frame, Cause::Timer)),
            "step_retrying" => {
                let code = line(text(&frame.data, "code"));
                Some(Coming::of(frame, Cause::Retry { code }))
            }
            "step_admitted" => self.child(frame, step),
            _ => None,
        };
        put(&mut self.coming, step, coming);
        // A child that was dropped, or did not end in time, keeps what is reserved for it until it has told.
        let owes = frame.data.get("owing") != Some(&Value::Bool(false));
        let over = match frame.kind.as_str() {
            "child_completed" | "step_charged" | "step_retrying" => true,
            "step_failed" | "step_abandoned" => !owes,
            _ => false,
        };
        if over {
            self.spending.remove(step);
        }
    }

    fn apply_to_run(&mut self, frame: &Frame) {
        match frame.kind.as_str() {
            "paused" if stop_of(frame).is_some() => self.halted = Some(Pause::of(frame)),
            "resumed" if stop_of(frame).is_some() => self.halted = None,
            "paused" => self.paused = Some(Pause::of(frame)),
            "resumed" => self.paused = None,
            "run_ending" => {
                // It takes no orders any more.
                (self.paused, self.halted) = (None, None);
                let outcome = line(text(&frame.data, "outcome"));
                let ending = Coming { step: String::new(), ..Coming::of(frame, Cause::Ending { outcome }) };
                self.coming.insert(String::new(), ending);
            }
            _ => {}
        }
    }

    /// The run that a step starts by being admitted, if it is a step that starts one.
    fn child(&mut self, frame: &Frame, step: &str) -> Option<Coming> {
        let child = self.children.get(step)?.clone();
        if dollars(frame.data.get("holdUsd").unwrap_or(&Value::Null)).micros() > 0 {
            self.spending.insert(step.to_owned());
        }
        Some(child)
    }

    /// What is still open.
    pub(crate) fn waits(mut self) -> Waits {
        // A step is admitted in the moment in which it is asked for, unless the run is paused or child runs hold what it
        // needs.
        if self.paused.is_none() && self.halted.is_none() && !self.spending.is_empty() {
            let asking =
                self.asking.into_iter().map(|(step, wait)| (step, Coming { until: String::new(), ..wait }));
            self.coming.extend(asking);
        }
        Waits {
            paused: self.paused,
            halted: self.halted,
            questions: self.questions.into_values().collect(),
            coming: self.coming.into_values().collect(),
        }
    }
}

/// Whether a step asks to be admitted from this frame on.
fn asks_admission(frame: &Frame) -> bool {
    match frame.kind.as_str() {
        "child_started" | "step_readmitted" | "approval_granted" => true,
        "step_started" => {
            let waits = frame.data.get("approval") == Some(&Value::Bool(true));
            matches!(frame.label().0, "llm" | "tool") && !waits
        }
        _ => false,
    }
}

fn put<T>(open: &mut BTreeMap<String, T>, step: &str, found: Option<T>) {
    match found {
        Some(found) => open.insert(step.to_owned(), found),
        None => open.remove(step),
    };
}

#[cfg(test)]
pub(crate) mod testing {
    //! Waits for tests.

    use super::*;

    /// A step that sleeps.
    pub(crate) fn timer(step: &str, until: &str) -> Coming {
        Coming { step: step.to_owned(), cause: Cause::Timer, until: until.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::follow::frame::testing::frame;
    use serde_json::json;

    #[test]
    fn what_is_open_is_what_was_asked_and_not_answered() {
        let reason = json!({ "type": "approval", "arguments": { "reason": "153 lines. Ship it?" } });
        let mut asked = vec![
            frame(1, 0, "run_started", "", json!({})),
            frame(2, 0, "step_started", "ship", reason),
            frame(3, 0, "approval_requested", "ship", json!({})),
        ];
        for (more, want) in [
            (None, vec!["approval of ship: 153 lines. Ship it?"]),
            (Some(("paused", "", json!({}))), vec!["approval of ship: 153 lines. Ship it?"]),
            (
                Some(("signal_waiting", "go", json!({ "name": "ready" }))),
                vec!["the signal ready", "approval of ship: 153 lines. Ship it?"],
            ),
            (Some(("approval_granted", "ship", json!({}))), vec!["the signal ready"]),
            (Some(("step_completed", "go", json!({}))), vec![]),
            (Some(("step_in_doubt", "pay", json!({}))), vec!["somebody who knows whether pay happened"]),
            (Some(("step_resolved", "pay", json!({}))), vec![]),
        ] {
            asked.extend(more.map(|(kind, step, data)| frame(9, 0, kind, step, data)));
            let mut open = Open::default();
            for frame in &asked {
                open.apply(frame);
            }
            let wanted: Vec<String> = open.waits().questions.iter().map(Question::wanted).collect();
            assert_eq!(wanted, want);
        }
    }

    fn run() -> RunId {
        "018f0000-0000-7000-8000-000000000001".parse().unwrap()
    }

    #[test]
    fn what_comes_by_itself_is_told_until_it_has_come() {
        let due = "2026-09-21T14:13:20Z";
        let admitted = |usd: f64| json!({ "generation": 1, "holdUsd": usd });
        let mut seen = vec![frame(1, 0, "run_started", "", json!({}))];
        for ((kind, step, data), want) in [
            (("child_started", "sub", json!({ "type": "child", "name": "vat", "due": null })), vec![]),
            (("step_admitted", "sub", admitted(2.0)), vec!["child sub"]),
            (("step_started", "ask", json!({ "type": "llm" })), vec!["budget ask", "child sub"]),
            (("paused", "", json!({})), vec!["resume ", "child sub"]),
            (
                ("paused", "", json!({ "stopId": "s", "scope": "tenant" })),
                vec!["resume ", "stop ", "child sub"],
            ),
            (("resumed", "", json!({})), vec!["stop ", "child sub"]),
            (("resumed", "", json!({ "stopId": "s" })), vec!["budget ask", "child sub"]),
            (("step_abandoned", "sub", json!({ "code": "race_lost", "owing": true })), vec!["budget ask"]),
            (("step_charged", "sub", json!({})), vec![]),
            (("step_admitted", "ask", admitted(0.1)), vec![]),
            (("step_retrying", "ask", json!({ "code": "provider_timeout", "due": due })), vec!["retry ask"]),
            (("step_readmitted", "ask", json!({ "generation": 2 })), vec![]),
            (("step_abandoned", "ask", json!({ "code": "cancelled" })), vec![]),
            (("run_ending", "ask", json!({ "outcome": "cancelled", "due": due })), vec!["ending "]),
        ] {
            seen.push(frame(2, 0, kind, step, data));
            let mut open = Open::default();
            for frame in &seen {
                open.apply(frame);
            }
            let waits = open.waits().json(run());
            let told = |wait: &Value| format!("{} {}", text(wait, "kind"), text(wait, "step"));
            let told: Vec<String> = waits.as_array().unwrap().iter().map(told).collect();
            assert_eq!(told, want, "after {kind} {step}");
        }
    }

    #[test]
    fn another_try_of_a_child_is_another_run() {
        let second = "018f0000-0000-7000-8000-000000000002";
        let asked = json!({ "type": "child", "name": "vat", "childRunId": run().to_string() });
        let admitted = || json!({ "holdUsd": 2.0 });
        let mut open = Open::default();
        for (kind, data, want) in [
            ("child_started", asked, None),
            ("step_admitted", admitted(), Some(run().to_string())),
            ("step_retrying", json!({ "code": "tool_failed", "due": "2026-09-21T14:13:20Z" }), None),
            ("step_readmitted", json!({ "generation": 2, "childRunId": second }), None),
            ("step_admitted", admitted(), Some(second.to_owned())),
        ] {
            open.apply(&frame(1, 0, kind, "sub", data));
            let waits = open.clone().waits().json(run());
            assert_eq!(waits[0]["run"].as_str().map(str::to_owned), want, "after {kind}");
        }
    }

    #[test]
    fn what_comes_by_itself_is_said_in_words() {
        let (agent, code, outcome) =
            ("vat".to_owned(), "provider_timeout".to_owned(), "cancelled".to_owned());
        let run = Some(run());
        for (cause, until, want) in [
            (
                Cause::Child { run, agent: agent.clone() },
                "",
                "s: the run 018f0000-0000-7000-8000-000000000001 of vat",
            ),
            (
                Cause::Child { run: None, agent },
                "2026-09-21T14:13:20Z",
                "s: the run of vat, until 2026-09-21 14:13:20Z",
            ),
            (
                Cause::Retry { code },
                "2026-09-21T14:13:20Z",
                "s: another attempt at 2026-09-21 14:13:20Z, after provider_timeout",
            ),
            (Cause::Budget, "", "s: budget that is reserved for child runs"),
            (
                Cause::Ending { outcome },
                "2026-09-21T14:13:20Z",
                "its end: cancelled when child runs have told what they spent, or at 2026-09-21 14:13:20Z",
            ),
        ] {
            assert_eq!(Coming { step: "s".to_owned(), cause, until: until.to_owned() }.wanted(), want);
        }
    }
}
