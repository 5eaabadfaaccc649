//! The ledger of proxied calls: caps, accounts, the slices that processes took of them, and the records of calls.
//!
//! Invariant: what an account holds is the sum of its slices, and `spent + held <= cap` at every instant: taking a slice is one
//! guarded update, and whatever takes money out of a slice takes it out of the account's `held` in the same transaction. Accounts
//! are locked before slices and in one order, so no two transactions wait for each other. How much is taken, and what a call
//! costs, is decided in [`lantern_policy::escrow`]; records are bytes here. What was used of what is added up in the commit of the records
//! ([`crate::usage`]); that a warning is due is found in the statement that gives it, so each is given once.

use std::sync::Arc;

use lantern_policy::Scope;
use lantern_policy::escrow::{Account, notify_at};
use lantern_types::call::{AccountId, Owner, Period};
use lantern_types::{At, ChainHead, Dur, MicroUsd, ProcessId, TenantId, Zone};

use crate::db::{Batch, Db, Expect, TenantTx};
use crate::error::{Error, Result};
use crate::usage;
use crate::value::{Row, Value};

/// How a record is written.
pub const FORMAT: i64 = 1;

/// A cap that is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap {
    /// Whose spending it bounds.
    pub owner: Owner,
    /// In which kind of period.
    pub period: Period,
    /// How much.
    pub cap: MicroUsd,
    /// From which part of it on a warning is due, in percent.
    pub notify_at_pct: Option<u8>,
    /// When it was set.
    pub updated_at: At,
    /// Whose days and months those are.
    pub zone: Zone,
}

/// That so much of a cap was spent that a warning was due: one of each account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Of which account.
    pub account: AccountId,
    /// Its cap then.
    pub cap: MicroUsd,
    /// What was spent then.
    pub spent: MicroUsd,
    /// When.
    pub at: At,
}

impl Cap {
    /// The account that it bounds at this time.
    pub fn account(&self, now: At) -> AccountId {
        AccountId::within(self.zone, self.owner, self.period, now)
    }
}

/// The accounts in which the spending of these owners counts at this time, and those of them that these caps bound. It counts in
/// those of UTC whatever bounds it, so that sums over days are of the same days.
pub fn accounts_of(owners: &[Owner], caps: &[Cap], now: At) -> (Vec<AccountId>, Vec<AccountId>) {
    let of_utc = |owner: &Owner| {
        let owner = *owner;
        Period::ALL.map(move |period| AccountId::at(owner, period, now))
    };
    let mut accounts: Vec<AccountId> = owners.iter().flat_map(of_utc).collect();
    let own = caps.iter().filter(|cap| owners.contains(&cap.owner));
    let capped: Vec<AccountId> = own.map(|cap| cap.account(now)).collect();
    for account in &capped {
        if !accounts.contains(account) {
            accounts.push(*account);
        }
    }
    (accounts, capped)
}

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
    /// So much is the process's.
    Amount(MicroUsd),
    /// There is not so much left.
    Short(Account),
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

const CAPS: &str = "SELECT owner, period, cap, notify_at_pct, updated_at, zone FROM caps WHERE tenant_id = $1 ORDER BY owner, period";
const CAP: &str = "SELECT owner, period, cap, notify_at_pct, updated_at, zone FROM caps WHERE tenant_id = $1 AND owner = $2 AND period = $3";
// A new cap of an owner is of the zone that the owner's others are of.
const SET_CAP: &str =
    "INSERT INTO caps (tenant_id, owner, period, cap, updated_at, notify_at_pct, notify_at, zone)
    VALUES ($1, $2, $3, $4, $5, $6, $7, (SELECT MAX(zone) FROM caps WHERE tenant_id = $1 AND owner = $2))
    ON CONFLICT (tenant_id, owner, period) DO UPDATE SET cap = excluded.cap, updated_at = excluded.updated_at,
    notify_at_pct = excluded.notify_at_pct, notify_at = excluded.notify_at";
