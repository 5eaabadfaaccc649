//! Caps: what may be spent, by whom and in which periods, and the warnings that are due on the way.
//!
//! Invariant: spending counts in the accounts of UTC whatever bounds it, and in those of a cap's own zone where it has one; a cap that
//! is moved to another zone begins with what was spent, so that moving makes nothing free.

use lantern_policy::Scope;
use lantern_policy::escrow::notify_at;
use lantern_types::call::{AccountId, OnLimit, Owner, Period};
use lantern_types::{At, Dur, MicroUsd, Zone};

use super::{account, asks, key, owner, period};
use crate::db::{Batch, Db, Expect, TenantTx};
use crate::error::{Error, Result};
use crate::usage::pending;
use crate::value::Row;

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
    /// What it does when it is reached.
    pub on_limit: OnLimit,
}

/// A cap as it is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewCap {
    /// How much.
    pub cap: MicroUsd,
    /// From which part of it on a warning is due, in percent.
    pub notify_at_pct: Option<u8>,
    /// What it does when it is reached.
    pub on_limit: OnLimit,
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
    let mut own: Vec<&Cap> = own.collect();
    // What refuses is looked at before what asks: nobody is asked in vain.
    own.sort_by_key(|cap| cap.on_limit == OnLimit::Ask);
    let capped: Vec<AccountId> = own.into_iter().map(|cap| cap.account(now)).collect();
    for account in &capped {
        if !accounts.contains(account) {
            accounts.push(*account);
        }
    }
    (accounts, capped)
}

const CAPS: &str = "SELECT owner, period, cap, notify_at_pct, updated_at, zone, on_limit FROM caps WHERE tenant_id = $1 ORDER BY owner, period";
const CAP: &str = "SELECT owner, period, cap, notify_at_pct, updated_at, zone, on_limit FROM caps WHERE tenant_id = $1 AND owner = $2 AND period = $3";
// A new cap of an owner is of the zone that the owner's others are of.
const SET_CAP: &str =
    "INSERT INTO caps (tenant_id, owner, period, cap, updated_at, notify_at_pct, notify_at, on_limit, zone)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, (SELECT MAX(zone) FROM caps WHERE tenant_id = $1 AND owner = $2))
    ON CONFLICT (tenant_id, owner, period) DO UPDATE SET cap = excluded.cap, updated_at = excluded.updated_at,
    notify_at_pct = excluded.notify_at_pct, notify_at = excluded.notify_at, on_limit = excluded.on_limit";
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
const WARN: &str = "INSERT INTO warnings (tenant_id, owner, period, began_at, cap, spent, at)
    SELECT a.tenant_id, a.owner, a.period, a.began_at, c.cap, a.spent, CAST($5 AS BIGINT) FROM accounts a JOIN caps c
    ON c.tenant_id = a.tenant_id AND c.owner = a.owner AND c.period = a.period
    WHERE a.tenant_id = $1 AND a.owner = $2 AND a.period = $3 AND a.began_at = $4 AND a.spent >= c.notify_at
    ON CONFLICT (tenant_id, owner, period, began_at) DO NOTHING";
const WITHDRAW: &str =
    "DELETE FROM warnings WHERE tenant_id = $1 AND owner = $2 AND period = $3 AND began_at = $4";
const WARNINGS: &str = "SELECT owner, period, began_at, cap, spent, at FROM warnings
    WHERE tenant_id = $1 AND began_at >= $2 ORDER BY owner, period, began_at";

/// Every statement of this file.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[
    CAPS,
    CAP,
    SET_CAP,
    LIFT_CAP,
    SET_ZONE,
    SPENT_SINCE,
    BEGIN_WITH,
    LOCK,
    REVISION,
    REVISED,
    WARN,
    WITHDRAW,
    WARNINGS,
];

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
        on_limit: OnLimit::of_stored(row.opt_text("on_limit")?.as_deref()),
        zone,
        owner: owner(row)?,
        period: period(row)?,
        cap: MicroUsd::from_micros(row.int("cap")?),
        notify_at_pct: pct.and_then(|pct| u8::try_from(pct).ok()),
        updated_at: row.at("updated_at")?,
    })
}

