//! The ledger of calls and runs: accounts, the slices that processes took of them, and the records of what was spent. Caps are in
//! `escrow/caps.rs`.
//!
//! Invariant: what an account holds is the sum of its slices, and `spent + held <= cap` at every instant: taking a slice is one
//! guarded update, and whatever takes money out of a slice takes it out of the account's `held` in the same transaction. Accounts
//! are locked before slices and in one order, so no two transactions wait for each other. How much is taken, and what a call
//! costs, is decided in [`lantern_policy::escrow`]; records are bytes here. What was used of what is added up in the commit of the records
//! ([`crate::usage`]); that a warning is due is found in the statement that gives it, so each is given once.

use std::sync::Arc;

use lantern_policy::Scope;
use lantern_policy::escrow::{Account, Asks, Said, asks as asks_of, raised};
use lantern_types::call::{AccountId, OnLimit, Owner, Period};
use lantern_types::{At, ChainHead, MicroUsd, Overflow, ProcessId, TenantId};

pub mod asks;
mod caps;
mod charge;

#[cfg(feature = "testing")]
pub(crate) use asks::STATEMENTS as ASKS_STATEMENTS;
#[cfg(feature = "testing")]
pub(crate) use caps::STATEMENTS as CAPS_STATEMENTS;
pub(crate) use caps::locked_caps;
pub use caps::{
    Cap, NewCap, Warning, accounts_of, cap_of, caps, locked_revision, revision, set_cap, set_cap_with,
    set_on_limit, set_zone, warnings,
};

use charge::{Charge, charges};

use crate::db::{Batch, Db, Expect, TenantTx};
use crate::error::{Error, Result};
use crate::usage::{self, pending};
use crate::value::{Row, Value};

/// How a record is written.
pub const FORMAT: i64 = 1;

/// What a process asks for.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// Which account.
    pub account: AccountId,
    /// Who asks.
    pub process: ProcessId,
    /// Under which number the process keeps it.
    pub n: i64,
    /// Whether it has a slice of that number already.
    pub more: bool,
    /// Whether it has other calls under way from it.
    pub several: bool,
    /// What a call costs at the most.
    pub worst: MicroUsd,
    /// What is needed now.
    pub need: MicroUsd,
    /// Until when the slice is the process's, unless it beats.
    pub expires_at: At,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// So much is the process's, and so the account stands since.
    Amount(MicroUsd, Account),
    /// There is not so much left, and whether people are asked for more.
    Short(Account, Asks),
    /// Nobody bounds this account any more.
    Uncapped,
    /// The slice that was to be added to is not there: somebody charged it as that of a dead process.
    Lost,
}

/// What calls have cost, by account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Which account.
    pub account: AccountId,
    /// How much.
    pub cost: MicroUsd,
    /// From which slice, and how much of it that takes.
    pub from: Option<(i64, MicroUsd)>,
}

/// Records of calls, and what they cost.
#[derive(Clone, Debug)]
pub struct NewCalls {
    /// Whose stream.
    pub process: ProcessId,
    /// The place of the first.
    pub first_seq: i64,
    /// How many.
    pub n: i64,
    /// When.
    pub at: At,
    /// One JSON object a line.
    pub bytes: Vec<u8>,
    /// The chain after them.
    pub chain: ChainHead,
    /// How many of them are not of runs.
    pub doors: i64,
    /// What is spent.
    pub spent: Vec<Spent>,
    /// What was used, by day.
    pub used: Vec<usage::Line>,
}

impl NewCalls {
    /// What [`WRITE`] writes, what is spent, and what was used.
    fn apart(self) -> (Vec<Value>, Vec<Spent>, Vec<usage::Line>) {
        let Self { process, first_seq, n, at, bytes, chain, doors, spent, used } = self;
        let row = vec![
            process.into(),
            first_seq.into(),
            n.into(),
            at.into(),
            FORMAT.into(),
            bytes.into(),
            chain.into(),
            doors.into(),
        ];
        (row, spent, used)
    }
}

/// A slice as its row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceRow {
    /// Its number.
    pub n: i64,
    /// Of which account.
    pub account: AccountId,
    /// What is unsettled of it.
    pub held: MicroUsd,
    /// Until when it was its process's.
    pub expires_at: At,
}

/// What a dead process left behind in a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Its slices.
    pub slices: Vec<SliceRow>,
    /// The place of the next record in its stream.
    pub next_seq: i64,
    /// The chain so far.
    pub chain: ChainHead,
}

