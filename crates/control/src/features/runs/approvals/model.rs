//! What a question to a person looks like from outside, and which ones a list is about. Pure.

use lantern_edge::openapi::{Kind, PAGING, Param};
use lantern_edge::{Code, Error, Fields, Model, Paging, Params, Result};
use lantern_engine::{Content, Event, Fact, Work};
use lantern_store::approvals::{ApprovalFilter, ApprovalRow};
use lantern_store::escrow::asks::Over;
use lantern_types::approval::Status;
use lantern_types::call::Owner;
use lantern_types::{ApprovalId, MicroUsd, RunId};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::features::runs::filter::{PAGING_TOO, wrong};
use crate::features::runs::model::{answer, more};

const STATUSES: [&str; 5] = ["pending", "granted", "denied", "expired", "withdrawn"];

/// What a list takes besides its page.
pub(super) const FILTERS: &[Param] = &[
    Param {
        name: "status",
        about: "Questions that stand so: one of these, several with commas between them, or given several times. \
                `pending` when it is left out. `withdrawn` are those of runs that no longer ask.",
        kind: Kind::Words(&STATUSES),
    },
    Param { name: "agent", about: "Questions of runs of the agent of this name.", kind: Kind::Text },
    Param { name: "runId", about: "Questions of this run.", kind: Kind::Id },
];

/// A question to a person.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Approval {
    #[schema(value_type = String, format = "uuid")]
    id: ApprovalId,
    #[schema(value_type = String, format = "uuid")]
    run_id: RunId,
    step_id: String,
    agent_name: String,
    status: &'static str,
    asked_at: String,
    expires_at: String,
    /// When somebody decided, or it lapsed, or the run no longer asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    decided_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<AskedBudget>,
    #[serde(flatten)]
    said: Said,
}

/// That it is asked whether a budget may be passed. It is asked once, for every run that waits; the run that is named asked first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AskedBudget {
    /// `tenant` or `agent`.
    scope: &'static str,
    /// `day` or `month`.
    period: &'static str,
    /// What could be spent in it, with what was granted before.
    max_cost_usd: f64,
    /// What was spent when it was asked.
    spent_usd: f64,
    /// What the next step could cost.
    hold_usd: f64,
    /// How much more somebody let through; without it, with a yes, the rest of the period.
    #[serde(skip_serializing_if = "Option::is_none")]
    more_usd: Option<f64>,
}

impl AskedBudget {
    fn of(over: &Over) -> Self {
        Self {
            scope: match over.account.owner {
                Owner::Tenant => "tenant",
                Owner::Key(_) => "apiKey",
                Owner::Agent(_) => "agent",
            },
            period: over.account.period.as_str(),
            max_cost_usd: over.cap.to_wire(),
            spent_usd: over.spent.to_wire(),
            hold_usd: over.hold.to_wire(),
            more_usd: over.more.map(MicroUsd::to_wire),
        }
    }
}

/// What is asked, and what was decided. Nothing of it is there when the run's journal cannot be read.
#[derive(Debug, Default, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ApprovalContent)]
pub(super) struct Said {
    /// Why it is asked, in the words of the agent's author.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// The tool that is called when it is granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<String>,
    /// What the tool is called with.
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<Value>,
    /// Who may decide; empty for everybody who may decide approvals.
    #[serde(skip_serializing_if = "Option::is_none")]
    approvers: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decided_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    /// What the step gives for a yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<Value>,
    /// Fields that are there and too long for a list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    omitted: Vec<&'static str>,
}

impl Said {
    /// What a question whether a budget may be passed says: its row knows it all.
    pub(super) fn of_budget(row: &ApprovalRow, over: &Over) -> Self {
        let whose = match over.account.owner {
            Owner::Tenant => "the tenant".to_owned(),
            Owner::Key(_) => "an API key".to_owned(),
            Owner::Agent(_) => row.agent_name.clone(),
        };
        let (Over { cap, spent, hold, .. }, period) = (over, over.account.period.as_str());
        let reason = format!(
            "{whose} may spend {cap} in this {period}; {spent} are spent, and the next step could cost {hold}. \
             A yes lets the rest of the {period} through, or `moreUsd` more if that is said."
        );
        Self {
            reason: Some(reason),
            approvers: Some(Vec::new()),
            decided_by: over.by.clone(),
            ..Self::default()
        }
    }

    /// Takes in what the append says in which the question stands.
    pub(super) fn ask(&mut self, row: &ApprovalRow, events: &[Event]) {
        let of = |event: &&Event| matches!(&event.fact, Fact::StepRequested { step, .. } if step.as_str() == row.step);
        match events.iter().find(of).and_then(|event| event.content.as_ref()) {
            Some(Content::Work(Work::Approval { reason, approvers })) => {
                self.reason = Some(reason.clone()).filter(|reason| !reason.is_empty());
                self.approvers = Some(approvers.clone());
            }
            Some(Content::Work(Work::Tool { name, arguments, .. })) => {
                self.tool = Some(name.as_str().to_owned());
                self.arguments = Some(Value::clone(arguments));
                self.approvers = Some(Vec::new());
            }
            _ => {}
        }
    }

