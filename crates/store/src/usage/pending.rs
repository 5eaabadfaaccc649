//! What runs used and is not added up yet: written by the append whose events say so, and added to the accounts and to the usage of its
//! day in the transaction that removes it.
//!
//! Invariant: what a run used is in one of both, whoever died, and in both never. Whoever reads or bounds what was spent adds up first.
//! One at a time does it for a tenant, and whoever changes its caps waits meanwhile: what is added counts in the days of the caps that hold
//! then. Its record is of a stream that all processes share.

use lantern_policy::Scope;
use lantern_types::call::{
    AccountId, CallEvent, Counted, Happened, Owner, Period, RunUsage, RunsSpent, StepSpent,
};
use lantern_types::{At, ChainHead, Digest, MicroUsd, ProcessId, RunId, TenantId, link};
use uuid::Uuid;

use super::{Amount, Line, What};
use crate::allowances;
use crate::db::{Batch, Db, Expect, TenantTx};
use crate::error::{Error, Result};
use crate::escrow::{self, Cap, NewCalls, Spent, accounts_of};
use crate::runs;
use crate::value::Row;

/// Rows that are added up in one transaction.
const ROWS_MAX: u32 = 1_000;
/// Transactions of one call.
const PASSES_MAX: u32 = 20;
/// Tenants that are looked for at once.
const TENANTS_MAX: u32 = 1_000;
/// Whose the records are that tell of what was added up: no process has this id.
const STREAM: ProcessId = ProcessId::from_uuid(Uuid::nil());

const ADD: &str = "INSERT INTO usage_pending (tenant_id, run_id, seq, at, used) VALUES ($1, $2, $3, $4, $5)";
const FIRST: &str = "SELECT at FROM usage_pending WHERE tenant_id = $1 LIMIT 1";
const TAKE: &str = "DELETE FROM usage_pending WHERE tenant_id = $1 AND (run_id, seq) IN
    (SELECT p.run_id, p.seq FROM usage_pending p WHERE p.tenant_id = $1 ORDER BY p.run_id, p.seq LIMIT $2)
    RETURNING run_id, at, used";
const WAITING: &str = "SELECT DISTINCT tenant_id FROM usage_pending LIMIT $1";

/// Every statement of this file that runs for one tenant.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[ADD, FIRST, TAKE];
/// Every statement of this file that runs across tenants.
#[cfg(feature = "testing")]
pub(crate) const SYSTEM_STATEMENTS: &[&str] = &[WAITING];

/// Adds what an append used, whose last event is `seq`.
pub(crate) fn add(batch: &mut Batch, (run, seq, at): (RunId, i64, At), used: &RunUsage) {
    batch.add(ADD, vec![run.into(), seq.into(), at.into(), json(used).into()], Expect::Rows(1));
}

/// Counts the end of a run that nobody could go on with, whose last event is `version`.
pub(crate) async fn gave_up(tx: &mut TenantTx<'_>, (run, version, at): (RunId, i64, At)) -> Result<()> {
    let Some(row) = runs::head_in(tx, run).await? else { return Ok(()) };
    let failed = Counted { agent: row.agent_id, what: Happened::Run("failed".to_owned()), times: 1 };
    let used = RunUsage { counts: vec![failed], ..RunUsage::default() };
    let seq = version.saturating_add(1);
    tx.exec(ADD, &[run.into(), seq.into(), at.into(), json(&used).into()]).await.map(drop)
}

/// The same as if a run had appended it.
#[cfg(feature = "testing")]
pub async fn note(db: &Db, scope: Scope, (run, seq, at): (RunId, i64, At), used: &RunUsage) -> Result<()> {
    let mut batch = Batch::new();
    add(&mut batch, (run, seq, at), used);
    db.submit(scope, batch).await.map(drop)
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    // A value of plain fields: this cannot fail.
    serde_json::to_vec(value).unwrap_or_default()
}

/// Which tenants have something to add up.
pub async fn waiting(db: &Db) -> Result<Vec<Scope>> {
    let rows = db.system_read(|tx| Box::pin(async move { tx.all(WAITING, &[TENANTS_MAX.into()]).await }));
    let scope = |row: &Row| row.id::<TenantId>("tenant_id").map(Scope::of_lease);
    rows.await?.iter().map(scope).collect()
}