/// Some records, as they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Whose stream.
    pub process: ProcessId,
    /// The place of the first.
    pub first_seq: i64,
    /// When.
    pub at: At,
    /// One JSON object a line.
    pub bytes: Vec<u8>,
    /// The chain after them.
    pub chain: ChainHead,
}

/// Streams that one look for dead processes finds.
const STALE_MAX: u32 = 100;
/// Times that a slice is asked for anew when others took what was left at the same time.
const TRIES: u32 = 8;

const OPEN: &str =
    "INSERT INTO accounts (tenant_id, owner, period, began_at, spent, held) VALUES ($1, $2, $3, $4, 0, 0)
    ON CONFLICT (tenant_id, owner, period, began_at) DO NOTHING";
const LOOK: &str =
    "SELECT a.spent, a.held, a.more, a.asks, a.refused, c.cap, c.on_limit FROM accounts a LEFT JOIN caps c
    ON c.tenant_id = a.tenant_id AND c.owner = a.owner AND c.period = a.period
    WHERE a.tenant_id = $1 AND a.owner = $2 AND a.period = $3 AND a.began_at = $4";
// Whoever sets the cap, or says that more may be spent, counts that in `asks`: what was read before holds no longer.
const HOLD: &str = "UPDATE accounts SET held = held + $5
    WHERE tenant_id = $1 AND owner = $2 AND period = $3 AND began_at = $4 AND $5 <= $6 - spent - held AND asks = $7";
const TAKE: &str = "INSERT INTO slices (tenant_id, process, n, owner, period, began_at, held, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const TAKE_MORE: &str = "UPDATE slices SET held = held + $4, expires_at = $5
    WHERE tenant_id = $1 AND process = $2 AND n = $3";
const WRITE: &str =
    "INSERT INTO calls (tenant_id, process, first_seq, n, at, format, bytes, body, chain, doors)
    VALUES ($1, $2, $3, $4, $5, $6, $7, NULL, $8, $9)";
const SPEND: &str =
    "INSERT INTO accounts (tenant_id, owner, period, began_at, spent, held) VALUES ($1, $2, $3, $4, $5, 0)
    ON CONFLICT (tenant_id, owner, period, began_at)
    DO UPDATE SET spent = accounts.spent + excluded.spent, held = accounts.held - $6";
const DRAW: &str = "UPDATE slices SET held = held - $4
    WHERE tenant_id = $1 AND process = $2 AND n = $3 AND held >= $4";
const CHAIN_AT: &str = "SELECT chain FROM calls WHERE tenant_id = $1 AND process = $2 AND first_seq = $3";
const LAST: &str = "SELECT first_seq, n, chain FROM calls WHERE tenant_id = $1 AND process = $2
    ORDER BY first_seq DESC LIMIT 1";
const SLICES: &str = "SELECT n, owner, period, began_at, held, expires_at FROM slices
    WHERE tenant_id = $1 AND process = $2 ORDER BY owner, period, began_at, n";
const FREE: &str = "UPDATE accounts SET held = held - $5
    WHERE tenant_id = $1 AND owner = $2 AND period = $3 AND began_at = $4";
const FORGET: &str = "DELETE FROM slices WHERE tenant_id = $1 AND process = $2 AND n = $3 AND held = $4";
const RECENT: &str = "SELECT process, first_seq, at, bytes, chain FROM calls
    WHERE tenant_id = $1 AND at <= $2 AND doors > 0 ORDER BY at DESC LIMIT $3 OFFSET $4";
#[cfg(feature = "testing")]
const RECORDS: &str = "SELECT process, first_seq, at, bytes, chain FROM calls
    WHERE tenant_id = $1 AND at <= $2 ORDER BY at DESC LIMIT $3";
const ACCOUNTS: &str = "SELECT owner, period, began_at, spent, held FROM accounts
    WHERE tenant_id = $1 AND began_at >= $2 ORDER BY owner, period, began_at";

const BEAT: &str = "UPDATE slices SET expires_at = $2 WHERE process = $1 AND expires_at > $3";
const STALE: &str = "SELECT DISTINCT tenant_id, process FROM slices WHERE expires_at <= $1 LIMIT $2";
const OTHERS: &str = "SELECT DISTINCT tenant_id, process FROM slices WHERE process <> $1 LIMIT $2";

