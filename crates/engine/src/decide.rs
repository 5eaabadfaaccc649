//! The rules: what an input does to a run.
//!
//! `decide` is a function from values to values: it consumes the run and gives back the run after the events it
//! decided on, and those events, which the caller makes durable before it performs anything. An input that means
//! nothing now (a second copy, a step that is over) decides nothing.

mod arrive;
mod doubt;
mod end;
mod perform;

use std::sync::Arc;

use lantern_types::limits::{JSON_DEPTH_MAX, within_depth};
use lantern_types::{Acted, At, Denial, EffectClass, Limits, MicroUsd, ToolDef, tool};
use serde_json::Value;

use crate::event::{Content, Event, Fact, Outcome, StepId, StepKind};
use crate::fork::End;
use crate::input::{Arrival, Input, Start};
use crate::manifest::{Manifest, ProgramKind, Terms};
use crate::program::{self, APPROVAL_WAIT, NewStep, Next};
use crate::run::{Phase, Run, Step, StepState, Work, evolve};
use crate::step::{self, Bill};

pub use arrive::{may_decide, signal_key};
pub(crate) use doubt::is_asked;

/// What is made of the outputs of several steps, such as a map's output or a run's, may be so many times what one may give.
const OUTPUTS_MAX: u64 = 8;

/// What a decision may look at besides the run and the input.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The time.
    pub at: At,
    /// The limits in force.
    pub limits: &'a Limits,
    /// The tools this process has.
    pub tools: &'a [ToolDef],
    /// How a value (the second) breaks a JSON Schema (the first), in words; nothing when it does not. Pure: the engine
    /// knows no schemas, and must say at once when an input is not what the agent takes.
    pub violations: fn(&Value, &Value) -> Vec<String>,
}

/// What was decided.
#[derive(Debug)]
pub struct Decision {
    /// The run after the events.
    pub run: Run,
    /// What happened; empty when the input means nothing now.
    pub events: Vec<Event>,
}

/// A run may not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// Stable: `input_too_large`, `input_too_deep`, `too_deep`, `steps_invalid`.
    pub code: &'static str,
    /// For the caller.
    pub message: String,
}

/// Starts a run: event 1, and nothing else, so that whoever asks for a run need not know how it goes on.
pub fn start(run: Run, start: Start, context: &Context<'_>) -> Result<Decision, Refused> {
    assert!(run.phase == Phase::New, "a run starts once");
    let limits = context.limits;
    check_input(&run.manifest, &start.input, limits)?;
    // The run that goes on as this one has looked at its steps, with the tools that it knew; a replay does nothing anew.
    let replays = start.forks.as_ref().is_some_and(|(forks, _)| forks.replay);
    if start.continues.is_none() && !replays {
        check_given_steps(&run.manifest, &start.input, context)?;
    }
    if start.depth > limits.child_depth_max {
        let message = format!("runs start runs at most {} deep", limits.child_depth_max);
        return Err(Refused { code: "too_deep", message });
    }
    let program = run.manifest.program_for(&start.input);
    let deadline = match &start.carried {
        Some(carried) => carried.deadline,
        None => Run::deadline_of(&run.manifest, context.at),
    };
    let (forks, reused) = start.forks.unzip();
    let (input, recalled) = (start.input, start.recall.as_ref().map(|recall| recall.counted()));
    let content = match (start.recall, reused, start.carried) {
        (Some(recall), steps, _) => Content::Recalled { input, recall, steps },
        (None, Some(steps), carried) => Content::Forked { input, carried, steps },
        (None, None, Some(carried)) => Content::Carried { input, carried },
        (None, None, None) => Content::Input(input),
    };
    let fact = Fact::RunStarted {
        agent: start.agent,
        version: start.version,
        manifest: start.manifest,
        program,
        parent: start.parent,
        depth: start.depth,
        continues: start.continues,
        forks,
        recall: recalled,
        trace: start.trace,
        cap: start.cap,
        deadline,
        policy: start.policy,
        catalogue: start.catalogue,
        limits: limits.digest(),
    };
    let mut draft = Draft::new(run, context);
    draft.emit(fact, Some(content));
    Ok(draft.done())
}

