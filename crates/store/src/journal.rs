//! A run's journal: the only place where a run's state changes.
//!
//! Invariant: an append writes one journal row and one guarded update of the run, in one transaction. The guard
//! (epoch and version) is fence, optimistic lock and projection in one statement; when it does not hold, nothing is
//! written. Only a run that nobody can go on with ends without an append: see [`give_up`]. Rows are never edited. The chain
//! is computed by the caller and only written here.

use std::sync::Arc;

use lantern_policy::Scope;
use lantern_types::approval::Change;
use lantern_types::call::RunUsage;
use lantern_types::*;

use crate::allowances;
use crate::approvals;
use crate::blob;
use crate::db::{Batch, Db, Expect, TenantTx};
use crate::dialect;
use crate::error::{Error, Result};
use crate::feedback;
use crate::inbox::{self, Kept, NewInput};
use crate::labels;
use crate::loose;
use crate::outbox::{self, NewOutbox};
use crate::receipts;
use crate::sessions;
use crate::stops::{self, Halt};
use crate::traces;
use crate::usage::pending;
use crate::value::{Row, Value};
use crate::workloads;

pub use crate::runs::{Found, RunFilter, RunRow, full, head, head_in, latest, list, look};

/// The event format that there was first, which every run has at least.
pub const FORMAT: i64 = 1;

/// A run and its first append.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// Minted, or brought by the caller.
    pub id: RunId,
    /// The agent.
    pub agent_id: AgentId,
    /// Its name at this time, kept for lists.
    pub agent_name: String,
    /// The version that runs.
    pub agent_version_id: VersionId,
    /// The status after the first events.
    pub status: &'static str,
    /// What started it: `api`, `child`, ….
    pub trigger_kind: String,
    /// The run that started it, with the step that waits for it.
    pub parent: Option<(RunId, String)>,
    /// The conversation it belongs to.
    pub session_id: Option<SessionId>,
    /// How many ancestors it has.
    pub depth: u32,
    /// Before which others of its tenant it goes.
    pub priority: Priority,
    /// JSON.
    pub labels: String,
    /// A second run with this key is the first one.
    pub idempotency_key: Option<String>,
    /// The event format that the first append needs.
    pub format: i64,
    /// How many events the first append holds; they are numbered from 1.
    pub n: i64,
    /// The event envelopes, one JSON object a line.
    pub bytes: Vec<u8>,
    /// The stored body: see [`Vault`](crate::Vault).
    pub body: Option<Vec<u8>>,
    /// The chain after the first append.
    pub chain: ChainHead,
    /// When; also when it is due for a worker.
    pub at: At,
    /// The most runs that the agent may begin in a day.
    pub runs_of_day_max: Option<u32>,
    /// Whether its spans are to be exported.
    pub traced: bool,
}

/// What became of a new run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It was written and is due.
    New,
    /// Nothing was written: this run has the same idempotency key.
    Existing(RunId),
}

/// The run's row as it must read after an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Projection {
    /// The contract's word.
    pub status: &'static str,
    /// Settled cost.
    pub spent: MicroUsd,
    /// Reserved for steps in flight.
    pub held: MicroUsd,
    /// Prompt tokens.
    pub tokens_in: i64,
    /// Completion tokens.
    pub tokens_out: i64,
    /// When it first ran.
    pub started_at: Option<At>,
    /// When it ended; set exactly when it has ended.
    pub finished_at: Option<At>,
    /// Why it failed.
    pub error_code: Option<String>,
}

