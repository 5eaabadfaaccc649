//! Short names for events, so that a checker's test reads as the story whose end is wrong.

use lantern_engine::{Content, Event, Fact, Outcome, ProgramKind, StepId, StepKind};
use lantern_types::{
    Acted, AdmissionFacts, AgentId, At, DEV_TENANT, Digest, EffectClass, Grant, MicroUsd, VersionId,
};

use super::book::Book;
use super::{Checked, Violation};

pub(super) const CAP: i64 = 1_000;

pub(super) fn id(step: &str) -> StepId {
    StepId::new(step)
}

/// A book of these facts, numbered from 1, a microsecond apart.
pub(super) fn book(facts: &[Fact]) -> Book {
    let mut book = Book::default();
    for (n, fact) in facts.iter().enumerate() {
        book.apply(&event(n, fact.clone(), None));
    }
    book
}

/// The event that follows `n` others.
pub(super) fn event(n: usize, fact: Fact, content: Option<Content>) -> Event {
    Event { seq: n as u64 + 1, at: At::from_micros(i64::try_from(n).unwrap()), fact, content }
}

/// The rule that `next` breaks after `facts`.
pub(super) fn broken(
    facts: &[Fact],
    next: Fact,
    check: impl Fn(&Book, &Event) -> Checked,
) -> Option<&'static str> {
    rule(check(&book(facts), &event(facts.len(), next, None)))
}

pub(super) fn rule(checked: Checked) -> Option<&'static str> {
    checked.err().map(|Violation { rule, .. }| rule)
}

pub(super) fn begun() -> Fact {
    let digest = Digest::of(b"x");
    Fact::RunStarted {
        agent: AgentId::from_uuid(DEV_TENANT.uuid()),
        version: VersionId::from_uuid(DEV_TENANT.uuid()),
        manifest: digest,
        program: ProgramKind::Agent,
        parent: None,
        depth: 0,
        continues: None,
        forks: None,
        trace: None,
        recall: None,
        cap: MicroUsd::from_micros(CAP),
        deadline: None,
        policy: digest,
        catalogue: digest,
        limits: digest,
    }
}

pub(super) fn wants(step: &str, kind: StepKind, parent: Option<&str>, effect: EffectClass) -> Fact {
    Fact::StepRequested {
        step: id(step),
        kind,
        name: None,
        parent: parent.map(id),
        effect,
        due: None,
        request: Digest::of(b"same"),
        tools: None,
        approval: false,
    }
}

pub(super) fn tool(step: &str, effect: EffectClass) -> Fact {
    wants(step, StepKind::Tool, None, effect)
}

/// An admission whose facts say that nothing was spent or held before.
pub(super) fn admitted(step: &str, generation: u32, attempt: u32, hold: i64) -> Fact {
    let digest = Digest::of(b"x");
    let facts = AdmissionFacts { cap: MicroUsd::from_micros(CAP), ..AdmissionFacts::default() };
    let hold = MicroUsd::from_micros(hold);
    let grant = Grant { hold, route: None, facts, policy: digest, catalogue: digest, limits: digest };
    Fact::StepAdmitted { step: id(step), generation, attempt, grant }
}

pub(super) fn settled(step: &str, generation: u32, cost: i64) -> Fact {
    Fact::StepSettled {
        step: id(step),
        kind: StepKind::Tool,
        name: None,
        generation,
        attempt: 1,
        cost: MicroUsd::from_micros(cost),
        tokens_in: 0,
        tokens_out: 0,
        claimed: None,
        output: Digest::of(b"same"),
        provider: None,
        model: None,
    }
}

/// A step that fails, and may have cost this much.
pub(super) fn failed(step: &str, acted: Acted, unconfirmed: i64) -> Fact {
    Fact::StepFailed {
        step: id(step),
        kind: StepKind::Tool,
        name: None,
        generation: 1,
        attempt: 1,
        code: "x".into(),
        acted,
        cost: MicroUsd::ZERO,
        unconfirmed: MicroUsd::from_micros(unconfirmed),
        tokens_in: 0,
        tokens_out: 0,
        owing: false,
        tells_by: None,
    }
}

pub(super) fn retrying(step: &str, generation: u32, attempt: u32, acted: Acted, due: i64) -> Fact {
    let (due, unconfirmed) = (At::from_micros(due.max(3)), MicroUsd::ZERO);
    let (code, crashed, readmit) = ("x".into(), false, false);
    let (cost, tokens_in, tokens_out) = (MicroUsd::ZERO, 0, 0);
    Fact::StepRetrying {
        step: id(step),
        generation,
        attempt,
        code,
        acted,
        due,
        crashed,
        cost,
        tokens_in,
        tokens_out,
        unconfirmed,
        readmit,
    }
}

/// An attempt that may have been billed, and is made again under its key with a hold of its own.
pub(super) fn lost(step: &str, attempt: u32, hold: i64, due: i64) -> Fact {
    let mut fact = retrying(step, 1, attempt, Acted::Unknown, due);
    if let Fact::StepRetrying { unconfirmed, readmit, .. } = &mut fact {
        (*unconfirmed, *readmit) = (MicroUsd::from_micros(hold), true);
    }
    fact
}

pub(super) fn readmitted(step: &str, generation: u32) -> Fact {
    Fact::StepReadmitted { step: id(step), generation, kind: None }
}

pub(super) fn reissued(step: &str, generation: u32, attempt: u32) -> Fact {
    Fact::StepReissued { step: id(step), generation, attempt }
}

pub(super) fn resolved(step: &str, happened: bool) -> Fact {
    Fact::StepResolved { step: id(step), happened, by: "ada".into() }
}

pub(super) fn doubted(step: &str, code: &str) -> Fact {
    Fact::StepInDoubt { step: id(step), generation: 1, code: code.into() }
}

/// A step that is dropped, and may have cost this much.
pub(super) fn abandoned(step: &str, unconfirmed: i64) -> Fact {
    Fact::StepAbandoned {
        step: id(step),
        code: "cancelled".into(),
        cost: MicroUsd::ZERO,
        unconfirmed: MicroUsd::from_micros(unconfirmed),
        owing: false,
        tells_by: None,
    }
}

/// A child step that is dropped and whose child has not told.
pub(super) fn owing(step: &str) -> Fact {
    let (cost, unconfirmed, tells_by) = (MicroUsd::ZERO, MicroUsd::ZERO, Some(At::from_micros(5)));
    Fact::StepAbandoned { step: id(step), code: "race_lost".into(), cost, unconfirmed, owing: true, tells_by }
}

pub(super) fn charged(step: &str, cost: i64) -> Fact {
    Fact::StepCharged { step: id(step), cost: MicroUsd::from_micros(cost), unconfirmed: MicroUsd::ZERO }
}

/// A child has had its time, and may have spent this much.
pub(super) fn untold(step: &str, unconfirmed: i64) -> Fact {
    Fact::StepCharged {
        step: id(step),
        cost: MicroUsd::ZERO,
        unconfirmed: MicroUsd::from_micros(unconfirmed),
    }
}

pub(super) fn finish(outcome: Outcome) -> Fact {
    Fact::Finished { outcome, code: None, step: None, output: None }
}

/// The run waits for what its children spent, until the `due`th event at most.
pub(super) fn ending(outcome: Outcome, due: i64) -> Fact {
    Fact::RunEnding { outcome, code: None, step: None, due: At::from_micros(due) }
}