/// Whether a run may be asked this.
fn check_input(manifest: &Manifest, input: &Value, limits: &Limits) -> Result<(), Refused> {
    let bytes = step::json_bytes(input);
    if bytes > limits.input_bytes_max {
        let message = format!("the input has {bytes} bytes; the limit is {}", limits.input_bytes_max);
        return Err(Refused { code: "input_too_large", message });
    }
    if !within_depth(input, JSON_DEPTH_MAX) {
        let message = format!("the input nests deeper than {JSON_DEPTH_MAX} levels");
        return Err(Refused { code: "input_too_deep", message });
    }
    check_steps(manifest, input, limits)
}

fn check_steps(manifest: &Manifest, input: &Value, limits: &Limits) -> Result<(), Refused> {
    let program = manifest.program_for(input);
    if program != ProgramKind::Steps {
        return Ok(());
    }
    let count = if manifest.steps.is_empty() {
        let steps = input.get("steps").map_or(Ok(Vec::new()), Manifest::parse_steps);
        steps.map_err(|invalid| Refused { code: "steps_invalid", message: format!("input.{invalid}") })?.len()
    } else {
        manifest.steps.len()
    };
    let max = limits.program_steps_max;
    if count > usize::try_from(max).unwrap_or(usize::MAX) {
        return Err(Refused { code: "steps_invalid", message: format!("{count} steps; the limit is {max}") });
    }
    Ok(())
}

/// Looks at the steps that come with an input as at those that are saved.
fn check_given_steps(manifest: &Manifest, input: &Value, context: &Context<'_>) -> Result<(), Refused> {
    let terms = Terms { tools: context.tools, limits: context.limits };
    let checked = manifest.check_input(input, terms);
    checked.map_err(|invalid| Refused { code: "steps_invalid", message: format!("input.{invalid}") })
}

/// What `input` does to `run`.
pub fn decide(run: Run, input: Input, context: &Context<'_>) -> Decision {
    let mut draft = Draft::new(run, context);
    draft.take(input);
    draft.advance();
    draft.done()
}

/// The run while a decision is being made: every event is applied as it is decided.
struct Draft<'a> {
    run: Run,
    events: Vec<Event>,
    context: &'a Context<'a>,
}

impl<'a> Draft<'a> {
    const fn new(run: Run, context: &'a Context<'a>) -> Self {
        Self { run, events: Vec::new(), context }
    }

    fn done(self) -> Decision {
        Decision { run: self.run, events: self.events }
    }

    fn emit(&mut self, fact: Fact, content: Option<Content>) {
        let event = Event { seq: self.run.seq + 1, at: self.context.at, fact, content };
        evolve(&mut self.run, &event);
        self.events.push(event);
    }

    /// Whether the run goes on.
    fn active(&self) -> bool {
        self.run.phase == Phase::Active && self.run.ending.is_none()
    }

    fn take(&mut self, input: Input) {
        match input {
            // All that a run that ends waits for is what its children spent.
            Input::Arrived(arrival @ Arrival::ChildFinished { .. }) if self.run.ending.is_some() => {
                self.arrived(arrival);
            }
            _ if !self.active() => {}
            Input::Wake => {}
            Input::Recovered => self.recover(),
            Input::Admit { step, grant } => self.admit(step, *grant),
            Input::Deny { step, denial } => self.deny(step, denial),
            Input::AskCap { step, over } => self.ask_cap(step, over),
            Input::CapAnswered { step, answer } => self.cap_answered(step, answer),
            Input::Halt { stop, scope, reason } => {
                if self.run.halted != Some(stop) {
                    self.emit(Fact::Halted { stop, scope }, Some(Content::Reason(reason)));
                }
            }
            Input::StopLifted { stop } => {
                if self.run.halted == Some(stop) {
                    self.emit(Fact::StopLifted { stop }, None);
                }
            }
            Input::Performed { step, generation, result } => self.performed(&step, generation, result),
            Input::Found { step, generation, finding } => self.found(&step, generation, finding),
            Input::Arrived(arrival) => self.arrived(arrival),
        }
    }

    /// Lets time and the program move the run as far as they can without anything from outside.
    fn advance(&mut self) {
        if self.active() {
            self.go_as_far_as_it_goes();
        }
        if self.active() && self.replays() {
            self.end_replay();
        }
        self.end_when_settled();
    }