/// Events to be added by the holder of a lease.
#[derive(Clone, Debug)]
pub struct Append {
    /// The run.
    pub run: RunId,
    /// The lease under which it is driven.
    pub epoch: i64,
    /// The last seq before this append.
    pub expected_version: i64,
    /// The event format that it needs.
    pub format: i64,
    /// How many events.
    pub n: i64,
    /// When.
    pub at: At,
    /// The event envelopes, one JSON object a line.
    pub bytes: Vec<u8>,
    /// The stored body: see [`Vault`](crate::Vault).
    pub body: Option<Vec<u8>>,
    /// The chain after this append.
    pub chain: ChainHead,
    /// The run's row after this append.
    pub projection: Projection,
    /// Inbox rows that these events took in.
    pub drained: Vec<InboxId>,
    /// What must go out because of these events.
    pub outbox: Vec<NewOutbox>,
    /// What these events ask people, or no longer ask.
    pub approvals: Vec<Change>,
    /// Whether these events admit what an emergency stop halts: then nothing is written while one holds for the run.
    pub heeds_stops: bool,
    /// What these events say of the stop that halts the run.
    pub halt: Option<Halt>,
    /// What the run keeps of signals after these events, when they change it.
    pub kept: Option<Kept>,
    /// What they say was used, and no slice was taken for.
    pub used: RunUsage,
}

/// An append as the statements it comes to, which can be submitted again as often as it takes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Prepared {
    batch: Arc<Batch>,
    version: i64,
}

impl From<Append> for Prepared {
    fn from(append: Append) -> Self {
        let version = append.expected_version.saturating_add(append.n);
        Self { batch: Arc::new(batch(append, version)), version }
    }
}

/// The end of a run that nobody can go on with.
#[derive(Clone, Copy, Debug)]
pub struct GiveUp {
    /// The run.
    pub run: RunId,
    /// How often it was claimed, as seen.
    pub epoch: i64,
    /// The last event's seq, as seen.
    pub version: i64,
    /// When.
    pub at: At,
    /// Why it failed.
    pub error_code: &'static str,
    /// The key of the inbox row in which somebody asks it to stop.
    pub asked: &'static str,
}

/// An append that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The last seq now.
    pub version: i64,
}

/// One stored append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The seq of its first event.
    pub first_seq: i64,
    /// How many events.
    pub n: i64,
    /// When.
    pub at: At,
    /// The event format.
    pub format: i64,
    /// The event envelopes.
    pub bytes: Vec<u8>,
    /// The stored body.
    pub body: Option<Vec<u8>>,
    /// The chain after it.
    pub chain: ChainHead,
}

const BY_KEY: &str = "SELECT id FROM runs WHERE tenant_id = $1 AND idempotency_key = $2";
const CREATE: &str =
    "INSERT INTO runs (tenant_id, id, agent_id, agent_name, agent_version_id, status, trigger_kind,
    version, chain, owner, epoch, pokes, wake_at, spent, held, tokens_in, tokens_out, created_at, started_at,
    finished_at, parent_run_id, parent_step, session_id, depth, labels, error_code, idempotency_key, format, priority)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, NULL, 0, 0, $10, 0, 0, 0, 0, $10, NULL,
    NULL, $11, $12, $13, $14, $15, NULL, $16, $17, $18)
    ON CONFLICT (tenant_id, idempotency_key) DO NOTHING";
const INSERT: &str = "INSERT INTO journal (tenant_id, run_id, first_seq, n, at, format, bytes, body, chain)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
// Does not name `finished_at`, which is NULL before and after it: SQLite takes the row out of every index that looks at a column
// which a statement names, and puts it back.
const GUARD: &str =
    "UPDATE runs SET version = $5, chain = $6, status = $7, spent = $8, held = $9, tokens_in = $10,
    tokens_out = $11, started_at = $12, error_code = $13
    WHERE tenant_id = $1 AND id = $2 AND epoch = $3 AND version = $4 AND finished_at IS NULL";
const GUARD_AND_FINISH: &str = "UPDATE runs SET version = $5, chain = $6, status = $7, spent = $8, held = $9,
    tokens_in = $10, tokens_out = $11, started_at = $12, finished_at = $13, error_code = $14, outcome = $7,
    owner = NULL, wake_at = NULL
    WHERE tenant_id = $1 AND id = $2 AND epoch = $3 AND version = $4 AND finished_at IS NULL";