/// Adds up what a tenant's runs have used. Nothing is written when that is nothing.
pub async fn add_up(db: &Db, scope: Scope) -> Result<()> {
    // More than that piles up only while runs use faster than this adds up; the next to ask goes on.
    for _ in 0..PASSES_MAX {
        let first = db.read(scope, |tx| Box::pin(async move { tx.one(FIRST, &[]).await })).await?;
        let Some(first) = first else { return Ok(()) };
        let at = first.at("at")?;
        let taken = db.write(scope, move |tx| Box::pin(add_up_in(tx, at))).await?;
        if taken < u64::from(ROWS_MAX) {
            return Ok(());
        }
    }
    Ok(())
}

/// The same for somebody who reads: where nothing can be written, what was added up until now is told.
pub async fn add_up_for_a_reader(db: &Db, scope: Scope) -> Result<()> {
    match add_up(db, scope).await {
        Err(Error::Full | Error::ReadOnly) => Ok(()),
        done => done,
    }
}

/// How many rows were added up.
async fn add_up_in(tx: &mut TenantTx<'_>, at: At) -> Result<u64> {
    let caps = escrow::locked_caps(tx, at).await?;
    let rows = tx.all(TAKE, &[ROWS_MAX.into()]).await?;
    let mut sum = Sum::default();
    for row in &rows {
        let used: RunUsage = serde_json::from_slice(&row.bytes("used")?)
            .map_err(|error| Error::Corrupt(format!("what a run used cannot be read: {error}").into()))?;
        if used.counts.iter().any(|counted| matches!(counted.what, Happened::Run(_))) {
            allowances::over(tx, row.id("run_id")?).await?;
        }
        sum.add(row.at("at")?, used, &caps);
    }
    if !rows.is_empty() {
        let (first_seq, chain) = escrow::end_of(tx, STREAM).await?;
        let capped = std::mem::take(&mut sum.capped);
        escrow::write_in(tx, sum.record(first_seq, chain), &capped).await?;
    }
    Ok(rows.len() as u64)
}

/// What some appends used.
#[derive(Default)]
struct Sum {
    at: At,
    told: RunUsage,
    spent: Vec<Spent>,
    /// Of which of these accounts a warning may be due.
    capped: Vec<AccountId>,
    lines: Vec<Line>,
}

impl Sum {
    /// Counts what was used at some time in the accounts that its owners have then, with these caps.
    fn add(&mut self, at: At, used: RunUsage, caps: &[Cap]) {
        let day = Period::Day.began(at);
        for step in &used.items {
            let cost = step.charged();
            self.lines.push(of_step(day, step));
            if cost.is_zero() {
                continue;
            }
            let (accounts, capped) = accounts_of(&[Owner::Tenant, Owner::Agent(step.agent)], caps, at);
            for account in accounts {
                self.spend(account, cost);
            }
            for account in capped {
                if !self.capped.contains(&account) {
                    self.capped.push(account);
                }
            }
        }
        for counted in &used.counts {
            let what = match &counted.what {
                Happened::Tool(name) => What::Tool(name.clone()),
                Happened::Run(outcome) => What::Run(outcome.clone()),
                Happened::Other => continue,
            };
            let amount = Amount { times: counted.times, ..Amount::default() };
            self.lines.push(Line { day, owner: Owner::Agent(counted.agent), what, amount });
        }
        self.at = self.at.max(at);
        self.told.add(used);
    }

    fn spend(&mut self, account: AccountId, cost: MicroUsd) {
        match self.spent.iter_mut().find(|spent| spent.account == account) {
            Some(known) => known.cost = known.cost.plus(cost).unwrap_or(known.cost),
            None => self.spent.push(Spent { account, cost, from: None }),
        }
    }

    /// The record that tells of it, at this place of the stream.
    fn record(self, first_seq: i64, chain: ChainHead) -> NewCalls {
        let Self { at, told: RunUsage { items, counts }, spent, lines, .. } = self;
        let mut bytes = json(&CallEvent::Runs(RunsSpent { seq: first_seq, at, items, counts }));
        bytes.push(b'\n');
        let chain = link(chain, &bytes, Digest::of(&[]));
        NewCalls { process: STREAM, first_seq, n: 1, at, bytes, chain, doors: 0, spent, used: lines }
    }
}

fn of_step(day: At, step: &StepSpent) -> Line {
    let StepSpent { agent, provider, model, calls, tokens_in, tokens_out, .. } = step;
    let what = What::Model { provider: provider.clone(), name: model.clone() };
    let cost = step.charged();
    let amount = Amount { times: *calls, tokens_in: *tokens_in, tokens_out: *tokens_out, cost };
    Line { day, owner: Owner::Agent(*agent), what, amount }
}
