//! Writes down what calls and steps cost, keeps this process's slices alive, and charges those of dead processes.
//!
//! Invariant: a call that is over is written within some milliseconds, together with what ended meanwhile; none is written twice.
//! When the process stops, what nobody holds is given back.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::future::join_all;
use lantern_net::Shutdown;
use lantern_policy::Scope;
use lantern_store::escrow::{self, NewCalls, Spent};
use lantern_store::usage::{self, Amount, What};
use lantern_store::{Db, Error};
use lantern_types::call::{
    AccountId, CallEvent, Charged, CrashCharge, Owner, Period, RunUsage, RunsSpent, StepSpent,
};
use lantern_types::edge::Clock;
use lantern_types::{At, ChainHead, Digest, Dur, MicroUsd, ProcessId, TenantId, link};

use crate::purse::{Done, Entry, Purse, TTL};

/// How long a call that is over waits for others to be written with.
const GATHER: Dur = Dur::from_millis(3);
/// How often slices are prolonged, and dead processes looked for: three times before they run out.
const BEAT: Dur = Dur::from_secs(3);
/// How often dead processes are looked for where nobody else can be alive: what this one was before it was late.
const LOOK: Dur = Dur::from_secs(60);
/// How often unused slices are given back: what a process holds when it dies is charged, so soon.
const TIDY: Dur = Dur::from_millis(250);
/// Records of one commit.
const RECORDS_MAX: usize = 1_000;
const PAUSE: Dur = Dur::from_millis(20);

pub(crate) struct Clerk {
    db: Db,
    clock: Arc<dyn Clock>,
    purse: Arc<Purse>,
    sole: bool,
    /// The next place and the chain of this process's stream in each tenant.
    streams: HashMap<(TenantId, ProcessId), (i64, ChainHead)>,
    /// Slices that could not be given back yet.
    strays: Vec<(Scope, ProcessId, i64)>,
}

impl Clerk {
    pub(crate) fn new(db: Db, clock: Arc<dyn Clock>, purse: Arc<Purse>, sole: bool) -> Self {
        Self { db, clock, purse, sole, streams: HashMap::new(), strays: Vec::new() }
    }

    pub(crate) async fn run(mut self, stop: Shutdown) {
        // Whoever had this database before is dead, when nobody else can have it.
        self.bury(self.sole).await;
        let now = self.clock.now();
        let (mut beat_at, mut tidy_at) = (now + BEAT, now + TIDY);
        while !stop.is_requested() {
            let idle = self.strays.is_empty() && self.purse.is_empty();
            let next = if idle { beat_at } else { tidy_at.min(beat_at) };
            let next = if idle && self.sole { self.clock.now() + LOOK } else { next };
            let rung = tokio::select! {
                biased;
                () = stop.requested() => break,
                () = self.purse.rung() => true,
                () = self.clock.sleep(next.since(self.clock.now())) => false,
            };
            if rung {
                self.clock.sleep(GATHER).await;
                self.write().await;
            }
            let now = self.clock.now();
            if idle {
                tidy_at = now + TIDY;
            }
            if now >= tidy_at {
                self.give_back(false).await;
                tidy_at = now + TIDY;
            }
            if now >= beat_at {
                self.beat().await;
                self.bury(false).await;
                beat_at = now + BEAT;
            }
        }
        self.finish().await;
    }

    /// Waits for what is under way, and leaves nothing held. The process's own grace period bounds this.
    async fn finish(&mut self) {
        while self.purse.is_busy() {
            self.beat().await;
            self.write().await;
            self.clock.sleep(PAUSE).await;
        }
        self.write().await;
        self.give_back(true).await;
    }

    async fn beat(&self) {
        let (process, now) = (self.purse.process(), self.clock.now());
        if !self.purse.has_slices() {
            return self.purse.prolonged(process, now);
        }
        match escrow::beat(&self.db, process, now, now + TTL).await {
            Ok(_) => self.purse.prolonged(process, now),
            Err(error) => tracing::warn!(%error, "slices could not be prolonged"),
        }
    }

    async fn give_back(&mut self, all: bool) {
        let mut idle = std::mem::take(&mut self.strays);
        idle.extend(self.purse.idle(all));
        let mut by: HashMap<(TenantId, ProcessId), (Scope, Vec<i64>)> = HashMap::new();
        for (scope, process, n) in idle {
            by.entry((scope.tenant(), process)).or_insert_with(|| (scope, Vec::new())).1.push(n);
        }
        for ((_, process), (scope, numbers)) in by {
            if let Err(error) = escrow::release(&self.db, scope, process, &numbers).await {
                tracing::debug!(%error, "slices were not given back yet");
                self.strays.extend(numbers.into_iter().map(|n| (scope, process, n)));
            }
        }
    }