// Whoever does not know the format takes the run up no more.
const RAISE: &str = "UPDATE runs SET format = $3 WHERE tenant_id = $1 AND id = $2 AND format < $3";
// At rest with a request in its inbox: whoever takes a run up takes its inbox in before letting it go, unless it cannot
// be taken up at all.
const GIVE_UP: &str = "UPDATE runs SET status = 'failed', outcome = 'failed', spent = spent + held, held = 0, finished_at = $5,
    error_code = $6, wake_at = NULL WHERE tenant_id = $1 AND id = $2 AND epoch = $3 AND version = $4 AND finished_at IS NULL
    AND owner IS NULL AND (wake_at IS NULL OR wake_at > $5)
    AND EXISTS (SELECT 1 FROM inbox i WHERE i.tenant_id = $1 AND i.run_id = $2 AND i.key = $7)";
const OPEN_CHILDREN: &str =
    "SELECT id FROM runs WHERE tenant_id = $1 AND parent_run_id = $2 AND finished_at IS NULL";
// Of a run that is over, once its content is removed: see `retention`.
pub(crate) const CONTENT_MARK: &str =
    "UPDATE runs SET content_removed_at = $3, content_left = 1, parked_reason = NULL
    WHERE tenant_id = $1 AND id = $2 AND finished_at IS NOT NULL AND content_removed_at IS NULL
    AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.tenant_id = $1 AND o.run_id = $2)";
pub(crate) const UNLABEL: &str = "UPDATE runs SET labels = '{}' WHERE tenant_id = $1 AND id = $2";
pub(crate) const CONTENT_GONE: &str = "UPDATE runs SET content_left = NULL WHERE tenant_id = $1 AND id = $2";
// Of a run that is over and has no receipt: the number that it gets.
pub(crate) const SEALED: &str = "UPDATE runs SET receipt = $3 WHERE tenant_id = $1 AND id = $2
    AND finished_at IS NOT NULL AND receipt IS NULL";
const DRAIN: &str = "DELETE FROM inbox WHERE tenant_id = $1 AND run_id = $2 AND id = $3";
const READ: &str = "SELECT first_seq, n, at, format, bytes, body, chain FROM journal
    WHERE tenant_id = $1 AND run_id = $2 AND first_seq + n > $3 ORDER BY first_seq LIMIT $4";
const BACK: &str = "SELECT first_seq, n, at, format, bytes, body, chain FROM journal
    WHERE tenant_id = $1 AND run_id = $2 AND first_seq < $3 ORDER BY first_seq DESC LIMIT $4";
const FIRST: &str = "SELECT first_seq, n, at, format, bytes, body, chain FROM journal
    WHERE tenant_id = $1 AND run_id = $2 ORDER BY first_seq LIMIT 1";
const LAST: &str = "SELECT first_seq, n, at, format, bytes, body, chain FROM journal
    WHERE tenant_id = $1 AND run_id = $2 ORDER BY first_seq DESC LIMIT 1";
const FINISHED: &str =
    "SELECT 1 AS finished FROM runs WHERE tenant_id = $1 AND id = $2 AND finished_at IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.tenant_id = $1 AND o.run_id = $2)";
const BODIES: &str = "SELECT body FROM journal WHERE tenant_id = $1 AND run_id = $2 AND body IS NOT NULL";
const DELETE_JOURNAL: &str = "DELETE FROM journal WHERE tenant_id = $1 AND run_id = $2";
const DELETE_INBOX: &str = "DELETE FROM inbox WHERE tenant_id = $1 AND run_id = $2";
const DELETE_OUTBOX: &str = "DELETE FROM outbox WHERE tenant_id = $1 AND run_id = $2";
const DELETE_RUN: &str = "DELETE FROM runs WHERE tenant_id = $1 AND id = $2";

/// Every statement of this file.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[
    BY_KEY,
    BACK,
    CREATE,
    INSERT,
    GUARD,
    GUARD_AND_FINISH,
    RAISE,
    GIVE_UP,
    OPEN_CHILDREN,
    CONTENT_MARK,
    UNLABEL,
    CONTENT_GONE,
    SEALED,
    DRAIN,
    READ,
    FIRST,
    LAST,
    FINISHED,
    BODIES,
    DELETE_JOURNAL,
    DELETE_INBOX,
    DELETE_OUTBOX,
    DELETE_RUN,
];

