//! The steps of a run as a tree of lines: which are done and can scroll away, and which still move.
//!
//! Invariant: every step has exactly one line, below the step it belongs to, and with it the line that tells of its
//! crashes; a finished line leaves only when all above it have left, so the order on the screen is the order of the
//! tree. Pure: the time is an argument, and somebody else draws.

use std::collections::BTreeMap;

use lantern_types::{At, Dur, MicroUsd, RunId};
use serde_json::Value;

use crate::cli::console::{Paint, Style};
use crate::cli::follow::frame::{Frame, REISSUED, REUSED};
use crate::cli::follow::question::{Question, about};
use crate::cli::format::{count, cut, dollars, duration, line, number, tail, text, usd, width};

const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
/// Where the elapsed times begin.
const LABEL_COLUMNS: usize = 34;
/// As much of a reply's text as can matter to the line that shows its end.
const PREVIEW_CHARS: usize = 400;

/// One line: pieces of text with their styles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line(Vec<(Style, String)>);

impl Line {
    /// One piece of text.
    pub(crate) fn of(style: Style, text: impl Into<String>) -> Self {
        Self(vec![(style, text.into())])
    }

    /// The pieces of text, from left to right.
    pub(crate) fn pieces(&self) -> &[(Style, String)] {
        &self.0
    }

    fn push(&mut self, style: Style, text: impl Into<String>) {
        self.0.push((style, text.into()));
    }

    /// The line in at most `columns` columns.
    pub(crate) fn render(&self, paint: Paint, columns: usize) -> String {
        let mut room = columns;
        let mut out = String::new();
        for (style, text) in &self.0 {
            let shown = cut(text, room);
            room = room.saturating_sub(shown.chars().map(width).sum());
            out.push_str(&paint.apply(*style, &shown));
            if room == 0 {
                break;
            }
        }
        out
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// For a person, a signal or the next attempt.
    Waiting,
    Done,
    Failed,
}

#[derive(Clone, Debug)]
struct Step {
    id: String,
    kind: String,
    name: String,
    depth: usize,
    state: State,
    since: Option<At>,
    took: Option<Dur>,
    /// Model, tokens and cost, once they are known.
    facts: Vec<String>,
    note: String,
    /// What a person decides on who approves it.
    about: String,
    /// How often it was sent again under the same key.
    reissued: u32,
    /// Taken over from the run that this one is a fork or replay of.
    reused: bool,
    /// The end of the text that the model is writing.
    preview: String,
}

/// The steps of one run.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    run: RunId,
    /// The lines that are still on the move, in tree order.
    steps: Vec<Step>,
    /// The depth of every step that was seen, for the children of those that have scrolled away.
    depths: BTreeMap<String, usize>,
    since: Option<At>,
    settled: u64,
    tokens: (u64, u64),
    cost: MicroUsd,
}

impl Tree {
    /// The tree of a run of which nothing is known yet.
    pub(crate) const fn new(run: RunId) -> Self {
        Self {
            run,
            steps: Vec::new(),
            depths: BTreeMap::new(),
            since: None,
            settled: 0,
            tokens: (0, 0),
            cost: MicroUsd::ZERO,
        }
    }

    /// Takes in one frame. Answers with the lines that will not change any more, in order.
    pub(crate) fn apply(&mut self, frame: &Frame) -> Vec<Line> {
        self.since = self.since.or(frame.at);
        match frame.kind.as_str() {
            "step_started" | "sleep_started" | "child_started" => self.start(frame, State::Running),
            "signal_waiting" => {
                self.start(frame, State::Waiting);
                return self.question(frame);
            }
            "step_admitted" => self.change(frame, State::Running, String::new()),
            "step_readmitted" | "step_resolved" | "approval_granted" => {
                self.change(frame, State::Running, String::new());
            }
            "step_reissued" => self.reissue(frame),
            "step_retrying" => self.change(frame, State::Waiting, format!("again after {}", frame.trouble())),
            "approval_requested" | "step_in_doubt" | "budget_asked" => {
                self.change(frame, State::Waiting, note(frame));
                return self.question(frame);
            }
            "step_completed" | "sleep_completed" | "child_completed" => self.settle(frame, State::Done),
            "step_failed" | "step_denied" | "step_abandoned" | "approval_denied" => {
                self.settle(frame, State::Failed);
            }
            "llm_delta" => self.write(frame),
            "run_started" | "run_succeeded" | "run_failed" | "run_cancelled" => {}
            _ if frame.seq.is_some() => return self.aside(frame),
            // The end, an error that the command fails with, and kinds that are not known here.
            _ => {}
        }
        self.leave()
    }