/// Sets a cap, or lifts it; [`Hub::caps_changed`](crate::notify::Hub::caps_changed) says so once it is durable. A cap below what is spent and held already refuses what comes; it takes back nothing. When a warning is due, and what it does when it is reached, stay
/// as they were said before.
pub async fn set_cap(
    tx: &mut TenantTx<'_>,
    which: (Owner, Period),
    cap: Option<MicroUsd>,
    now: At,
) -> Result<()> {
    let before = cap_of(tx, which).await?;
    let (notify_at_pct, on_limit) =
        before.map_or((None, OnLimit::Hard), |before| (before.notify_at_pct, before.on_limit));
    set_cap_with(tx, which, cap.map(|cap| NewCap { cap, notify_at_pct, on_limit }), now).await
}

/// The same, and when it warns and what it does when it is reached. What was warned of in this period is forgotten, and warned of anew when it
/// is due; and so is what people said about passing it.
pub async fn set_cap_with(
    tx: &mut TenantTx<'_>,
    which: (Owner, Period),
    cap: Option<NewCap>,
    now: At,
) -> Result<()> {
    // Before any account: whoever adds up what runs used locks these in that order.
    tx.exec(LOCK, &[now.into()]).await?;
    let before = cap_of(tx, which).await?;
    let account = before.map_or_else(|| AccountId::at(which.0, which.1, now), |cap| cap.account(now));
    let [owner, period, began_at] = key(account);
    // The account before its warning, as whoever settles does.
    asks::anew(tx, account, now).await?;
    tx.exec(WITHDRAW, &[owner.clone(), period.clone(), began_at]).await?;
    let Some(NewCap { cap: amount, notify_at_pct: pct, on_limit }) = cap else {
        tx.exec(LIFT_CAP, &[owner, period]).await?;
        return revised(tx, now).await;
    };
    let notify_at = pct.map(|pct| notify_at(amount, pct));
    let row = [
        owner,
        period,
        amount.into(),
        now.into(),
        pct.map(i64::from).into(),
        notify_at.into(),
        on_limit.stored().map(str::to_owned).into(),
    ];
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
    pending::add_up_for_a_reader(db, scope).await?;
    db.read(scope, move |tx| {
        Box::pin(async move { tx.all(WARNINGS, &[since.into()]).await?.iter().map(read).collect() })
    })
    .await
}

/// Says what an owner's caps do when they are reached.
pub async fn set_on_limit(tx: &mut TenantTx<'_>, owner: Owner, on_limit: OnLimit, now: At) -> Result<()> {
    for cap in caps_in(tx).await?.iter().filter(|cap| cap.owner == owner && cap.on_limit != on_limit) {
        let Cap { cap: amount, notify_at_pct, period, .. } = *cap;
        let new = NewCap { cap: amount, notify_at_pct, on_limit };
        set_cap_with(tx, (owner, period), Some(new), now).await?;
    }
    Ok(())
}

/// Says of which zone the days and months of an owner's caps are. What was spent in the day or month of the zone that is going on
/// counts from then on, as far as days of UTC tell: never less than it was.
pub async fn set_zone(tx: &mut TenantTx<'_>, owner: Owner, zone: Zone, now: At) -> Result<()> {
    tx.exec(LOCK, &[now.into()]).await?;
    let before: Vec<Cap> = caps_in(tx).await?.into_iter().filter(|cap| cap.owner == owner).collect();
    let name = (zone != Zone::UTC).then(|| zone.name().to_owned());
    if tx.exec(SET_ZONE, &[owner.to_string().into(), name.into(), now.into()]).await? == 0 {
        return Ok(());
    }
    for cap in &before {
        asks::anew(tx, cap.account(now), now).await?;
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

/// The caps of a tenant, which nobody changes until this transaction is over.
pub(crate) async fn locked_caps(tx: &mut TenantTx<'_>, now: At) -> Result<Vec<Cap>> {
    tx.exec(LOCK, &[now.into()]).await?;
    caps_in(tx).await
}

/// Gives the warning that is due of an account, once.
pub(super) async fn warn_in(tx: &mut TenantTx<'_>, account: AccountId, at: At) -> Result<()> {
    let [owner, period, began_at] = key(account);
    tx.exec(WARN, &[owner, period, began_at, at.into()]).await.map(drop)
}

/// Gives the warning that is due of an account, once.
pub(super) fn warn(batch: &mut Batch, account: AccountId, at: At) {
    let [owner, period, began_at] = key(account);
    batch.add(WARN, vec![owner, period, began_at, at.into()], Expect::Any);
}
