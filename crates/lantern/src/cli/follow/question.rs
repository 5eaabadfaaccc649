//! What a run waits for that a person has to answer, with the command that does.
//!
//! Invariant: a command names its run and its step whole, to be copied. What is decided on (an approval's reason, a
//! tool's arguments) is told when its step starts, so who asks later must have kept it. Pure.

use lantern_types::{MicroUsd, RunId};
use serde_json::Value;

use crate::cli::follow::frame::Frame;
use crate::cli::format::{cut, dollars, line, text, usd};

/// As much of a reason or of arguments as is shown.
const ABOUT_COLUMNS: usize = 400;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Need {
    Approval,
    /// The signal of this name.
    Signal(String),
    /// Somebody must find out whether the step happened.
    Finding,
    /// Somebody must say whether more may be spent.
    Budget(Budget),
}

/// A budget that leaves too little for a step, as its question says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Budget {
    /// The question's id.
    approval: String,
    whose: &'static str,
    period: String,
    cap: MicroUsd,
    spent: MicroUsd,
    hold: MicroUsd,
}

impl Budget {
    fn of(data: &Value) -> Self {
        let amount = |name: &str| data.get(name).map(dollars).unwrap_or_default();
        let whose = if text(data, "owner").starts_with("agent:") { "the agent's" } else { "the tenant's" };
        Self {
            approval: line(text(data, "approvalId")),
            whose,
            period: line(text(data, "period")),
            cap: amount("maxCostUsd"),
            spent: amount("spentUsd"),
            hold: amount("holdUsd"),
        }
    }

    /// `$0.05, of the tenant's $1.00 for the day $0.98 are spent`
    fn words(&self) -> String {
        let Self { whose, period, .. } = self;
        let (hold, cap, spent) = (usd(self.hold), usd(self.cap), usd(self.spent));
        format!("it could cost {hold}; of {whose} {cap} for the {period}, {spent} are spent")
    }
}

/// One step that waits for somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    step: String,
    need: Need,
    /// What is decided on, as far as it is known.
    about: String,
    /// Until when it waits, where that is known, as the server wrote it.
    until: String,
    /// Who may answer, when the caller may not.
    others: Vec<String>,
}

impl Question {
    /// The question that this frame asks, if it asks one; `about` is what is decided on.
    pub(crate) fn asked(frame: &Frame, about: &str) -> Option<Self> {
        let need = match frame.kind.as_str() {
            "approval_requested" => Need::Approval,
            "signal_waiting" => Need::Signal(line(text(&frame.data, "name"))),
            "step_in_doubt" => Need::Finding,
            "budget_asked" => Need::Budget(Budget::of(&frame.data)),
            _ => return None,
        };
        let step = line(frame.step.as_deref().unwrap_or_default());
        let until = ["due", "expiresAt"].iter().map(|name| text(&frame.data, name)).find(|at| !at.is_empty());
        let until = line(until.unwrap_or_default());
        Some(Self { step, need, about: about.to_owned(), until, others: frame.others.clone() })
    }

    /// What the step does, in a few words: `waits for approval`.
    pub(crate) fn short(&self) -> String {
        match &self.need {
            Need::Approval => "waits for approval".to_owned(),
            Need::Signal(name) => format!("waits for the signal {name}"),
            Need::Finding => "is in doubt: did it happen?".to_owned(),
            Need::Budget(_) => "waits for more budget".to_owned(),
        }
    }

    /// The step, what it waits for and what is decided on.
    pub(crate) fn whole(&self) -> String {
        let words = format!("{} {}", self.step, self.short());
        match &self.need {
            Need::Budget(budget) => format!("{words}: {}", budget.words()),
            _ => self.with_about(words),
        }
    }

