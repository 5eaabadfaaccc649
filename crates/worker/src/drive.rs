//! Drives one run while this process holds it.
//!
//! One loop: take what has come (results, inbox, time) → decide → admit what was requested → append everything as one
//! append → perform. Dropping the future of an effect stops it, so cancelling really stops work. The folded run stays
//! in memory; the journal is read only when a run is taken up, or an emergency stop has come between.

mod ask;
mod halt;
mod outside;
mod row;
mod store;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures_util::FutureExt;
use lantern_engine::{
    Arrival, Effect, Event, Fact, Input, Phase, Run, Tally, approval, decide, effects, event, questions,
    taken_up,
};
use lantern_net::Shutdown;
use lantern_policy::Scope;
use lantern_receipts::Summary;
use lantern_store::journal::{self, Append, Prepared};
use lantern_store::lease::{self, Claimed, Held, Parked};
use lantern_store::record::Record;
use lantern_store::seal::Place;
use lantern_store::stops::StopRow;
use lantern_store::{Error, approvals, inbox};
use lantern_types::call::RunUsage;
use lantern_types::{At, ChainHead, Dur, InboxId};
use tokio::sync::Notify;
use tracing::Instrument as _;

use crate::admission::Verdict;
use crate::load::{self, Unloadable};
use crate::perform::{Performed, Start, perform, reconcile};
use crate::purse::Holds;
use crate::{Deps, admission, outbox};
use outside::Outside;
use row::{kept, projection};
use store::{chain, wait_for_the_store};

/// No count of pokes: the inbox was not read yet.
const UNREAD: i64 = -1;
/// A run that waits longer than this, with nothing outside, is let go until then.
const PARK_AFTER: Dur = Dur::from_secs(2);
/// How long to wait before looking again at a store that could not answer.
const STORE_RETRY: Dur = Dur::from_millis(500);
/// How often a run that a stop halts is looked at, while something of it is outside still. One with nothing outside is let go,
/// and woken by whoever lifts the stop.
const LOOK_FOR_STOPS: Dur = Dur::from_secs(1);
/// When a step asks again that waits for what others hold of a cap.
const ASK_AGAIN: Dur = Dur::from_millis(250);
/// When a run that cannot be read is due again: the cause may be mended by then, or a process of another build be there. Its
/// own next time is not known, and a timer may be late by so much.
const LOOK_AGAIN: Dur = Dur::from_secs(60);

/// Why driving ended.
#[derive(Debug)]
enum Ended {
    /// The run is over, or was let go.
    Done,
    /// Another holder has it.
    Lost,
    /// An emergency stop did not let what was decided be written.
    Halted(Box<StopRow>),
    /// The store could not answer.
    Store(Error),
    /// It cannot be read as it is. Nothing was done to it.
    Unreadable(String),
    /// This build cannot read it, and another may. Nothing was done to it.
    Unknown(String),
    /// This build's own rules broke. What was under way may be asked (and paid) for again, so that is up to a person.
    Parked(String),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        match error {
            Error::Conflict => Self::Lost,
            Error::Corrupt(_) | Error::Missing(_) | Error::Sealed(_) => Self::Unreadable(error.to_string()),
            other => Self::Store(other),
        }
    }
}

impl From<Unloadable> for Ended {
    fn from(error: Unloadable) -> Self {
        match error {
            Unloadable::Store(error) => error.into(),
            Unloadable::Unreadable(reason) => Self::Unreadable(reason),
            Unloadable::Unknown(reason) => Self::Unknown(reason),
        }
    }
}

