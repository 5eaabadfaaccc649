//! Inboxes: a row is there until an append takes it, and what an append takes has its effect in the same append.

use std::collections::{BTreeMap, BTreeSet};

use lantern_engine::{Arrival, Event, Fact};
use lantern_types::RunId;

use super::book::Book;
use super::{Checked, demand};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Signal,
    Cancel,
    Other,
}

/// Every row that was put and not yet taken.
#[derive(Debug, Default)]
pub(super) struct Mail(BTreeMap<RunId, BTreeMap<u64, Kind>>);

impl Mail {
    /// A row was put.
    pub(super) fn put(&mut self, run: RunId, row: u64, arrival: &Arrival) {
        let kind = match arrival {
            Arrival::Signal { .. } => Kind::Signal,
            Arrival::Cancel { .. } => Kind::Cancel,
            _ => Kind::Other,
        };
        self.0.entry(run).or_default().insert(row, kind);
    }

    /// An append took these rows, and decided these events.
    pub(super) fn consumed(&mut self, run: RunId, rows: &[u64], events: &[Event], book: &Book) -> Checked {
        let pending = self.0.entry(run).or_default();
        let mut taken = Vec::new();
        for row in rows {
            let kind = pending.remove(row);
            demand(kind.is_some(), "rows-taken-once", || format!("row {row}"))?;
            taken.extend(kind);
        }
        if book.over.is_some() {
            return Ok(());
        }
        let signals = taken.iter().filter(|kind| **kind == Kind::Signal).count();
        let received =
            events.iter().filter(|event| matches!(event.fact, Fact::SignalReceived { .. })).count();
        demand(signals == received, "signals-are-received", || {
            format!("{signals} taken, {received} received")
        })?;
        demand(!taken.contains(&Kind::Cancel), "cancel-ends-the-run", || "the order was taken".to_owned())
    }

    /// These rows are in the run's inbox.
    pub(super) fn pending(&self, run: RunId, rows: &[u64]) -> Checked {
        let ours: BTreeSet<u64> =
            self.0.get(&run).map(|rows| rows.keys().copied().collect()).unwrap_or_default();
        let theirs: BTreeSet<u64> = rows.iter().copied().collect();
        demand(ours == theirs, "no-row-is-lost", || format!("put and not taken {ours:?}, there {theirs:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use lantern_types::DEV_TENANT;

    #[test]
    fn lost_doubled_and_ignored_rows_are_found() {
        let run = RunId::from_uuid(DEV_TENANT.uuid());
        let mut mail = Mail::default();
        mail.put(run, 1, &Arrival::Signal { name: "go".into(), value: serde_json::Value::Null });
        mail.put(run, 2, &Arrival::Cancel { by: "ada".into(), reason: None });
        assert_eq!(
            (rule(mail.pending(run, &[1, 2])), rule(mail.pending(run, &[2]))),
            (None, Some("no-row-is-lost"))
        );
        let book = book(&[begun()]);
        assert_eq!(rule(mail.consumed(run, &[1], &[], &book)), Some("signals-are-received"));
        assert_eq!(rule(mail.consumed(run, &[1], &[], &book)), Some("rows-taken-once"));
        assert_eq!(rule(mail.consumed(run, &[2], &[], &book)), Some("cancel-ends-the-run"));
        assert_eq!(rule(mail.pending(run, &[])), None);
    }
}
