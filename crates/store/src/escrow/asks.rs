//! Questions whether a cap may be passed: one of an account at a time, the runs that wait for it, and what people said.
//!
//! Invariant: what closes a question counts it in its account and wakes the runs that wait, in the same transaction. So a run that comes to
//! wait either finds the question open, and is woken, or finds what was said. What was granted holds for the account's own period, and until
//! its cap is set anew. An account has one question that counts, which is the one after as many as it has closed: whatever else is left of
//! others, nobody can say anything by it.

use lantern_policy::escrow::REST;
use lantern_types::approval::{CapAnswer, OverCap, Status, question};
use lantern_types::call::AccountId;
use lantern_types::{ApprovalId, At, MicroUsd, RunId};

use super::key;
use crate::db::{Batch, Expect, TenantTx};
use crate::error::{Error, Result};
use crate::lease;
use crate::value::{Row, Value};

/// What a person says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Whether more may be spent.
    pub granted: bool,
    /// How much; without it, what the rest of the period takes.
    pub more: Option<MicroUsd>,
    /// Who says it.
    pub by: String,
}

/// What a question's row says beside what every question's does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Over {
    /// Whose cap.
    pub account: AccountId,
    /// What could be spent when it was asked.
    pub cap: MicroUsd,
    /// What was spent.
    pub spent: MicroUsd,
    /// What the first step that asked could have cost.
    pub hold: MicroUsd,
    /// How it was closed, if it was.
    pub more: Option<MicroUsd>,
    /// By whom.
    pub by: Option<String>,
}

// The first to ask is named; all others find that it is asked.
const ADD: &str =
    "INSERT INTO approvals (tenant_id, id, run_id, step, agent_name, status, asked_seq, closed_seq,
    asked_at, expires_at, closed_at, owner, period, began_at, cap, spent, hold)
    SELECT $1, $2, r.id, $5, r.agent_name, 'pending', $6, NULL, $7, $8, NULL, a.owner, a.period, a.began_at, $12, $13, $14
    FROM runs r JOIN accounts a ON a.tenant_id = r.tenant_id
    WHERE r.tenant_id = $1 AND r.id = $3 AND r.epoch = $4
    AND a.owner = $9 AND a.period = $10 AND a.began_at = $11 AND a.asks = $15
    ON CONFLICT (tenant_id, id) DO NOTHING";
const WAIT: &str =
    "INSERT INTO cap_waits (tenant_id, owner, period, began_at, run_id) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (tenant_id, owner, period, began_at, run_id) DO NOTHING";
// Those of periods that are over.
const LAPSE: &str = "UPDATE approvals SET status = 'expired', closed_at = $5
    WHERE tenant_id = $1 AND status = 'pending' AND owner = $2 AND period = $3 AND began_at < $4";
const FORGET: &str =
    "DELETE FROM cap_waits WHERE tenant_id = $1 AND owner = $2 AND period = $3 AND began_at < $4";
const GET: &str = "SELECT status, expires_at, owner, period, began_at, cap, spent, hold, more, decided_by
    FROM approvals WHERE tenant_id = $1 AND id = $2 AND owner IS NOT NULL";
const CLOSE: &str = "UPDATE approvals SET status = $3, closed_at = $4, more = $5, decided_by = $6
    WHERE tenant_id = $1 AND id = $2 AND status = 'pending' AND owner IS NOT NULL AND expires_at > $4";
// What nobody can say anything by any more.
const SHUT: &str = "UPDATE approvals SET status = $3, closed_at = $4
    WHERE tenant_id = $1 AND id = $2 AND status = 'pending' AND owner IS NOT NULL";
const ASKED: &str =
    "SELECT asks FROM accounts WHERE tenant_id = $1 AND owner = $2 AND period = $3 AND began_at = $4";
const SAID: &str = "UPDATE accounts SET asks = asks + 1, refused = $6,
    more = CASE WHEN $5 < 9223372036854775807 - more THEN more + $5 ELSE 9223372036854775807 END
    WHERE tenant_id = $1 AND owner = $2 AND period = $3 AND began_at = $4 AND asks = $7";
// All that was said of it before is about a cap that is no more.
const ANEW: &str = "UPDATE accounts SET asks = asks + 1, refused = 0, more = 0
    WHERE tenant_id = $1 AND owner = $2 AND period = $3 AND began_at = $4";
const WITHDRAW: &str = "UPDATE approvals SET status = 'withdrawn', closed_at = $5
    WHERE tenant_id = $1 AND status = 'pending' AND owner = $2 AND period = $3 AND began_at <= $4";
const WOKEN: &str =
    "DELETE FROM cap_waits WHERE tenant_id = $1 AND owner = $2 AND period = $3 AND began_at = $4";

/// Every statement of this file.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] =
    &[ADD, WAIT, LAPSE, FORGET, GET, CLOSE, SHUT, ASKED, SAID, ANEW, WITHDRAW, WOKEN];