/// Every statement of this file that runs for one tenant.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[
    OPEN, LOOK, HOLD, TAKE, TAKE_MORE, WRITE, SPEND, DRAW, CHAIN_AT, LAST, SLICES, FREE, FORGET, RECENT,
    RECORDS, ACCOUNTS,
];
/// Every statement of this file that runs across tenants.
#[cfg(feature = "testing")]
pub(crate) const SYSTEM_STATEMENTS: &[&str] = &[BEAT, STALE, OTHERS];

/// The accounts whose period began no earlier than this: what is spent, and what is held.
pub async fn accounts(db: &Db, scope: Scope, since: At) -> Result<Vec<(AccountId, MicroUsd, MicroUsd)>> {
    pending::add_up_for_a_reader(db, scope).await?;
    let read = |row: &Row| {
        let (spent, held) = (row.int("spent")?, row.int("held")?);
        Ok((account(row)?, MicroUsd::from_micros(spent), MicroUsd::from_micros(held)))
    };
    db.read(scope, move |tx| {
        Box::pin(async move { tx.all(ACCOUNTS, &[since.into()]).await?.iter().map(read).collect() })
    })
    .await
}

/// Takes a slice of an account, or more of one: as much as the policy lets a process take. Durable when it answers. Whoever takes has added
/// up first ([`pending::add_up`]).
pub async fn take(db: &Db, scope: Scope, ask: Ask) -> Result<Taken> {
    for _ in 0..TRIES {
        if let Some(taken) = db.write(scope, move |tx| Box::pin(take_in(tx, ask))).await? {
            return Ok(taken);
        }
    }
    Err(Error::unavailable("others take from the same account at once"))
}

/// `None` when others took what was left in between.
async fn take_in(tx: &mut TenantTx<'_>, ask: Ask) -> Result<Option<Taken>> {
    let key = key(ask.account);
    tx.exec(OPEN, &key).await?;
    let row = tx.one(LOOK, &key).await?.ok_or(Error::Conflict)?;
    let Some(set) = row.opt_int("cap")?.map(MicroUsd::from_micros) else { return Ok(Some(Taken::Uncapped)) };
    let on_limit = OnLimit::of_stored(row.opt_text("on_limit")?.as_deref());
    let said = Said {
        more: row.money("more")?,
        asked: u32::try_from(row.int("asks")?).unwrap_or(u32::MAX),
        refused: row.int("refused")? != 0,
    };
    let cap = raised(set, on_limit, said);
    let account = Account { cap, spent: row.money("spent")?, held: row.money("held")? };
    let Some(amount) = account.within(set, ask.need).slice(ask.worst, ask.need, ask.several) else {
        return Ok(Some(Taken::Short(account, asks_of(on_limit, said))));
    };
    let [owner, period, began_at] = key.clone();
    let asks = row.int("asks")?;
    if tx.exec(HOLD, &[owner, period, began_at, amount.into(), cap.into(), asks.into()]).await? == 0 {
        return Ok(None);
    }
    let stands = Account { held: account.held.plus(amount).unwrap_or(account.held), ..account };
    let (process, n) = (Value::from(ask.process), Value::from(ask.n));
    if !ask.more {
        let [owner, period, began_at] = key;
        let row = [process, n, owner, period, began_at, amount.into(), ask.expires_at.into()];
        tx.exec(TAKE, &row).await?;
        return Ok(Some(Taken::Amount(amount, stands)));
    }
    if tx.exec(TAKE_MORE, &[process, n, amount.into(), ask.expires_at.into()]).await? == 1 {
        return Ok(Some(Taken::Amount(amount, stands)));
    }
    let [owner, period, began_at] = self::key(ask.account);
    tx.exec(FREE, &[owner, period, began_at, amount.into()]).await?;
    Ok(Some(Taken::Lost))
}

/// Records of calls as the statements they come to, which can be submitted again as often as it takes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Prepared {
    batch: Arc<Batch>,
    process: ProcessId,
    first_seq: i64,
    chain: ChainHead,
    /// Where in the batch warnings are given, of which accounts.
    warns: Vec<(usize, AccountId)>,
}

impl Prepared {
    /// Of which accounts a commit that changed so many rows by each statement gave warnings.
    fn warned(&self, counts: &[u64]) -> Vec<AccountId> {
        let given = |(at, _): &&(usize, AccountId)| counts.get(*at).is_some_and(|rows| *rows > 0);
        self.warns.iter().filter(given).map(|(_, account)| *account).collect()
    }
}