/// Drives `claimed` until it is over, let go or lost. `ear` is notified when something lies in the run's inbox, and
/// when `stopping` is requested.
pub(crate) async fn drive(deps: Arc<Deps>, mut claimed: Claimed, ear: Arc<Notify>, stopping: Shutdown) {
    loop {
        let driven = AssertUnwindSafe(take_up(&deps, &claimed, &ear, &stopping)).catch_unwind().await;
        match driven.unwrap_or_else(|_| Ended::Parked("driving this run panicked".to_owned())) {
            Ended::Done => return,
            // A step takes this in itself.
            Ended::Halted(_) | Ended::Lost => {
                return tracing::debug!(run = %claimed.run, "another holder has the run");
            }
            Ended::Unreadable(reason) => {
                tracing::error!(run = %claimed.run, reason, "the run is parked: it cannot be read");
                let again = deps.clock.now() + LOOK_AGAIN;
                return park(&deps, &claimed, Some(again), Parked { by: None, reason }).await;
            }
            Ended::Unknown(reason) => {
                tracing::error!(run = %claimed.run, reason, "the run is parked for a build that can read it");
                let (again, by) = (deps.clock.now() + LOOK_AGAIN, Some(deps.reader.build));
                return park(&deps, &claimed, Some(again), Parked { by, reason }).await;
            }
            Ended::Parked(reason) => {
                tracing::error!(run = %claimed.run, reason, "the run is parked: this build cannot go on with it");
                return park(&deps, &claimed, None, Parked { by: None, reason }).await;
            }
            Ended::Store(error) => {
                tracing::warn!(run = %claimed.run, error = %chain(&error), "the store could not answer; trying again");
                if stopping.is_requested() {
                    return;
                }
                deps.clock.sleep(STORE_RETRY).await;
                // By the next try it may have grown.
                claimed.journal = None;
            }
        }
    }
}

/// Lets a run that cannot be driven go, until then or until someone pokes it.
async fn park(deps: &Deps, claimed: &Claimed, wake_at: Option<At>, why: Parked) {
    let head = journal::head(&deps.db, claimed.scope, claimed.run).await;
    let Ok(Some(head)) = head else { return };
    let held = Held { run: claimed.run, epoch: claimed.epoch, version: head.version, pokes: head.pokes };
    if let Err(error) = lease::park(&deps.db, claimed.scope, held, wake_at, why).await {
        tracing::warn!(run = %claimed.run, error = %chain(&error), "the parked run could not be let go");
    }
}

async fn take_up(deps: &Arc<Deps>, claimed: &Claimed, ear: &Notify, stopping: &Shutdown) -> Ended {
    let deps = &deps.of(claimed.scope.tenant());
    let loaded = match AssertUnwindSafe(load::load(deps, claimed)).catch_unwind().await {
        Ok(Ok(loaded)) => loaded,
        Ok(Err(error)) => return error.into(),
        Err(_) => return Ended::Unknown("the fold of this run panicked".to_owned()),
    };
    if claimed.parked
        && let Err(error) = lease::unpark(&deps.db, claimed.scope, claimed.run, claimed.epoch).await
    {
        return error.into();
    }
    // Those that an earlier build asked have no rows yet.
    if !loaded.asked.is_empty() {
        let held = (claimed.run, claimed.epoch);
        if let Err(error) = approvals::ensure(&deps.db, claimed.scope, held, loaded.asked).await {
            return error.into();
        }
    }
    let first = if loaded.run.performing() { Input::Recovered } else { Input::Wake };
    let mut driver = Driver {
        deps,
        scope: claimed.scope,
        epoch: claimed.epoch,
        // Nothing ever came for a run that was never poked, so there is no inbox to read.
        pokes: if claimed.pokes == 0 { 0 } else { UNREAD },
        chain: loaded.chain,
        summary: loaded.summary,
        tally: loaded.tally,
        run: Some(loaded.run),
        outside: Outside::default(),
        holds: Holds::default(),
        ask_at: None,
        asks_until: None,
        unsure: false,
        stopping,
    };
    // What an earlier holder asked and was not told is asked again.
    let questions = driver.run.as_ref().map(questions).unwrap_or_default();
    if let Err(ended) = driver.start(questions) {
        return ended;
    }
    match driver.work(first, ear, stopping).await {
        Ok(()) => Ended::Done,
        Err(ended) => ended,
    }
}