    /// What the run waits for: `approval of ship: 153 lines changed`.
    pub(crate) fn wanted(&self) -> String {
        let step = &self.step;
        self.with_about(match &self.need {
            Need::Approval => format!("approval of {step}"),
            Need::Signal(name) => format!("the signal {name}"),
            Need::Finding => format!("somebody who knows whether {step} happened"),
            Need::Budget(budget) => format!("more budget for {step}: {}", budget.words()),
        })
    }

    /// How it is answered, as a pair of name and value: the command, or who may when the caller may not.
    pub(crate) fn answer(&self, run: RunId) -> (&'static str, String) {
        if self.others.is_empty() {
            ("answer with", self.command(run))
        } else {
            ("answered by", self.others.join(", "))
        }
    }

    /// The same in a few words.
    pub(crate) fn help(&self, run: RunId) -> String {
        match self.answer(run) {
            (_, command) if self.others.is_empty() => command,
            (_, names) => format!("{names} may answer"),
        }
    }

    /// The command that helps.
    fn command(&self, run: RunId) -> String {
        let step = &self.step;
        match &self.need {
            Need::Approval => format!("lantern runs approve {run} {step}"),
            Need::Signal(name) => format!("lantern runs signal {run} {name}"),
            Need::Finding => format!("lantern runs resolve {run} {step} --happened yes|no"),
            Need::Budget(Budget { approval, .. }) => format!("lantern approvals grant {approval}"),
        }
    }

    /// The question as programs read it.
    pub(crate) fn json(&self, run: RunId) -> Value {
        let (kind, name) = match &self.need {
            Need::Approval => ("approval", ""),
            Need::Signal(name) => ("signal", name.as_str()),
            Need::Finding => ("finding", ""),
            Need::Budget(_) => ("budget_question", ""),
        };
        let command = if self.others.is_empty() { self.command(run) } else { String::new() };
        let said = [("name", name), ("about", &self.about), ("until", &self.until), ("command", &command)];
        let mut question = object(&self.step, kind, &said);
        if let Some(fields) = question.as_object_mut() {
            if !self.others.is_empty() {
                fields.insert("approvers".to_owned(), self.others.as_slice().into());
            }
            if let Need::Budget(budget) = &self.need {
                fields.insert("approvalId".to_owned(), budget.approval.as_str().into());
                for (name, amount) in
                    [("maxCostUsd", budget.cap), ("spentUsd", budget.spent), ("holdUsd", budget.hold)]
                {
                    fields.insert(name.to_owned(), amount.to_wire().into());
                }
            }
        }
        question
    }

    /// The step and what is decided on, when it is an approval that the caller may decide.
    pub(crate) fn approval(&self) -> Option<(String, String)> {
        let mine = self.need == Need::Approval && self.others.is_empty();
        mine.then(|| (self.step.clone(), self.about.clone()))
    }

    /// Whether there is more to say than the short words.
    pub(crate) const fn explained(&self) -> bool {
        !self.about.is_empty() || matches!(self.need, Need::Budget(_))
    }

    fn with_about(&self, words: String) -> String {
        if self.about.is_empty() { words } else { format!("{words}: {}", self.about) }
    }
}

/// The command that lets a paused run go on.
pub(crate) fn resume(run: RunId) -> String {
    format!("lantern runs resume {run}")
}

/// The command that lifts an emergency stop.
pub(crate) fn lift(stop: &str, scope: &str) -> String {
    if scope == "server" {
        format!("lantern stop --lift {stop}")
    } else {
        format!("lantern stops lift {stop}")
    }
}

/// What a person decides on who approves the step that starts here; nothing for a step that needs no approval.
pub(crate) fn about(frame: &Frame) -> String {
    let arguments = frame.data.get("arguments").unwrap_or(&Value::Null);
    let (kind, name) = frame.label();
    let words = match kind {
        "approval" => text(arguments, "reason").to_owned(),
        _ if frame.data.get("approval") != Some(&Value::Bool(true)) => String::new(),
        _ if arguments.is_null() => name.to_owned(),
        _ => format!("{name} {arguments}"),
    };
    cut(line(&words).trim(), ABOUT_COLUMNS)
}

