//! Inboxes: a row is there until an append takes it, and what an append takes has its effect in the same append. Of
//! several signals of one name and key, the first that is taken has one, and the others have none for ever.

use std::collections::{BTreeMap, BTreeSet};

use lantern_engine::{Arrival, Event, Fact};
use lantern_types::RunId;

use super::book::Book;
use super::{Checked, demand};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Its name and key, if its sender gave one.
    Signal(Option<(String, String)>),
    Cancel,
    Other,
}

/// Every row that was put and not yet taken, and the keys of the signals that were.
#[derive(Debug, Default)]
pub(super) struct Mail {
    pending: BTreeMap<RunId, BTreeMap<u64, Kind>>,
    keys: BTreeMap<RunId, BTreeSet<(String, String)>>,
}

impl Mail {
    /// A row was put.
    pub(super) fn put(&mut self, run: RunId, row: u64, arrival: &Arrival) {
        let kind = match arrival {
            Arrival::Signal { name, key, .. } => Kind::Signal(key.clone().map(|key| (name.clone(), key))),
            Arrival::Cancel { .. } => Kind::Cancel,
            _ => Kind::Other,
        };
        self.pending.entry(run).or_default().insert(row, kind);
    }

    /// An append took these rows, and decided these events.
    pub(super) fn consumed(&mut self, run: RunId, rows: &[u64], events: &[Event], book: &Book) -> Checked {
        let pending = self.pending.entry(run).or_default();
        let mut taken = Vec::new();
        for row in rows {
            let kind = pending.remove(row);
            demand(kind.is_some(), "rows-taken-once", || format!("row {row}"))?;
            taken.extend(kind);
        }
        if book.goes_no_further() {
            return Ok(());
        }
        let keys = self.keys.entry(run).or_default();
        let mut first = |kind: &&Kind| match kind {
            Kind::Signal(Some(key)) => keys.insert(key.clone()),
            Kind::Signal(None) => true,
            Kind::Cancel | Kind::Other => false,
        };
        let signals = taken.iter().filter(|kind| first(kind)).count();
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
            self.pending.get(&run).map(|rows| rows.keys().copied().collect()).unwrap_or_default();
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
        mail.put(run, 1, &Arrival::Signal { name: "go".into(), value: serde_json::Value::Null, key: None });
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

    #[test]
    fn a_repeat_that_is_received_is_found() {
        let run = RunId::from_uuid(DEV_TENANT.uuid());
        let mut mail = Mail::default();
        let value = serde_json::Value::Null;
        for row in [1, 2] {
            let (name, value, key) = ("go".into(), value.clone(), Some("k".into()));
            mail.put(run, row, &Arrival::Signal { name, value, key });
        }
        let book = book(&[begun()]);
        let came = event(1, Fact::SignalReceived { name: "go".into(), key: None }, None);
        assert_eq!(rule(mail.consumed(run, &[1], std::slice::from_ref(&came), &book)), None);
        assert_eq!(rule(mail.consumed(run, &[2], &[came], &book)), Some("signals-are-received"));
    }
}