    /// Whether the run does nothing anew.
    pub(super) fn replays(&self) -> bool {
        self.run.forks.as_ref().is_some_and(|forks| forks.replay)
    }

    /// What a replay does not do by itself at once, it does not do.
    fn end_replay(&mut self) {
        let step = self.run.open_steps().find(|step| step.children.open == 0).map(|step| step.id.clone());
        let message = match &step {
            Some(step) => format!("{step} had not ended, or was asked for in other words"),
            None => "the run had come no further".to_owned(),
        };
        self.fail_run("replay_ended", message, step);
    }

    fn go_as_far_as_it_goes(&mut self) {
        self.charge_what_is_overdue();
        self.fire_due();
        while self.active() {
            if self.run.seq >= self.events_max() {
                let message =
                    format!("the run has {} events, and cannot go on as a new one here", self.run.seq);
                return self.fail_run("events_limit", message, None);
            }
            if self.run.held_back() {
                return;
            }
            let wanted = program::next(&self.run, self.context);
            if wanted.is_empty() {
                return;
            }
            for next in wanted {
                if !self.active() {
                    return;
                }
                self.apply(next);
            }
        }
    }

    /// How many events end the run. At the limit an agent's run goes on as a new one, which it can do between two turns,
    /// and a paused one waits to go on; neither may grow to more than twice the limit meanwhile.
    fn events_max(&self) -> u64 {
        let max = u64::from(self.context.limits.events_per_run_max);
        if self.run.program == ProgramKind::Steps && !self.run.held_back() {
            max
        } else {
            max.saturating_mul(2)
        }
    }

    fn apply(&mut self, next: Next) {
        match next {
            Next::Request(new) => self.request(new),
            Next::Settle { step, output } => self.settle_composite(&step, &output),
            Next::Fail { step, code, message } => self.fail_step(&step, &code, message, Acted::No),
            Next::Abandon { step, code } => self.abandon(&step, code),
            Next::Block { period, rounds } => {
                self.emit(Fact::ProgressBlocked { period, rounds }, None);
                let message = format!(
                    "the last {rounds} rounds of {period} tool call(s) were the same and changed nothing; \
                     the run was stopped before it spent again"
                );
                self.fail_run("loop_detected", message, None);
            }
            Next::Succeed(output) => self.succeed(output),
            Next::Continue { step, input } => self.continue_with(&step, input),
            Next::GoOn(carried) => self.go_on(carried),
            Next::FailRun { code, message, step } => self.fail_run(&code, message, step),
        }
    }

    fn request(&mut self, new: NewStep) {
        if self.run.steps().len()
            >= usize::try_from(self.context.limits.steps_per_run_max).unwrap_or(usize::MAX)
        {
            let message =
                format!("the run asked for more than {} steps", self.context.limits.steps_per_run_max);
            return self.fail_run("steps_limit", message, None);
        }
        if let Some(value) = new.work.value().filter(|value| !within_depth(value, JSON_DEPTH_MAX)) {
            let message = format!(
                "{}: nests deeper than {JSON_DEPTH_MAX} levels ({} bytes)",
                new.id,
                value.to_string().len()
            );
            return self.fail_run("step_data_invalid", message, Some(new.id));
        }
        let due = new.until.or_else(|| new.wait.map(|wait| self.context.at + wait));
        let longest = self.context.limits.wait_max;
        if let Some(due) = due.filter(|due| *due > self.context.at + longest) {
            let wait = due.since(self.context.at).millis() / 1_000;
            let most = longest.millis() / 1_000;
            let message = format!("{}: waits for {wait} s; the limit (waitMax) is {most} s", new.id);
            return self.fail_run("step_data_invalid", message, Some(new.id));
        }
        let (effect, approval) = self.class_of(&new);
        let tools = match &new.work {
            Work::Turn { offer_tools: true, .. } => Some(tool::set_digest(&self.offered())),
            _ => None,
        };
        let step = new.id.clone();
        let request = step::request_digest(&new.work);
        let name = step::name_of(Some(&new.work));
        let reused = self.run.shelf.find((&step, new.kind), request, self.run.forks.as_ref()).cloned();
        let kind = new.kind;
        let asks = approval || new.kind == StepKind::Approval;
        self.emit(
            Fact::StepRequested {
                step: new.id,
                kind: new.kind,
                name: name.clone(),
                parent: new.parent,
                effect,
                due,
                request,
                tools,
                approval,
            },
            Some(Content::Work(new.work)),
        );
        if let Some(reused) = reused
            && let Some((end, code, output, content)) = reused.parts()
        {
            self.emit(Fact::StepReused { step: step.clone(), kind, name, end, code, output }, Some(content));
            if let End::Denied { code, reason } = reused {
                self.fail_run(&code, reason, Some(step));
            }
            return;
        }
        if asks {
            let due = due.unwrap_or_else(|| self.context.at + APPROVAL_WAIT.min(longest));
            self.emit(Fact::ApprovalAsked { step: step.clone(), due }, None);
        }
        self.match_signal(&step);
    }