const LIFT_CAP: &str = "DELETE FROM caps WHERE tenant_id = $1 AND owner = $2 AND period = $3";
const SET_ZONE: &str = "UPDATE caps SET zone = $3, updated_at = $4
    WHERE tenant_id = $1 AND owner = $2 AND COALESCE(zone, 'UTC') <> COALESCE($3, 'UTC')";
// What is known to have been spent since a little before an instant: by days of UTC, which are counted whatever bounds them.
const SPENT_SINCE: &str =
    "SELECT CAST(COALESCE(SUM(spent + held), 0) AS BIGINT) AS spent FROM accounts WHERE tenant_id = $1 AND owner = $2
    AND period = 'day' AND began_at > $3 AND began_at % 86400000000 = 0";
const BEGIN_WITH: &str =
    "INSERT INTO accounts (tenant_id, owner, period, began_at, spent, held) VALUES ($1, $2, $3, $4, $5, 0)
    ON CONFLICT (tenant_id, owner, period, began_at) DO UPDATE SET spent = CASE
        WHEN accounts.spent + accounts.held < excluded.spent THEN excluded.spent - accounts.held
        ELSE accounts.spent END";
const LOCK: &str = "INSERT INTO tenant_settings (tenant_id, updated_at, caps_revision) VALUES ($1, $2, 0)
    ON CONFLICT (tenant_id) DO UPDATE SET caps_revision = tenant_settings.caps_revision";
const REVISION: &str = "SELECT caps_revision FROM tenant_settings WHERE tenant_id = $1";
const REVISED: &str = "INSERT INTO tenant_settings (tenant_id, updated_at, caps_revision) VALUES ($1, $2, 1)
    ON CONFLICT (tenant_id) DO UPDATE SET caps_revision = tenant_settings.caps_revision + 1";
const OPEN: &str =
    "INSERT INTO accounts (tenant_id, owner, period, began_at, spent, held) VALUES ($1, $2, $3, $4, 0, 0)
    ON CONFLICT (tenant_id, owner, period, began_at) DO NOTHING";
const LOOK: &str = "SELECT a.spent, a.held, c.cap FROM accounts a LEFT JOIN caps c
    ON c.tenant_id = a.tenant_id AND c.owner = a.owner AND c.period = a.period
    WHERE a.tenant_id = $1 AND a.owner = $2 AND a.period = $3 AND a.began_at = $4";
const HOLD: &str = "UPDATE accounts SET held = held + $5
    WHERE tenant_id = $1 AND owner = $2 AND period = $3 AND began_at = $4 AND $5 <= $6 - spent - held";
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
const SLICES: &str = "SELECT n, owner, period, began_at, held FROM slices
    WHERE tenant_id = $1 AND process = $2 ORDER BY owner, period, began_at, n";
const FREE: &str = "UPDATE accounts SET held = held - $5, spent = spent + $6
    WHERE tenant_id = $1 AND owner = $2 AND period = $3 AND began_at = $4";
const FORGET: &str = "DELETE FROM slices WHERE tenant_id = $1 AND process = $2 AND n = $3 AND held = $4";
const RECENT: &str = "SELECT process, first_seq, at, bytes, chain FROM calls
    WHERE tenant_id = $1 AND at <= $2 AND doors > 0 ORDER BY at DESC LIMIT $3 OFFSET $4";
#[cfg(feature = "testing")]
const RECORDS: &str = "SELECT process, first_seq, at, bytes, chain FROM calls
    WHERE tenant_id = $1 AND at <= $2 ORDER BY at DESC LIMIT $3";
const WARN: &str = "INSERT INTO warnings (tenant_id, owner, period, began_at, cap, spent, at)
    SELECT a.tenant_id, a.owner, a.period, a.began_at, c.cap, a.spent, CAST($5 AS BIGINT) FROM accounts a JOIN caps c
    ON c.tenant_id = a.tenant_id AND c.owner = a.owner AND c.period = a.period
    WHERE a.tenant_id = $1 AND a.owner = $2 AND a.period = $3 AND a.began_at = $4 AND a.spent >= c.notify_at
    ON CONFLICT (tenant_id, owner, period, began_at) DO NOTHING";
