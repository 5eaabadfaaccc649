//! Whose run is taken up next, for as long as more is due than there is room for.
//!
//! A story of its own beside the large one, on the real claim: tenants with runs of some priorities, a process with little room, and runs
//! that are due again as soon as they are let go. It asks neither the clock of a machine nor the worker.
//!
//! Invariant checked: while a run is due, no other of its tenant and priority is taken up twice; and while a tenant has something due,
//! no other tenant has two turns. So nobody waits for ever while others of the same standing go on.

use std::collections::{BTreeMap, BTreeSet};

use lantern_policy::Scope;
use lantern_store::Db;
use lantern_store::journal::{self, NewRun};
use lantern_store::lease::{self, Claimed, Held, Reader};
use lantern_store::share::{Bounds, Room};
use lantern_types::{AgentId, At, ChainHead, Digest, Dur, Priority, ProcessId, RunId, TenantId, VersionId};
use uuid::Uuid;

use super::place::{AGENT, TENANT, VERSION, unread};
use crate::check::{Checked, Violation, demand};
use crate::rng::Rng;

/// Looks of one story.
const LOOKS: u32 = 60;
const READER: Reader = Reader { build: "this one", format: journal::FORMAT };
const FOREVER: Dur = Dur::from_secs(1_000_000);

/// A run that is due, and who was taken up meanwhile.
#[derive(Default)]
struct Waits {
    passed_by: BTreeSet<RunId>,
}

struct Hall {
    db: Db,
    now: At,
    process: ProcessId,
    /// The tenant that had the last turn.
    after: Option<TenantId>,
    standing: BTreeMap<RunId, (TenantId, Priority)>,
    due: BTreeMap<RunId, Waits>,
    held: Vec<Claimed>,
    /// Tenants with something due, and who had a turn meanwhile.
    tenants: BTreeMap<TenantId, BTreeSet<TenantId>>,
}

/// Tells the story of a seed.
pub(super) async fn fair(seed: u64) -> Checked {
    let mut rng = Rng::of(seed, "turns");
    let mut hall = Hall::new(&mut rng).await?;
    for _ in 0..LOOKS {
        hall.look(&mut rng).await?;
        hall.let_go(&mut rng).await?;
    }
    Ok(())
}

impl Hall {
    async fn new(rng: &mut Rng) -> Result<Self, Violation> {
        let db = Db::inline_sqlite().map_err(unread)?;
        let process = ProcessId::from_uuid(Uuid::from_u128(0x9000));
        lease::register(&db, process, At::from_micros(1), FOREVER).await.map_err(unread)?;
        let mut hall = Self {
            db,
            now: At::from_micros(1),
            process,
            after: None,
            standing: BTreeMap::new(),
            due: BTreeMap::new(),
            held: Vec::new(),
            tenants: BTreeMap::new(),
        };
        for n in 1..=u128::from(rng.within(2, 5)) {
            let tenant = TenantId::from_uuid(Uuid::from_u128(n));
            let agent = hall.open(tenant, n).await?;
            for k in 0..u128::from(rng.within(1, 6)) {
                let priority = Priority::of(i64::from(rng.chance(30))).unwrap_or_default();
                hall.begin(tenant, agent, RunId::from_uuid(Uuid::from_u128(n << 32 | k)), priority).await?;
            }
        }
        Ok(hall)
    }

    async fn open(&self, tenant: TenantId, n: u128) -> Result<(AgentId, VersionId), Violation> {
        let (agent, version) =
            (AgentId::from_uuid(Uuid::from_u128(n)), VersionId::from_uuid(Uuid::from_u128(n)));
        let made = self.db.write(Scope::of_lease(tenant), move |tx| {
            Box::pin(async move {
                tx.exec(TENANT, &[format!("tenant-{n}").into()]).await?;
                tx.exec(AGENT, &[agent.into(), "turns".into(), version.into()]).await?;
                let digest = Digest::of(b"{}");
                tx.exec(VERSION, &[version.into(), agent.into(), digest.into(), "{}".into()]).await.map(drop)
            })
        });
        made.await.map_err(unread)?;
        Ok((agent, version))
    }

