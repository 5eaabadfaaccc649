//! What a payload says, beside what the events came to.

use lantern_engine::Outcome;
use lantern_receipts::payload::Time;
use lantern_receipts::{EndedBy, Payload};
use lantern_types::At;

use super::{Checked, Follow, broken, demand, plus};

impl Follow {
    /// Whether the payload says what the events say.
    pub(super) fn compare(&self, payload: &Payload) -> Checked {
        let Some(start) = &self.start else { return broken("totals", "there are no events") };
        let same =
            |holds: bool, what: &str| demand(holds, "totals", format_args!("the payload has another {what}"));
        same(start.manifest == Some(payload.agent_version), "agent version")?;
        same(start.catalogue == Some(payload.catalogue), "catalogue")?;
        same(start.limits == Some(payload.limits), "digest of the limits")?;
        same(start.cap == payload.cap_micro_usd, "cap")?;
        same(self.policies.iter().eq(&payload.policies), "list of policies")?;
        same(self.models.iter().eq(&payload.models), "list of models")?;
        same(self.tokens == (payload.tokens_in, payload.tokens_out), "count of tokens")?;
        same(payload.started_at == self.first_work.map(|at| Time(At::from_micros(at))), "time of its start")?;
        match (&self.over, payload.ended_by) {
            (Some((outcome, code, at)), EndedBy::Event) => {
                let status = match outcome {
                    Outcome::Succeeded => "succeeded",
                    Outcome::Failed => "failed",
                    Outcome::Cancelled => "cancelled",
                };
                same(payload.status == status, "status")?;
                same(payload.error_code == *code, "error code")?;
                same(payload.finished_at == Time(At::from_micros(*at)), "time of its end")?;
                same(payload.cost_micro_usd == self.spent, "cost")?;
                same(payload.unconfirmed_micro_usd == self.unconfirmed, "unconfirmed amount")?;
            }
            (None, EndedBy::Row) => {
                // Nobody could go on with it: what was held is charged.
                same(payload.status == "failed" && payload.error_code.is_some(), "status")?;
                same(payload.cost_micro_usd == plus(self.spent, self.held)?, "cost")?;
                same(payload.unconfirmed_micro_usd.is_zero(), "unconfirmed amount")?;
            }
            _ => return broken("totals", "the payload says otherwise how it ended"),
        }
        let sole = if payload.models.len() == 1 { payload.models.first() } else { None };
        let said = payload.provider.as_ref().zip(payload.model.as_ref());
        same(said.map(|(provider, model)| format!("{provider}/{model}")).as_ref() == sole, "model")
    }
}