const WITHDRAW: &str =
    "DELETE FROM warnings WHERE tenant_id = $1 AND owner = $2 AND period = $3 AND began_at = $4";
const WARNINGS: &str = "SELECT owner, period, began_at, cap, spent, at FROM warnings
    WHERE tenant_id = $1 AND began_at >= $2 ORDER BY owner, period, began_at";
const ACCOUNTS: &str = "SELECT owner, period, began_at, spent, held FROM accounts
    WHERE tenant_id = $1 AND began_at >= $2 ORDER BY owner, period, began_at";

const BEAT: &str = "UPDATE slices SET expires_at = $2 WHERE process = $1 AND expires_at > $3";
const STALE: &str = "SELECT DISTINCT tenant_id, process FROM slices WHERE expires_at <= $1 LIMIT $2";
const OTHERS: &str = "SELECT DISTINCT tenant_id, process FROM slices WHERE process <> $1 LIMIT $2";

/// Every statement of this file that runs for one tenant.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[
    CAPS,
    CAP,
    SET_CAP,
    LIFT_CAP,
    OPEN,
    LOOK,
    HOLD,
    TAKE,
    TAKE_MORE,
    WRITE,
    SPEND,
    DRAW,
    CHAIN_AT,
    LAST,
    SLICES,
    FREE,
    FORGET,
    RECENT,
    RECORDS,
    ACCOUNTS,
    WARN,
    WITHDRAW,
    WARNINGS,
    SET_ZONE,
    SPENT_SINCE,
    BEGIN_WITH,
    LOCK,
    REVISION,
    REVISED,
];
/// Every statement of this file that runs across tenants.
#[cfg(feature = "testing")]
pub(crate) const SYSTEM_STATEMENTS: &[&str] = &[BEAT, STALE, OTHERS];

/// The caps of a tenant and of its keys.
pub async fn caps(db: &Db, scope: Scope) -> Result<Vec<Cap>> {
    db.read(scope, |tx| Box::pin(caps_in(tx))).await
}

async fn caps_in(tx: &mut TenantTx<'_>) -> Result<Vec<Cap>> {
    tx.all(CAPS, &[]).await?.iter().map(cap).collect()
}

/// One cap.
pub async fn cap_of(tx: &mut TenantTx<'_>, (owner, period): (Owner, Period)) -> Result<Option<Cap>> {
    tx.one(CAP, &[owner.to_string().into(), period.as_str().into()]).await?.as_ref().map(cap).transpose()
}

fn cap(row: &Row) -> Result<Cap> {
    let pct = row.opt_int("notify_at_pct")?;
    // What this build does not know it takes for UTC, as every build before did with all of them.
    let zone = row.opt_text("zone")?.map_or(Zone::UTC, |name| Zone::parse(&name).unwrap_or(Zone::UTC));
    Ok(Cap {
        zone,
        owner: owner(row)?,
        period: period(row)?,
        cap: MicroUsd::from_micros(row.int("cap")?),
        notify_at_pct: pct.and_then(|pct| u8::try_from(pct).ok()),
        updated_at: row.at("updated_at")?,
    })
}

/// Sets a cap, or lifts it; [`Hub::caps_changed`](crate::notify::Hub::caps_changed) says so once it is durable. A cap below what is spent and held already refuses what comes; it takes back nothing. When a warning is due stays as it was said before.
pub async fn set_cap(
    tx: &mut TenantTx<'_>,
    which: (Owner, Period),
    cap: Option<MicroUsd>,
    now: At,
) -> Result<()> {
    let before = cap_of(tx, which).await?;
    set_cap_with(tx, which, cap.map(|cap| (cap, before.and_then(|before| before.notify_at_pct))), now).await
}

