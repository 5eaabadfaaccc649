//! One run as it is looked at: what its steps did, what they do, and how it ended. Pure.

use std::collections::VecDeque;

use lantern_types::{At, RunId};
use serde_json::Value;

use crate::cli::console::{Paint, Style};
use crate::cli::follow::frame::Frame;
use crate::cli::follow::question::Question;
use crate::cli::follow::tree::{Line, Tree};
use crate::cli::follow::waits::Open;
use crate::cli::follow::{result, summary};
use crate::cli::format::{line, text, wrap};

/// Of a run with more lines, the first are forgotten.
const LINES_MAX: usize = 5_000;
/// More steps than this are not drawn at once.
const ROWS_MAX: usize = 1_000;

/// A run that is looked at.
#[derive(Debug)]
pub(crate) struct Detail {
    pub(crate) run: RunId,
    /// Lines that do not change any more.
    past: VecDeque<Line>,
    tree: Tree,
    open: Open,
    /// The run, once it is over.
    whole: Option<Value>,
    /// Whether something was heard of it.
    heard: bool,
}

impl Detail {
    pub(crate) fn new(run: RunId) -> Self {
        let (past, open) = (VecDeque::new(), Open::default());
        Self { run, past, tree: Tree::new(run), open, whole: None, heard: false }
    }

    pub(super) fn apply(&mut self, frame: &Frame) {
        self.heard = true;
        self.open.apply(frame);
        self.past.extend(self.tree.apply(frame));
        let surplus = self.past.len().saturating_sub(LINES_MAX);
        self.past.drain(..surplus);
    }

    pub(super) fn end(&mut self, whole: Value) {
        self.heard = true;
        self.whole = Some(whole);
    }

    pub(super) fn broken(&mut self, words: &str) {
        self.heard = true;
        self.past.push_back(Line::of(Style::Bad, line(words)));
    }

    /// As many lines as there are to scroll through, about.
    pub(super) fn len(&self) -> usize {
        self.past.len()
    }

    /// The step that waits for a decision which is the caller's to make, and what it is about.
    pub(super) fn approval(&self) -> Option<(String, String)> {
        let waits = self.open.clone().waits();
        waits.questions.iter().find_map(Question::approval)
    }

    /// Everything there is to see of it, in at most so many columns.
    pub(crate) fn lines(&self, now: At, columns: usize) -> Vec<Line> {
        if !self.heard {
            return vec![Line::of(Style::Dim, "…")];
        }
        let past = self.past.iter().cloned();
        let Some(run) = &self.whole else {
            return past.chain(self.tree.lines(now, None, ROWS_MAX, columns)).collect();
        };
        let style = match text(run, "status") {
            "succeeded" => Style::Good,
            "cancelled" => Style::Warn,
            _ => Style::Bad,
        };
        let summary = summary(run, Paint(false));
        let answer = result(run, true).map(|answer| format!("\n{answer}")).unwrap_or_default();
        let wrapped = |style: Style, text: &str| -> Vec<Line> {
            wrap(text, columns).into_iter().map(|piece| Line::of(style, piece)).collect()
        };
        past.chain(wrapped(style, &summary)).chain(wrapped(Style::Plain, &answer)).collect()
    }
}
