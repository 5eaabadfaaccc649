//! Runs that go on as new ones: what was used up before is used up still, and the first deadline is the last.

use lantern_engine::{Content, Event, Fact, StepKind};

use super::book::Book;
use super::{Checked, demand};

/// Whether the first event of a continuation says of the run before it what that run's book says.
pub(super) fn started(event: &Event, before: Option<&Book>) -> Checked {
    let (Fact::RunStarted { deadline, .. }, Some(before)) = (&event.fact, before) else { return Ok(()) };
    let Some(Content::Carried { carried, .. }) = &event.content else { return Ok(()) };
    let turns = before.turns();
    demand(carried.turns == turns, "turns-are-carried-on", || format!("{} of {turns} turns", carried.turns))?;
    demand(*deadline == before.deadline, "deadlines-are-carried-on", || {
        format!("{deadline:?}, was {:?}", before.deadline)
    })?;
    let tools = before.steps.iter().filter(|step| step.kind == StepKind::Tool);
    for name in tools.filter_map(|step| step.name.as_ref()).chain(before.carried_calls.keys()) {
        let said = carried.calls.get(name).copied().unwrap_or(0);
        demand(said == before.calls(name), "calls-are-carried-on", || {
            format!("{said} of {} calls of {name}", before.calls(name))
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::super::testing::*;
    use super::*;
    use lantern_engine::Carried;
    use lantern_types::{At, EffectClass};

    #[test]
    fn a_turn_a_call_or_a_deadline_that_is_forgotten_is_found() {
        let mut call = tool("llm-1.tool-1", EffectClass::Pure);
        if let Fact::StepRequested { name, .. } = &mut call {
            *name = Some("calc".into());
        }
        let turn = wants("llm-1", StepKind::Llm, None, EffectClass::Keyed);
        let mut before = book(&[begun(), turn, call, admitted("llm-1.tool-1", 1, 1, 0)]);
        for (turns, calls, due, want) in [
            (1, 1, None, None),
            (0, 1, None, Some("turns-are-carried-on")),
            (1, 0, None, Some("calls-are-carried-on")),
            (1, 1, Some(At::from_micros(9)), Some("deadlines-are-carried-on")),
        ] {
            before.deadline = due;
            let calls = BTreeMap::from([("calc".to_owned(), calls)]);
            let carried = Carried { messages: Vec::new(), turns, repairs: 0, calls, deadline: None };
            let content = Content::Carried { input: Arc::default(), carried: Arc::new(carried) };
            assert_eq!(rule(started(&event(0, begun(), Some(content)), Some(&before))), want);
        }
    }
}
