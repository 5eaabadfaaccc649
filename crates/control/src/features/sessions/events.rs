//! A session's event stream: what was said, then what is being said, until the session is stopped.
//!
//! Invariant: it is a view of the events of the session's runs, exchange by exchange. Every frame of a stored event is sent
//! once and in order, whichever process drives the run: its id says where it stands, and a client that comes back with one
//! gets what follows. Token text comes in between, best effort and without an id; the message that it becomes is whole. Hints
//! make it quick, and a look at the rows of what is watched here makes it certain (the store's `watched.rs`).

use std::collections::{HashSet, VecDeque};

use futures_util::{Stream, stream};
use lantern_edge::sse::{After, Frame};
use lantern_edge::{Code, Result, pass};
use lantern_engine::Fact;
use lantern_policy::Scope;
use lantern_store::journal::{self, RunRow, Stored};
use lantern_store::notify::{Delta, Heard, RunWatch};
use lantern_store::sessions;
use lantern_types::{At, RunId, SessionId};
use tokio::sync::OwnedSemaphorePermit;

use super::frames::{CONNECTED, Position, Teller, Told};
use super::service;
use crate::App;
use crate::features::runs::history;

/// The place of a frame that no event has.
const LAST_SEQ: u64 = (1 << 28) - 1;

/// The stream of a session's frames; `None` for a client that has seen the last of them. `session_not_found` when it is not
/// there, `too_many_streams` when the process has enough.
pub(super) async fn follow(
    app: &App,
    scope: Scope,
    session: SessionId,
    after: After,
) -> Result<Option<impl Stream<Item = Frame> + Send + 'static>> {
    let row = service::find(app, scope, session).await?;
    if row.stopped_at.is_some() && after.id >= stopped_at(row.exchanges).id() {
        return Ok(None);
    }
    let place = app.stream_place()?;
    let connected = Told::new(CONNECTED, app.clock.now(), &[]);
    let tail = Tail {
        watch: app.db.hub().subscribe(scope, sessions::watched(session)),
        app: app.clone(),
        scope,
        session,
        after: after.id,
        live: after.live,
        next: Position::exchange_of(after.id).max(1),
        now: None,
        ready: VecDeque::from([frame(None, &connected)]),
        over: false,
        _place: place,
    };
    Ok(Some(stream::unfold(tail, |mut tail| async move { tail.frame().await.map(|frame| (frame, tail)) })))
}

/// The last frame for a client who may no longer follow.
pub(super) fn no_longer(at: At) -> Frame {
    let (code, words) = (Code::Unauthorized.as_str(), pass::NO_LONGER);
    frame(None, &Told::new("error", at, &[("code", code), ("error", words)]))
}

/// Where the frame stands that says that a session was stopped.
const fn stopped_at(exchanges: u32) -> Position {
    Position { exchange: exchanges.saturating_add(1), leg: 0, seq: 0, n: 1 }
}

fn frame(id: Option<u64>, told: &Told) -> Frame {
    Frame { id, event: "".into(), data: told.json().to_string() }
}

struct Tail {
    app: App,
    scope: Scope,
    session: SessionId,
    /// The id of the last frame that the client has.
    after: u64,
    live: bool,
    /// The exchange to be told after the one that is.
    next: u32,
    now: Option<Exchange>,
    ready: VecDeque<Frame>,
    watch: RunWatch,
    over: bool,
    _place: OwnedSemaphorePermit,
}

/// The exchange that is being told.
struct Exchange {
    n: u32,
    leg: u32,
    run: RunId,
    /// The seq of the next event.
    seq: u64,
    teller: Teller,
    /// Appends that were read and not opened: one body at a time is in memory, however large they are.
    unopened: VecDeque<Stored>,
    /// Steps whose outcome was told: text that comes late for them is dropped.
    settled: HashSet<String>,
    watch: RunWatch,
}