    async fn begin(
        &mut self,
        tenant: TenantId,
        (agent_id, agent_version_id): (AgentId, VersionId),
        id: RunId,
        priority: Priority,
    ) -> Checked {
        self.now = self.now + Dur::from_micros(1);
        let new = NewRun {
            id,
            agent_id,
            agent_name: "turns".to_owned(),
            agent_version_id,
            status: "queued",
            trigger_kind: "api".to_owned(),
            parent: None,
            session_id: None,
            depth: 0,
            priority,
            labels: "{}".to_owned(),
            idempotency_key: None,
            format: journal::FORMAT,
            n: 1,
            bytes: b"{\"seq\":1}\n".to_vec(),
            body: None,
            chain: ChainHead::genesis(),
            at: self.now,
            runs_of_day_max: None,
            traced: false,
        };
        let created = self.db.write(Scope::of_lease(tenant), move |tx| Box::pin(journal::create(tx, new)));
        created.await.map_err(unread)?;
        self.standing.insert(id, (tenant, priority));
        self.due.insert(id, Waits::default());
        self.tenants.entry(tenant).or_default();
        Ok(())
    }

    /// The process looks for work, and what it takes is held against what was due.
    async fn look(&mut self, rng: &mut Rng) -> Checked {
        self.now = self.now + Dur::from_micros(1);
        let room = Room { limit: rng.within_u32(1, 3), after: self.after, bounds: Bounds::default() };
        let work = lease::look(&self.db, self.process, READER, self.now, room).await.map_err(unread)?;
        self.after = work.after;
        let taken: BTreeSet<RunId> = work.claimed.iter().map(|claimed| claimed.run).collect();
        demand(self.due.is_empty() || !taken.is_empty(), "what-is-due-is-taken-up", || {
            format!("{} runs are due, and a look found none", self.due.len())
        })?;
        for run in &taken {
            self.due.remove(run);
        }
        let mut turns = BTreeSet::new();
        for run in &taken {
            let Some(standing) = self.standing.get(run).copied() else { continue };
            turns.insert(standing.0);
            for (waiting, waits) in &mut self.due {
                let alike = self.standing.get(waiting) == Some(&standing);
                demand(!alike || waits.passed_by.insert(*run), "no-ready-run-starves", || {
                    format!("{waiting} is due, and {run} of the same tenant and priority was taken up twice")
                })?;
            }
        }
        self.passed(&turns)?;
        self.held.extend(work.claimed);
        Ok(())
    }

    /// Who had a turn in a look, held against who waits for one.
    fn passed(&mut self, turns: &BTreeSet<TenantId>) -> Checked {
        let waiting: BTreeSet<TenantId> =
            self.due.keys().filter_map(|run| self.standing.get(run)).map(|(tenant, _)| *tenant).collect();
        for (tenant, passed_by) in &mut self.tenants {
            if turns.contains(tenant) || !waiting.contains(tenant) {
                passed_by.clear();
                continue;
            }
            for turn in turns {
                demand(passed_by.insert(*turn), "no-ready-tenant-starves", || {
                    format!("{tenant} has something due, and {turn} has had two turns")
                })?;
            }
        }
        Ok(())
    }

    /// Some of what is held is let go, and is due again at once.
    async fn let_go(&mut self, rng: &mut Rng) -> Checked {
        for claimed in std::mem::take(&mut self.held) {
            if !rng.chance(70) {
                self.held.push(claimed);
                continue;
            }
            self.now = self.now + Dur::from_micros(1);
            let Claimed { scope, run, epoch, version, pokes, .. } = claimed;
            let held = Held { run, epoch, version, pokes };
            let released = lease::release(&self.db, scope, held, Some(self.now)).await.map_err(unread)?;
            demand(released, "what-is-held-can-be-let-go", || run.to_string())?;
            self.due.insert(run, Waits::default());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_or_a_tenant_that_is_passed_twice_is_found() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut hall = Hall::new(&mut Rng::of(1, "turns")).await.unwrap();
            let tenants: Vec<TenantId> = hall.tenants.keys().copied().collect();
            let other = BTreeSet::from([tenants[1]]);
            // The first has something due all the while.
            assert!(hall.passed(&other).is_ok());
            let broken = hall.passed(&other).unwrap_err();
            assert_eq!(broken.rule, "no-ready-tenant-starves");
        });
    }

    #[test]
    fn the_claim_is_fair() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        for seed in 1..=20 {
            runtime.block_on(fair(seed)).unwrap_or_else(|broken| panic!("{seed}: {broken:?}"));
        }
    }
}
