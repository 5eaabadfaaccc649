//! A run as it stands: what the fold of its events knows.
//!
//! Invariant: money held is the sum of the grants of open steps, of dropped children that have not told what they spent,
//! and of what is unconfirmed; but for the children, a step that is final never changes again. How an
//! event changes a run is in [`evolve`]; which events there may be is in `decide`.

mod evolve;
mod halt;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use lantern_types::llm::{LlmReply, Message, ToolUse};
use lantern_types::{AgentId, At, EffectClass, Grant, MicroUsd, RunId, StopId, ToolName, Tried, VersionId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::carried::Carried;
use crate::event::{Content, Continues, Event, Outcome, Parent, StepId, StepKind};
use crate::fork::{Forks, Shelf};
use crate::manifest::{Manifest, ProgramKind, StepDef};
use crate::recall::Recall;
use crate::retry::Retry;

pub use evolve::evolve;

/// What the contract's `status` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// No worker has taken it up.
    Queued,
    /// Under way, or waiting for time, a signal or a child.
    Running,
    /// Waiting for a person, or told to pause.
    Paused,
    /// Over.
    Succeeded,
    /// Over.
    Failed,
    /// Over.
    Cancelled,
}

impl Status {
    /// The contract's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
    /// Whether nothing can follow.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing has happened yet: no event.
    New,
    /// Started and not over.
    Active,
    /// Over.
    Over(Outcome),
}

/// What a step is asked to do. User content: journaled in the sealed body only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "work", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Work {
    /// The agent loop's turn: its messages are derived from the run, so that they are stored once.
    Turn {
        /// From 1.
        turn: u32,
        /// Whether tools are on offer; the last turn must answer.
        offer_tools: bool,
    },
    /// A model call of a `steps` program, as rendered.
    Llm {
        /// A capability or model.
        model: String,
        /// The messages.
        messages: Vec<Message>,
        /// Completion tokens.
        max_tokens: Option<u32>,
        /// Sampling temperature.
        temperature: Option<serde_json::Number>,
        /// JSON Schema of the reply.
        output_schema: Option<Value>,
    },
    /// A tool call.
    Tool {
        /// Which tool.
        name: ToolName,
        /// Its arguments.
        arguments: Arc<Value>,
        /// The model's id of the call, when a model asked.
        call: Option<String>,
    },
    /// A wait for time.
    Sleep,
    /// A wait for a signal of that name.
    Signal {
        /// The name.
        name: String,
    },
    /// A question to a person.
    Approval {
        /// Why it is asked.
        reason: String,
        /// Who may answer; empty: anyone who may decide approvals.
        approvers: Vec<String>,
    },
    /// A run of another agent.
    Child {
        /// Its name.
        agent: String,
        /// What it is asked.
        input: Value,
    },
    /// One step for each item.
    Map {
        /// The items.
        items: Vec<Value>,
        /// At once.
        concurrency: u32,
    },
    /// Several steps at once.
    Race,
}

impl Work {
    /// The JSON that its author or a model brought in, if any.
    pub(crate) fn value(&self) -> Option<&Value> {
        match self {
            Self::Tool { arguments, .. } => Some(arguments),
            Self::Child { input, .. } => Some(input),
            _ => None,
        }
    }
}

/// Where a step stands.
#[derive(Clone, Debug, PartialEq)]
pub enum StepState {
    /// A person is asked before it is performed.
    AwaitingApproval {
        /// When the question lapses.
        due: At,
    },
    /// Waits for its admission.
    Requested,
    /// Admitted: it is, or may be, outside.
    Performing,
    /// Waits for time, a signal, a person or a child; maps and races wait for their steps.
    Waiting {
        /// When the wait ends by itself.
        due: Option<At>,
    },
    /// Will be tried again.
    Backoff {
        /// When.
        due: At,
        /// Whether the next attempt needs a new admission, because its generation is new or the last one's hold is over.
        readmit: bool,
    },
    /// May or may not have happened.
    InDoubt,
    /// Done.
    Settled {
        /// What it gave.
        output: Arc<Value>,
        /// What the model replied, for a model call.
        reply: Option<Arc<LlmReply>>,
        /// How the reply broke its schema.
        violations: Vec<String>,
    },
    /// Failed for good.
    Failed {
        /// Why.
        code: String,
        /// In words.
        message: String,
    },
    /// No longer wanted.
    Abandoned,
}

