//! `lantern runs watch`: the runs of a tenant on the whole screen, as they go.
//!
//! Invariant: whatever ends it, the terminal is as it was before; and a run is never touched by being watched, only by an
//! order that was confirmed. What is seen is a function of the [`state`], into which keys, lists and events are folded.
//! This file connects the three, and decides nothing.

mod draw;
mod feed;
mod screen;
mod state;

use std::pin::{Pin, pin};

use clap::Args;
use crossterm::event::EventStream;
use futures_util::stream::{FuturesUnordered, Stream, StreamExt as _};
use lantern_net::{RealClock, Signals};
use lantern_types::edge::Clock as _;
use lantern_types::{At, Dur};
use serde_json::{Value, json};

use crate::cli::api::{Api, Call, Listed, encode};
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure};

use screen::Screen;
use state::{Act, Effect, Input, Order, State};

/// How often the list is asked for.
const EVERY: Dur = Dur::from_secs(1);
/// How often the screen is drawn anew when nothing happens, for the elapsed times.
const TICK: Dur = Dur::from_millis(200);
/// It is drawn no more often than this, however much happens.
const FRAME: Dur = Dur::from_millis(40);

/// Flags of `lantern runs watch`.
#[derive(Debug, Args)]
#[command(after_help = "\
Keys:
  up, down, k, j       choose a run
  page up, page down   look at its earlier steps
  c                    cancel it, after a question
  a, d                 approve or deny the step that waits, after a question
  q, Ctrl-C            leave; the runs go on")]
pub(crate) struct WatchArgs {
    /// Only runs of this agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Only runs in one of these states: queued, running, paused, succeeded, failed, cancelled
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    status: Vec<String>,
    /// At most this many, the newest
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
}

/// Shows the runs until somebody leaves.
pub(crate) async fn watch(console: &Console, api: &Api, args: &WatchArgs) -> Result<Exit, Failure> {
    if !console.live || !console.interactive() {
        return Err(Failure::usage("`runs watch` fills a terminal, and there is none")
            .code("no_terminal")
            .hint("use `lantern runs list`, or `lantern logs RUN -f` for one run"));
    }
    // Before the screen is taken: what is wrong with the login or the flags is told as by every command.
    let first = list(api, args).await?;
    let mut signals = Signals::listen().map_err(|error| untaken(&error))?;
    let mut screen = Screen::take().map_err(|error| untaken(&error))?;
    let outcome = watched(api, args, first, &mut screen, &mut signals).await;
    drop(screen);
    outcome
}

async fn watched(
    api: &Api,
    args: &WatchArgs,
    first: Input,
    screen: &mut Screen,
    signals: &mut Signals,
) -> Result<Exit, Failure> {
    let clock = RealClock::new();
    let mut state = State::new(api.base().as_str());
    let mut keys = EventStream::new();
    let mut lists = pin!(lists(api, &clock, args));
    let mut feed: Option<Pin<Box<dyn Stream<Item = Input> + '_>>> = None;
    let mut orders = FuturesUnordered::new();
    let mut drawn = At::default();
    let mut next = Some(Ok(first));
    loop {
        let effects = match next {
            Some(input) => state.apply(input?),
            None => Vec::new(),
        };
        for effect in effects {
            match effect {
                Effect::Leave(exit) => return Ok(exit),
                Effect::Follow(run) => feed = Some(Box::pin(feed::follow(api, &clock, run))),
                Effect::Send(order) => orders.push(send(api, order)),
            }
        }
        let due = clock.now().since(drawn) >= FRAME;
        if due {
            screen.show(&state, clock.now()).map_err(|error| untaken(&error))?;
            drawn = clock.now();
        }
        // What was not drawn yet is drawn as soon as it may be.
        let wait = if due { TICK } else { FRAME };
        next = tokio::select! {
            biased;
            _ = signals.recv() => return Ok(Exit::Interrupted),
            event = keys.next() => match event {
                Some(Ok(event)) => screen::read(&event).map(|key| Ok(Input::Key(key))),
                Some(Err(error)) => return Err(untaken(&error)),
                None => return Ok(Exit::Ok),
            },
            Some(done) = orders.next(), if !orders.is_empty() => Some(Ok(done)),
            Some(listed) = lists.next() => Some(listed),
            told = said(&mut feed) => Some(Ok(told)),
            () = clock.sleep(wait) => None,
        };
    }
}

/// What the run that is looked at says next; nothing more ever when it has said all.
async fn said(feed: &mut Option<Pin<Box<dyn Stream<Item = Input> + '_>>>) -> Input {
    if let Some(stream) = feed {
        if let Some(input) = stream.next().await {
            return input;
        }
        *feed = None;
    }
    std::future::pending().await
}

/// The list, again and again. A server that is away is worth waiting for.
fn lists<'a>(
    api: &'a Api,
    clock: &'a RealClock,
    args: &'a WatchArgs,
) -> impl Stream<Item = Result<Input, Failure>> + 'a {
    futures_util::stream::unfold((), move |()| async move {
        clock.sleep(EVERY).await;
        let listed = match list(api, args).await {
            Err(failure) if failure.passing => Ok(Input::Lost(failure.message)),
            listed => listed,
        };
        Some((listed, ()))
    })
}

async fn list(api: &Api, args: &WatchArgs) -> Result<Input, Failure> {
    let status = (!args.status.is_empty()).then(|| args.status.join(","));
    let filters = [("agent", args.agent.clone()), ("status", status)];
    let given = filters.into_iter().filter_map(|(name, value)| value.map(|value| (name, value)));
    let given: Vec<String> = given.map(|(name, value)| format!("{name}={}", encode(&value))).collect();
    let path = format!("/v1/runs?{}", given.join("&"));
    let Listed { entries, more, .. } = api.list(&path, args.limit).await?;
    Ok(Input::Runs(entries, more))
}

/// Sends an order that was confirmed.
async fn send(api: &Api, order: Order) -> Input {
    let path = format!("/v1/runs/{}", order.run);
    let decide = |step: &str, approved: bool| {
        let body = json!({ "approved": approved, "note": Value::Null });
        Call::post(format!("{path}/approvals/{}", encode(step)), body)
    };
    let call = match &order.act {
        Act::Cancel => Call::post(format!("{path}/cancel"), json!({ "reason": Value::Null })),
        Act::Approve { step, .. } => decide(step, true),
        Act::Deny { step, .. } => decide(step, false),
    };
    let outcome = api.fetch(call).await.map(drop).map_err(|failure| failure.message);
    Input::Ordered(order, outcome)
}

fn untaken(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot use the terminal: {error}"))
        .code("terminal_failed")
        .hint("use `lantern runs list`, or `lantern logs RUN -f` for one run")
}
