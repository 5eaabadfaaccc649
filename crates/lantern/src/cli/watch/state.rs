//! What the screen shows, and what a key, a list or an event makes of it.
//!
//! Invariant: an order goes out only after the question about it was answered with `y`, and for the run that the question
//! named. Pure: answers with what is to be done, and somebody else does it.

mod detail;

use lantern_types::{At, MicroUsd, RunId};
use serde_json::Value;

use crate::cli::console::Style;
use crate::cli::failure::Exit;
use crate::cli::follow::frame::Frame;
use crate::cli::format::{dollars, line, text};

pub(super) use detail::Detail;

/// A line of the list.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) run: RunId,
    pub(super) agent: String,
    pub(super) status: String,
    /// Since when it runs, or waits to.
    pub(super) since: Option<At>,
    pub(super) until: Option<At>,
    pub(super) cost: MicroUsd,
}

/// What somebody may do to a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Cancel,
    Approve { step: String, about: String },
    Deny { step: String, about: String },
}

/// An order, once it is confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) run: RunId,
    pub(super) act: Act,
}

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    Escape,
    Interrupt,
    Char(char),
}

/// Something that happened.
pub(super) enum Input {
    Key(Key),
    /// The newest runs, and whether there are more.
    Runs(Vec<Value>, bool),
    /// An event of a run.
    Frame(RunId, Frame),
    /// A run that is over, whole.
    Over(RunId, Value),
    /// A run that says no more, and why.
    Broken(RunId, String),
    /// The server is away, and why.
    Lost(String),
    /// What came of an order.
    Ordered(Order, Result<(), String>),
}

/// Something to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Leave(Exit),
    /// Listen to this run and to no other.
    Follow(RunId),
    Send(Order),
}

/// All that is shown.
#[derive(Debug)]
pub(super) struct State {
    pub(super) server: String,
    pub(super) rows: Vec<Row>,
    pub(super) more: bool,
    /// The run that is looked at.
    pub(super) detail: Option<Detail>,
    /// How many lines of it are below what is seen.
    pub(super) back: usize,
    /// The order that is asked about.
    pub(super) asked: Option<Order>,
    /// What came of the last thing that was done.
    pub(super) said: Option<(Style, String)>,
    pub(super) lost: Option<String>,
}

impl State {
    /// Nothing is known yet.
    pub(super) fn new(server: &str) -> Self {
        let (rows, more, detail, back) = (Vec::new(), false, None, 0);
        Self { server: server.to_owned(), rows, more, detail, back, asked: None, said: None, lost: None }
    }

    /// Takes something in.
    pub(super) fn apply(&mut self, input: Input) -> Vec<Effect> {
        match input {
            Input::Key(key) => return self.key(key),
            Input::Runs(runs, more) => return self.listed(&runs, more),
            Input::Frame(run, frame) => self.looked_at(run, |detail| detail.apply(&frame)),
            Input::Over(run, whole) => self.looked_at(run, |detail| detail.end(whole)),
            Input::Broken(run, words) => self.looked_at(run, |detail| detail.broken(&words)),
            Input::Lost(words) => self.lost = Some(words),
            Input::Ordered(order, outcome) => self.said = Some(told(&order, outcome)),
        }
        Vec::new()
    }

    /// The row of the run that is looked at.
    pub(super) fn at(&self) -> Option<usize> {
        let run = self.detail.as_ref()?.run;
        self.rows.iter().position(|row| row.run == run)
    }

    fn looked_at(&mut self, run: RunId, change: impl FnOnce(&mut Detail)) {
        if let Some(detail) = self.detail.as_mut().filter(|detail| detail.run == run) {
            change(detail);
        }
    }

    fn listed(&mut self, runs: &[Value], more: bool) -> Vec<Effect> {
        self.lost = None;
        let kept = self.at().and_then(|at| self.rows.get(at)).cloned();
        self.rows = runs.iter().filter_map(Row::read).collect();
        self.more = more;
        if let Some(kept) = kept
            && !self.rows.iter().any(|row| row.run == kept.run)
        {
            // It is looked at, so it stays, below those that are newer.
            self.rows.push(kept);
        }
        match (&self.detail, self.rows.first()) {
            (None, Some(first)) => {
                let run = first.run;
                self.look(run)
            }
            _ => Vec::new(),
        }
    }

    fn look(&mut self, run: RunId) -> Vec<Effect> {
        self.detail = Some(Detail::new(run));
        self.back = 0;
        vec![Effect::Follow(run)]
    }

