//! Attempts after the first: whether a step may be tried again, under which key, and with which hold.

use lantern_engine::StepKind;
use lantern_types::{Acted, MicroUsd, Tried};

use super::{Checked, Follow, broken, demand, plus};
use crate::envelope::Envelope;
use crate::step::{Stand, Step};

impl Follow {
    pub(super) fn retrying(&mut self, event: &Envelope<'_>) -> Checked {
        let n = self.standing(event, &[Stand::Performing, Stand::Waiting, Stand::Resolved(false)])?;
        let Some(step) = self.steps.get(n) else { return broken("step", "there is no such step") };
        let (Some(acted), Some(due)) = (event.acted, event.due) else {
            return broken("form", "a retry says what became of the attempt and when the next is made");
        };
        // A child that failed is started anew, as another run. Nothing else is made again that only waited.
        let child = step.kind == StepKind::Child;
        let waited = step.stand == Stand::Waiting;
        demand(waited == child, "retry", "what waited for itself is not made again")?;
        demand(!child || acted == Acted::Yes, "retry", "a child that is made again had told how it ended")?;
        let unknown = acted == Acted::Unknown;
        let resolved = step.stand == Stand::Resolved(false);
        demand(
            !unknown || step.effect.repeats(),
            "class",
            "a step of its class is not sent again unless it did not happen",
        )?;
        demand(!resolved || acted == Acted::No, "retry", "it was found not to have happened")?;
        // A key is given up only when nothing that was sent under it can have acted, or when what it gave is of no use.
        let grows = match acted {
            Acted::Unknown => false,
            Acted::Yes => true,
            Acted::No => resolved || !step.resent,
        };
        let generation = step.generation + u32::from(grows);
        let holds = step.hold() > MicroUsd::ZERO;
        demand(
            event.generation == Some(generation),
            "generation",
            format_args!("the next generation is {generation}"),
        )?;
        demand(
            event.attempt == Some(step.attempt + 1),
            "attempt",
            format_args!("{} attempts were made", step.attempt),
        )?;
        demand(due >= event.at, "retry", "the next attempt is not made before this one failed")?;
        // A call that is free goes to somebody else, who may charge, by an admission of its own too.
        let readmits =
            if step.kind == StepKind::Llm && !holds && event.readmit { !grows } else { holds && !grows };
        demand(event.readmit == readmits, "retry", "an attempt that may be billed is admitted by itself")?;
        let unconfirmed = if unknown { step.hold() } else { MicroUsd::ZERO };
        demand(event.unconfirmed == unconfirmed, "bill", format_args!("{unconfirmed} may have been billed"))?;
        demand(
            event.cost <= step.hold(),
            "bill",
            format_args!("it cost {} and {} was held", event.cost, step.hold()),
        )?;
        let crash = event.code.as_ref().is_some_and(|code| code.0 == "crashed");
        demand(event.crashed == crash, "retry", "only a crash is a crash")?;
        let readmit = grows || event.readmit;
        let grant = {
            let step = self.step(n)?;
            step.resent = !grows && (step.resent || unknown);
            if let Some(tried) = tried(step, event) {
                step.tried.push(tried);
            }
            (step.generation, step.stand) = (generation, Stand::Backoff { due, readmit });
            if readmit { step.grant.take() } else { None }
        };
        self.used(event)?;
        self.spent = plus(self.spent, event.cost)?;
        self.let_go(grant.map_or(MicroUsd::ZERO, |grant| grant.hold), event.unconfirmed)
    }

    pub(super) fn readmitted(&mut self, event: &Envelope<'_>) -> Checked {
        let n = self.find(event)?;
        let held_back = self.held_back();
        let step = self.step(n)?;
        let due = matches!(step.stand, Stand::Backoff { due, readmit: true } if due <= event.at);
        demand(due && !held_back, "order", format_args!("it stood at {:?}", step.stand))?;
        demand(
            event.generation == Some(step.generation),
            "generation",
            format_args!("its generation is {}", step.generation),
        )?;
        demand(event.kind.is_none_or(|kind| kind == step.kind), "step", "it is of another kind")?;
        step.stand = if step.approval { Stand::Granted } else { Stand::Requested };
        Ok(())
    }

    pub(super) fn reissued(&mut self, event: &Envelope<'_>) -> Checked {
        let n = self.find(event)?;
        let held_back = self.held_back();
        let step = self.step(n)?;
        // After a wait, or after a crash: at once, and under the same key.
        let due = match step.stand {
            Stand::Backoff { due, readmit: false } => due <= event.at,
            Stand::Performing => step.hold().is_zero(),
            _ => false,
        };
        demand(due && !held_back, "order", format_args!("it stood at {:?}", step.stand))?;
        demand(step.effect.repeats(), "class", "a step of its class is not sent again")?;
        demand(
            event.generation == Some(step.generation),
            "generation",
            format_args!("its generation is {}", step.generation),
        )?;
        demand(
            event.attempt == Some(step.attempt + 1),
            "attempt",
            format_args!("{} attempts were made", step.attempt),
        )?;
        (step.attempt, step.resent, step.stand) = (step.attempt + 1, true, Stand::Performing);
        Ok(())
    }

    pub(super) fn in_doubt(&mut self, event: &Envelope<'_>) -> Checked {
        let n = self.standing(event, &[Stand::Performing])?;
        let step = self.step(n)?;
        demand(!step.effect.repeats(), "class", "a step of its class is sent again")?;
        demand(
            event.generation == Some(step.generation),
            "generation",
            format_args!("its generation is {}", step.generation),
        )?;
        step.stand = Stand::InDoubt;
        Ok(())
    }
}

/// The way that an attempt went which came to nothing by itself.
fn tried(step: &Step, event: &Envelope<'_>) -> Option<Tried> {
    let route = step.grant.as_ref()?.route.as_ref().filter(|_| !event.crashed)?;
    let code = event.code.as_ref().map(|code| code.0.to_string()).unwrap_or_default();
    Some(Tried { provider: route.provider.clone(), model: route.model.clone(), key: route.key, code })
}