/// Writes a run and its first append. A run of the same idempotency key is answered instead; a run of the same id is
/// a `Conflict`, and so is an agent or version that is not there. `RunsOfDay`, and the whole transaction is to be undone, when the agent
/// may begin no more runs in this day.
pub async fn create(tx: &mut TenantTx<'_>, run: NewRun) -> Result<Created> {
    let id = run.id;
    if let Some(most) = run.runs_of_day_max {
        if let Some(key) = &run.idempotency_key
            && let Some(existing) = tx.one(BY_KEY, &[key.clone().into()]).await?
        {
            return Ok(Created::Existing(existing.id("id")?));
        }
        if !allowances::take_run(tx, (run.agent_id, &run.agent_name), run.at, most).await? {
            return Err(Error::RunsOfDay { most });
        }
    }
    let counted = run.runs_of_day_max.map(|_| (run.agent_id, run.at));
    let first = Stored {
        first_seq: 1,
        n: run.n,
        at: run.at,
        format: run.format,
        bytes: run.bytes,
        body: run.body,
        chain: run.chain,
    };
    let (parent, step) = run.parent.unzip();
    let run_labels = run.labels.clone();
    let params = [
        id.into(),
        run.agent_id.into(),
        run.agent_name.into(),
        run.agent_version_id.into(),
        run.status.into(),
        run.trigger_kind.into(),
        run.n.into(),
        run.chain.into(),
        run.at.into(),
        parent.into(),
        step.into(),
        run.session_id.into(),
        run.depth.into(),
        run.labels.into(),
        run.idempotency_key.clone().into(),
        run.format.into(),
        run.priority.into(),
    ];
    if tx.exec(CREATE, &params).await? == 0 {
        let existing = tx.one(BY_KEY, &[run.idempotency_key.into()]).await?.ok_or(Error::Conflict)?;
        if let Some((agent, at)) = counted {
            allowances::give_run_back(tx, agent, at).await?;
        }
        return Ok(Created::Existing(existing.id("id")?));
    }
    labels::add(tx, id, run.at, &run_labels).await?;
    if run.traced {
        traces::begin(tx, id, run.at).await?;
    }
    loose::name_in(tx, first.body.as_deref()).await?;
    tx.exec(INSERT, &row(id, first)).await?;
    tx.wake(id);
    tx.changed(id);
    Ok(Created::New)
}

/// Adds events to a run that its caller holds. `Conflict` when the lease or the version has moved on, and the run is somebody
/// else's, or when the append heeds stops and one holds: then nothing was written.
pub async fn append(db: &Db, scope: Scope, append: impl Into<Prepared>) -> Result<Appended> {
    let Prepared { batch, version } = append.into();
    db.submit(scope, batch).await?;
    Ok(Appended { version })
}