    /// What a step does outside, and whether a person approves it first. An unknown tool counts as irreversible.
    fn class_of(&self, new: &NewStep) -> (EffectClass, bool) {
        match &new.work {
            Work::Tool { name, .. } => {
                let declared =
                    self.context.tools.iter().find(|tool| &tool.name == name).map(|tool| tool.effect);
                let listed = self.run.manifest.tool(name);
                let effect = declared.unwrap_or(EffectClass::Irreversible);
                let effect = effect.max(listed.and_then(|tool| tool.effect).unwrap_or(EffectClass::Pure));
                (effect, listed.is_some_and(|tool| tool.approval))
            }
            Work::Turn { .. } | Work::Llm { .. } | Work::Child { .. } => (EffectClass::Keyed, false),
            _ => (EffectClass::Pure, false),
        }
    }

    fn offered(&self) -> Vec<ToolDef> {
        offered_tools(&self.run, self.context.tools)
    }

    /// A signal that came before anything waited for it settles the first step that does.
    fn match_signal(&mut self, id: &StepId) {
        let Some(Work::Signal { name }) = self.run.step(id).and_then(|step| step.work.clone()) else {
            return;
        };
        let early =
            self.run.signals.iter().find(|(waiting, _)| *waiting == name).map(|(_, value)| value.clone());
        if let Some(value) = early {
            self.settle(id, &value);
        }
    }

    /// Fires what is due, earliest first, and the run's own deadline last.
    fn fire_due(&mut self) {
        let now = self.context.at;
        let mut due: Vec<(At, StepId)> = self
            .run
            .open_steps()
            .filter_map(|step| Some((step.due().filter(|due| *due <= now)?, step.id.clone())))
            .collect();
        due.sort();
        for (_, id) in due {
            if self.active() {
                self.fire(&id);
            }
        }
        if self.active() && self.run.deadline.is_some_and(|deadline| deadline <= now) {
            self.fail_run("run_timeout", "the run did not end within its timeout".to_owned(), None);
        }
    }

    fn fire(&mut self, id: &StepId) {
        let Some(step) = self.run.step(id) else { return };
        match (&step.state, step.kind) {
            (StepState::Backoff { readmit: false, .. }, _) if !self.run.held_back() => self.reissue(id),
            (StepState::Backoff { readmit: true, .. }, _) if !self.run.held_back() => self.readmit(id),
            (StepState::Waiting { .. }, StepKind::Sleep) => self.settle(id, &Arc::new(Value::Null)),
            (StepState::Waiting { .. }, StepKind::Signal) => {
                self.fail_step(id, "signal_timeout", "no such signal came in time".to_owned(), Acted::No);
            }
            (StepState::Waiting { .. }, StepKind::Child | StepKind::Map | StepKind::Race) => {
                self.drop_inside(id);
                let acted = self.run.step(id).map_or(Acted::No, step::may_have_acted);
                self.fail_step(id, "timeout", "not done within its timeout".to_owned(), acted);
            }
            (StepState::Waiting { .. }, StepKind::Approval) | (StepState::AwaitingApproval { .. }, _) => {
                self.emit(Fact::ApprovalDenied { step: id.clone(), by: String::new() }, None);
                self.fail_step(id, "approval_expired", "nobody decided in time".to_owned(), Acted::No);
            }
            _ => {}
        }
    }

    /// Settles a map or a race with what came of what is inside it.
    fn settle_composite(&mut self, id: &StepId, output: &Arc<Value>) {
        match self.too_large(output) {
            Some(message) => self.fail_step(id, "output_too_large", message, Acted::No),
            None => self.settle(id, output),
        }
    }