/// One step of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Its name.
    pub id: StepId,
    /// Its kind.
    pub kind: StepKind,
    /// The step it belongs to.
    pub parent: Option<StepId>,
    /// What it is asked. `None` only when the body was dropped by retention.
    pub work: Option<Work>,
    /// What it does outside.
    pub effect: EffectClass,
    /// Names the request.
    pub request: lantern_types::Digest,
    /// Names the output, once settled.
    pub output: Option<lantern_types::Digest>,
    /// Where it stands.
    pub state: StepState,
    /// The third part of its key.
    pub generation: u32,
    /// Attempts so far.
    pub attempt: u32,
    /// Attempts that failed and were to be made again: what the retry policy counts. A crash is not the step's fault.
    pub failures: u32,
    /// Where its model calls went that came to nothing, in that order; a crash is nobody's fault.
    pub tried: Vec<Tried>,
    /// Whether an earlier send under this generation ended without a definite answer: it may have acted, whatever the
    /// present one says.
    pub resent: bool,
    /// What happened to the attempt that it was last in doubt about.
    pub doubt: Option<String>,
    /// Whether it failed because it was not admitted.
    pub denied: bool,
    /// The question about a cap that it waits for, while it is requested.
    pub over_cap: Option<lantern_types::approval::OverCap>,
    /// Its admission, while it is held.
    pub grant: Option<Grant>,
    /// When it was asked for.
    pub requested_at: At,
    /// When a wait of it ends by itself.
    pub due_at: Option<At>,
    /// By when its child, which was dropped, has to tell what it spent.
    pub tells_by: Option<At>,
    /// The steps that belong to it: requested, still open, and the first that failed.
    pub children: Children,
}

/// A parent step's count of its children.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Children {
    /// In order of request.
    pub ids: Vec<StepId>,
    /// Not yet final.
    pub open: u32,
    /// The first to fail.
    pub failed: Option<StepId>,
    /// The first to settle.
    pub settled: Option<StepId>,
}

impl Step {
    /// Whether nothing can follow for this step.
    pub fn is_final(&self) -> bool {
        matches!(self.state, StepState::Settled { .. } | StepState::Failed { .. } | StepState::Abandoned)
    }
    /// What it gave, if it is settled.
    pub fn output(&self) -> Option<&Arc<Value>> {
        match &self.state {
            StepState::Settled { output, .. } => Some(output),
            _ => None,
        }
    }
    /// The model's tool calls, if this is a settled model call that asks for some.
    pub fn tool_calls(&self) -> &[ToolUse] {
        match &self.state {
            StepState::Settled { reply: Some(reply), .. } => &reply.tool_calls,
            _ => &[],
        }
    }
    /// When time alone moves it on.
    pub fn due(&self) -> Option<At> {
        match self.state {
            StepState::AwaitingApproval { due } | StepState::Backoff { due, .. } => Some(due),
            StepState::Waiting { due } => due,
            _ => None,
        }
    }
    /// What is held for a child that was dropped and has not told what it spent.
    pub(crate) fn owed(&self) -> Option<MicroUsd> {
        self.grant.as_ref().filter(|_| self.is_final()).map(|grant| grant.hold)
    }
    /// Whether only a person can move it on.
    fn waits_for_a_person(&self) -> bool {
        match self.state {
            StepState::AwaitingApproval { .. } | StepState::InDoubt => true,
            StepState::Waiting { .. } => self.kind == StepKind::Approval,
            StepState::Requested => self.over_cap.is_some(),
            _ => false,
        }
    }
}

