//! What a run uses, told append by append: the model calls that ended in it and that no cap had held money for, and with them the calls
//! of tools since the last time.
//!
//! Invariant: whatever an append tells follows from the events up to it, so whoever takes a run up goes on where its last holder was, and
//! nothing is told twice or left out. What was held from slices of a cap is told by whoever settles these, and never here.

use std::collections::{BTreeMap, HashMap};

use lantern_types::call::{Counted, Happened, RunUsage, StepSpent};
use lantern_types::{AgentId, Grant, MicroUsd};

use crate::event::{Event, Fact, Outcome, StepId, StepKind};

/// What of a run is still to be told.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    agent: Option<AgentId>,
    /// Attempts that were admitted and have not ended.
    open: HashMap<StepId, Open>,
    /// Calls of tools that ended since something was told.
    tools: BTreeMap<String, u64>,
}

/// An attempt.
#[derive(Clone, Debug)]
enum Open {
    /// Of a model: who is asked, and for which.
    Model { provider: String, model: String },
    /// Of a model whose money is held from slices.
    Held,
    /// Of anything else.
    Other,
}

/// What an attempt came to.
#[derive(Clone, Copy, Debug, Default)]
struct Bill {
    cost: MicroUsd,
    unconfirmed: MicroUsd,
    tokens_in: u64,
    tokens_out: u64,
}

impl Open {
    fn of(grant: &Grant) -> Self {
        match &grant.route {
            Some(_) if !grant.facts.accounts.is_empty() => Self::Held,
            Some(route) => Self::Model { provider: route.provider.clone(), model: route.model.clone() },
            None => Self::Other,
        }
    }
}

impl Tally {
    /// Takes in the events of one append, and tells what is to be counted with it.
    pub fn append(&mut self, events: &[Event]) -> RunUsage {
        let (mut items, mut counts, mut tells) = (Vec::new(), Vec::new(), false);
        for event in events {
            match &event.fact {
                Fact::RunStarted { agent, .. } => self.agent = Some(*agent),
                Fact::StepAdmitted { step, grant, .. } => {
                    self.open.insert(step.clone(), Open::of(grant));
                }
                Fact::Finished { outcome, .. } => {
                    counts.extend(self.counted(Happened::Run(word(*outcome).to_owned()), 1));
                    tells = true;
                }
                fact => {
                    if let Some((step, bill)) = ended(fact)
                        && let Some(open) = self.open.remove(step)
                    {
                        tells |= !matches!(open, Open::Other);
                        items.extend(self.spent(open, fact, step, bill));
                    }
                }
            }
        }
        if tells {
            let tools = std::mem::take(&mut self.tools).into_iter();
            counts.extend(tools.filter_map(|(name, times)| self.counted(Happened::Tool(name), times)));
        }
        RunUsage { items, counts }
    }

    fn counted(&self, what: Happened, times: u64) -> Option<Counted> {
        Some(Counted { agent: self.agent?, what, times })
    }

    /// What an attempt that ended is charged here.
    fn spent(&mut self, open: Open, fact: &Fact, step: &StepId, bill: Bill) -> Option<StepSpent> {
        match open {
            Open::Model { provider, model } => {
                let (agent, Bill { cost, unconfirmed, tokens_in, tokens_out }) = (self.agent?, bill);
                let calls = 1;
                let late = false;
                Some(StepSpent {
                    agent,
                    provider,
                    model,
                    calls,
                    cost,
                    unconfirmed,
                    tokens_in,
                    tokens_out,
                    late,
                })
            }
            Open::Held => None,
            Open::Other => {
                if let Some(name) = tool(fact) {
                    *self.tools.entry(name.to_owned()).or_default() += 1;
                } else if matches!(fact, Fact::StepRetrying { .. }) {
                    // A tool's tries are one call, whatever comes of the next.
                    self.open.insert(step.clone(), Open::Other);
                }
                None
            }
        }
    }
}

/// The tool whose call ended for good.
fn tool(fact: &Fact) -> Option<&str> {
    match fact {
        Fact::StepSettled { kind: StepKind::Tool, name, .. }
        | Fact::StepFailed { kind: StepKind::Tool, name, .. } => name.as_deref(),
        _ => None,
    }
}

const fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Failed => "failed",
        Outcome::Cancelled => "cancelled",
    }
}

/// Which attempt a fact ends, and what it came to.
fn ended(fact: &Fact) -> Option<(&StepId, Bill)> {
    match fact {
        Fact::StepSettled { step, cost, tokens_in, tokens_out, .. } => {
            let (tokens_in, tokens_out) = (*tokens_in, *tokens_out);
            Some((step, Bill { cost: *cost, tokens_in, tokens_out, ..Bill::default() }))
        }
        Fact::StepFailed { step, cost, unconfirmed, tokens_in, tokens_out, .. }
        | Fact::StepRetrying { step, cost, unconfirmed, tokens_in, tokens_out, .. } => {
            let (tokens_in, tokens_out) = (*tokens_in, *tokens_out);
            Some((step, Bill { cost: *cost, unconfirmed: *unconfirmed, tokens_in, tokens_out }))
        }
        Fact::StepAbandoned { step, cost, unconfirmed, .. } => {
            Some((step, Bill { cost: *cost, unconfirmed: *unconfirmed, ..Bill::default() }))
        }
        _ => None,
    }
}