impl From<NewCalls> for Prepared {
    fn from(new: NewCalls) -> Self {
        let NewCalls { process, first_seq, chain, at, .. } = new;
        let (row, mut spent, used) = new.apart();
        let mut batch = Batch::new();
        batch.add(WRITE, row, Expect::Rows(1));
        spent.sort_by_key(|spent| key_order(spent.account));
        for Spent { account, cost, from } in &spent {
            let [owner, period, began_at] = key(*account);
            let drawn = from.map_or(MicroUsd::ZERO, |(_, drawn)| drawn);
            batch.add(SPEND, vec![owner, period, began_at, (*cost).into(), drawn.into()], Expect::Rows(1));
        }
        for (n, drawn) in spent.iter().filter_map(|spent| spent.from) {
            batch.add(DRAW, vec![process.into(), n.into(), drawn.into()], Expect::Rows(1));
        }
        usage::add(&mut batch, used);
        let mut warns = Vec::new();
        for Spent { account, .. } in spent.iter().filter(|spent| spent.from.is_some()) {
            warns.push((batch.len(), *account));
            caps::warn(&mut batch, *account, at);
        }
        Self { batch: Arc::new(batch), process, first_seq, chain, warns }
    }
}

/// Writes records of calls and settles what they cost, in one commit. `false`, and nothing written, when a slice that they
/// draw on is not the process's any more. What was written by an earlier attempt whose answer was lost counts as written. A warning
/// that came of it is logged.
pub async fn write(db: &Db, scope: Scope, calls: &Prepared) -> Result<bool> {
    match db.submit(scope, Arc::clone(&calls.batch)).await {
        Ok(counts) => {
            for AccountId { owner, period, .. } in calls.warned(&counts) {
                let (tenant, period) = (scope.tenant(), period.as_str());
                tracing::warn!(%tenant, %owner, period, "much of a cap is spent: a warning was due");
            }
            return Ok(true);
        }
        Err(Error::Conflict) => {}
        Err(error) => return Err(error),
    }
    let (params, chain) = ([calls.process.into(), calls.first_seq.into()], calls.chain);
    let found = db.read(scope, move |tx| Box::pin(async move { tx.one(CHAIN_AT, &params).await })).await?;
    Ok(found.map(|row| row.chain("chain")).transpose()? == Some(chain))
}

/// The same within a transaction, of what nobody had taken a slice for; warnings may be due of these accounts.
pub(crate) async fn write_in(tx: &mut TenantTx<'_>, calls: NewCalls, capped: &[AccountId]) -> Result<()> {
    let at = calls.at;
    tx.apply(&Prepared::from(calls).batch).await?;
    for account in capped {
        caps::warn_in(tx, *account, at).await?;
    }
    Ok(())
}

/// Prolongs the slices of a process that have not run out.
pub async fn beat(db: &Db, process: ProcessId, now: At, expires_at: At) -> Result<u64> {
    let params = [process.into(), expires_at.into(), now.into()];
    db.system_write(move |tx| Box::pin(async move { tx.exec(BEAT, &params).await })).await
}

/// Which processes left slices behind, in which tenants: those that ran out; with `sole`, all but this process's own, because
/// nobody else can be alive.
pub async fn stale(db: &Db, process: ProcessId, now: At, sole: bool) -> Result<Vec<(Scope, ProcessId)>> {
    let limit = Value::from(STALE_MAX);
    let rows = db
        .system_read(move |tx| {
            Box::pin(async move {
                if sole {
                    return tx.all(OTHERS, &[process.into(), limit]).await;
                }
                tx.all(STALE, &[now.into(), limit]).await
            })
        })
        .await?;
    let read = |row: &Row| {
        let tenant: TenantId = row.id("tenant_id")?;
        Ok((Scope::of_lease(tenant), row.id("process")?))
    };
    rows.iter().map(read).collect()
}

/// What a process has left behind in a tenant.
pub async fn left(db: &Db, scope: Scope, process: ProcessId) -> Result<Left> {
    db.read(scope, move |tx| {
        Box::pin(async move {
            let slices = tx.all(SLICES, &[process.into()]).await?;
            let slices = slices.iter().map(slice).collect::<Result<_>>()?;
            let (next_seq, chain) = end_of(tx, process).await?;
            Ok(Left { slices, next_seq, chain })
        })
    })
    .await
}

/// Where a process's stream goes on: the next place, and the chain up to there.
pub(crate) async fn end_of(tx: &mut TenantTx<'_>, process: ProcessId) -> Result<(i64, ChainHead)> {
    let Some(last) = tx.one(LAST, &[process.into()]).await? else { return Ok((1, ChainHead::genesis())) };
    Ok((last.int("first_seq")?.saturating_add(last.int("n")?), last.chain("chain")?))
}