    /// Ends the run with what its steps gave.
    fn succeed(&mut self, output: Arc<Value>) {
        match self.too_large(&output) {
            Some(message) => self.fail_run("output_too_large", message, None),
            None => self.finish(Outcome::Succeeded, None, None, Content::Output(output)),
        }
    }

    /// Why an output that is made of others is too large, if it is.
    fn too_large(&self, output: &Value) -> Option<String> {
        let max = self.context.limits.output_bytes_max.saturating_mul(OUTPUTS_MAX);
        let bytes = step::json_bytes(output);
        (bytes > max).then(|| format!("the outputs have {bytes} bytes together; the limit is {max}"))
    }

    fn settle(&mut self, id: &StepId, output: &Arc<Value>) {
        self.settle_with(id, Content::Output(output.clone()), MicroUsd::ZERO, None);
    }

    fn fail_step(&mut self, id: &StepId, code: &str, message: String, acted: Acted) {
        let unconfirmed = self.run.step(id).map_or(MicroUsd::ZERO, |step| step::unconfirmed(step, acted));
        self.fail_step_with(id, (code, message), acted, Bill { unconfirmed, ..Bill::default() });
    }

    /// Fails a step whose last attempt cost this, as far as is known, and may have cost that.
    fn fail_step_with(&mut self, id: &StepId, (code, message): (&str, String), acted: Acted, bill: Bill) {
        let Some(step) = self.run.step(id) else { return };
        let owing = step::owing(step);
        let fact = Fact::StepFailed {
            step: id.clone(),
            kind: step.kind,
            name: step::name_of(step.work.as_ref()),
            generation: step.generation,
            attempt: step.attempt,
            code: code.to_owned(),
            acted,
            cost: bill.cost,
            unconfirmed: if owing { MicroUsd::ZERO } else { bill.unconfirmed },
            tokens_in: bill.tokens_in,
            tokens_out: bill.tokens_out,
            owing,
            tells_by: owing.then(|| self.tells_by()),
        };
        self.emit(fact, Some(Content::Error(message)));
    }

    /// Abandons everything open below a step, innermost first.
    fn drop_inside(&mut self, id: &StepId) {
        let inside = self.run.step(id).map(|step| step.children.ids.clone()).unwrap_or_default();
        for child in inside {
            self.drop_inside(&child);
            self.abandon(&child, "sibling_failed");
        }
    }

    fn abandon(&mut self, id: &StepId, code: &str) {
        let Some(step) = self.run.step(id).filter(|step| !step.is_final()) else { return };
        let owing = step::owing(step);
        let unconfirmed = step::unconfirmed(step, step::may_have_acted(step));
        let unconfirmed = if owing { MicroUsd::ZERO } else { unconfirmed };
        let (cost, tells_by) = (MicroUsd::ZERO, owing.then(|| self.tells_by()));
        let fact = Fact::StepAbandoned {
            step: id.clone(),
            code: code.to_owned(),
            cost,
            unconfirmed,
            owing,
            tells_by,
        };
        self.emit(fact, None);
    }

    fn deny(&mut self, id: StepId, denial: Denial) {
        let Some(step) = self.run.step(&id).filter(|step| step.state == StepState::Requested) else { return };
        let is_tool =
            step.kind == StepKind::Tool && step.parent.is_some() && self.run.program == ProgramKind::Agent;
        let Denial { code, reason, grounds } = denial;
        let (step, said) = (id.clone(), (code.clone(), reason.clone()));
        self.emit(Fact::StepDenied { step, code: said.0, reason: said.1, grounds }, None);
        if !is_tool {
            self.fail_run(&code, reason, Some(id));
        }
    }
}

/// The definitions of the tools that the run's version lists and this process has.
pub fn offered_tools(run: &Run, tools: &[ToolDef]) -> Vec<ToolDef> {
    let listed = run.manifest.tools.as_deref().unwrap_or_default();
    listed.iter().filter_map(|tool| tools.iter().find(|def| def.name == tool.name).cloned()).collect()
}

/// The step, if it is in the state that an input is about.
fn performing<'r>(run: &'r Run, id: &StepId, generation: u32) -> Option<&'r Step> {
    run.step(id).filter(|step| step.state == StepState::Performing && step.generation == generation)
}