/// The same, and from which part of it on a warning is due. What was warned of in this period is forgotten, and warned of anew when it is due.
pub async fn set_cap_with(
    tx: &mut TenantTx<'_>,
    which: (Owner, Period),
    cap: Option<(MicroUsd, Option<u8>)>,
    now: At,
) -> Result<()> {
    let before = cap_of(tx, which).await?;
    let account = before.map_or_else(|| AccountId::at(which.0, which.1, now), |cap| cap.account(now));
    let [owner, period, began_at] = key(account);
    tx.exec(WITHDRAW, &[owner.clone(), period.clone(), began_at]).await?;
    let Some((amount, pct)) = cap else {
        tx.exec(LIFT_CAP, &[owner, period]).await?;
        return revised(tx, now).await;
    };
    let notify_at = pct.map(|pct| notify_at(amount, pct));
    let row = [owner, period, amount.into(), now.into(), pct.map(i64::from).into(), notify_at.into()];
    tx.exec(SET_CAP, &row).await?;
    let set = cap_of(tx, which).await?.ok_or(Error::Conflict)?;
    if before.is_none() {
        begin(tx, &set, now).await?;
    }
    let [owner, period, began_at] = key(set.account(now));
    tx.exec(WARN, &[owner, period, began_at, now.into()]).await?;
    revised(tx, now).await
}

/// The warnings of periods that began no earlier than this.
pub async fn warnings(db: &Db, scope: Scope, since: At) -> Result<Vec<Warning>> {
    let read = |row: &Row| {
        let (cap, spent) = (row.money("cap")?, row.money("spent")?);
        Ok(Warning { account: account(row)?, cap, spent, at: row.at("at")? })
    };
    db.read(scope, move |tx| {
        Box::pin(async move { tx.all(WARNINGS, &[since.into()]).await?.iter().map(read).collect() })
    })
    .await
}

/// Says of which zone the days and months of an owner's caps are. What was spent in the day or month of the zone that is going on
/// counts from then on, as far as days of UTC tell: never less than it was.
pub async fn set_zone(tx: &mut TenantTx<'_>, owner: Owner, zone: Zone, now: At) -> Result<()> {
    let name = (zone != Zone::UTC).then(|| zone.name().to_owned());
    if tx.exec(SET_ZONE, &[owner.to_string().into(), name.into(), now.into()]).await? == 0 {
        return Ok(());
    }
    for cap in caps_in(tx).await?.iter().filter(|cap| cap.owner == owner) {
        begin(tx, cap, now).await?;
    }
    revised(tx, now).await
}

/// Counts in the account of a cap what was spent before anything counted there.
async fn begin(tx: &mut TenantTx<'_>, cap: &Cap, now: At) -> Result<()> {
    const DAY: Dur = Dur::from_secs(86_400);
    let account = cap.account(now);
    if account == AccountId::at(cap.owner, cap.period, now) {
        return Ok(());
    }
    let overlaps = account.began_at - DAY;
    let row = tx.one(SPENT_SINCE, &[cap.owner.to_string().into(), overlaps.into()]).await?;
    let spent = row.map_or(Ok(0), |row| row.int("spent"))?;
    let [owner, period, began_at] = key(account);
    tx.exec(BEGIN_WITH, &[owner, period, began_at, spent.into()]).await.map(drop)
}

/// How often the tenant's caps were changed.
pub async fn revision(db: &Db, scope: Scope) -> Result<i64> {
    db.read(scope, |tx| Box::pin(revision_in(tx))).await
}

async fn revision_in(tx: &mut TenantTx<'_>) -> Result<i64> {
    tx.one(REVISION, &[]).await?.map_or(Ok(0), |row| row.int("caps_revision"))
}

/// The same, for a transaction that changes them: whoever comes second waits, and is told what the first made of it.
pub async fn locked_revision(tx: &mut TenantTx<'_>, now: At) -> Result<i64> {
    tx.exec(LOCK, &[now.into()]).await?;
    revision_in(tx).await
}

async fn revised(tx: &mut TenantTx<'_>, now: At) -> Result<()> {
    tx.exec(REVISED, &[now.into()]).await.map(drop)
}

/// The accounts whose period began no earlier than this: what is spent, and what is held.
pub async fn accounts(db: &Db, scope: Scope, since: At) -> Result<Vec<(AccountId, MicroUsd, MicroUsd)>> {
    let read = |row: &Row| {
        let (spent, held) = (row.int("spent")?, row.int("held")?);
        Ok((account(row)?, MicroUsd::from_micros(spent), MicroUsd::from_micros(held)))
    };
    db.read(scope, move |tx| {
        Box::pin(async move { tx.all(ACCOUNTS, &[since.into()]).await?.iter().map(read).collect() })
    })
    .await
}