/// What the end of a step does to the books.
#[derive(Clone, Copy, Debug, Default)]
struct Closing {
    cost: MicroUsd,
    unconfirmed: MicroUsd,
    /// Whether its child has yet to tell what it spent, and by when.
    owing: bool,
    tells_by: Option<At>,
}

/// How a run will end that waits for its children to tell what they spent.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// How.
    pub outcome: Outcome,
    /// Why, for a failure.
    pub code: Option<String>,
    /// The step that failed.
    pub step: Option<StepId>,
    /// When it ends whatever has been told.
    pub due: At,
    /// Its output, or what went wrong.
    pub content: Content,
}

/// A run, folded.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// The version's manifest.
    pub manifest: Arc<Manifest>,
    /// The agent whose run it is; `None` before it started.
    pub agent: Option<AgentId>,
    /// The version it runs; `None` before it started.
    pub version: Option<VersionId>,
    /// Its program.
    pub program: ProgramKind,
    /// The steps of a `steps` program: the manifest's, or those that came with the input.
    pub defs: Arc<Vec<StepDef>>,
    /// How far it has come.
    pub phase: Phase,
    /// Whether it was told to pause.
    pub paused: bool,
    /// The emergency stop that holds it, if one does.
    pub halted: Option<StopId>,
    /// How it will end, once nothing but what its children spent is open.
    pub ending: Option<Ending>,
    /// When a worker first did anything for it.
    pub started_at: Option<At>,
    /// What it is asked.
    pub input: Arc<Value>,
    /// Who started it.
    pub parent: Option<Parent>,
    /// How many runs stand above it.
    pub depth: u32,
    /// What it goes on from, when it continues a run as new.
    pub continues: Option<Continues>,
    /// What it is a fork of.
    pub forks: Option<Forks>,
    /// The span that it belongs under, when somebody named one.
    pub trace: Option<lantern_types::TraceParent>,
    /// What an agent carried on from the runs before it.
    pub carried: Option<Arc<Carried>>,
    /// What it is told of a session's earlier exchanges.
    pub recall: Option<Arc<Recall>>,
    /// Whether it went on as a new run, which then answers for it.
    pub continued: bool,
    /// The sequence number of the last event.
    pub seq: u64,
    /// The most it may spend.
    pub cap: MicroUsd,
    /// Spent.
    pub spent: MicroUsd,
    /// Reserved by steps under way, and what is `unconfirmed`.
    pub held: MicroUsd,
    /// What vendors may have billed for sends that broke off, or children that cannot tell may have spent: it stays held.
    pub unconfirmed: MicroUsd,
    /// Prompt tokens used.
    pub tokens_in: u64,
    /// Completion tokens used.
    pub tokens_out: u64,
    /// When it must be over.
    pub deadline: Option<At>,
    /// When it was asked for.
    pub created_at: At,
    /// When it was over.
    pub finished_at: Option<At>,
    /// Its output, once it succeeded.
    pub output: Option<Arc<Value>>,
    /// Its error, once it failed: code, words, step.
    pub error: Option<(String, String, Option<StepId>)>,
    /// Signals that nothing waits for yet, oldest first.
    pub signals: Vec<(String, Arc<Value>)>,
    /// What their values have together, in bytes of JSON.
    pub signal_bytes: u64,
    /// The keys of all signals that were received, so that a repeat is known for one: as many as events at most.
    pub(crate) signal_keys: BTreeSet<lantern_types::Digest>,
    pub(crate) steps: Vec<Step>,
    /// What a fork has yet to reuse.
    pub(crate) shelf: Shelf,
    index: HashMap<StepId, usize>,
    /// Steps that are not final, in order of request.
    open: Vec<usize>,
    /// Dropped children that have not told what they spent.
    owing: Vec<usize>,
}

