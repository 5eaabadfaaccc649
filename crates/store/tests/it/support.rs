//! Runs and appends as the tests need them.

use lantern_policy::Scope;
use lantern_store::journal::{self, Append, Created, NewRun, Projection};
use lantern_store::lease::{self, Claimed};
use lantern_store::record::Record;
use lantern_store::testing::Seeded;
use lantern_store::{Db, Result, inbox};
use lantern_types::call::RunUsage;
use lantern_types::*;
use uuid::Uuid;

/// A build that knows the first format.
pub(crate) const READER: lease::Reader = lease::Reader { build: "this one", format: journal::FORMAT };

pub(crate) fn tenant(n: u128) -> TenantId {
    TenantId::from_uuid(Uuid::from_u128(n))
}

pub(crate) fn run(n: u128) -> RunId {
    RunId::from_uuid(Uuid::from_u128(0x1000 + n))
}

pub(crate) fn process(n: u128) -> ProcessId {
    ProcessId::from_uuid(Uuid::from_u128(0x9000 + n))
}

pub(crate) fn input(n: u128) -> InboxId {
    InboxId::from_uuid(Uuid::from_u128(0x5000 + n))
}

pub(crate) const fn at(micros: i64) -> At {
    At::from_micros(micros)
}

pub(crate) fn new_run(seeded: Seeded, id: RunId, now: At) -> NewRun {
    let bytes = b"{\"seq\":1}\n".to_vec();
    let chain = link(ChainHead::genesis(), &bytes, Digest::of(b""));
    seeded.current().queued_run(id, Record { bytes, body: None, chain }, now)
}

pub(crate) async fn create(db: &Db, scope: Scope, new: NewRun) -> Result<Created> {
    db.write(scope, move |tx| Box::pin(journal::create(tx, new))).await
}

pub(crate) fn new_input(id: u128, run: RunId, key: &str) -> inbox::NewInput {
    inbox::NewInput { id: input(id << 32), run, key: key.to_owned(), input: b"sealed".to_vec(), at: at(70) }
}

pub(crate) async fn put(db: &Db, scope: Scope, run: RunId, id: InboxId, key: &str, now: At) -> inbox::Put {
    let new = inbox::NewInput { id, run, key: key.to_owned(), input: b"sealed".to_vec(), at: now };
    db.write(scope, move |tx| Box::pin(inbox::put(tx, new, 3))).await.unwrap()
}

/// Registers a process and claims everything that is due.
pub(crate) async fn claim_all(db: &Db, process: ProcessId, now: At) -> Vec<Claimed> {
    lease::register(db, process, now, Dur::from_secs(10)).await.unwrap();
    lease::look(db, process, READER, now, 256).await.unwrap().claimed
}

pub(crate) fn running() -> Projection {
    Projection {
        status: "running",
        spent: MicroUsd::from_micros(5),
        held: MicroUsd::from_micros(7),
        tokens_in: 11,
        tokens_out: 13,
        started_at: Some(at(20)),
        finished_at: None,
        error_code: None,
    }
}

/// Two events by the holder of a lease.
pub(crate) fn two_events(claimed: &Claimed) -> Append {
    let bytes = b"{\"seq\":2}\n{\"seq\":3}\n".to_vec();
    Append {
        run: claimed.run,
        epoch: claimed.epoch,
        expected_version: claimed.version,
        format: journal::FORMAT,
        n: 2,
        at: at(30),
        chain: link(claimed.chain, &bytes, Digest::of(b"body")),
        bytes,
        body: Some(b"body".to_vec()),
        projection: running(),
        drained: vec![],
        outbox: vec![],
        approvals: vec![],
        heeds_stops: false,
        halt: None,
        kept: None,
        used: RunUsage::default(),
    }
}
