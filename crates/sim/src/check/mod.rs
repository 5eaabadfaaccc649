//! The checkers: what must hold after every step of a simulation, whatever the generators did.
//!
//! They see what became durable (`Checks::commit`), what was sent (`Checks::sent`) and what was delivered, and keep
//! their own `book::Book` of every run. They never ask the engine what is allowed: each rule is written a second
//! time here, from its promise rather than from its code.

pub(crate) mod book;
mod carried;
mod family;
mod journal;
mod life;
mod mail;
mod money;
mod order;
mod outside;
mod people;
mod replay;
mod rest;
mod rounds;
mod schemas;
#[cfg(test)]
mod testing;
mod version;

use std::collections::BTreeMap;

use lantern_engine::{Event, Fact, Input, Run, StepId};
use lantern_types::{Acted, At, EffectClass, Limits, MicroUsd, RunId, ToolDef};

use book::Book;
pub(crate) use family::Birth;
pub(crate) use outside::Send;
use version::Terms;

use crate::journal::{Append, Journal};

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise: stable, so that shrinking can look for the same one.
    pub rule: &'static str,
    /// What was seen.
    pub detail: String,
}

/// What a checker says.
pub type Checked = Result<(), Violation>;

/// A promise is broken unless `holds`.
pub(crate) fn demand(holds: bool, rule: &'static str, detail: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Violation { rule, detail: detail() }) }
}

/// One turn of a run's worker, at the moment when its append is durable.
pub(crate) struct Commit<'a> {
    /// The run.
    pub(crate) run: RunId,
    /// When.
    pub(crate) at: At,
    /// What the worker gave the engine, in order, each with the number of events it decided.
    pub(crate) causes: &'a [(Input, usize)],
    /// What was made durable; `None` when nothing was decided.
    pub(crate) append: Option<&'a Append>,
    /// The run in the worker's memory.
    pub(crate) live: &'a Run,
    /// The limits in force.
    pub(crate) limits: &'a Limits,
    /// The tools there are.
    pub(crate) tools: &'a [ToolDef],
    /// The inbox rows that the append consumed.
    pub(crate) rows: &'a [u64],
    /// Whether the worker was stopping, and so admitted nothing.
    pub(crate) stopping: bool,
}

/// Every checker, and what they remember.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    books: BTreeMap<RunId, Book>,
    journals: BTreeMap<RunId, journal::Watch>,
    sends: outside::Sends,
    mail: mail::Mail,
    family: family::Family,
}

impl Checks {
    /// Looks at a turn that has just become durable.
    pub(crate) fn commit(&mut self, commit: &Commit<'_>) -> Checked {
        let watch = self.journals.entry(commit.run).or_default();
        let events = match commit.append {
            Some(append) => watch.append(commit.live, append)?,
            None => Vec::new(),
        };
        watch.agrees(commit.live)?;
        let book = self.books.entry(commit.run).or_default();
        let terms = Terms { manifest: &commit.live.manifest, tools: commit.tools, limits: commit.limits };
        let causes = commit.causes.iter().flat_map(|(cause, count)| std::iter::repeat_n(cause, *count));
        for (event, cause) in events.iter().zip(causes) {
            before(book, event, cause, &terms)?;
            if let Fact::StepRetrying { step, acted: Acted::Yes, .. } = &event.fact {
                // It was answered: what was sent under that key is over.
                let generation = book.step(step).map_or(0, |entry| entry.generation);
                self.sends.absent(commit.run, step, generation);
            }
            book.apply(event);
        }
        after(book, commit)?;
        replay::ended(commit, events.last())?;
        self.mail.consumed(commit.run, commit.rows, &events, book)?;
        self.family.commit(commit.run, &self.books)
    }

    /// Looks at a run's first event.
    pub(crate) fn started(&mut self, live: &Run, append: &Append) -> Checked {
        let events = self.journals.entry(live.id).or_default().append(live, append)?;
        let before = live.continues.and_then(|before| self.books.get(&before.run)).cloned();
        let book = self.books.entry(live.id).or_default();
        for event in &events {
            carried::started(event, before.as_ref())?;
            book.apply(event);
        }
        Ok(())
    }

    /// Looks at a send, at the moment it leaves.
    pub(crate) fn sent(&mut self, send: &Send<'_>) -> Checked {
        self.sends.sent(send, self.books.get(&send.run))
    }

    /// Looks at a question about a step in doubt.
    pub(crate) fn asked(&self, run: RunId, step: &StepId, effect: EffectClass) -> Checked {
        outside::asked(self.books.get(&run), step, effect)
    }

    /// The other side says that what was sent under this key did not happen, and never will.
    pub(crate) fn absent(&mut self, run: RunId, step: &StepId, generation: u32) {
        self.sends.absent(run, step, generation);
    }

    /// Looks at a run that was folded again from its journal after a crash.
    pub(crate) fn refolded(&self, run: &Run, journal: &Journal) -> Checked {
        self.journals.get(&run.id).map_or(Ok(()), |watch| watch.refolded(run, journal))
    }

    /// A row was put into a run's inbox.
    pub(crate) fn put(&mut self, run: RunId, row: u64, arrival: &lantern_engine::Arrival) {
        self.mail.put(run, row, arrival);
    }

    /// Looks at what is in a run's inbox.
    pub(crate) fn inbox(&self, run: RunId, rows: &[u64]) -> Checked {
        self.mail.pending(run, rows)
    }

    /// Looks at the start of a child run.
    pub(crate) fn born(&mut self, child: RunId, birth: Birth) -> Checked {
        self.family.born(child, birth, &self.books)
    }

    /// A child was told to stop.
    pub(crate) fn cancelled(&mut self, child: RunId) {
        self.family.cancelled(child);
    }

    /// Looks at what is left when everything is over.
    pub(crate) fn closed(&self) -> Checked {
        self.family.closed(&self.books)
    }

    /// Looks at a run that can go on only by time or from outside.
    pub(crate) fn at_rest(&self, run: &Run) -> Checked {
        match self.books.get(&run.id) {
            Some(book) => rest::at_rest(book, run, &self.family, &self.books),
            None => Ok(()),
        }
    }
}

fn before(book: &Book, event: &Event, cause: &Input, terms: &Terms<'_>) -> Checked {
    life::check(book, event, cause)?;
    money::check(book, event, cause)?;
    people::check(book, event)?;
    rounds::check(book, event, terms.limits)?;
    schemas::check(book, event)?;
    version::check(book, event, cause, terms)?;
    order::check(book, event, terms.limits)
}

fn after(book: &Book, commit: &Commit<'_>) -> Checked {
    money::agrees(book, commit.live)?;
    people::nothing_ignored(book)?;
    order::nothing_orphaned(book)?;
    rest::after(book, commit)
}

/// An amount as the checkers add it up: wide enough that nothing wraps.
pub(crate) fn micros(amount: MicroUsd) -> i128 {
    i128::from(amount.micros())
}