fn batch(append: Append, version: i64) -> Batch {
    let run = append.run;
    let first_seq = append.expected_version.saturating_add(1);
    let mut batch = Batch::new();
    let mut guard = vec![run.into(), append.epoch.into(), append.expected_version.into(), version.into()];
    guard.push(append.chain.into());
    let finished = append.projection.finished_at.is_some();
    guard.extend(projected(append.projection));
    // The guard goes first: on PostgreSQL it takes the run's lock, and a stale holder fails before it writes.
    // A finished run has no driver: nothing may claim it again.
    match (finished, append.heeds_stops) {
        (true, _) => batch.add(GUARD_AND_FINISH, guard, Expect::Rows(1)),
        (false, true) => batch.add_either(dialect::GUARD_HEEDING, guard, Expect::Rows(1)),
        (false, false) => batch.add(GUARD, guard, Expect::Rows(1)),
    }
    let added = Stored {
        first_seq,
        n: append.n,
        at: append.at,
        format: append.format,
        bytes: append.bytes,
        body: append.body,
        chain: append.chain,
    };
    let plain = append.drained.is_empty()
        && append.outbox.is_empty()
        && append.approvals.is_empty()
        && append.halt.is_none()
        && append.kept.is_none()
        && append.format <= FORMAT
        && added.body.as_deref().and_then(blob::named).is_none();
    if append.format > FORMAT {
        batch.add(RAISE, vec![run.into(), append.format.into()], Expect::Any);
    }
    loose::name(&mut batch, added.body.as_deref());
    batch.add(INSERT, row(run, added), Expect::Rows(1));
    let goes_on = append.outbox.iter().any(|new| new.kind == outbox::Kind::Continue);
    match (finished, goes_on) {
        // What is an order lies there still, also when this append took it in: it means the new run, too.
        (true, true) => batch.add(inbox::ALL_BUT_ORDERS, vec![run.into()], Expect::Any),
        // Nobody reads it any more. Whoever comes later finds the run finished, and puts nothing there.
        (true, false) => batch.add(DELETE_INBOX, vec![run.into()], Expect::Any),
        (false, _) => {}
    }
    let uses = !append.used.is_empty();
    if uses {
        pending::add(&mut batch, (run, version, append.at), &append.used);
    }
    // What is one statement may share a transaction: when its guard does not hold, nothing else is undone for it.
    if plain {
        batch.as_one(match (finished, append.heeds_stops, uses) {
            (true, _, false) => dialect::APPEND_LAST_POSTGRES,
            (true, _, true) => dialect::APPEND_LAST_USING_POSTGRES,
            (false, true, false) => dialect::APPEND_HEEDING_POSTGRES,
            (false, true, true) => dialect::APPEND_HEEDING_USING_POSTGRES,
            (false, false, false) => dialect::APPEND_POSTGRES,
            (false, false, true) => dialect::APPEND_USING_POSTGRES,
        });
    }
    for id in append.drained.into_iter().filter(|_| !finished) {
        // A row that is gone was drained by an append whose answer was lost; its input is in the journal.
        batch.add(DRAIN, vec![run.into(), id.into()], Expect::Any);
    }
    for new in append.outbox {
        outbox::add(&mut batch, run, new);
    }
    for change in append.approvals {
        approvals::add(&mut batch, (run, append.epoch), change);
    }
    if let Some(halt) = append.halt {
        stops::add(&mut batch, run, halt);
    }
    if let Some(kept) = append.kept {
        inbox::note(&mut batch, run, kept);
    }
    batch.changed(run);
    batch
}

/// In the order of the guards; when it ended is named by those alone that end it.
fn projected(to: Projection) -> impl Iterator<Item = Value> {
    let first: [Value; 6] = [
        to.status.into(),
        to.spent.into(),
        to.held.into(),
        to.tokens_in.into(),
        to.tokens_out.into(),
        to.started_at.into(),
    ];
    first.into_iter().chain(to.finished_at.map(Value::from)).chain([to.error_code.into()])
}

fn row(run: RunId, stored: Stored) -> Vec<Value> {
    vec![
        run.into(),
        stored.first_seq.into(),
        stored.n.into(),
        stored.at.into(),
        stored.format.into(),
        stored.bytes.into(),
        stored.body.into(),
        stored.chain.into(),
    ]
}

/// At most `limit` appends that hold the event `from_seq` or later ones, oldest first. The first of them may begin
/// before `from_seq`.
pub async fn read(db: &Db, scope: Scope, run: RunId, from_seq: i64, limit: u32) -> Result<Vec<Stored>> {
    db.read(scope, move |tx| {
        Box::pin(async move {
            let params = [run.into(), from_seq.into(), limit.into()];
            tx.all(READ, &params).await?.into_iter().map(stored).collect()
        })
    })
    .await
}

/// At most `limit` appends that begin before the event `before`, the newest first. The first of them may end after it.
pub async fn back(db: &Db, scope: Scope, run: RunId, before: i64, limit: u32) -> Result<Vec<Stored>> {
    let params = [run.into(), before.into(), limit.into()];
    let rows = db.read(scope, move |tx| Box::pin(async move { tx.all(BACK, &params).await })).await?;
    rows.into_iter().map(stored).collect()
}

