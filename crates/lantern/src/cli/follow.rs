//! Following a run: its events as they come, through restarts of the server, until it is over.
//!
//! Invariant: every stored event is shown once and in order; what was shown is known by its number, and every new
//! connection asks for what comes after it. What an interrupted command has shown is read again, so that it is known what
//! the run waits for, and not shown again. Gives up only when the server stays away for five minutes, or ends the stream
//! with an error, which is the command's. How events look is in [`view`].

pub(crate) mod approvers;
pub(crate) mod backoff;
pub(crate) mod frame;
mod next;
mod place;
pub(crate) mod question;
mod summary;
pub(crate) mod tree;
pub(crate) mod view;
pub(crate) mod waits;

use std::future::Future;
use std::pin::pin;

use lantern_net::http::Response;
use lantern_net::{Signals, sse};
use lantern_types::{Dur, RunId, edge::Clock};
use serde_json::Value;

use crate::cli::api::{Api, Auth, Call};
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure};
use crate::credentials;

use approvers::Approvers;
use backoff::Backoff;
use frame::Frame;
use place::Place;
use view::View;
use waits::{Open, Waits};

pub(crate) use frame::origin;
use summary::{Status, continued};
pub(crate) use summary::{result, summary, took};

/// The longest frame that is read. A frame carries its payload twice.
pub(crate) const FRAME_BYTES_MAX: usize = 32 << 20;
/// How often a run that is coming is asked for: for about a quarter of a minute.
const COMING_MAX: u32 = 6;
/// How often the live lines are drawn anew.
const TICK: Dur = Dur::from_millis(100);
/// How often in a row a login is renewed for a stream that tells nothing in between.
const RENEWALS_MAX: u32 = 2;

/// What is followed, and from where.
pub(crate) struct Follow<'a> {
    /// The server.
    pub(crate) api: &'a Api,
    /// The time, for waiting and for elapsed times.
    pub(crate) clock: &'a dyn Clock,
    /// The run.
    pub(crate) run: RunId,
    /// Show everything again, even if an earlier command was interrupted in the middle.
    pub(crate) from_start: bool,
    /// Go on when the very first connection fails: the run was just created, so the server is known to be there.
    pub(crate) patient: bool,
    /// Another run goes on as this one, which the server may not have begun yet.
    pub(crate) coming: bool,
}

/// What a run waits for, read from its events so far.
pub(crate) async fn waits(api: &Api, run: RunId) -> Result<Waits, Failure> {
    let mut response = api.events(run, 0, false).await?;
    let (mut parser, mut open) = (sse::Parser::new(FRAME_BYTES_MAX), Open::default());
    let mut approvers = Approvers::default();
    while let Some(chunk) = response.chunk().await.map_err(|error| api.unreached(&error))? {
        let events = parser.push(&chunk).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        for event in events {
            let mut frame = Frame::read(event);
            approvers.mark(api, &mut frame).await;
            open.apply(&frame);
        }
    }
    Ok(open.waits())
}

/// Shows how the run ended and what it answered.
fn ending(console: &Console, run: &Value) -> Result<(), Failure> {
    console.say(&summary(run, console.paint))?;
    match result(run, console.terminal) {
        Some(text) => console.say(&format!("\n{text}")),
        None => Ok(()),
    }
}

/// How a stream came to its end.
enum Closed {
    Over(Status),
    /// The connection ended without saying how the run did.
    Cut,
    /// The login was over, and was renewed.
    Renewed,
}