/// What woke the driver.
enum Woken {
    Results(Vec<Performed>),
    /// Something lies in the inbox, or the order to stop has come.
    Poked,
    Due,
}

struct Driver<'a> {
    deps: &'a Arc<Deps>,
    scope: Scope,
    epoch: i64,
    /// Pokes seen when the inbox was last read, or [`UNREAD`].
    pokes: i64,
    chain: ChainHead,
    summary: Summary,
    /// What was used and is not told yet.
    tally: Tally,
    /// Always there between two decisions.
    run: Option<Run>,
    outside: Outside,
    holds: Holds,
    /// When a step asks again that waits for what others hold of a cap; nobody tells it.
    ask_at: Option<At>,
    /// When a question lapses that a step waits for people to answer; whoever answers wakes the run.
    asks_until: Option<At>,
    /// The answer to a try of the last append was lost.
    unsure: bool,
    stopping: &'a Shutdown,
}

impl Driver<'_> {
    async fn work(&mut self, first: Input, ear: &Notify, stopping: &Shutdown) -> Result<(), Ended> {
        let (inbox, mut drained) =
            if self.pokes == UNREAD { self.drain().await? } else { (Vec::new(), Vec::new()) };
        let mut inputs = taken_up(first, inbox);
        // Before anything else: a stop that holds now holds back what a crash would send again.
        inputs.splice(0..0, self.stop_of_a_halted_run().await?);
        loop {
            let admit = !stopping.is_requested();
            let (tenant, run) = (self.scope.tenant(), held(self.run.as_ref())?.id);
            let turn = tracing::info_span!("run.turn", %tenant, %run);
            let (arrived, taken) = (std::mem::take(&mut inputs), std::mem::take(&mut drained));
            self.step(arrived, taken, admit).instrument(turn).await?;
            if held(self.run.as_ref())?.phase != Phase::Active {
                self.deps.notary.over(held(self.run.as_ref())?.id, std::mem::take(&mut self.summary));
                return Ok(());
            }
            // Also right after it was halted: a stop that was lifted in between wakes nobody any more.
            if let Some(news) = self.stop_of_a_halted_run().await? {
                inputs.push(news);
                continue;
            }
            if self.let_go(stopping).await? {
                return Ok(());
            }
            match self.wait(ear, stopping).await? {
                Woken::Results(results) => inputs.extend(results.into_iter().map(|(_, input)| input)),
                Woken::Poked => (inputs, drained) = self.drain().await?,
                Woken::Due => inputs.push(Input::Wake),
            }
        }
    }

    /// Decides on the inputs, admits what they led to, makes it all durable in one append, and performs it. When an emergency
    /// stop does not let it be, nothing of it was written: the run is read again as it stands, and the same inputs are decided
    /// on by a run that the stop holds back.
    async fn step(
        &mut self,
        mut inputs: Vec<Input>,
        drained: Vec<InboxId>,
        admit: bool,
    ) -> Result<(), Ended> {
        loop {
            // What is outside stays there: only what was decided is forgotten.
            match self.try_step(inputs.clone(), drained.clone(), admit).await {
                Err(Ended::Halted(stop)) => {
                    self.read_again().await?;
                    let StopRow { id, scope, reason, .. } = *stop;
                    inputs.insert(0, Input::Halt { stop: id, scope, reason });
                }
                done => return done,
            }
        }
    }

    async fn try_step(
        &mut self,
        inputs: Vec<Input>,
        drained: Vec<InboxId>,
        admit: bool,
    ) -> Result<(), Ended> {
        let mut events = Vec::new();
        for input in inputs {
            self.decide(input, &mut events)?;
        }
        let (mut waiting, mut admitted) = (Vec::new(), Vec::new());
        (self.ask_at, self.asks_until) = (None, None);
        loop {
            let run = held(self.run.as_ref())?;
            let Some(step) = run.awaiting_admission_beside(&waiting).filter(|_| admit) else { break };
            match admission::admit(self.deps, self.scope, run, step).await {
                Ok(Verdict::Decided(decided)) => {
                    let ((verdict, hold), id) = (*decided, step.id.clone());
                    if !self.hear(&id, &mut events).await? {
                        continue;
                    }
                    admitted.extend(hold.map(|hold| (id, hold)));
                    self.decide(verdict, &mut events)?;
                }
                // Its turn comes when another step settles, or a child of the run tells.
                Ok(Verdict::WaitsForRun) => waiting.push(step.id.clone()),
                Ok(Verdict::WaitsForCap) => {
                    waiting.push(step.id.clone());
                    self.ask_at = Some(self.deps.clock.now() + ASK_AGAIN);
                }
                Ok(Verdict::Asks(over)) => {
                    let id = step.id.clone();
                    self.ask(&id, *over, &mut events).await?;
                    waiting.push(id);
                }
                Err(failure) => {
                    let error = Error::Unavailable(failure.message.into());
                    wait_for_the_store(self.deps, self.stopping, error).await?;
                }
            }
        }
        if events.is_empty() {
            return self.discard(drained).await;
        }
        if let Err(ended) = self.append(&events, drained).await {
            // It may be durable all the same: whoever takes the run up then makes the calls, and settles nothing for them.
            let unsure = self.unsure && !matches!(ended, Ended::Halted(_));
            if matches!(ended, Ended::Store(_)) || unsure {
                for (_, hold) in &mut admitted {
                    hold.sends();
                }
            }
            return Err(ended);
        }
        self.holds.heed(&events, admitted);
        self.perform(&events)
    }

    fn decide(&mut self, input: Input, events: &mut Vec<Event>) -> Result<(), Ended> {
        held(self.run.as_ref())?;
        let Some(run) = self.run.take() else { return Ok(()) };
        let context = self.deps.context();
        let decision = catch_unwind(AssertUnwindSafe(|| decide(run, input, &context)));
        let decision = decision.map_err(|_| Ended::Parked("the rules of this run panicked".to_owned()))?;
        events.extend(decision.events);
        self.run = Some(decision.run);
        Ok(())
    }

    /// Makes the events durable. A store that cannot answer now is asked again, with the same append, for as long as the
    /// run is held: what came back from outside is not thrown away, and so not asked (and paid) for twice.
    async fn append(&mut self, events: &[Event], drained: Vec<InboxId>) -> Result<(), Ended> {
        self.unsure = false;
        let used = self.tally.append(events);
        let uses = !used.is_empty();
        let append = loop {
            match self.prepare(events, (&drained, &used)).await {
                Ok(append) => break append,
                Err(Ended::Store(error)) => wait_for_the_store(self.deps, self.stopping, error).await?,
                Err(ended) => return Err(ended),
            }
        };
        let (chain, sends) = (append.chain, !append.outbox.is_empty());
        let (heeds, expected) = (append.heeds_stops, append.expected_version);
        drop(self.summary.read(&append.bytes));
        let append = Prepared::from(append);
        loop {
            match journal::append(&self.deps.db, self.scope, append.clone()).await {
                Ok(_) => break,
                // The answer to an earlier try was lost, and it was yes.
                Err(Error::Conflict) if self.unsure && self.stands(chain).await? => break,
                Err(Error::Conflict) if heeds => {
                    if let Some(stop) = self.halted_by(expected).await? {
                        return Err(Ended::Halted(Box::new(stop)));
                    }
                    // It was lifted in this moment.
                }
                Err(error) if error.is_transient() => {
                    wait_for_the_store(self.deps, self.stopping, error).await?;
                }
                Err(error) => return Err(error.into()),
            }
            self.unsure = true;
        }
        self.chain = chain;
        if sends {
            self.deps.db.hub().wake();
        }
        if uses {
            self.deps.ledger.used(self.scope);
        }
        Ok(())
    }

    /// Whether the journal's head is this one.
    async fn stands(&mut self, chain: ChainHead) -> Result<bool, Ended> {
        let id = held(self.run.as_ref())?.id;
        loop {
            match journal::head(&self.deps.db, self.scope, id).await {
                Ok(head) => return Ok(head.is_some_and(|head| head.chain == chain)),
                Err(error) => wait_for_the_store(self.deps, self.stopping, error).await?,
            }
        }
    }

    async fn prepare(
        &mut self,
        events: &[Event],
        (drained, used): (&[InboxId], &RunUsage),
    ) -> Result<Append, Ended> {
        let (deps, run) = (self.deps, held(self.run.as_ref())?);
        let n = i64::try_from(events.len()).unwrap_or(i64::MAX);
        let version = i64::try_from(run.seq).unwrap_or(i64::MAX) - n;
        let encoded = event::encode(events).map_err(|error| Ended::Parked(error.to_string()))?;
        let record =
            Record::seal(&deps.vault, self.scope, (run.id, version + 1), self.chain, encoded).await?;
        Ok(Append {
            run: run.id,
            epoch: self.epoch,
            expected_version: version,
            format: event::format(events),
            n,
            at: deps.clock.now(),
            bytes: record.bytes,
            body: record.body,
            chain: record.chain,
            projection: projection(run),
            drained: drained.to_vec(),
            outbox: outbox::rows(deps, self.scope, run, events).await?,
            approvals: approval::changes(run, events),
            heeds_stops: events.iter().any(|event| halt::admits(run, event)),
            halt: halt::told(events),
            kept: kept(run, events),
            used: used.clone(),
        })
    }

    /// Starts what the durable events ask for, and stops what they no longer want.
    fn perform(&mut self, events: &[Event]) -> Result<(), Ended> {
        for event in events {
            if let Fact::StepAbandoned { step, .. }
            | Fact::StepFailed { step, .. }
            | Fact::StepResolved { step, .. } = &event.fact
            {
                self.outside.stop(step);
            }
        }
        let run = held(self.run.as_ref())?;
        let owed = events.iter().flat_map(|event| effects(run, event)).collect();
        self.start(owed)
    }

    /// Starts what is performed here; the outbox does the rest.
    fn start(&mut self, owed: Vec<Effect>) -> Result<(), Ended> {
        let mut starting = Vec::new();
        let run = held(self.run.as_ref())?;
        for effect in owed {
            let (id, work) = match effect {
                Effect::Perform(id) => (id, perform as Start),
                Effect::Reconcile(id) => (id, reconcile as Start),
                _ => continue,
            };
            let step = run.step(&id).filter(|step| !step.is_final());
            starting.extend(step.and_then(|step| Some((id, work(self.deps, self.scope, run, step)?))));
        }
        for (id, work) in starting {
            self.outside.start(id, work);
        }
        Ok(())
    }

    /// What lies in the inbox, as inputs, with the rows that the next append takes in.
    async fn drain(&mut self) -> Result<(Vec<Input>, Vec<InboxId>), Ended> {
        loop {
            match self.look().await {
                Err(Ended::Store(error)) => wait_for_the_store(self.deps, self.stopping, error).await?,
                looked => return looked,
            }
        }
    }

    async fn look(&mut self) -> Result<(Vec<Input>, Vec<InboxId>), Ended> {
        let id = held(self.run.as_ref())?.id;
        let (pokes, waiting) = inbox::list(&self.deps.db, self.scope, id).await?;
        self.pokes = pokes;
        let (mut inputs, mut rows) = (Vec::new(), Vec::new());
        for row in waiting {
            let place = Place { purpose: "inbox", row: row.id.bytes() };
            let plain = self.deps.vault.sealer().open(self.scope, place, &row.input).await?;
            match serde_json::from_slice::<Arrival>(&plain) {
                Ok(arrival) => inputs.push(Input::Arrived(arrival)),
                // Where and not what, as for a body.
                Err(error) => {
                    let reason =
                        format!("an inbox row of a form that is not known, at byte {}", error.column());
                    return Err(Ended::Unknown(reason));
                }
            }
            rows.push(row.id);
        }
        Ok((inputs, rows))
    }

    async fn discard(&mut self, rows: Vec<InboxId>) -> Result<(), Ended> {
        let id = held(self.run.as_ref())?.id;
        while !rows.is_empty() {
            match inbox::discard(&self.deps.db, self.scope, id, rows.clone()).await {
                Err(error) if error.is_transient() => {
                    wait_for_the_store(self.deps, self.stopping, error).await?;
                }
                discarded => return Ok(discarded?),
            }
        }
        Ok(())
    }

    /// Lets the run go when nothing is outside and nothing will happen soon, or when the process is stopping.
    /// `false` when it is still held.
    async fn let_go(&mut self, stopping: &Shutdown) -> Result<bool, Ended> {
        if !self.outside.is_empty() {
            return Ok(false);
        }
        let run = held(self.run.as_ref())?;
        let now = self.deps.clock.now();
        let due = self.next_due(run);
        let stopped = stopping.is_requested();
        if !stopped && (self.ask_at.is_some() || due.is_some_and(|due| due <= now + PARK_AFTER)) {
            return Ok(false);
        }
        let version = i64::try_from(run.seq).unwrap_or(i64::MAX);
        let held = Held { run: run.id, epoch: self.epoch, version, pokes: self.pokes };
        let wake_at = if stopped { Some(now) } else { due };
        if lease::release(&self.deps.db, self.scope, held, wake_at).await? {
            return Ok(true);
        }
        // Something came in between, or the run is nobody's or somebody else's already.
        match journal::head(&self.deps.db, self.scope, held.run).await? {
            Some(head) if head.epoch == self.epoch && head.owner.is_some() => Ok(false),
            _ => Err(Ended::Lost),
        }
    }

    async fn wait(&mut self, ear: &Notify, stopping: &Shutdown) -> Result<Woken, Ended> {
        let run = held(self.run.as_ref())?;
        let now = self.deps.clock.now();
        let idle = self.outside.is_empty();
        let due = self.next_due(run).map(|due| due.since(now));
        // Whoever lifts a stop wakes runs that were let go; this one is not yet.
        let due = match due {
            due if idle || run.halted.is_none() => due,
            Some(due) => Some(due.min(LOOK_FOR_STOPS)),
            None => Some(LOOK_FOR_STOPS),
        };
        let due = match self.ask_at.map(|at| at.since(now)) {
            Some(asks) => Some(due.map_or(asks, |due| due.min(asks))),
            None => due,
        };
        // With nothing outside and nothing due soon the run was not let go because it was poked: look at once.
        if idle && (stopping.is_requested() || due.is_none_or(|due| due > PARK_AFTER)) {
            return Ok(Woken::Poked);
        }
        let clock = self.deps.clock.clone();
        let timer = async move {
            match due {
                Some(due) => clock.sleep(due).await,
                None => std::future::pending().await,
            }
        };
        Ok(tokio::select! {
            biased;
            results = self.outside.results() => Woken::Results(results),
            () = ear.notified() => Woken::Poked,
            () = timer => Woken::Due,
        })
    }
}

/// The folded run, absent only after a decision panicked: then it is parked. Borrows the field alone, because effects under way
/// may move between threads, and not be shared by them.
fn held(run: Option<&Run>) -> Result<&Run, Ended> {
    run.ok_or_else(|| Ended::Parked("a decision was cut short".to_owned()))
}