/// A run's row, and its whole journal if it has at most `short` events.
pub async fn glance(
    db: &Db,
    scope: Scope,
    run: RunId,
    short: u8,
) -> Result<Option<(RunRow, Option<Vec<Stored>>)>> {
    db.glance(scope, move |tx| {
        Box::pin(async move {
            let Some(row) = head_in(tx, run).await? else { return Ok(None) };
            if row.version > i64::from(short) {
                return Ok(Some((row, None)));
            }
            let params = [run.into(), 1_i64.into(), u32::from(short).into()];
            let all = tx.all(READ, &params).await?.into_iter().map(stored).collect::<Result<_>>()?;
            Ok(Some((row, Some(all))))
        })
    })
    .await
}

/// The first and the last append of each of these runs, in the order asked: a run's input and its outcome. A run
/// with one append has the same one twice; a run that is not there is `None`.
pub async fn ends(db: &Db, scope: Scope, runs: Vec<RunId>) -> Result<Vec<Option<(Stored, Stored)>>> {
    db.read(scope, move |tx| {
        Box::pin(async move {
            let mut ends = Vec::with_capacity(runs.len());
            for run in runs {
                let first = tx.one(FIRST, &[run.into()]).await?.map(stored).transpose()?;
                let last = tx.one(LAST, &[run.into()]).await?.map(stored).transpose()?;
                ends.push(first.zip(last));
            }
            Ok(ends)
        })
    })
    .await
}

/// Ends a run as failed in its row alone, with what it holds charged and what it still owed to other runs dropped; its
/// journal stays as it is. `news` is what other runs must hear of it, its open children among them. `false`, and nothing
/// written, unless a request to stop lies in its inbox although somebody looked at it since and let it go: then nobody can go
/// on with it. `Unavailable`, and nothing written, when one of these runs is just being written to, or an open child would not
/// hear of it: to be asked again, with what is known then.
///
/// What the run owes is locked before the run, as by who delivers it; and runs are locked at once or not at all. So nobody
/// waits for this transaction who holds what it waits for.
pub async fn give_up(db: &Db, scope: Scope, end: GiveUp, news: Vec<NewInput>) -> Result<bool> {
    let given_up = db.write(scope, move |tx| Box::pin(given_up(tx, end, news))).await;
    match given_up {
        Err(Error::Conflict) => Ok(false),
        given_up => given_up.map(|()| true),
    }
}

async fn given_up(tx: &mut TenantTx<'_>, end: GiveUp, news: Vec<NewInput>) -> Result<()> {
    let run = end.run;
    // Undone with the rest when the run is not to be given up. From here on none of its children can begin.
    tx.exec(DELETE_OUTBOX, &[run.into()]).await?;
    for child in tx.all(OPEN_CHILDREN, &[run.into()]).await? {
        let child: RunId = child.id("id")?;
        if news.iter().all(|new| new.run != child) {
            return Err(Error::Unavailable("a child of the run has begun meanwhile".into()));
        }
    }
    for other in news.iter().map(|new| new.run).chain([run]) {
        if !dialect::lock_at_once(tx, other).await? && head_in(tx, other).await?.is_some() {
            return Err(Error::Unavailable(
                "the run, or one that must hear of it, is being written to".into(),
            ));
        }
    }
    let params = [
        run.into(),
        end.epoch.into(),
        end.version.into(),
        end.at.into(),
        end.error_code.into(),
        end.asked.into(),
    ];
    if tx.exec(GIVE_UP, &params).await? == 0 {
        return Err(Error::Conflict);
    }
    pending::gave_up(tx, (run, end.version, end.at)).await?;
    approvals::withdraw(tx, run, end.at).await?;
    tx.changed(run);
    for new in news {
        // What a run owes is not held back by a full inbox.
        inbox::put(tx, new, u32::MAX).await?;
    }
    Ok(())
}

