//! The journal: append-only, without gaps, under a chain that verifies, and the whole truth about the run.

use lantern_engine::{Event, Run, evolve};
use lantern_types::{ChainHead, Digest};

use super::{Checked, Violation, demand};
use crate::journal::{Append, Journal};

/// What is remembered of one run's journal.
#[derive(Debug, Default)]
pub(super) struct Watch {
    head: Option<ChainHead>,
    next_seq: u64,
    /// One digest for each append as it was first seen.
    seen: Vec<Digest>,
    /// The fold of what was read back.
    folded: Option<Run>,
}

impl Watch {
    /// Looks at the next append of `run` and reads its events back.
    pub(super) fn append(&mut self, run: &Run, append: &Append) -> Result<Vec<Event>, Violation> {
        let head = self.head.unwrap_or_else(ChainHead::genesis);
        demand(append.head == linked(head, append), "chain-verifies", || {
            format!("append at seq {}", append.first_seq)
        })?;
        let events = append
            .read()
            .map_err(|error| Violation { rule: "journal-readable", detail: error.to_string() })?;
        let seqs: Vec<u64> = events.iter().map(|event| event.seq).collect();
        let next = self.next_seq.max(1);
        let follows = seqs.iter().copied().eq(next..next + append.count) && append.first_seq == next;
        demand(follows && append.count > 0, "seqs-consecutive", || format!("{seqs:?} where {next} was due"))?;
        let folded = self.folded.get_or_insert_with(|| Run::new(run.id, run.manifest.clone()));
        for event in &events {
            evolve(folded, event);
        }
        self.next_seq = next + append.count;
        self.head = Some(append.head);
        self.seen.push(fingerprint(append));
        Ok(events)
    }

    /// Whether the run in memory is the fold of its journal.
    pub(super) fn agrees(&self, live: &Run) -> Checked {
        demand(self.folded.as_ref().is_none_or(|folded| folded == live), "fold-is-the-run", || {
            format!("run {} differs from the fold of its journal at seq {}", live.id, live.seq)
        })
    }

    /// Whether a run folded again from the whole journal is the same, and the journal what it was.
    pub(super) fn refolded(&self, run: &Run, journal: &Journal) -> Checked {
        let now = journal.appends().iter().map(fingerprint);
        demand(now.eq(self.seen.iter().copied()), "append-only", || "an append has changed".to_owned())?;
        self.agrees(run)
    }
}

/// The chain's rule once more: SHA-256 over the head, the envelopes and the body's SHA-256.
fn linked(head: ChainHead, append: &Append) -> ChainHead {
    let body = Digest::of(append.body.as_deref().unwrap_or_default());
    let all = [head.0.bytes().as_slice(), &append.lines, body.bytes().as_slice()].concat();
    ChainHead(Digest::of(&all))
}

fn fingerprint(append: &Append) -> Digest {
    Digest::of_parts(&[&append.lines, append.body.as_deref().unwrap_or_default(), append.head.0.bytes()])
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::super::testing::*;
    use super::*;
    use lantern_engine::{Fact, Manifest};
    use lantern_types::{DEV_TENANT, EffectClass, RunId};

    /// A run after `RunStarted`, and its journal.
    pub(in crate::check) fn one_event() -> (Run, Journal) {
        let mut run = Run::new(RunId::from_uuid(DEV_TENANT.uuid()), Arc::new(Manifest::default()));
        let mut journal = Journal::default();
        push(&mut run, &mut journal, begun());
        (run, journal)
    }

    fn push(run: &mut Run, journal: &mut Journal, fact: Fact) {
        let event = event(usize::try_from(run.seq).unwrap(), fact, None);
        evolve(run, &event);
        journal.append(&[event]).unwrap();
    }

    fn watched() -> (Run, Journal, Watch) {
        let (run, journal) = one_event();
        let mut watch = Watch::default();
        watch.append(&run, &journal.appends()[0]).unwrap();
        (run, journal, watch)
    }

    #[test]
    fn a_true_journal_passes() {
        let (mut run, mut journal, mut watch) = watched();
        push(&mut run, &mut journal, tool("a", EffectClass::Pure));
        watch.append(&run, &journal.appends()[1]).unwrap();
        assert_eq!((watch.agrees(&run), watch.refolded(&run, &journal)), (Ok(()), Ok(())));
    }

    #[test]
    fn a_wrong_link_a_gap_and_a_changed_byte_are_found() {
        let (mut run, mut journal, mut watch) = watched();
        push(&mut run, &mut journal, Fact::Paused { by: "ada".into() });
        let good = journal.appends()[1].clone();
        let mut bad = good.clone();
        bad.body = Some(b"[]".to_vec());
        assert_eq!(watch.append(&run, &bad).unwrap_err().rule, "chain-verifies");
        let mut gap = Append { lines: br#"{"seq":3,"at":0,"type":"Resumed","by":"x"}"#.to_vec(), ..good };
        gap.head = linked(watch.head.unwrap(), &gap);
        assert_eq!(watch.append(&run, &gap).unwrap_err().rule, "seqs-consecutive");
        assert_eq!(rule(watch.refolded(&run, &journal)), Some("append-only"));
        assert_eq!(rule(watch.agrees(&run)), Some("fold-is-the-run"));
    }
}
