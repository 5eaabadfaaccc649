//! Gathers the facts that an admission is decided on, and asks `policy`.

use lantern_engine::{
    Input, LlmAsk, ProgramKind, Run, Step, StepId, StepKind, StepState, Work, llm_ask, offered_tools,
};
use lantern_ledger::{Hold, Withheld};
use lantern_policy::admit::{OVER_BUDGET, OVER_CAP, Purse};
use lantern_policy::route::Choices;
use lantern_policy::strategy::in_force;
use lantern_policy::turns::{Past, turns};
use lantern_policy::{LlmRequest, Scope, ToolRequest, admit_llm, admit_or_wait, admit_plain, admit_tool};
use lantern_types::approval::OverCap;
use lantern_types::llm::{IMAGE_TOKENS_MAX, Message};
use lantern_types::{Denial, Failure, Grant, MicroUsd, Route, RunId, Strategy, ToolDef, ToolName};

use crate::Deps;

/// What becomes of a step that asks for admission.
pub(crate) enum Verdict {
    /// It is admitted, with what was held for it of the caps of its tenant and agent; or denied.
    Decided(Box<(Input, Option<Hold>)>),
    /// It waits for what other steps of the run hold.
    WaitsForRun,
    /// It waits for what others hold of a cap.
    WaitsForCap,
    /// It waits for people to say whether a cap may be passed.
    Asks(Box<OverCap>),
}

/// Admits or denies a requested step, or lets it wait. `Err` when the facts cannot be had now.
pub(crate) async fn admit(deps: &Deps, scope: Scope, run: &Run, step: &Step) -> Result<Verdict, Failure> {
    let Some(Work::Turn { .. } | Work::Llm { .. }) = &step.work else {
        return one(deps, scope, (run, step), |purse| verdict(deps, run, step, purse)).await;
    };
    let Some(ask) = llm_ask(run, step) else { return Ok(denied(step.id.clone(), unreadable())) };
    let choices = choices(deps, scope, run.manifest.strategy).await?;
    let past = Past { tried: &step.tried, now: deps.clock.now(), spread: spread(run.id) };
    let turns = match turns(&ask.model, &choices, &deps.catalogue, past) {
        Ok(turns) => turns,
        Err(denial) => return Ok(denied(step.id.clone(), denial)),
    };
    // The next in turn, unless it is too dear for what is left and another one is not.
    let mut refused = None;
    let mut asks = None;
    for route in turns {
        let verdict = one(deps, scope, (run, step), |purse| llm(deps, run, (purse, &route), &ask)).await?;
        match verdict {
            Verdict::Decided(decided) if is_too_dear(&decided.0) => {
                refused.get_or_insert(Verdict::Decided(decided));
            }
            // People are asked for the first choice, unless another one needs nobody's leave.
            asked @ Verdict::Asks(_) => {
                asks.get_or_insert(asked);
            }
            verdict => return Ok(verdict),
        }
    }
    Ok(asks.or(refused).unwrap_or_else(|| denied(step.id.clone(), unreadable())))
}

/// Admits one way of doing a step, or denies it, or lets it wait.
async fn one(
    deps: &Deps,
    scope: Scope,
    (run, step): (&Run, &Step),
    verdict: impl Fn(Purse) -> Result<Grant, Denial>,
) -> Result<Verdict, Failure> {
    let id = step.id.clone();
    let grant = match admit_or_wait(purse(run), verdict) {
        Ok(Some(grant)) => grant,
        Ok(None) => return Ok(Verdict::WaitsForRun),
        Err(denial) => return Ok(denied(id, denial)),
    };
    let hold = match (&grant.route, run.agent) {
        (Some(route), Some(agent)) => match deps.ledger.hold(scope, agent, route, grant.hold).await {
            Ok(hold) => Some(hold),
            Err(Withheld::Waits) => return Ok(Verdict::WaitsForCap),
            Err(Withheld::Asks(over)) => return Ok(Verdict::Asks(over)),
            Err(Withheld::Denied(denial)) => {
                return Ok(denied(id, denial));
            }
            Err(Withheld::Store(error)) => return Err(Failure::refused("unavailable", error.to_string())),
        },
        // Only models are paid for. What a child may spend is held step by step, as it spends it.
        _ => None,
    };
    Ok(Verdict::Decided(Box::new((Input::Admit { step: id, grant: Box::new(grant) }, hold))))
}

/// What a model call may go to. Its agent says what counts, else its tenant, else the server: a run has no header.
pub(crate) async fn choices(deps: &Deps, scope: Scope, agent: Option<Strategy>) -> Result<Choices, Failure> {
    let choices = deps.llm.choices(scope).await?;
    let strategy = in_force([None, agent, None], choices.strategy);
    Ok(Choices { strategy, ..choices })
}

/// Spreads runs over the keys of a provider: the last bytes of an id are as good as random.
pub(crate) const fn spread(run: RunId) -> u32 {
    let [.., a, b] = *run.bytes();
    u16::from_be_bytes([a, b]) as u32
}