/// Charges what a dead process had not settled, with the record that says so: in the accounts that its slices were taken of, and
/// wherever else that counts. `Conflict`, and nothing written, when it is not as it was seen: somebody else did it, or the process
/// lives.
pub async fn charge(db: &Db, scope: Scope, dead: Vec<SliceRow>, record: NewCalls) -> Result<()> {
    let mut batch = Batch::new();
    let (process, at) = (record.process, record.at);
    let expired = dead.iter().map(|slice| slice.expires_at).max().unwrap_or(at);
    let charges = charges(&dead, expired.min(at))
        .map_err(|Overflow| Error::Corrupt("what a dead process holds is out of range".into()))?;
    batch.add(WRITE, record.apart().0, Expect::Rows(1));
    for (account, Charge { spent, freed }) in &charges {
        let [owner, period, began_at] = key(*account);
        batch.add(SPEND, vec![owner, period, began_at, (*spent).into(), (*freed).into()], Expect::Rows(1));
    }
    forget(&mut batch, process, &dead);
    for (account, _) in charges {
        caps::warn(&mut batch, account, at);
    }
    db.submit(scope, batch).await.map(drop)
}

/// Gives slices back that no call holds anything of.
pub async fn release(db: &Db, scope: Scope, process: ProcessId, numbers: &[i64]) -> Result<()> {
    let mut slices = left(db, scope, process).await?.slices;
    slices.retain(|slice| numbers.contains(&slice.n));
    if slices.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::new();
    for slice in &slices {
        let [owner, period, began_at] = key(slice.account);
        batch.add(FREE, vec![owner, period, began_at, slice.held.into()], Expect::Rows(1));
    }
    forget(&mut batch, process, &slices);
    db.submit(scope, batch).await.map(drop)
}

/// Ends slices, if they hold what they were seen to hold.
fn forget(batch: &mut Batch, process: ProcessId, slices: &[SliceRow]) {
    for slice in slices {
        batch.add(FORGET, vec![process.into(), slice.n.into(), slice.held.into()], Expect::Rows(1));
    }
}

/// So many commits of records up to a time, the newest first but for those that are `skipped`. What holds records of runs and nothing else is
/// left out; of an earlier build's nobody knows.
pub async fn recent(db: &Db, scope: Scope, until: At, limit: u32, skipped: u32) -> Result<Vec<Written>> {
    let params = [until.into(), limit.into(), skipped.into()];
    let rows = db.read(scope, move |tx| Box::pin(async move { tx.all(RECENT, &params).await })).await?;
    rows.iter().map(written).collect()
}

/// The same of all records, those of runs too.
#[cfg(feature = "testing")]
pub async fn records(db: &Db, scope: Scope, until: At, limit: u32) -> Result<Vec<Written>> {
    let params = [until.into(), limit.into()];
    let rows = db.read(scope, move |tx| Box::pin(async move { tx.all(RECORDS, &params).await })).await?;
    rows.iter().map(written).collect()
}

fn written(row: &Row) -> Result<Written> {
    Ok(Written {
        process: row.id("process")?,
        first_seq: row.int("first_seq")?,
        at: row.at("at")?,
        bytes: row.bytes("bytes")?,
        chain: row.chain("chain")?,
    })
}

/// In which order accounts are locked.
fn key_order(account: AccountId) -> (String, &'static str, At) {
    (account.owner.to_string(), account.period.as_str(), account.began_at)
}

fn key(account: AccountId) -> [Value; 3] {
    [account.owner.to_string().into(), account.period.as_str().into(), account.began_at.into()]
}

fn slice(row: &Row) -> Result<SliceRow> {
    let (held, expires_at) = (row.money("held")?, row.at("expires_at")?);
    Ok(SliceRow { n: row.int("n")?, account: account(row)?, held, expires_at })
}

fn account(row: &Row) -> Result<AccountId> {
    Ok(AccountId { owner: owner(row)?, period: period(row)?, began_at: row.at("began_at")? })
}

fn owner(row: &Row) -> Result<Owner> {
    row.text("owner")?.parse().map_err(|_| Error::Corrupt("an account has no known owner".into()))
}

fn period(row: &Row) -> Result<Period> {
    row.text("period")?.parse().map_err(|_| Error::Corrupt("an account has no known period".into()))
}