    fn key(&mut self, key: Key) -> Vec<Effect> {
        if key == Key::Interrupt {
            return vec![Effect::Leave(Exit::Interrupted)];
        }
        if let Some(order) = self.asked.take() {
            let confirmed = matches!(key, Key::Char('y' | 'Y'));
            self.said = (!confirmed).then(|| (Style::Dim, "nothing was changed".to_owned()));
            return confirmed.then_some(Effect::Send(order)).into_iter().collect();
        }
        self.said = None;
        match key {
            Key::Char('q') | Key::Escape => vec![Effect::Leave(Exit::Ok)],
            Key::Up | Key::Char('k') => self.step(false),
            Key::Down | Key::Char('j') => self.step(true),
            Key::PageUp => self.scroll(true),
            Key::PageDown => self.scroll(false),
            Key::Char('c') => self.ask_to_cancel(),
            Key::Char('a') => self.ask_to_decide(|step, about| Act::Approve { step, about }),
            Key::Char('d') => self.ask_to_decide(|step, about| Act::Deny { step, about }),
            Key::Char(_) | Key::Interrupt => Vec::new(),
        }
    }

    fn step(&mut self, down: bool) -> Vec<Effect> {
        let Some(at) = self.at() else { return Vec::new() };
        let to = if down { at.saturating_add(1) } else { at.saturating_sub(1) };
        match self.rows.get(to).map(|row| row.run) {
            Some(run) if to != at => self.look(run),
            _ => Vec::new(),
        }
    }

    fn scroll(&mut self, up: bool) -> Vec<Effect> {
        const LINES: usize = 10;
        let most = self.detail.as_ref().map(Detail::len).unwrap_or_default();
        self.back = if up { (self.back + LINES).min(most) } else { self.back.saturating_sub(LINES) };
        Vec::new()
    }

    fn ask_to_cancel(&mut self) -> Vec<Effect> {
        let row = self.at().and_then(|at| self.rows.get(at));
        match row.filter(|row| !row.over()).map(|row| row.run) {
            Some(run) => self.asked = Some(Order { run, act: Act::Cancel }),
            None => self.said = Some((Style::Dim, "there is no run that goes on to cancel".to_owned())),
        }
        Vec::new()
    }

    fn ask_to_decide(&mut self, act: impl FnOnce(String, String) -> Act) -> Vec<Effect> {
        let waits = self.detail.as_ref().and_then(|detail| Some((detail.run, detail.approval()?)));
        match waits {
            Some((run, (step, about))) => self.asked = Some(Order { run, act: act(step, about) }),
            None => self.said = Some((Style::Dim, "nothing of this run waits for your approval".to_owned())),
        }
        Vec::new()
    }
}

impl Row {
    fn read(run: &Value) -> Option<Self> {
        let at = |name: &str| text(run, name).parse::<At>().ok();
        Some(Self {
            run: text(run, "id").parse().ok()?,
            agent: line(text(run, "agentName")),
            status: line(text(run, "status")),
            since: at("startedAt").or_else(|| at("createdAt")),
            until: at("finishedAt"),
            cost: dollars(run.get("costUsd").unwrap_or(&Value::Null)),
        })
    }

    /// Whether nothing more happens to it.
    pub(super) fn over(&self) -> bool {
        matches!(self.status.as_str(), "succeeded" | "failed" | "cancelled")
    }
}

impl Order {
    /// What is asked before it goes out.
    pub(super) fn question(&self) -> String {
        let run = self.run;
        match &self.act {
            Act::Cancel => format!("Cancel the run {run} for good?"),
            Act::Approve { step, about } => format!("Approve {step}{}?", because(about)),
            Act::Deny { step, about } => format!("Deny {step}{}?", because(about)),
        }
    }
}

fn because(about: &str) -> String {
    if about.is_empty() { String::new() } else { format!(" ({about})") }
}

fn told(order: &Order, outcome: Result<(), String>) -> (Style, String) {
    match outcome {
        Ok(()) => {
            let what = match &order.act {
                Act::Cancel => "it is being cancelled".to_owned(),
                Act::Approve { step, .. } => format!("approved {step}"),
                Act::Deny { step, .. } => format!("denied {step}"),
            };
            (Style::Good, what)
        }
        Err(words) => (Style::Bad, line(&words)),
    }
}

#[cfg(test)]
pub(super) mod tests;