impl Follow<'_> {
    /// Shows the run until it is over, and every run that it goes on as, then how the last one ended. Answers with the
    /// exit code that belongs to that one.
    pub(crate) async fn to_the_end(&self, console: &Console) -> Result<Exit, Failure> {
        let mut signals = Signals::listen()
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot listen for signals: {error}")))?;
        let mut follow = Follow { ..*self };
        loop {
            let (status, run) = follow.one(console, &mut signals).await?;
            let Some(next) = continued(&run).filter(|next| *next != follow.run) else {
                if !console.json() {
                    ending(console, &run)?;
                }
                return Ok(status.exit());
            };
            console.note(&format!("goes on as the run {next}"));
            // The server has just told us of it, so it is worth waiting for.
            follow = Follow { run: next, patient: true, coming: true, ..follow };
        }
    }

    /// Shows this run alone until it is over; answers with how, and with the run.
    async fn one(&self, console: &Console, signals: &mut Signals) -> Result<(Status, Value), Failure> {
        let place = credentials::Place::find().map(|place| Place::new(&place.following(), self.run));
        let mut view = View::new(console, self.run);
        let over = tokio::select! {
            biased;
            _ = signals.recv() => Err(self.interrupted()),
            over = self.until_over(console, &mut view, place.as_ref()) => over,
        };
        view.close();
        let status = over?;
        let run = self.api.fetch(Call::get(format!("/v1/runs/{}", self.run))).await;
        let run = run.map_err(|failure| {
            failure.hint(format!("the run is over; see how it ended with `lantern runs get {}`", self.run))
        })?;
        if let Some(place) = &place {
            place.forget();
        }
        Ok((status, run))
    }

    /// Shows what has happened so far.
    pub(crate) async fn history(&self, console: &Console) -> Result<(), Failure> {
        let mut session = Session { live: false, ..Session::new(self) };
        let mut view = View::still(console);
        session.show(&mut view).await.map(|_| ())
    }

    async fn until_over(
        &self,
        console: &Console,
        view: &mut View<'_>,
        place: Option<&Place>,
    ) -> Result<Status, Failure> {
        let shown = place.filter(|_| !self.from_start).map_or(0, Place::read);
        if shown > 0 {
            console.note(&format!("events 1 to {shown} were shown before; --from-start shows them again"));
        }
        let mut session = Session { shown, reached: self.patient, place, ..Session::new(self) };
        match session.show(view).await? {
            Closed::Over(status) => Ok(status),
            // `show` answers so only when it was asked for history.
            Closed::Cut | Closed::Renewed => Err(Failure::new(Exit::Failed, "the event stream ended early")),
        }
    }

    fn interrupted(&self) -> Failure {
        Failure::new(Exit::Interrupted, "interrupted; the run goes on")
            .hint(format!("follow it again with `lantern logs {} -f`", self.run))
    }
}

/// One act of following, over as many connections as it takes.
struct Session<'a> {
    follow: &'a Follow<'a>,
    live: bool,
    /// The number of the last event that was read.
    after: u64,
    /// The number of the last event that an earlier command has shown.
    shown: u64,
    /// The server has answered before, so when it does not now, it is worth waiting for.
    reached: bool,
    place: Option<&'a Place>,
    /// What the server said is wrong. Only an end without more follows it.
    broken: Option<Failure>,
    approvers: Approvers,
}

impl<'a> Session<'a> {
    fn new(follow: &'a Follow<'a>) -> Self {
        let (place, broken, approvers) = (None, None, Approvers::default());
        Self { follow, live: true, after: 0, shown: 0, reached: false, place, broken, approvers }
    }