/// Deletes a run that has finished, with everything that belongs to it, and answers the blobs that it named, for
/// [`Vault::discard`](crate::Vault::discard) after the commit; what is not removed then is swept. `None`, and nothing
/// deleted, when it is not there or has not finished.
pub async fn delete(tx: &mut TenantTx<'_>, run: RunId, now: At) -> Result<Option<Vec<Digest>>> {
    if tx.one(FINISHED, &[run.into()]).await?.is_none() {
        return Ok(None);
    }
    if !workloads::remove(tx, run).await? {
        return Ok(None);
    }
    let mut blobs = Vec::new();
    for mut row in tx.all(BODIES, &[run.into()]).await? {
        blobs.extend(row.take_bytes("body")?.as_deref().and_then(blob::named));
    }
    for blob in &blobs {
        loose::doom(tx, *blob, now).await?;
    }
    labels::remove(tx, run).await?;
    approvals::remove(tx, run).await?;
    receipts::remove(tx, run).await?;
    feedback::remove(tx, run).await?;
    sessions::run_goes(tx, run).await?;
    traces::remove(tx, run).await?;
    for sql in [DELETE_JOURNAL, DELETE_INBOX, DELETE_OUTBOX, DELETE_RUN] {
        tx.exec(sql, &[run.into()]).await?;
    }
    Ok(Some(blobs))
}

pub(crate) fn stored(mut row: Row) -> Result<Stored> {
    Ok(Stored {
        first_seq: row.int("first_seq")?,
        n: row.int("n")?,
        at: row.at("at")?,
        format: row.int("format")?,
        chain: row.chain("chain")?,
        body: row.take_bytes("body")?,
        bytes: row.take_bytes("bytes")?.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use lantern_types::approval::{Closed, Status};

    use super::*;

    fn append(approvals: Vec<Change>) -> Append {
        let projection = Projection {
            status: "running",
            spent: MicroUsd::ZERO,
            held: MicroUsd::ZERO,
            tokens_in: 0,
            tokens_out: 0,
            started_at: None,
            finished_at: None,
            error_code: None,
        };
        Append {
            run: RunId::from_uuid(DEV_USER.uuid()),
            epoch: 1,
            expected_version: 1,
            format: FORMAT,
            n: 1,
            at: At::from_micros(1),
            bytes: Vec::new(),
            body: None,
            chain: ChainHead::genesis(),
            projection,
            drained: Vec::new(),
            outbox: Vec::new(),
            approvals,
            heeds_stops: false,
            halt: None,
            kept: None,
            used: RunUsage::default(),
        }
    }

    #[test]
    fn what_asks_nobody_writes_no_more_than_its_row() {
        let plain = batch(append(Vec::new()), 2);
        assert_eq!((plain.len(), plain.is_one()), (2, true));
        let newer = batch(Append { format: FORMAT + 1, ..append(Vec::new()) }, 2);
        assert_eq!((newer.len(), newer.is_one()), (3, false), "its run is raised to the format");
        let id = ApprovalId::from_uuid(DEV_USER.uuid());
        let closed = Closed { id, status: Status::Granted, seq: 2, at: At::from_micros(1) };
        let closing = batch(append(vec![Change::Closed(closed)]), 2);
        assert_eq!((closing.len(), closing.is_one()), (3, false));
    }

    #[tokio::test]
    async fn only_the_append_that_ends_a_run_moves_it_in_an_index() {
        let db = Db::inline_sqlite().unwrap();
        for (guard, moves) in
            [(GUARD, false), (dialect::GUARD_HEEDING.sqlite, false), (GUARD_AND_FINISH, true)]
        {
            let explain: &'static str = format!("EXPLAIN {guard}").leak();
            let nothing: [Value; 13] = std::array::from_fn(|_| Value::Null);
            let work = db.read(Scope::of_lease(DEV_TENANT), move |tx| {
                Box::pin(async move { tx.all(explain, &nothing).await })
            });
            let rows = work.await.unwrap();
            let moved = rows.iter().any(|row| row.text("opcode").unwrap() == "IdxDelete");
            assert_eq!(moved, moves, "{guard}");
        }
    }
}
