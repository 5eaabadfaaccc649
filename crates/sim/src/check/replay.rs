//! Past runs replay for nothing: a replay of a run that is over ends at once, and sends, starts and spends nothing. It ends as the
//! run did, but for one that somebody or its deadline stopped, which no step of it tells, and one of a chain of continuations.

use std::sync::Arc;

use lantern_engine::{
    Context, Event, Fact, Forks, Input, Outcome, Phase, Run, Start, decide, effects, reusable, start,
};
use lantern_types::{AgentId, Digest, MicroUsd, RunId, VersionId};
use serde_json::Value;

use super::{Checked, Commit, demand};

const RULE: &str = "past-runs-replay-for-nothing";
/// What ends a run by what its steps do not tell: time, and counts that a replay does not reach.
const FROM_OUTSIDE: [&str; 4] = ["run_timeout", "events_limit", "steps_limit", "continuations_limit"];

/// Looks at a run that has just ended.
pub(super) fn ended(commit: &Commit<'_>, last: Option<&Event>) -> Checked {
    let run = commit.live;
    let Some(Fact::Finished { outcome, code, .. }) = last.map(|event| &event.fact) else { return Ok(()) };
    let (replayed, events) = replay(commit);
    let says = |what: &str| format!("{} of {} events: {what}", run.id, run.seq);
    let again =
        replayed.awaiting_admission().map(|step| (&step.id, run.step(&step.id).map(|step| &step.state)));
    demand(again.is_none(), RULE, || says(&format!("asks to be done again: {again:?}")))?;
    let outside = events.iter().flat_map(|event| effects(&replayed, event)).next();
    demand(outside.is_none(), RULE, || says(&format!("something is owed outside: {outside:?}")))?;
    let spent = [replayed.spent, replayed.held, replayed.unconfirmed];
    demand(spent == [MicroUsd::ZERO; 3], RULE, || says("something was spent"))?;
    demand(matches!(replayed.phase, Phase::Over(_)), RULE, || says("the replay is not over"))?;
    let from_outside = code.as_deref().is_some_and(|code| FROM_OUTSIDE.contains(&code));
    if *outcome == Outcome::Cancelled || from_outside || run.continued || run.continues.is_some() {
        return Ok(());
    }
    demand(replayed.phase == Phase::Over(*outcome), RULE, || {
        says(&format!(
            "it ended {outcome:?} {code:?}, the replay stands at {:?}: {:?}",
            replayed.phase, replayed.error
        ))
    })?;
    demand(gave(&replayed) == gave(run), RULE, || {
        says(&format!("it gave {:?}, the replay {:?}", run.output, replayed.output))
    })?;
    let code = |run: &Run| run.error.as_ref().map(|(code, ..)| code.clone());
    demand(code(&replayed) == code(run), RULE, || {
        says(&format!("it failed with {:?}, the replay with {:?}", run.error, replayed.error))
    })
}

/// What a run gave, but for how many steps it asked for: a replay need not go into what lost a race.
fn gave(run: &Run) -> Option<Value> {
    let mut output = run.output.as_deref().cloned()?;
    if let Some(members) = output.as_object_mut() {
        members.remove("stepsRan");
    }
    Some(output)
}

fn replay(commit: &Commit<'_>) -> (Run, Vec<Event>) {
    let run = commit.live;
    let steps = reusable(run, None).unwrap_or_default();
    let nobody = run.id.uuid();
    let begin = Start {
        agent: AgentId::from_uuid(nobody),
        version: VersionId::from_uuid(nobody),
        manifest: run.manifest.digest(),
        input: run.input.clone(),
        parent: None,
        depth: run.depth,
        continues: None,
        carried: run.carried.clone(),
        recall: run.recall.clone(),
        forks: Some((Forks { run: run.id, step: None, replay: true, decided: false }, steps.into())),
        trace: None,
        cap: run.cap,
        policy: Digest::of(b""),
        catalogue: Digest::of(b""),
    };
    let context =
        Context { at: commit.at, limits: commit.limits, tools: commit.tools, violations: |_, _| Vec::new() };
    let fresh = Run::new(RunId::from_uuid(nobody), Arc::clone(&run.manifest));
    let Ok(started) = start(fresh.clone(), begin, &context) else { return (fresh, Vec::new()) };
    let woken = decide(started.run, Input::Wake, &context);
    (woken.run, woken.events)
}