    /// Charges what dead processes left unsettled.
    async fn bury(&self, sole: bool) {
        let (process, now) = (self.purse.process(), self.clock.now());
        let stale = match escrow::stale(&self.db, process, now, sole).await {
            Ok(stale) => stale,
            Err(error) => return tracing::warn!(%error, "dead processes could not be looked for yet"),
        };
        for (scope, dead) in stale {
            match self.charge(scope, dead, now).await {
                Ok(()) | Err(Error::Conflict) => {}
                Err(error) => tracing::warn!(%error, "a dead process is not charged yet"),
            }
        }
    }

    async fn charge(&self, scope: Scope, dead: ProcessId, now: At) -> Result<(), Error> {
        let left = escrow::left(&self.db, scope, dead).await?;
        let charged = left.slices.iter().map(|slice| Charged {
            owner: slice.account.owner.to_string(),
            period: slice.account.period,
            slice: slice.n,
            amount: slice.held,
        });
        let charges: Vec<Charged> = charged.filter(|charged| charged.amount > MicroUsd::ZERO).collect();
        if charges.is_empty() {
            let numbers: Vec<i64> = left.slices.iter().map(|slice| slice.n).collect();
            return escrow::release(&self.db, scope, dead, &numbers).await;
        }
        tracing::warn!(tenant = %scope.tenant(), process = %dead, ?charges, "the unsettled part of a dead process is charged");
        let bytes = line(&CallEvent::CrashCharge(CrashCharge { seq: left.next_seq, at: now, charges }));
        let chain = link(left.chain, &bytes, Digest::of(&[]));
        let (first_seq, spent) = (left.next_seq, Vec::new());
        let used = Vec::new();
        let record =
            NewCalls { process: dead, first_seq, n: 1, at: now, bytes, chain, doors: 1, spent, used };
        escrow::charge(&self.db, scope, left.slices, record).await
    }

    /// Writes what is over, each tenant's in a commit of its own.
    async fn write(&mut self) {
        let (process, done) = self.purse.unwritten();
        if done.is_empty() {
            return;
        }
        let mut by: BTreeMap<TenantId, Vec<Done>> = BTreeMap::new();
        for done in done {
            by.entry(done.scope.tenant()).or_default().push(done);
        }
        let mut work = Vec::with_capacity(by.len());
        for (tenant, mut done) in by {
            let stream = self.streams.get(&(tenant, process)).copied();
            let stream = stream.unwrap_or_else(|| (1, ChainHead::genesis()));
            let this = &*self;
            work.push(async move {
                let mut stream = (process, stream);
                while !done.is_empty() {
                    let rest = done.split_off(done.len().min(RECORDS_MAX));
                    stream = this.write_of(stream, done).await;
                    done = rest;
                }
                (tenant, stream)
            });
        }
        let written = join_all(work).await;
        self.streams.extend(written.into_iter().map(|(tenant, (of, stream))| ((tenant, of), stream)));
        // Whoever this process was before writes nothing more.
        let process = self.purse.process();
        self.streams.retain(|(_, of), _| *of == process);
    }

    /// Writes some records of one tenant, as often as it takes. Answers where its stream goes on, and whose that is.
    async fn write_of(
        &self,
        (mut process, (mut first_seq, mut head)): (ProcessId, (i64, ChainHead)),
        mut done: Vec<Done>,
    ) -> (ProcessId, (i64, ChainHead)) {
        let Some(scope) = done.first().map(|done| done.scope) else { return (process, (first_seq, head)) };
        let mut pause = PAUSE;
        loop {
            let now = self.clock.now();
            let Lines { n, doors, bytes } = lines(first_seq, now, &mut done);
            let chain = link(head, &bytes, Digest::of(&[]));
            let (spent, used) = (summed(&done), used(&done));
            let new =
                NewCalls { process, first_seq, n, at: now, bytes, chain, doors, spent: spent.clone(), used };
            match escrow::write(&self.db, scope, &new.into()).await {
                Ok(true) => {
                    self.purse.written(scope, process, &spent);
                    return (process, (first_seq.saturating_add(n), chain));
                }
                Ok(false) => {
                    // Somebody took this process for dead and charged its slices: what these calls cost is in that.
                    process = self.purse.lost(process);
                    (first_seq, head) = (1, ChainHead::genesis());
                    if let Ok(left) = escrow::left(&self.db, scope, process).await {
                        (first_seq, head) = (left.next_seq, left.chain);
                    }
                    for Done { entry, spent, .. } in &mut done {
                        if spent.iter().any(|spent| spent.from.is_some()) {
                            entry.is_late();
                        }
                        *spent = uncharged(spent);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "records of calls are not written yet");
                    self.clock.sleep(pause).await;
                    pause = pause.times(2).min(TIDY);
                }
            }
        }
    }
}