/// Takes a slice of an account, or more of one: as much as the policy lets a process take. Durable when it answers.
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
    let Some(cap) = row.opt_int("cap")?.map(MicroUsd::from_micros) else { return Ok(Some(Taken::Uncapped)) };
    let account = Account {
        cap,
        spent: MicroUsd::from_micros(row.int("spent")?),
        held: MicroUsd::from_micros(row.int("held")?),
    };
    let Some(amount) = account.slice(ask.worst, ask.need, ask.several) else {
        return Ok(Some(Taken::Short(account)));
    };
    let [owner, period, began_at] = key.clone();
    if tx.exec(HOLD, &[owner, period, began_at, amount.into(), cap.into()]).await? == 0 {
        return Ok(None);
    }
    let (process, n) = (Value::from(ask.process), Value::from(ask.n));
    if !ask.more {
        let [owner, period, began_at] = key;
        let row = [process, n, owner, period, began_at, amount.into(), ask.expires_at.into()];
        tx.exec(TAKE, &row).await?;
        return Ok(Some(Taken::Amount(amount)));
    }
    if tx.exec(TAKE_MORE, &[process, n, amount.into(), ask.expires_at.into()]).await? == 1 {
        return Ok(Some(Taken::Amount(amount)));
    }
    let [owner, period, began_at] = self::key(ask.account);
    tx.exec(FREE, &[owner, period, began_at, amount.into(), 0_i64.into()]).await?;
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
            warn(&mut batch, *account, at);
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
            let last = tx.one(LAST, &[process.into()]).await?;
            let Some(last) = last else {
                return Ok(Left { slices, next_seq: 1, chain: ChainHead::genesis() });
            };
            let next_seq = last.int("first_seq")?.saturating_add(last.int("n")?);
            Ok(Left { slices, next_seq, chain: last.chain("chain")? })
        })
    })
    .await
}

/// Charges what a dead process had not settled, with the record that says so. `Conflict`, and nothing written, when it is not as
/// it was seen: somebody else did it, or the process lives.
pub async fn charge(db: &Db, scope: Scope, dead: Vec<SliceRow>, record: NewCalls) -> Result<()> {
    let mut batch = Batch::new();
    let (process, at) = (record.process, record.at);
    batch.add(WRITE, record.apart().0, Expect::Rows(1));
    end(&mut batch, process, &dead, |slice| slice.held);
    for slice in &dead {
        warn(&mut batch, slice.account, at);
    }
    db.submit(scope, batch).await.map(drop)
}

/// Gives the warning that is due of an account, once.
fn warn(batch: &mut Batch, account: AccountId, at: At) {
    let [owner, period, began_at] = key(account);
    batch.add(WARN, vec![owner, period, began_at, at.into()], Expect::Any);
}

/// Gives slices back that no call holds anything of.
pub async fn release(db: &Db, scope: Scope, process: ProcessId, numbers: &[i64]) -> Result<()> {
    let mut slices = left(db, scope, process).await?.slices;
    slices.retain(|slice| numbers.contains(&slice.n));
    if slices.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::new();
    end(&mut batch, process, &slices, |_| MicroUsd::ZERO);
    db.submit(scope, batch).await.map(drop)
}

/// Ends slices, which come in the order of their accounts: what they hold is held no more, and so much of it is spent.
fn end(batch: &mut Batch, process: ProcessId, slices: &[SliceRow], spent: fn(&SliceRow) -> MicroUsd) {
    for slice in slices {
        let [owner, period, began_at] = key(slice.account);
        let row = vec![owner, period, began_at, slice.held.into(), spent(slice).into()];
        batch.add(FREE, row, Expect::Rows(1));
    }
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
    Ok(SliceRow { n: row.int("n")?, account: account(row)?, held: MicroUsd::from_micros(row.int("held")?) })
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