    /// What still moves, at most `rows` lines of at most `columns` columns, the last of them a total.
    pub(crate) fn lines(&self, now: At, footer: Option<&str>, rows: usize, columns: usize) -> Vec<Line> {
        let spinner = spinner(now);
        let room = rows.saturating_sub(2).max(1);
        let open = || self.steps.iter().filter(|step| matches!(step.state, State::Running | State::Waiting));
        let mut lines: Vec<Line> = if self.steps.len() <= room {
            self.steps.iter().flat_map(|step| step.moving(now, spinner, columns)).collect()
        } else {
            open().map(|step| step.line(now, spinner)).collect()
        };
        if lines.len() > room {
            let hidden = lines.len() - room;
            lines.truncate(room);
            lines.push(Line::of(Style::Dim, format!("  … and {hidden} more")));
        }
        lines.push(self.total(now, spinner, footer));
        lines
    }

    fn start(&mut self, frame: &Frame, state: State) {
        let Some(id) = &frame.step else { return };
        if self.find(id).is_some() {
            return self.change(frame, state, String::new());
        }
        let parent = text(&frame.data, "parent").to_owned();
        let depth = self.depths.get(&parent).map_or(0, |depth| depth + 1);
        self.depths.insert(id.clone(), depth);
        let (kind, name) = frame.label();
        let step = Step {
            id: id.clone(),
            kind: line(if kind.is_empty() { "step" } else { kind }),
            name: line(if name.is_empty() { id } else { name }),
            depth,
            state,
            since: frame.at,
            took: None,
            facts: Vec::new(),
            note: note(frame),
            about: about(frame),
            reissued: 0,
            reused: false,
            preview: String::new(),
        };
        let at = self.below(&parent, depth);
        self.steps.insert(at, step);
    }

    /// Where a child of `parent` goes: after everything that is already below its parent.
    fn below(&self, parent: &str, depth: usize) -> usize {
        let Some(above) = self.steps.iter().position(|step| step.id == parent) else {
            return self.steps.len();
        };
        let children = self.steps.iter().skip(above + 1).take_while(|step| step.depth >= depth);
        above + 1 + children.count()
    }

    fn change(&mut self, frame: &Frame, state: State, note: String) {
        let Some(step) = frame.step.as_deref().and_then(|id| self.find_mut(id)) else { return };
        step.state = state;
        step.note = note;
        let model = frame.model();
        if !model.is_empty() {
            step.facts = vec![model];
        }
        // A new attempt writes its text anew.
        step.preview.clear();
    }

    /// Followed from the middle, a step may have begun before we looked.
    fn known(&mut self, frame: &Frame, state: State) -> Option<String> {
        let id = frame.step.clone()?;
        if self.find(&id).is_none() {
            self.start(&Frame { at: None, ..frame.clone() }, state);
        }
        Some(id)
    }

    fn reissue(&mut self, frame: &Frame) {
        let Some(id) = self.known(frame, State::Running) else { return };
        self.change(frame, State::Running, String::new());
        if let Some(step) = self.find_mut(&id) {
            step.reissued = step.reissued.saturating_add(1);
        }
    }

    fn settle(&mut self, frame: &Frame, state: State) {
        let Some(id) = self.known(frame, state) else { return };
        self.settled += 1;
        self.tokens.0 += number(&frame.data, "tokens_in");
        self.tokens.1 += number(&frame.data, "tokens_out");
        let cost = dollars(frame.data.get("cost_usd").unwrap_or(&Value::Null));
        self.cost = self.cost.plus(cost).unwrap_or(self.cost);
        let Some(step) = self.find_mut(&id) else { return };
        step.state = state;
        step.reused = !frame.reused().is_empty();
        step.took = step.since.and_then(|since| Some(frame.at?.since(since)));
        step.note = if state == State::Failed { frame.trouble() } else { frame.cut().to_owned() };
        let told: Vec<String> = [frame.model(), frame.tokens(), frame.cost()].into();
        if told.iter().any(|fact| !fact.is_empty()) {
            step.facts = told;
        }
        step.preview.clear();
    }

    fn write(&mut self, frame: &Frame) {
        let Some(step) = frame.step.as_deref().and_then(|id| self.find_mut(id)) else { return };
        step.preview.push_str(frame.delta());
        let surplus = step.preview.chars().count().saturating_sub(PREVIEW_CHARS);
        if surplus > 0 {
            step.preview = step.preview.chars().skip(surplus).collect();
        }
    }

    /// What a run that waits for somebody asks, and the command that helps. Stays on the screen, whole, to be copied.
    fn question(&mut self, frame: &Frame) -> Vec<Line> {
        let about = frame.step.as_deref().and_then(|id| self.find(id)).map(|step| step.about.clone());
        let mut lines = self.leave();
        let Some(question) = Question::asked(frame, &about.unwrap_or_default()) else { return lines };
        let (whole, command) = (question.whole(), question.help(self.run));
        if question.explained() {
            lines.push(Line::of(Style::Warn, format!("· {whole}")));
            lines.push(Line::of(Style::Warn, format!("  {command}")));
        } else {
            lines.push(Line::of(Style::Warn, format!("· {whole}: {command}")));
        }
        lines
    }