impl Run {
    /// A run that nothing has happened to.
    pub fn new(id: RunId, manifest: Arc<Manifest>) -> Self {
        Self {
            id,
            program: manifest.program.unwrap_or_default(),
            defs: manifest.steps.clone(),
            manifest,
            agent: None,
            version: None,
            phase: Phase::New,
            paused: false,
            halted: None,
            ending: None,
            started_at: None,
            input: Arc::new(Value::Null),
            parent: None,
            depth: 0,
            continues: None,
            forks: None,
            trace: None,
            carried: None,
            recall: None,
            continued: false,
            seq: 0,
            cap: MicroUsd::ZERO,
            spent: MicroUsd::ZERO,
            held: MicroUsd::ZERO,
            unconfirmed: MicroUsd::ZERO,
            tokens_in: 0,
            tokens_out: 0,
            deadline: None,
            created_at: At::default(),
            finished_at: None,
            output: None,
            error: None,
            signals: Vec::new(),
            signal_bytes: 0,
            signal_keys: BTreeSet::new(),
            steps: Vec::new(),
            shelf: Shelf::default(),
            index: HashMap::new(),
            open: Vec::new(),
            owing: Vec::new(),
        }
    }

    /// A run folded from its whole journal.
    pub fn fold(id: RunId, manifest: Arc<Manifest>, events: &[Event]) -> Self {
        let mut run = Self::new(id, manifest);
        for event in events {
            evolve(&mut run, event);
        }
        run
    }

    /// The step of that name.
    pub fn step(&self, id: &StepId) -> Option<&Step> {
        self.steps.get(*self.index.get(id)?)
    }
    /// The step of that name, by text.
    pub fn step_named(&self, id: &str) -> Option<&Step> {
        self.steps.get(*self.index.get(id)?)
    }
    /// Every step, in order of request.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
    /// The steps that are not final, in order of request.
    pub fn open_steps(&self) -> impl Iterator<Item = &Step> {
        self.open.iter().filter_map(|n| self.steps.get(*n))
    }
    /// Children that were dropped and have not told what they spent.
    pub(crate) fn owing_steps(&self) -> impl Iterator<Item = &Step> {
        self.owing.iter().filter_map(|n| self.steps.get(*n))
    }
    /// When time alone next moves the run on; `None` when it never does. A pause and a stop hold retries back,
    /// but no wait.
    pub fn next_due(&self) -> Option<At> {
        if self.phase != Phase::Active {
            return None;
        }
        let owed = self.owing_steps().filter_map(|step| step.tells_by);
        if let Some(ending) = &self.ending {
            return owed.chain([ending.due]).min();
        }
        let held_back = |step: &Step| self.held_back() && matches!(step.state, StepState::Backoff { .. });
        let steps = self.open_steps().filter(|step| !held_back(step)).filter_map(Step::due);
        steps.chain(owed).chain(self.deadline).min()
    }
    /// Whether an effect is, or may be, outside right now.
    pub fn performing(&self) -> bool {
        self.open_steps().any(|step| step.state == StepState::Performing)
    }
    /// What the contract's `status` says.
    pub fn status(&self) -> Status {
        match self.phase {
            Phase::New => Status::Queued,
            Phase::Over(Outcome::Succeeded) => Status::Succeeded,
            Phase::Over(Outcome::Failed) => Status::Failed,
            Phase::Over(Outcome::Cancelled) => Status::Cancelled,
            Phase::Active if self.held_back() => Status::Paused,
            Phase::Active if self.started_at.is_none() => Status::Queued,
            Phase::Active if self.waits_for_a_person() => Status::Paused,
            Phase::Active => Status::Running,
        }
    }
    /// Whether every step that could move by itself has moved, and a person is what the rest waits for.
    fn waits_for_a_person(&self) -> bool {
        let mut leaves = self.open_steps().filter(|step| step.children.open == 0).peekable();
        leaves.peek().is_some() && leaves.all(Step::waits_for_a_person)
    }
    fn step_mut(&mut self, id: &StepId) -> Option<&mut Step> {
        let n = *self.index.get(id)?;
        self.steps.get_mut(n)
    }
    fn add(&mut self, step: Step) {
        let n = self.steps.len();
        if let Some(parent) = step.parent.clone().and_then(|id| self.step_mut(&id)) {
            parent.children.ids.push(step.id.clone());
            parent.children.open += 1;
        }
        self.index.insert(step.id.clone(), n);
        self.open.push(n);
        self.steps.push(step);
    }

