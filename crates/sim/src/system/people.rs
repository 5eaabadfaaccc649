//! What people do: cancel, pause, resume, signal, decide, find out. During the faults at random and through the router;
//! in a calm world whatever a waiting run needs.

use lantern_engine::{Arrival, StepState, Work};
use lantern_store::inbox::{self, NewInput};
use lantern_types::InboxId;
use serde_json::{Value, json};

use super::place::{Place, Told, unread};
use crate::check::Violation;
use crate::generate::SIGNALS;
use crate::rng::Rng;

impl Place {
    /// One thing that someone does to some run; a refusal is an answer, a server error is not.
    pub(super) async fn steer(&mut self, rng: &mut Rng) -> Result<(), Violation> {
        let Some(told) = rng.pick(&self.runs).cloned() else { return Ok(()) };
        let signal = rng.one_of(&SIGNALS, "go");
        let (verb, body) = match rng.below(20) {
            0..2 => ("cancel".to_owned(), json!({})),
            2..5 => ("pause".to_owned(), json!({})),
            5..9 => ("resume".to_owned(), json!({})),
            9..15 => (format!("signals/{signal}"), json!({ "value": rng.below(9) })),
            _ => match self.waiting_step(&told).await? {
                Some(step) => {
                    (format!("approvals/{}", escaped(&step)), json!({ "approved": rng.chance(70) }))
                }
                None => ("resume".to_owned(), json!({})),
            },
        };
        // Now and then a stranger tries.
        let stranger = rng.chance(10);
        let who = if stranger { 1 - told.tenant } else { told.tenant };
        let path = format!("/v1/runs/{}/{verb}", told.id);
        let asked = self.ask(who, "POST", &path, Some(body)).await;
        let (status, answer) = asked.map_err(|detail| Violation { rule: "answers", detail })?;
        self.tell(format!("tenant {who}: {verb} of {}: {status}", told.id));
        if verb == "cancel" && status == 200 && !stranger {
            self.cancelled.push((told.clone(), self.clock.now()));
        }
        if (status >= 500 && status != 503) || (stranger && ![404, 503].contains(&status)) {
            let detail = format!("{verb} by tenant {who}: {status} {answer}");
            return Err(Violation { rule: if stranger { "strangers" } else { "answers" }, detail });
        }
        Ok(())
    }

    async fn waiting_step(&self, told: &Told) -> Result<Option<String>, Violation> {
        let head = lantern_store::journal::head(&self.db, self.scope(told), told.id).await.map_err(unread)?;
        let Some(row) = head else { return Ok(None) };
        let (run, ..) = self.folded(told, &row).await?;
        let asks =
            |state: &StepState| matches!(state, StepState::AwaitingApproval { .. } | StepState::InDoubt);
        Ok(run.open_steps().find(|step| asks(&step.state)).map(|step| step.id.to_string()))
    }
}

/// Brackets of step names are not allowed in a path as they are.
fn escaped(step: &str) -> String {
    step.replace('[', "%5B").replace(']', "%5D")
}

/// Gives every run that waits for someone what it waits for.
pub(super) async fn help(place: &Place) -> Result<(), Violation> {
    for (told, row) in place.everything().await? {
        if row.finished_at.is_some() {
            continue;
        }
        let (run, ..) = place.folded(&told, &row).await?;
        let mut arrivals = Vec::new();
        if run.paused {
            arrivals.push(Arrival::Resume { by: "calm".to_owned() });
        }
        for step in run.open_steps() {
            let id = step.id.clone();
            let by = match &step.work {
                Some(Work::Approval { approvers, .. }) => approvers.first().cloned().unwrap_or_default(),
                _ => String::new(),
            };
            match (&step.state, &step.work) {
                (StepState::InDoubt, _) => {
                    arrivals.push(Arrival::Resolution {
                        step: id,
                        happened: true,
                        output: Value::Null,
                        by,
                        generation: None,
                    });
                }
                (StepState::AwaitingApproval { .. }, _) | (_, Some(Work::Approval { .. })) => {
                    arrivals.push(Arrival::Approval {
                        step: id,
                        granted: true,
                        by,
                        note: None,
                        answer: None,
                    });
                }
                (_, Some(Work::Signal { name })) => {
                    arrivals.push(Arrival::Signal { name: name.clone(), value: Value::Null, key: None });
                }
                _ => {}
            }
        }
        for arrival in arrivals {
            send(place, &told, arrival).await?;
        }
    }
    Ok(())
}

async fn send(place: &Place, told: &Told, arrival: Arrival) -> Result<(), Violation> {
    let id = InboxId::from_uuid(place.ids.uuid());
    let plain = serde_json::to_vec(&arrival).map_err(unread)?;
    let (scope, minted, to) = (place.scope(told), (id, place.clock.now()), (told.id, id.to_string()));
    let new = NewInput::seal(place.vault.sealer(), scope, minted, to, &plain).await.map_err(unread)?;
    let put =
        place.db.write(scope, move |tx| Box::pin(async move { inbox::put(tx, new, 1_000).await })).await;
    put.map(drop).map_err(unread)
}