impl Tail {
    async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            if self.over {
                return None;
            }
            if let Err(error) = self.read_on().await {
                tracing::warn!(session = %self.session, %error, "an event stream broke off");
                // From anything else the client resumes where it was; nothing is lost by ending here.
                let exchange = self.now.take().filter(|_| history::is_spoilt(&error))?;
                self.spoilt(&exchange);
            }
        }
    }

    async fn read_on(&mut self) -> Result<()> {
        match self.now.take() {
            Some(mut exchange) => {
                let more = self.tell(&mut exchange).await;
                // Kept when it failed too: what is spoilt is passed over by name.
                if more.as_ref().map_or(true, |more| *more) {
                    self.now = Some(exchange);
                }
                more.map(drop)
            }
            None => self.begin().await,
        }
    }

    /// Takes up the next exchange, or waits for one, or for the end.
    async fn begin(&mut self) -> Result<()> {
        let Some(row) = sessions::find(&self.app.db, self.scope, self.session).await? else {
            self.over = true;
            return Ok(());
        };
        if self.next <= row.exchanges {
            let n = self.next;
            self.next = n.saturating_add(1);
            let found = sessions::exchanges(&self.app.db, self.scope, self.session, n, 1).await?;
            self.now = found.into_iter().find(|(found, _)| *found == n).map(|(n, run)| self.exchange(n, run));
        } else if let Some(at) = row.stopped_at {
            let told = Told::new("session.stopped", at, &[]);
            self.push(stopped_at(row.exchanges), &told);
            self.over = true;
        } else if self.live {
            self.watch.changed().await;
        } else {
            self.over = true;
        }
        Ok(())
    }

    fn exchange(&self, n: u32, run: RunId) -> Exchange {
        Exchange {
            n,
            leg: 0,
            run,
            seq: 1,
            teller: Teller::new(self.session, run),
            unopened: VecDeque::new(),
            settled: HashSet::new(),
            watch: self.app.db.hub().subscribe(self.scope, run),
        }
    }

    /// Tells what there is of an exchange, or waits for more. `false` when it is over.
    async fn tell(&mut self, exchange: &mut Exchange) -> Result<bool> {
        if let Some(append) = exchange.unopened.pop_front() {
            self.open(exchange, &append).await?;
            return Ok(true);
        }
        if exchange.teller.over {
            return Ok(false);
        }
        let Some(row) = journal::head(&self.app.db, self.scope, exchange.run).await? else {
            // What a run went on as begins a moment after its end.
            let coming = exchange.leg > 0 && self.is_busy().await?;
            return self.wait_if(coming, exchange).await;
        };
        if u64::try_from(row.version).is_ok_and(|version| version >= exchange.seq) {
            exchange.unopened =
                history::page(&self.app, self.scope, exchange.run, exchange.seq).await?.into();
            return Ok(true);
        }
        match row.finished_at {
            None => self.wait_if(true, exchange).await,
            Some(at) => Ok(self.leg_over(exchange, &row, at)),
        }
    }

    async fn is_busy(&self) -> Result<bool> {
        let row = sessions::find(&self.app.db, self.scope, self.session).await?;
        Ok(row.is_some_and(|row| row.busy))
    }

    /// A run is over whose end said nothing of the exchange: it went on as another one, or ended in its row alone.
    fn leg_over(&mut self, exchange: &mut Exchange, row: &RunRow, at: At) -> bool {
        if let Some(next) = exchange.teller.next.take() {
            exchange.run = next;
            exchange.leg = exchange.leg.saturating_add(1);
            exchange.seq = 1;
            exchange.watch = self.app.db.hub().subscribe(self.scope, next);
            return true;
        }
        let told = exchange.teller.ended(at, &row.status, row.error_code.as_deref());
        self.push(Position { seq: LAST_SEQ, n: 1, ..place(exchange) }, &told);
        false
    }

    async fn open(&mut self, exchange: &mut Exchange, append: &Stored) -> Result<()> {
        for event in history::events(&self.app, self.scope, exchange.run, append).await? {
            if event.seq < exchange.seq {
                continue;
            }
            if let Fact::StepSettled { step, .. } | Fact::StepFailed { step, .. } = &event.fact {
                exchange.settled.insert(step.as_str().to_owned());
            }
            exchange.seq = event.seq.saturating_add(1);
            for (n, told) in (1..).zip(exchange.teller.take(&event)) {
                self.push(Position { seq: event.seq, n, ..place(exchange) }, &told);
            }
        }
        Ok(())
    }

    /// Sends a frame, unless the client has it.
    fn push(&mut self, position: Position, told: &Told) {
        let id = position.id();
        if id > self.after {
            self.ready.push_back(frame(Some(id), told));
        }
    }

    /// Waits for news of an exchange, if there may be some and the client waits. `false` when not.
    async fn wait_if(&mut self, coming: bool, exchange: &mut Exchange) -> Result<bool> {
        if !coming || !self.live {
            self.over |= coming;
            return Ok(false);
        }
        tokio::select! {
            biased;
            // Deleted with its session, it says nothing itself.
            () = self.watch.changed() => {}
            heard = exchange.watch.next() => match heard {
                Heard::Delta(delta) if !exchange.settled.contains(&delta.step) => {
                    self.ready.push_back(frame(None, &said(&delta, self.app.clock.now())));
                }
                Heard::Delta(_) | Heard::Changed => {}
            },
        }
        Ok(true)
    }

    /// Says that the rest of an exchange cannot be read, and goes on with the next.
    fn spoilt(&mut self, exchange: &Exchange) {
        let run = exchange.run.to_string();
        let data = [("code", Code::RunUnreadable.as_str()), ("runId", run.as_str())];
        let told = Told::new("session.status_idle", self.app.clock.now(), &data);
        self.push(Position { seq: LAST_SEQ, n: 2, ..place(exchange) }, &told);
    }
}

const fn place(exchange: &Exchange) -> Position {
    Position { exchange: exchange.n, leg: exchange.leg, seq: 0, n: 0 }
}

fn said(delta: &Delta, at: At) -> Told {
    let (run, offset) = (delta.run.to_string(), delta.offset.to_string());
    let data = [
        ("content", delta.text.as_str()),
        ("runId", &run),
        ("step", &delta.step),
        ("offset", offset.as_str()),
    ];
    Told::new("agent.delta", at, &data)
}