/// What is still to be counted of a call once the slices that it drew on were charged: what the charge cannot have counted. That
/// counted in every account of the slices' owners, and in the tenant's ([`escrow::charge`]).
fn uncharged(spent: &[Spent]) -> Vec<Spent> {
    let charged =
        |owner: Owner| spent.iter().any(|spent| spent.from.is_some() && spent.account.owner == owner);
    let any = spent.iter().any(|spent| spent.from.is_some());
    let counted = |owner: Owner| charged(owner) || (any && owner == Owner::Tenant);
    spent.iter().filter(|spent| !counted(spent.account.owner)).copied().collect()
}

/// Records as they are written.
struct Lines {
    n: i64,
    /// Those that are not of runs.
    doors: i64,
    bytes: Vec<u8>,
}

/// The records from `first_seq` on: one for each call, and one for all that runs did.
fn lines(first_seq: i64, at: At, done: &mut [Done]) -> Lines {
    let (mut n, mut bytes, mut used) = (0, Vec::new(), RunUsage::default());
    for Done { entry, .. } in done {
        match entry {
            Entry::Call(record) => {
                record.seq = first_seq.saturating_add(n);
                bytes.extend(line(&CallEvent::Call(record.clone())));
                n += 1;
            }
            Entry::Step(step) => used.add(RunUsage { items: vec![step.clone()], counts: Vec::new() }),
        }
    }
    let doors = n;
    if !used.is_empty() {
        let (seq, RunUsage { items, counts }) = (first_seq.saturating_add(n), used);
        bytes.extend(line(&CallEvent::Runs(RunsSpent { seq, at, items, counts })));
        n += 1;
    }
    Lines { n, doors, bytes }
}

/// What was used, at what the tenant's account of the day is charged for it.
fn used(done: &[Done]) -> Vec<usage::Line> {
    done.iter().map(used_by).collect()
}

fn used_by(Done { day, entry, spent, .. }: &Done) -> usage::Line {
    let tenant = AccountId { owner: Owner::Tenant, period: Period::Day, began_at: *day };
    let charged = spent.iter().find(|spent| spent.account == tenant);
    let cost = charged.map_or(MicroUsd::ZERO, |spent| spent.cost);
    let (owner, what, amount) = match entry {
        Entry::Call(record) => {
            let tokens = record.reported.unwrap_or_default();
            let amount = Amount {
                times: 1,
                tokens_in: tokens.prompt(),
                tokens_out: tokens.output.max(record.counted),
                cost,
            };
            let key = record.key.map_or(Owner::Tenant, Owner::Key);
            let owner = record.agent.map_or(key, Owner::Agent);
            (owner, What::Model { provider: record.provider.clone(), name: record.model.clone() }, amount)
        }
        Entry::Step(step) => {
            let StepSpent { agent, provider, model, calls, tokens_in, tokens_out, .. } = step;
            let amount = Amount { times: *calls, tokens_in: *tokens_in, tokens_out: *tokens_out, cost };
            let what = What::Model { provider: provider.clone(), name: model.clone() };
            (Owner::Agent(*agent), what, amount)
        }
    };
    usage::Line { day: *day, owner, what, amount }
}

/// What was spent of each account, from each slice.
fn summed(done: &[Done]) -> Vec<Spent> {
    let mut sums: Vec<Spent> = Vec::new();
    for spent in done.iter().flat_map(|done| &done.spent) {
        let n = spent.from.map(|(n, _)| n);
        let same = sums.iter_mut().find(|sum| sum.account == spent.account && sum.from.map(|(n, _)| n) == n);
        match same {
            Some(sum) => {
                sum.cost = sum.cost.plus(spent.cost).unwrap_or(sum.cost);
                if let (Some((_, drawn)), Some((_, more))) = (&mut sum.from, spent.from) {
                    *drawn = drawn.plus(more).unwrap_or(*drawn);
                }
            }
            None => sums.push(*spent),
        }
    }
    sums
}

fn line(event: &CallEvent) -> Vec<u8> {
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests;
