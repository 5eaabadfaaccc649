//! What the agent's version says holds: which tools, how often, with whose approval, how many turns and attempts.

use lantern_engine::manifest::ToolRef;
use lantern_engine::{Arrival, Event, Fact, Input, Manifest, ProgramKind, Retry, StepKind, Work};
use lantern_types::{Dur, EffectClass, Finding, Limits, ToolDef};

use super::book::{Book, Entry};
use super::{Checked, demand};

/// What a run may rely on: its version, the tools there are, the limits in force.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) tools: &'a [ToolDef],
    pub(super) limits: &'a Limits,
}

/// Whether `event` keeps within the terms.
pub(super) fn check(book: &Book, event: &Event, cause: &Input, terms: &Terms<'_>) -> Checked {
    match &event.fact {
        Fact::StepRequested { kind, name, effect, approval, step, .. } => {
            let steps = book.steps.len() as u64;
            let most = u64::from(terms.limits.steps_per_run_max);
            demand(steps < most, "steps-are-limited", || format!("{step} is number {}", steps + 1))?;
            turns(book, *kind, terms)?;
            let wanted = class(*kind, name.as_deref(), terms);
            let asks =
                listed(name.as_deref(), terms).is_some_and(|tool| tool.approval && *kind == StepKind::Tool);
            demand((*effect, *approval) == (wanted, asks), "classed-as-declared", || {
                format!("{step} {name:?} is {effect:?}, approval {approval}; declared {wanted:?}, {asks}")
            })
        }
        Fact::StepAdmitted { step, grant, .. } => match book.step(step) {
            Some(entry) if entry.kind == StepKind::Tool => calls(book, entry, grant.facts.calls, terms),
            _ => Ok(()),
        },
        // A crash is nobody's failure: no policy speaks of it.
        Fact::StepRetrying { step, code, due, crashed: false, .. } if book.program == ProgramKind::Agent => {
            let retry = terms.manifest.retry.clone().unwrap_or_default();
            let attempt = book.step(step).map_or(0, |entry| entry.failures + 1);
            let said = || format!("{step} attempt {attempt} failed with {code}; {retry:?}");
            demand(attempt < retry.max_attempts, "attempts-as-declared", said)?;
            demand(!retry.non_retryable.contains(code), "attempts-as-declared", said)?;
            let (waits, longest) = (due.since(event.at), terms.limits.wait_max);
            // Who has somebody else to ask asks at once.
            let elsewhere =
                matches!(cause, Input::Performed { result: Err(failure), .. } if failure.elsewhere);
            let least = if elsewhere { Dur::ZERO } else { wait(&retry, attempt).min(longest) };
            demand(waits >= least, "waits-as-declared", said)?;
            // Or as long as the other side may ask for.
            demand(waits <= longest.max(Dur::from_secs(3_600)), "waits-are-limited", said)
        }
        Fact::StepFailed { step, .. } if book.program == ProgramKind::Agent => match book.step(step) {
            Some(entry) => given_up(entry, cause, terms),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Whether a failed attempt was the last that the version allows, counted without those that a crash cut short.
fn given_up(entry: &Entry, cause: &Input, terms: &Terms<'_>) -> Checked {
    let doubt = entry.doubt.as_deref().unwrap_or_default();
    let code = match cause {
        Input::Performed { step, result: Err(failure), .. } if *step == entry.id && failure.retryable => {
            failure.code
        }
        Input::Found { step, finding: Some(Finding::DidNotHappen), .. } if *step == entry.id => doubt,
        Input::Arrived(Arrival::Resolution { step, happened: false, .. }) if *step == entry.id => doubt,
        _ => return Ok(()),
    };
    let crashed = super::life::finds(cause) && doubt == "crashed";
    let retry = terms.manifest.retry.clone().unwrap_or_default();
    let declared = entry.failures + 1 >= retry.max_attempts || retry.non_retryable.iter().any(|c| c == code);
    let last = (declared && !crashed) || entry.attempt >= terms.limits.attempts_per_step_max;
    demand(last, "retries-as-declared", || {
        format!("{} failed {} times before; {retry:?}", entry.id, entry.failures)
    })
}

fn turns(book: &Book, kind: StepKind, terms: &Terms<'_>) -> Checked {
    if kind != StepKind::Llm || book.program != ProgramKind::Agent {
        return Ok(());
    }
    let most = terms.manifest.max_turns.min(terms.limits.turns_per_run_max).max(1);
    let turns = book.turns();
    demand(turns < most, "turns-as-declared", || format!("turn {} of {most}", turns + 1))
}

fn listed<'a>(name: Option<&str>, terms: &Terms<'a>) -> Option<&'a ToolRef> {
    terms.manifest.tools.as_ref()?.iter().find(|tool| Some(tool.name.as_str()) == name)
}

/// The stricter of what the tool and the version declare. A tool that nobody knows counts as the worst.
fn class(kind: StepKind, name: Option<&str>, terms: &Terms<'_>) -> EffectClass {
    match kind {
        StepKind::Tool => {
            let known = terms.tools.iter().find(|tool| Some(tool.name.as_str()) == name);
            let own = known.map_or(EffectClass::Irreversible, |tool| tool.effect);
            own.max(listed(name, terms).and_then(|tool| tool.effect).unwrap_or(EffectClass::Pure))
        }
        StepKind::Llm | StepKind::Child => EffectClass::Keyed,
        _ => EffectClass::Pure,
    }
}

/// Whether the tool may be called once more. Attempts at one step are one call.
fn calls(book: &Book, entry: &Entry, counted: u32, terms: &Terms<'_>) -> Checked {
    let Some(Work::Tool { name, .. }) = &entry.work else { return Ok(()) };
    let listed = listed(Some(name.as_str()), terms);
    let any = book.program == ProgramKind::Steps && terms.manifest.tools.is_none();
    let known = terms.tools.iter().any(|tool| tool.name == *name);
    demand((listed.is_some() || any) && known, "only-listed-tools-are-called", || name.to_string())?;
    // What is admitted anew after a refusal was counted at its first attempt.
    let earlier = book.calls(name.as_str()).saturating_sub(u32::from(entry.attempt > 0));
    let most = listed.and_then(|tool| tool.max_calls);
    demand(earlier == counted && most.is_none_or(|most| earlier < most), "calls-as-declared", || {
        format!("{}: {earlier} earlier calls, {counted} counted, {most:?} allowed", entry.id)
    })
}

/// How long to wait at least after an attempt: each wait is longer than the one before, up to the longest.
fn wait(retry: &Retry, attempt: u32) -> Dur {
    let longer =
        |millis: u64, _| (millis * u64::from(retry.backoff_percent) / 100).min(retry.max_interval_ms);
    Dur::from_millis((1..attempt).fold(retry.initial_interval_ms, longer).min(retry.max_interval_ms))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use lantern_types::{Acted, Failure, ToolName};
    use serde_json::{Value, json};

    fn found(manifest: Value, facts: &[Fact], next: Fact) -> Option<&'static str> {
        found_after(manifest, facts, next, Input::Wake)
    }

    fn found_after(manifest: Value, facts: &[Fact], next: Fact, cause: Input) -> Option<&'static str> {
        let manifest = Manifest::parse(&manifest).unwrap();
        let def = |name: &str, effect| ToolDef {
            name: ToolName::parse(name).unwrap(),
            description: String::new(),
            input_schema: json!({}),
            effect,
        };
        let tools = [def("calc", EffectClass::Pure), def("pay", EffectClass::Irreversible)];
        let limits = Limits { steps_per_run_max: 3, ..Limits::default() };
        let terms = Terms { manifest: &manifest, tools: &tools, limits: &limits };
        let mut book = book(facts);
        for step in &mut book.steps {
            let name = ToolName::parse(step.name.as_deref().unwrap_or("calc")).unwrap();
            step.work = Some(Work::Tool { name, arguments: json!({}).into(), call: None });
        }
        rule(check(&book, &event(facts.len(), next, None), &cause, &terms))
    }

    fn calls(step: &str, tool: &str, class: EffectClass) -> Fact {
        let mut fact = super::super::testing::tool(step, class);
        if let Fact::StepRequested { name, .. } = &mut fact {
            *name = Some(tool.to_owned());
        }
        fact
    }

    #[test]
    fn a_class_milder_than_declared_and_a_missing_approval_are_found() {
        let strict = || json!({ "tools": [{ "name": "calc", "effect": "keyed" }, { "name": "pay", "approval": true }] });
        for (tool, class, want) in [
            ("calc", EffectClass::Keyed, None),
            ("calc", EffectClass::Pure, Some("classed-as-declared")),
            ("pay", EffectClass::Irreversible, Some("classed-as-declared")),
            ("ghost", EffectClass::Irreversible, None),
            ("ghost", EffectClass::Pure, Some("classed-as-declared")),
        ] {
            assert_eq!(found(strict(), &[begun()], calls("a", tool, class)), want, "{tool} {class:?}");
        }
    }

    #[test]
    fn a_call_a_step_or_a_turn_too_many_is_found() {
        let once = || json!({ "tools": [{ "name": "calc", "maxCalls": 1 }], "maxTurns": 1 });
        let ask = |step| calls(step, "calc", EffectClass::Pure);
        let first = [begun(), ask("a")];
        assert_eq!(found(once(), &first, admitted("a", 1, 1, 0)), None);
        assert_eq!(
            found(json!({ "tools": [] }), &first, admitted("a", 1, 1, 0)),
            Some("only-listed-tools-are-called")
        );
        let second = [begun(), ask("a"), admitted("a", 1, 1, 0), ask("b")];
        assert_eq!(found(once(), &second, admitted("b", 1, 1, 0)), Some("calls-as-declared"));
        let turn = |step| wants(step, StepKind::Llm, None, EffectClass::Keyed);
        assert_eq!(found(once(), &[begun(), turn("llm-1")], turn("llm-2")), Some("turns-as-declared"));
        let three = [begun(), ask("a"), ask("b"), ask("c")];
        assert_eq!(found(once(), &three, ask("d")), Some("steps-are-limited"));
    }

    #[test]
    fn a_retry_that_was_not_declared_is_found() {
        let policy = |max: u32| json!({ "retry": { "maxAttempts": max, "initialIntervalMs": 1, "nonRetryable": ["busy"] } });
        let open = [begun(), calls("a", "calc", EffectClass::Pure), admitted("a", 1, 1, 0)];
        let again = |code: &str, due| {
            let mut fact = retrying("a", 1, 2, Acted::Unknown, due);
            if let Fact::StepRetrying { code: said, .. } = &mut fact {
                *said = code.to_owned();
            }
            fact
        };
        assert_eq!(found(policy(2), &open, again("x", 2_000)), None);
        assert_eq!(found(policy(2), &open, again("x", 5)), Some("waits-as-declared"));
        let years = 367 * 86_400 * 1_000_000;
        assert_eq!(found(policy(2), &open, again("x", years)), Some("waits-are-limited"));
        assert_eq!(found(policy(2), &open, again("busy", 2_000)), Some("attempts-as-declared"));
        assert_eq!(found(policy(1), &open, again("x", 2_000)), Some("attempts-as-declared"));
    }

    #[test]
    fn a_retry_that_a_crash_used_up_is_found() {
        let crashed =
            [begun(), calls("a", "calc", EffectClass::Pure), admitted("a", 1, 1, 0), reissued("a", 1, 2)];
        let failed = [crashed.to_vec(), vec![retrying("a", 1, 3, Acted::Unknown, 9), reissued("a", 1, 3)]];
        let result = Err(Failure::unknown("x", ""));
        let cause = || Input::Performed { step: id("a"), generation: 1, result: result.clone() };
        let policy = || json!({ "retry": { "maxAttempts": 2 } });
        let given_up = |facts: &[Fact]| found_after(policy(), facts, failed_with_x(), cause());
        assert_eq!(given_up(&crashed), Some("retries-as-declared"));
        assert_eq!(given_up(&failed.concat()), None);
    }

    fn failed_with_x() -> Fact {
        failed("a", Acted::Unknown, 0)
    }
}