    /// Moves a step to a final state: its cost booked, its parent told, and its hold let go of unless it is still owing.
    fn close(&mut self, id: &StepId, state: StepState, bill: Closing) {
        let Some(n) = self.index.get(id).copied() else { return };
        let Some(step) = self.steps.get_mut(n) else { return };
        assert!(!step.is_final(), "step {id} is final and cannot end again");
        let (settled, failed) =
            (matches!(state, StepState::Settled { .. }), matches!(state, StepState::Failed { .. }));
        step.state = state;
        step.tells_by = bill.tells_by;
        let grant = if bill.owing { None } else { step.grant.take() };
        let parent = step.parent.clone();
        self.owing.extend(bill.owing.then_some(n));
        self.let_go(grant.as_ref(), bill.unconfirmed);
        self.spend(bill.cost);
        self.open.retain(|open| *open != n);
        if let Some(parent) = parent.and_then(|id| self.step_mut(&id)) {
            parent.children.open = parent.children.open.saturating_sub(1);
            if settled {
                parent.children.settled.get_or_insert_with(|| id.clone());
            }
            if failed {
                parent.children.failed.get_or_insert_with(|| id.clone());
            }
        }
    }

    /// Books what a dropped child cost, or may have cost, and lets go of its hold.
    fn charge(&mut self, id: &StepId, cost: MicroUsd, unconfirmed: MicroUsd) {
        let grant = self.step_mut(id).and_then(|step| step.grant.take());
        let told = self.index.get(id).copied();
        self.owing.retain(|n| Some(*n) != told);
        self.let_go(grant.as_ref(), unconfirmed);
        self.spend(cost);
    }

    fn spend(&mut self, cost: MicroUsd) {
        self.spent = self.spent.plus(cost).unwrap_or(MicroUsd::from_micros(i64::MAX));
    }

    const fn used(&mut self, tokens_in: u64, tokens_out: u64) {
        self.tokens_in = self.tokens_in.saturating_add(tokens_in);
        self.tokens_out = self.tokens_out.saturating_add(tokens_out);
    }

    /// Lets go of a hold, but for what nobody knows whether it was spent.
    fn let_go(&mut self, grant: Option<&Grant>, unconfirmed: MicroUsd) {
        let hold = grant.map_or(MicroUsd::ZERO, |grant| grant.hold);
        let unconfirmed = unconfirmed.min(hold);
        self.unconfirmed = self.unconfirmed.plus(unconfirmed).unwrap_or(self.unconfirmed);
        self.held = hold.minus(unconfirmed).and_then(|free| self.held.minus(free)).unwrap_or(self.held);
        assert!(self.held >= self.unconfirmed, "more was released than was held");
    }

    /// What it may have cost, once it is over: what was spent, and what vendors may have billed besides.
    pub(crate) fn cost(&self) -> MicroUsd {
        self.spent.plus(self.unconfirmed).unwrap_or(MicroUsd::from_micros(i64::MAX))
    }
}

/// The default retry policy of a step that does something outside.
pub(crate) fn retry_of<'a>(run: &'a Run, step: &Step) -> std::borrow::Cow<'a, Retry> {
    use std::borrow::Cow;
    let def = crate::program::def_of(run, step).and_then(|def| def.retry.as_ref());
    match (def, &run.manifest.retry) {
        (Some(retry), _) | (None, Some(retry)) => Cow::Borrowed(retry),
        (None, None) => Cow::Owned(Retry::default()),
    }
}
