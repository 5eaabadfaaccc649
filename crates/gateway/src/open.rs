//! A call that money is held for, and what becomes of it.
//!
//! Invariant: whatever becomes of a call that is open, it is settled once, when it is dropped at the latest: at what it cost, as
//! far as that can be told, else at all that was held for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use lantern_ledger::{Held, Payers, Reading};
use lantern_llm::Door;
use lantern_policy::escrow::{Seen, Worst};
use lantern_store::escrow::{Cap, accounts_of};
use lantern_store::metered::Came;
use lantern_types::call::{CallEnd, CallRecord, Owner, Used};
use lantern_types::{AgentId, ApiKeyId, At, MicroUsd, Price, Route};
use uuid::Uuid;

use crate::Inner;

/// Who asks, beside the tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// Nobody who has an account of their own.
    Person,
    /// A key.
    Key(ApiKeyId),
    /// A run of this agent.
    Agent(AgentId),
}

/// A call that money is held for, until it is settled.
pub(crate) struct Open {
    pub(crate) inner: Arc<Inner>,
    pub(crate) held: Option<Held>,
    pub(crate) draft: Option<CallRecord>,
    pub(crate) begun_at: At,
    pub(crate) worst: Worst,
    pub(crate) capped: bool,
    pub(crate) seen: Seen,
    /// Nothing went out yet.
    pub(crate) unsent: bool,
    pub(crate) bill: Bill,
    /// The same call on the meter of a workload.
    pub(crate) reading: Option<Reading>,
}

/// What one call has cost, over all its attempts. It is complete once the answer has come to its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bill(Arc<AtomicI64>);

impl Bill {
    fn add(&self, cost: MicroUsd) {
        self.0.fetch_add(cost.micros(), Ordering::Relaxed);
    }

    pub(crate) fn total(&self) -> MicroUsd {
        MicroUsd::from_micros(self.0.load(Ordering::Relaxed))
    }
}

impl Open {
    /// Settles it. A second time does nothing.
    pub(crate) fn settle(&mut self, end: CallEnd) -> MicroUsd {
        let (Some(held), Some(mut record)) = (self.held.take(), self.draft.take()) else {
            return MicroUsd::ZERO;
        };
        let cost = self.seen.due(&self.worst, held.granted.hold(), end);
        let now = self.inner.clock.now();
        record.at = now;
        record.took_ms = now.since(self.begun_at).millis();
        record.end = end;
        record.cost = cost;
        record.reported = self.seen.reported;
        record.counted = self.seen.at_least();
        self.bill.add(cost);
        if let Some(reading) = self.reading.take() {
            let made = end != CallEnd::Refused;
            // Whoever hangs up before its provider says what was used has used the whole prompt.
            let unsaid = if made { self.worst.input } else { 0 };
            let used = record.reported;
            reading.settle(Came {
                cost,
                tokens_in: used.map_or(unsaid, Used::prompt),
                tokens_out: used.map_or(0, |used| used.output).max(record.counted),
                made,
            });
        }
        self.inner.ledger.settle(held, record);
        cost
    }

    pub(crate) fn status(&mut self, status: u16) {
        if let Some(record) = &mut self.draft {
            record.status = Some(status);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.settle(if self.unsent { CallEnd::Refused } else { CallEnd::ClientGone });
    }
}

/// Whose accounts a call counts in, and which of them a cap bounds. What costs nothing needs no cap.
pub(crate) fn payers(asker: Asker, caps: &[Cap], price: Price, now: At) -> Payers {
    let of = match asker {
        Asker::Person => None,
        Asker::Key(id) => Some(Owner::Key(id)),
        Asker::Agent(id) => Some(Owner::Agent(id)),
    };
    let owners: Vec<Owner> = [Some(Owner::Tenant), of].into_iter().flatten().collect();
    let caps = if price == Price::default() { &[] } else { caps };
    let (accounts, capped) = accounts_of(&owners, caps, now);
    Payers { accounts, capped }
}

/// The record of a call that is about to be sent.
pub(crate) fn draft(
    id: Uuid,
    door: Door,
    route: &Route,
    asker: Asker,
    stream: bool,
    held: &Held,
) -> CallRecord {
    let door = match door {
        Door::Chat => "chat",
        Door::Messages => "messages",
        Door::Responses => "responses",
        Door::Embeddings => "embeddings",
    };
    CallRecord {
        seq: 0,
        id,
        at: At::default(),
        took_ms: 0,
        door: door.to_owned(),
        provider: route.provider.clone(),
        model: route.model.clone(),
        key: if let Asker::Key(id) = asker { Some(id) } else { None },
        agent: if let Asker::Agent(id) = asker { Some(id) } else { None },
        stream,
        status: None,
        attempt: 1,
        why: route.why.clone(),
        end: CallEnd::Broken,
        price: route.price,
        hold: held.granted.hold(),
        cost: MicroUsd::ZERO,
        lowered_to: None,
        reported: None,
        counted: 0,
        held_from: held.from.clone(),
        late: false,
    }
}