    /// Takes in what the append says in which the decision stands.
    pub(super) fn decide(&mut self, row: &ApprovalRow, events: &[Event]) {
        let of = |event: &&Event| i64::try_from(event.seq).is_ok_and(|seq| Some(seq) == row.closed_seq);
        let Some(event) = events.iter().find(of) else { return };
        if let Fact::ApprovalGranted { by, .. } | Fact::ApprovalDenied { by, .. } = &event.fact {
            self.decided_by = Some(by.clone()).filter(|by| !by.is_empty());
            self.note = match &event.content {
                Some(Content::Reason(note)) => Some(note.clone()),
                _ => None,
            };
        }
        let settled = |event: &&Event| matches!(&event.fact, Fact::StepSettled { step, .. } if step.as_str() == row.step);
        let gave = events.iter().find(settled).and_then(|event| match &event.content {
            // What a tool gave once it was approved is no answer of a person's.
            Some(Content::Output(output)) if self.tool.is_none() => output.get("answer"),
            _ => None,
        });
        self.answer = gave.filter(|answer| !answer.is_null()).cloned();
    }

    /// The same without what is longer than `bytes_max`, which is named instead.
    pub(super) fn cut(mut self, bytes_max: usize) -> Self {
        let long = |text: &Option<String>| text.as_ref().is_some_and(|text| text.len() > bytes_max);
        if long(&self.reason) {
            self.reason = None;
            self.omitted.push("reason");
        }
        if self.arguments.as_ref().is_some_and(|value| value.to_string().len() > bytes_max) {
            self.arguments = None;
            self.omitted.push("arguments");
        }
        if self.answer.as_ref().is_some_and(|value| value.to_string().len() > bytes_max) {
            self.answer = None;
            self.omitted.push("answer");
        }
        if long(&self.note) {
            self.note = None;
            self.omitted.push("note");
        }
        self
    }
}

/// The question of this row.
pub(super) fn shown(row: ApprovalRow, said: Said) -> Approval {
    Approval {
        budget: row.over.as_ref().map(AskedBudget::of),
        id: row.id,
        run_id: row.run,
        step_id: row.step,
        agent_name: row.agent_name,
        status: row.status.as_str(),
        asked_at: row.asked_at.to_string(),
        expires_at: row.expires_at.to_string(),
        decided_at: row.closed_at.map(|at| at.to_string()),
        said,
    }
}

/// What a person adds to a decision that the path says.
#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "the fields are named as in the API")]
pub(super) struct Note {
    pub(super) note: Option<Value>,
    pub(super) answer: Option<Value>,
    pub(super) more: Option<MicroUsd>,
}

impl Model for Note {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { note: fields.value("note").cloned(), answer: answer(fields), more: more(fields) })
    }
}

/// What a query asks for. Who is to decide wants the question first that lapses first, as a rule the oldest; everybody
/// else wants to see what happened last.
pub(super) fn wanted(params: &Params, paging: &Paging) -> Result<ApprovalFilter> {
    let paged = PAGING.iter().map(|param| param.name);
    let once: Vec<&str> = ["agent", "runId"].into_iter().chain(paged).chain(PAGING_TOO).collect();
    params.only(&once, &["status"]).map_err(with_names)?;
    let statuses = statuses(params).map_err(with_names)?;
    Ok(ApprovalFilter {
        oldest_first: statuses == [Status::Pending],
        statuses,
        agent_name: params.text("agent").map(ToOwned::to_owned),
        run: params.parsed("runId", "a run id")?,
        after: paging.before.map(|(at, id)| (at, ApprovalId::from_uuid(id))),
        limit: paging.fetch(),
    })
}

/// Says which filters there are.
fn with_names(refused: Error) -> Error {
    refused.with_extra("filters", FILTERS.iter().map(|filter| filter.name).collect::<Vec<_>>())
}

fn statuses(params: &Params) -> Result<Vec<Status>> {
    let mut found = Vec::new();
    for word in params.all("status").flat_map(|list| list.split(',')).map(str::trim) {
        let Some(status) = Status::named(word) else {
            return Err(wrong("status", format!("expected one of {}", STATUSES.join(", "))));
        };
        if !found.contains(&status) {
            found.push(status);
        }
    }
    Ok(if found.is_empty() { vec![Status::Pending] } else { found })
}

/// 404 for a question that is not there, or is somebody else's.
pub(in crate::features::runs) fn not_found() -> Error {
    Error::new(Code::ApprovalNotFound, "approval not found")
}

/// Why a question takes no decision any more.
pub(super) fn decided(row: &ApprovalRow) -> Error {
    let words = match row.status {
        Status::Pending => "a decision on this approval is on its way already".to_owned(),
        Status::Granted | Status::Denied => format!("somebody decided already: {}", row.status.as_str()),
        Status::Expired => "nobody decided in time: expired".to_owned(),
        Status::Withdrawn => "it is asked no longer: withdrawn".to_owned(),
    };
    Error::new(Code::StepNotWaiting, words).with_extra("approvalStatus", row.status.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_name_every_status() {
        assert_eq!(Status::ALL.map(Status::as_str), STATUSES);
    }

    #[test]
    fn what_is_long_is_named_and_left_out() {
        let said = || Said {
            reason: Some("r".repeat(9)),
            arguments: Some(Value::String("a".repeat(7))),
            note: Some("n".to_owned()),
            ..Said::default()
        };
        assert_eq!(said().cut(9), said());
        let cut = said().cut(8);
        assert_eq!(
            (cut.reason, cut.note, cut.omitted),
            (None, Some("n".to_owned()), vec!["reason", "arguments"])
        );
    }
}
