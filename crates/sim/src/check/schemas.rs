//! Schemas: an agent does not succeed with a reply that broke the one it had to satisfy.

use lantern_engine::{Event, Fact, Outcome, ProgramKind, StepKind};

use super::book::Book;
use super::{Checked, demand};

/// Whether a run succeeds with such a reply.
pub(super) fn check(book: &Book, event: &Event) -> Checked {
    let Fact::Finished { outcome: Outcome::Succeeded, .. } = &event.fact else { return Ok(()) };
    if book.program != ProgramKind::Agent || book.next.is_some() {
        return Ok(());
    }
    let last = book.steps.iter().rev().find(|step| step.kind == StepKind::Llm);
    let broken = last.filter(|step| step.breaks_schema);
    demand(broken.is_none(), "schemas-are-kept", || format!("{:?}", broken.map(|step| &step.id)))
}

#[cfg(test)]
mod tests {
    use lantern_engine::Content;
    use lantern_types::EffectClass;
    use lantern_types::llm::{Finish, LlmReply};

    use super::super::testing::*;
    use super::*;

    #[test]
    fn a_run_that_succeeds_with_a_broken_reply_is_found() {
        for (violations, want) in [(vec![], None), (vec!["no".to_owned()], Some("schemas-are-kept"))] {
            let reply = LlmReply {
                content: "no".into(),
                tool_calls: Vec::new(),
                finish: Finish::Stop,
                usage: None,
                model: "m".into(),
            };
            let mut book = book(&[begun(), wants("llm-1", StepKind::Llm, None, EffectClass::Keyed)]);
            book.apply(&event(2, settled("llm-1", 1, 0), Some(Content::Reply { reply, violations })));
            let end = Fact::Finished { outcome: Outcome::Succeeded, code: None, step: None, output: None };
            assert_eq!(rule(check(&book, &event(3, end, None))), want);
        }
    }
}
