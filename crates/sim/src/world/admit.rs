//! Admission as the worker does it: the facts from the run, the verdict from `policy`.

use lantern_engine::{
    Input, LlmAsk, ProgramKind, Run, Step, StepKind, StepState, Work, llm_ask, offered_tools,
};
use lantern_policy::admit::Purse;
use lantern_policy::{
    ChildRequest, LlmRequest, Terms, ToolRequest, admit_child, admit_llm, admit_or_wait, admit_plain,
    admit_tool, route,
};
use lantern_types::{Denial, Grant, ToolName};

use crate::generate::Setting;

/// The input that admits or denies a requested step; `None` when it waits for what other steps hold.
pub(super) fn verdict(run: &Run, step: &Step, setting: &Setting) -> Option<Input> {
    let verdict = admit_or_wait(purse(run), |purse| match (&step.work, llm_ask(run, step)) {
        (_, Some(ask)) => model(run, purse, &ask, setting),
        (Some(Work::Tool { name, .. }), _) => tool(run, step, name, setting),
        (Some(Work::Child { .. }), _) => child(run, purse, setting),
        _ => Ok(admit_plain(purse, Terms::of(&setting.catalogue, &setting.limits))),
    });
    let step = step.id.clone();
    match verdict {
        Ok(Some(grant)) => Some(Input::Admit { step, grant: Box::new(grant) }),
        Ok(None) => None,
        Err(denial) => Some(Input::Deny { step, denial }),
    }
}

fn model(run: &Run, purse: Purse, ask: &LlmAsk, setting: &Setting) -> Result<Grant, Denial> {
    let route = route::route(&ask.model, &setting.choices, &setting.catalogue)?;
    let said: usize = ask.messages.iter().map(|message| message.content.len() + 32).sum();
    let offered = if ask.offer_tools { offered_tools(run, &setting.tools) } else { Vec::new() };
    let tools: usize = offered.iter().map(|tool| tool.description.len() + 64).sum();
    let limits = &setting.limits;
    let max_tokens =
        ask.max_tokens.unwrap_or(limits.completion_tokens_default).min(limits.completion_tokens_max);
    let request = LlmRequest { route, request_bytes: (said + tools) as u64, max_tokens };
    admit_llm(purse, &request, limits, Terms::of(&setting.catalogue, &setting.limits))
}

fn tool(run: &Run, step: &Step, name: &ToolName, setting: &Setting) -> Result<Grant, Denial> {
    let listed = run.manifest.tool(name);
    let any = run.program == ProgramKind::Steps && run.manifest.tools.is_none();
    // An earlier attempt at this very step is not another call.
    let calls = run
        .steps()
        .iter()
        .filter(|other| other.kind == StepKind::Tool && other.attempt > 0 && other.id != step.id)
        .filter(|other| matches!(&other.work, Some(Work::Tool { name: called, .. }) if called == name))
        .count();
    let request = ToolRequest {
        listed: listed.is_some() || any,
        known: setting.tools.iter().any(|def| def.name == *name),
        calls: u32::try_from(calls).unwrap_or(u32::MAX).saturating_add(run.carried_calls(name)),
        calls_max: listed.and_then(|tool| tool.max_calls),
    };
    admit_tool(purse(run), request, Terms::of(&setting.catalogue, &setting.limits))
}

/// A child's cap is held from its parent's purse, which it shares with what else asks.
fn child(run: &Run, purse: Purse, setting: &Setting) -> Result<Grant, Denial> {
    let costs = |step: &&Step| matches!(step.kind, StepKind::Child | StepKind::Llm);
    let asking = run.open_steps().filter(costs).filter(|step| step.state == StepState::Requested).count();
    let terms = Terms::of(&setting.catalogue, &setting.limits);
    admit_child(purse, ChildRequest { depth: run.depth, asking }, &setting.limits, terms)
}

const fn purse(run: &Run) -> Purse {
    Purse { cap: run.cap, spent: run.spent, held: run.held, unconfirmed: run.unconfirmed }
}