/// Asks, unless it is asked already, and notes that the run waits.
pub(crate) fn add(
    batch: &mut Batch,
    (run, epoch): (RunId, i64),
    (step, seq, at): (String, i64, At),
    over: OverCap,
) {
    let OverCap { owner, period, began_at, ends_at, asked: closed, cap, spent, hold } = &over;
    let account = || [Value::from(owner.clone()), period.as_str().into(), (*began_at).into()];
    let [o, p, b] = account();
    batch.add(LAPSE, vec![o, p, b, at.into()], Expect::Any);
    batch.add(FORGET, account().to_vec(), Expect::Any);
    let [o, p, b] = account();
    let (id, epoch, ends_at) = (over.id().into(), epoch.into(), (*ends_at).into());
    let asked = vec![id, run.into(), epoch, step.into(), seq.into(), at.into(), ends_at, o, p, b];
    let amounts = [cap, spent, hold].map(|amount| Value::from(*amount));
    let closed = Value::from(i64::from(*closed));
    batch.add(ADD, asked.into_iter().chain(amounts).chain([closed]).collect(), Expect::Any);
    let [o, p, b] = account();
    batch.add(WAIT, vec![o, p, b, run.into()], Expect::Any);
}

/// Closes a question as a person says. `false`, and nothing of it counts, when it is not open, when its period is over, or when it
/// is not the one that its account asks now. `Conflict` when another one was closed at the same time.
pub async fn say(tx: &mut TenantTx<'_>, id: ApprovalId, said: &Said, now: At) -> Result<bool> {
    let Some(row) = tx.one(GET, &[id.into()]).await? else { return Ok(false) };
    let account = super::account(&row)?;
    let asks = tx.one(ASKED, &key(account)).await?.map(|row| row.int("asks")).transpose()?;
    let asked = asks.and_then(|asks| u32::try_from(asks).ok());
    if asked.is_none_or(|asked| question(account, asked) != id) {
        let row = [id.into(), Status::Withdrawn.as_str().into(), now.into()];
        return tx.exec(SHUT, &row).await.map(|_| false);
    }
    let status = if said.granted { Status::Granted } else { Status::Denied };
    let more = said.more.filter(|_| said.granted);
    let row = [id.into(), status.as_str().into(), now.into(), more.into(), said.by.clone().into()];
    if tx.exec(CLOSE, &row).await? == 0 {
        let row = [id.into(), Status::Expired.as_str().into(), now.into()];
        return tx.exec(SHUT, &row).await.map(|_| false);
    }
    let more = if said.granted { more.unwrap_or(REST) } else { MicroUsd::ZERO };
    let [owner, period, began_at] = key(account);
    let refused = i64::from(!said.granted);
    let counted = [owner, period, began_at, more.into(), refused.into(), asks.unwrap_or_default().into()];
    if tx.exec(SAID, &counted).await? == 0 {
        return Err(Error::Conflict);
    }
    wake(tx, account, now).await?;
    Ok(true)
}

/// Forgets what was said of an account whose cap is set anew, and lets those that wait look again.
pub(super) async fn anew(tx: &mut TenantTx<'_>, account: AccountId, now: At) -> Result<()> {
    let [owner, period, began_at] = key(account);
    tx.exec(WITHDRAW, &[owner, period, began_at, now.into()]).await?;
    tx.exec(ANEW, &key(account)).await?;
    wake(tx, account, now).await
}

async fn wake(tx: &mut TenantTx<'_>, account: AccountId, now: At) -> Result<()> {
    lease::wake_waiting(tx, key(account), now).await?;
    tx.exec(WOKEN, &key(account)).await.map(drop)
}

/// How a question was closed; `None` while it is open. One that nobody finds any more was withdrawn.
pub async fn answer(tx: &mut TenantTx<'_>, id: ApprovalId) -> Result<Option<CapAnswer>> {
    let Some(row) = tx.one(GET, &[id.into()]).await? else {
        let status = Status::Withdrawn.as_str().to_owned();
        return Ok(Some(CapAnswer { status, by: String::new(), more: None }));
    };
    let (status, over) = (row.text("status")?, read(&row)?);
    let by = over.as_ref().and_then(|over| over.by.clone()).unwrap_or_default();
    let answer = CapAnswer { status, by, more: over.and_then(|over| over.more) };
    Ok((answer.status != Status::Pending.as_str()).then_some(answer))
}

/// What a row says of the account that it is a question of.
pub(crate) fn read(row: &Row) -> Result<Option<Over>> {
    if row.opt_text("owner")?.is_none() {
        return Ok(None);
    }
    Ok(Some(Over {
        account: super::account(row)?,
        cap: row.money("cap")?,
        spent: row.money("spent")?,
        hold: row.money("hold")?,
        more: row.opt_int("more")?.map(MicroUsd::from_micros),
        by: row.opt_text("decided_by")?,
    }))
}