/// Whether a denial says that there is not enough money for it.
fn is_too_dear(input: &Input) -> bool {
    let Input::Deny { denial, .. } = input else { return false };
    denial.code == OVER_BUDGET || denial.code == OVER_CAP
}

fn denied(step: StepId, denial: Denial) -> Verdict {
    Verdict::Decided(Box::new((Input::Deny { step, denial }, None)))
}

fn verdict(deps: &Deps, run: &Run, step: &Step, purse: Purse) -> Result<Grant, Denial> {
    match &step.work {
        Some(Work::Tool { name, .. }) => tool(deps, run, step, name),
        Some(Work::Child { .. }) => child(deps, run, purse),
        Some(_) => Ok(admit_plain(purse, deps.memo.terms(&deps.catalogue, &deps.limits))),
        None => Err(unreadable()),
    }
}

fn unreadable() -> Denial {
    Denial::new("body_dropped", "what the step was asked is no longer stored")
}

fn llm(deps: &Deps, run: &Run, (purse, route): (Purse, &Route), ask: &LlmAsk) -> Result<Grant, Denial> {
    let tools = if ask.offer_tools { offered_tools(run, deps.tools.defs()) } else { Vec::new() };
    let request = LlmRequest {
        route: route.clone(),
        request_bytes: request_bytes(ask, &tools),
        max_tokens: max_tokens(deps, ask),
    };
    admit_llm(purse, &request, &deps.limits, deps.memo.terms(&deps.catalogue, &deps.limits))
}

fn tool(deps: &Deps, run: &Run, asking: &Step, name: &ToolName) -> Result<Grant, Denial> {
    let listed = run.manifest.tool(name);
    let steps_of_its_own = run.program == ProgramKind::Steps && run.manifest.tools.is_none();
    let calls = run
        .steps()
        .iter()
        .filter(|step| step.id != asking.id && step.kind == StepKind::Tool && step.attempt > 0)
        .filter(|step| matches!(&step.work, Some(Work::Tool { name: called, .. }) if called == name))
        .count();
    let request = ToolRequest {
        listed: listed.is_some() || steps_of_its_own,
        known: deps.tools.defs().iter().any(|def| &def.name == name),
        calls: u32::try_from(calls).unwrap_or(u32::MAX).saturating_add(run.carried_calls(name)),
        calls_max: listed.and_then(|tool| tool.max_calls),
    };
    admit_tool(purse(run), request, deps.memo.terms(&deps.catalogue, &deps.limits))
}

/// A child's cap is held from the parent's purse, so a tree of runs never spends more than its root may.
fn child(deps: &Deps, run: &Run, purse: Purse) -> Result<Grant, Denial> {
    let deepest = deps.limits.child_depth_max;
    if run.depth >= deepest {
        return Err(Denial::new("too_deep", format!("runs start runs at most {deepest} deep")));
    }
    let left = purse.cap.minus(purse.spent).and_then(|left| left.minus(purse.held)).unwrap_or_default();
    if left == MicroUsd::ZERO && purse.cap > MicroUsd::ZERO {
        return Err(Denial::new(OVER_BUDGET, "nothing is left of the run's budget for another run"));
    }
    // What is asked for at once shares what is left; the first must not take it all.
    let costs = |step: &&Step| matches!(step.kind, StepKind::Child | StepKind::Llm);
    let asking = run.open_steps().filter(costs).filter(|step| step.state == StepState::Requested);
    let share = left.micros() / i64::try_from(asking.count()).unwrap_or(i64::MAX).max(1);
    let hold = MicroUsd::from_micros(share).min(deps.limits.run_cost_default).max(MicroUsd::ZERO);
    Ok(Grant { hold, ..admit_plain(purse, deps.memo.terms(&deps.catalogue, &deps.limits)) })
}

fn purse(run: &Run) -> Purse {
    Purse { cap: run.cap, spent: run.spent, held: run.held, unconfirmed: run.unconfirmed }
}

/// The most tokens the reply may have.
pub(crate) fn max_tokens(deps: &Deps, ask: &LlmAsk) -> u32 {
    let limits = &deps.limits;
    ask.max_tokens.unwrap_or(limits.completion_tokens_default).clamp(1, limits.completion_tokens_max)
}

/// Bytes of everything a provider may count as prompt.
fn request_bytes(ask: &LlmAsk, tools: &[ToolDef]) -> u64 {
    // A picture costs what its size in pixels says, and not its bytes.
    let bytes = |message: &Message| message.text_bytes() + message.images.len() * IMAGE_TOKENS_MAX;
    let messages: usize = ask.messages.iter().map(bytes).sum();
    let tools: usize = tools
        .iter()
        .map(|tool| {
            tool.name.wire().len() + tool.description.len() + tool.input_schema.to_string().len() + 64
        })
        .sum();
    let schema = ask.output_schema.as_ref().map_or(0, |schema| schema.to_string().len());
    (messages + tools + schema) as u64
}