    /// What concerns the run as a whole is said once, between the steps.
    fn aside(&mut self, frame: &Frame) -> Vec<Line> {
        let words = frame.words();
        let gap = if words.is_empty() { "" } else { " · " };
        let mut lines = self.leave();
        lines.push(Line::of(Style::Warn, format!("· {}{gap}{words}", line(&frame.kind).replace('_', " "))));
        lines
    }

    fn leave(&mut self) -> Vec<Line> {
        let done = |step: &&Step| matches!(step.state, State::Done | State::Failed);
        let count = self.steps.iter().take_while(done).count();
        self.steps.drain(..count).flat_map(|step| step.told(At::default(), "")).collect()
    }

    fn total(&self, now: At, spinner: &str, footer: Option<&str>) -> Line {
        if let Some(footer) = footer {
            return Line::of(Style::Warn, format!("{spinner} {footer}"));
        }
        let elapsed = self.since.map(|since| duration(now.since(since))).unwrap_or_default();
        let steps = format!("{} step{} done", count(self.settled), if self.settled == 1 { "" } else { "s" });
        let tokens = format!("{} in, {} out", count(self.tokens.0), count(self.tokens.1));
        Line::of(Style::Dim, format!("{spinner} {elapsed} · {steps} · {tokens} · {}", usd(self.cost)))
    }

    fn find(&self, id: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.id == id)
    }

    fn find_mut(&mut self, id: &str) -> Option<&mut Step> {
        self.steps.iter_mut().find(|step| step.id == id)
    }
}

impl Step {
    /// The step's line, and below it that it was sent again.
    fn told(&self, now: At, spinner: &str) -> Vec<Line> {
        let times = if self.reissued > 1 { format!(", {} times", self.reissued) } else { String::new() };
        let again = format!("{}{REISSUED}{times}", "  ".repeat(self.depth + 1));
        let again = (self.reissued > 0).then(|| Line::of(Style::Warn, again));
        std::iter::once(self.line(now, spinner)).chain(again).collect()
    }

    /// The same, and below it what the model is writing.
    fn moving(&self, now: At, spinner: &str, columns: usize) -> Vec<Line> {
        let mut lines = self.told(now, spinner);
        let text = line(&self.preview);
        if self.state == State::Running && !text.trim().is_empty() {
            let indent = "  ".repeat(self.depth + 1);
            let shown = tail(text.trim_start(), columns.saturating_sub(indent.len()));
            lines.push(Line::of(Style::Dim, format!("{indent}{shown}")));
        }
        lines
    }

    fn line(&self, now: At, spinner: &str) -> Line {
        let (mark, style) = match self.state {
            State::Running => (spinner, Style::Bold),
            State::Waiting => ("◌", Style::Warn),
            State::Done => ("✔", Style::Good),
            State::Failed => ("✘", Style::Bad),
        };
        let indent = "  ".repeat(self.depth);
        let mut out = Line::of(Style::Plain, indent.clone());
        out.push(style, mark);
        let mut label =
            cut(&format!(" {:<8} {}", self.kind, self.name), LABEL_COLUMNS.saturating_sub(indent.len() + 1));
        let used: usize = indent.len() + 1 + label.chars().map(width).sum::<usize>();
        label.push_str(&" ".repeat(LABEL_COLUMNS.saturating_sub(used)));
        out.push(Style::Plain, label);
        let open = matches!(self.state, State::Running | State::Waiting);
        let elapsed = self.took.or_else(|| self.since.filter(|_| open).map(|since| now.since(since)));
        out.push(Style::Plain, format!("{:>8}", elapsed.map(duration).unwrap_or_default()));
        // A step is forked from, approved and resolved by its id.
        if self.name != line(&self.id) {
            out.push(Style::Dim, format!("  {}", line(&self.id)));
        }
        if self.reused {
            out.push(Style::Dim, format!("  {REUSED}"));
        }
        for fact in self.facts.iter().filter(|fact| !fact.is_empty()) {
            out.push(Style::Dim, format!("  {fact}"));
        }
        if !self.note.is_empty() {
            out.push(
                if self.state == State::Failed { Style::Bad } else { Style::Warn },
                format!("  {}", self.note),
            );
        }
        out
    }
}

/// What a step that does not move waits for.
fn note(frame: &Frame) -> String {
    Question::asked(frame, "").map(|question| question.short()).unwrap_or_default()
}

fn spinner(now: At) -> &'static str {
    let frames = i64::try_from(SPINNER.len()).unwrap_or(1);
    let index = (now.micros() / 100_000).rem_euclid(frames);
    usize::try_from(index).ok().and_then(|index| SPINNER.get(index)).copied().unwrap_or("·")
}

#[cfg(test)]
mod tests;
