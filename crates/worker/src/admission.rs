//! Gathers the facts that an admission is decided on, and asks `policy`.

use lantern_engine::{
    Input, LlmAsk, ProgramKind, Run, Step, StepKind, StepState, Work, llm_ask, offered_tools,
};
use lantern_policy::admit::Purse;
use lantern_policy::{LlmRequest, Scope, ToolRequest, admit_llm, admit_plain, admit_tool, route};
use lantern_types::{Denial, Failure, Grant, MicroUsd, ToolDef, ToolName};

use crate::Deps;

/// The input that admits or denies a requested step. `Err` when the facts cannot be had now.
pub(crate) async fn admit(deps: &Deps, scope: Scope, run: &Run, step: &Step) -> Result<Input, Failure> {
    let verdict = match &step.work {
        Some(Work::Turn { .. } | Work::Llm { .. }) => match llm_ask(run, step) {
            Some(ask) => llm(deps, scope, run, &ask).await?,
            None => Err(unreadable()),
        },
        Some(Work::Tool { name, .. }) => tool(deps, run, step, name),
        Some(Work::Child { .. }) => Ok(child(deps, run)),
        Some(_) => Ok(admit_plain(purse(run), deps.memo.terms(&deps.catalogue, &deps.limits))),
        None => Err(unreadable()),
    };
    let step = step.id.clone();
    Ok(match verdict {
        Ok(grant) => Input::Admit { step, grant: Box::new(grant) },
        Err(denial) => Input::Deny { step, denial },
    })
}

fn unreadable() -> Denial {
    Denial::new("body_dropped", "what the step was asked is no longer stored")
}

async fn llm(deps: &Deps, scope: Scope, run: &Run, ask: &LlmAsk) -> Result<Result<Grant, Denial>, Failure> {
    let choices = deps.llm.choices(scope).await?;
    let tools = if ask.offer_tools { offered_tools(run, deps.tools.defs()) } else { Vec::new() };
    Ok(route::route(&ask.model, &choices, &deps.catalogue).and_then(|route| {
        let request = LlmRequest {
            route,
            request_bytes: request_bytes(ask, &tools),
            max_tokens: max_tokens(deps, ask),
        };
        admit_llm(purse(run), &request, &deps.limits, deps.memo.terms(&deps.catalogue, &deps.limits))
    }))
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
fn child(deps: &Deps, run: &Run) -> Grant {
    let purse = purse(run);
    let left = purse.cap.minus(purse.spent).and_then(|left| left.minus(purse.held)).unwrap_or_default();
    // Children that are asked for at once share what is left; the first must not take it all.
    let asking =
        run.open_steps().filter(|step| step.kind == StepKind::Child && step.state == StepState::Requested);
    let share = left.micros() / i64::try_from(asking.count()).unwrap_or(i64::MAX).max(1);
    let hold = MicroUsd::from_micros(share).min(deps.limits.run_cost_default).max(MicroUsd::ZERO);
    Grant { hold, ..admit_plain(purse, deps.memo.terms(&deps.catalogue, &deps.limits)) }
}

fn purse(run: &Run) -> Purse {
    Purse { cap: run.cap, spent: run.spent, held: run.held }
}

/// The most tokens the reply may have.
pub(crate) fn max_tokens(deps: &Deps, ask: &LlmAsk) -> u32 {
    let limits = &deps.limits;
    ask.max_tokens.unwrap_or(limits.completion_tokens_default).clamp(1, limits.completion_tokens_max)
}

/// Bytes of everything a provider may count as prompt.
fn request_bytes(ask: &LlmAsk, tools: &[ToolDef]) -> u64 {
    let messages: usize = ask
        .messages
        .iter()
        .map(|message| {
            let calls: usize =
                message.tool_calls.iter().map(|c| c.id.len() + c.name.len() + c.arguments.len() + 32).sum();
            message.content.len() + calls + 32
        })
        .sum();
    let tools: usize = tools
        .iter()
        .map(|tool| {
            tool.name.wire().len() + tool.description.len() + tool.input_schema.to_string().len() + 64
        })
        .sum();
    let schema = ask.output_schema.as_ref().map_or(0, |schema| schema.to_string().len());
    (messages + tools + schema) as u64
}
