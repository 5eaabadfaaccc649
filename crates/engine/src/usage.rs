//! What a run uses, told append by append: the model calls that ended in it and that no cap had held money for, and with them the calls
//! of tools since the last time.
//!
//! Invariant: whatever an append tells follows from the events up to it, so whoever takes a run up goes on where its last holder was, and
//! nothing is told twice or left out. What was held from slices of a cap is told by whoever settles these, and never here.

use std::collections::{BTreeMap, HashMap};

use lantern_types::call::{Bill, Counted, Happened, RunUsage, StepSpent};
use lantern_types::{AgentId, Grant};

use crate::event::{Event, Fact, Outcome, StepId, StepKind};

/// What of a run is still to be told.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    agent: Option<AgentId>,
    /// Attempts that were admitted and have not ended.
    open: HashMap<StepId, Open>,
    /// Attempts that came to nothing, whose admission may stand for another.
    retried: HashMap<StepId, Open>,
    /// Calls of tools that ended since something was told.
    tools: BTreeMap<String, u64>,
}

/// An attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Open {
    /// Of a model: who is asked, and for which.
    Model { provider: String, model: String },
    /// Of a model whose money is held from slices.
    Held,
    /// Of anything else.
    Other,
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
                    self.retried.remove(step);
                    self.open.insert(step.clone(), Open::of(grant));
                }
                Fact::StepReissued { step, .. } => {
                    if let Some(again) = self.retried.remove(step) {
                        self.open.insert(step.clone(), again);
                    }
                }
                Fact::Finished { outcome, .. } => {
                    counts.extend(self.counted(Happened::Run(word(*outcome).to_owned()), 1));
                    tells = true;
                }
                fact => {
                    if let Some((step, bill)) = ended(fact)
                        && let Some(open) = self.open.remove(step)
                    {
                        if matches!(fact, Fact::StepRetrying { .. }) {
                            self.retried.insert(step.clone(), open.clone());
                        }
                        tells |= open != Open::Other;
                        items.extend(self.spent(open, fact, bill));
                    } else if let Some(name) = self.given_up(fact) {
                        // A tool's tries are one call, and the last of them was the last.
                        *self.tools.entry(name).or_default() += 1;
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

    /// The tool that is not tried again.
    fn given_up(&mut self, fact: &Fact) -> Option<String> {
        let (Fact::StepFailed { step, .. } | Fact::StepAbandoned { step, .. }) = fact else { return None };
        let other = self.retried.remove(step)? == Open::Other;
        tool(fact).filter(|_| other).map(str::to_owned)
    }

    /// What an attempt that ended is charged here.
    fn spent(&mut self, open: Open, fact: &Fact, bill: Bill) -> Option<StepSpent> {
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
pub fn ended(fact: &Fact) -> Option<(&StepId, Bill)> {
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