    async fn show(&mut self, view: &mut View<'_>) -> Result<Closed, Failure> {
        let mut backoff = Backoff::default();
        let (mut early, mut renewals) = (0, 0);
        loop {
            let before = self.after;
            let lost = match self.connection(view, &mut backoff, renewals < RENEWALS_MAX).await {
                Ok(Closed::Over(status)) => return Ok(Closed::Over(status)),
                Ok(Closed::Renewed) => {
                    renewals = if self.after > before { 1 } else { renewals + 1 };
                    continue;
                }
                Ok(Closed::Cut) if !self.live => return Ok(Closed::Cut),
                Ok(Closed::Cut) => Failure::new(Exit::Unreachable, "the server closed the event stream"),
                Err(failure) if failure.passing && self.reached => failure,
                Err(failure)
                    if self.follow.coming && failure.exit == Exit::NotFound && early < COMING_MAX =>
                {
                    early += 1;
                    let wait = backoff.next().unwrap_or(TICK);
                    self.ticking(view, self.follow.clock.sleep(wait)).await;
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            let Some(wait) = backoff.next() else { return Err(self.given_up(lost)) };
            view.lost();
            self.ticking(view, self.follow.clock.sleep(wait)).await;
        }
    }

    /// One connection, from opening to whatever ends it.
    async fn connection(
        &mut self,
        view: &mut View<'_>,
        backoff: &mut Backoff,
        may_renew: bool,
    ) -> Result<Closed, Failure> {
        let api = self.follow.api;
        let opening = api.events(self.follow.run, self.after, self.live);
        let response = self.ticking(view, opening).await?;
        self.reached = true;
        let closed = self.read(response, view, backoff).await;
        let Some(broken) = self.broken.take() else { return closed };
        if broken.exit == Exit::Forbidden
            && may_renew
            && let Auth::Login(token) = api.auth()
            && api.renew(&token).await?.is_some()
        {
            return Ok(Closed::Renewed);
        }
        Err(broken)
    }

    async fn read(
        &mut self,
        mut response: Response,
        view: &mut View<'_>,
        backoff: &mut Backoff,
    ) -> Result<Closed, Failure> {
        let api = self.follow.api;
        let mut parser = sse::Parser::new(FRAME_BYTES_MAX);
        loop {
            let next = self.ticking(view, response.chunk()).await;
            let Some(chunk) = next.map_err(|error| api.unreached(&error))? else { return Ok(Closed::Cut) };
            // Only a byte proves that the server is back: one that accepts and closes is still away.
            backoff.reset();
            view.found();
            let events =
                parser.push(&chunk).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
            for event in events {
                if let Some(status) = self.event(event, view).await? {
                    return Ok(Closed::Over(status));
                }
            }
            if let Some(place) = self.place {
                place.keep(self.after.max(self.shown));
            }
        }
    }

    /// Shows one event; answers with the run's status when it was the last.
    async fn event(&mut self, event: sse::Event, view: &mut View<'_>) -> Result<Option<Status>, Failure> {
        let mut frame = Frame::read(event);
        if let Some(seq) = frame.seq {
            if seq <= self.after {
                return Ok(None);
            }
            self.after = seq;
        }
        if let Some((code, words)) = frame.error() {
            let broken = self.follow.api.broke_off(code, words);
            // A login that is over may be renewed: then there is nothing to show.
            let renewable =
                broken.exit == Exit::Forbidden && matches!(self.follow.api.auth(), Auth::Login(_));
            self.broken = Some(broken);
            if renewable {
                return Ok(None);
            }
        }
        self.approvers.mark(self.follow.api, &mut frame).await;
        let now = self.follow.clock.now();
        match frame.seq {
            Some(seq) if seq <= self.shown => view.known(&frame, now),
            _ => view.frame(&frame, now)?,
        }
        Ok(frame.end_status().map(Status::read))
    }

    /// Waits for `future` while the live lines keep moving.
    async fn ticking<T>(&self, view: &mut View<'_>, future: impl Future<Output = T>) -> T {
        let clock = self.follow.clock;
        let mut future = pin!(future);
        loop {
            tokio::select! {
                biased;
                done = &mut future => return done,
                () = clock.sleep(TICK), if view.moves() => view.tick(clock.now()),
            }
        }
    }

    fn given_up(&self, lost: Failure) -> Failure {
        let minutes = backoff::TOTAL_MAX.millis() / 60_000;
        let message = format!("the server has been away for {minutes} minutes: {}", lost.message);
        Failure::new(Exit::Unreachable, message).hint(format!(
            "nothing is lost: once it is back, `lantern logs {} -f` goes on from here",
            self.follow.run
        ))
    }
}