/// What a step waits for, with those of its particulars that are known.
pub(crate) fn object(step: &str, kind: &str, said: &[(&str, &str)]) -> Value {
    let known = said.iter().filter(|(_, value)| !value.is_empty());
    let step = Some(("step", step)).filter(|(_, step)| !step.is_empty());
    let all = step.into_iter().chain([("kind", kind)]).chain(known.copied());
    Value::Object(all.map(|(name, value)| (name.to_owned(), value.into())).collect())
}

#[cfg(test)]
pub(crate) mod testing {
    //! Questions for tests.

    use super::*;

    /// An approval that a step asks for.
    pub(crate) fn approval(step: &str, about: &str) -> Question {
        let (step, about) = (step.to_owned(), about.to_owned());
        Question { step, need: Need::Approval, about, until: String::new(), others: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::follow::frame::testing::frame;
    use serde_json::json;

    fn run() -> RunId {
        "018f0000-0000-7000-8000-000000000001".parse().unwrap()
    }

    #[test]
    fn who_approves_is_told_what() {
        for (data, want) in [
            (json!({ "type": "approval", "name": "s", "arguments": { "reason": "Ship\nit?" } }), "Ship it?"),
            (json!({ "type": "approval", "name": "s", "arguments": { "reason": null } }), ""),
            (
                json!({ "type": "tool", "name": "pay", "approval": true, "arguments": { "usd": 5 } }),
                "pay {\"usd\":5}",
            ),
            (json!({ "type": "tool", "name": "pay", "approval": true }), "pay"),
            (json!({ "type": "tool", "name": "calc", "approval": false, "arguments": { "a": 1 } }), ""),
            (json!({}), ""),
        ] {
            assert_eq!(about(&frame(1, 0, "step_started", "s", data.clone())), want, "{data}");
        }
        let long = json!({ "type": "approval", "arguments": { "reason": "x".repeat(1_000) } });
        assert_eq!(about(&frame(1, 0, "step_started", "s", long)).chars().count(), ABOUT_COLUMNS);
    }

    #[test]
    fn a_command_names_run_and_step() {
        let ask = |kind| Question::asked(&frame(1, 0, kind, "s", json!({ "name": "go" })), "").unwrap();
        let id = run();
        for (kind, short, command) in [
            ("approval_requested", "waits for approval", format!("lantern runs approve {id} s")),
            ("signal_waiting", "waits for the signal go", format!("lantern runs signal {id} go")),
            (
                "step_in_doubt",
                "is in doubt: did it happen?",
                format!("lantern runs resolve {id} s --happened yes|no"),
            ),
        ] {
            assert_eq!((ask(kind).short().as_str(), ask(kind).command(id)), (short, command));
        }
        assert_eq!(testing::approval("s", "why").whole(), "s waits for approval: why");
        let data = json!({"approvalId": "q", "owner": "agent:a", "period": "day", "maxCostUsd": 1.0, "spentUsd": 0.9,
            "holdUsd": 0.2, "expiresAt": "2026-11-30T00:00:00Z"});
        let asked = Question::asked(&frame(1, 0, "budget_asked", "s", data), "").unwrap();
        let words = "it could cost $0.20; of the agent's $1.00 for the day, $0.90 are spent";
        assert_eq!(asked.whole(), format!("s waits for more budget: {words}"));
        assert_eq!(asked.wanted(), format!("more budget for s: {words}"));
        assert_eq!(asked.command(id), "lantern approvals grant q");
        let told = asked.json(id);
        assert_eq!((&told["kind"], &told["approvalId"]), (&json!("budget_question"), &json!("q")), "{told}");
        assert_eq!((&told["holdUsd"], &told["until"]), (&json!(0.2), &json!("2026-11-30T00:00:00Z")));
        assert!(Question::asked(&frame(1, 0, "step_completed", "s", json!({})), "").is_none());
    }
}
