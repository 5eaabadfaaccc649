//! What the user sees: answers on standard output, everything else on standard error.
//!
//! Invariant: with `--output json` standard output holds JSON and nothing else, and standard error one JSON object a
//! line: `{"note"}`, `{"warning"}` or, last, `{"error"}`. Colour and movement are used only on a terminal. Knows nothing
//! of servers or runs.

use std::io::{self, IsTerminal as _, Write as _};

use serde_json::{Value, json};

use crate::cli::failure::Failure;
use crate::cli::format;
use crate::cli::table::{Column, table};
use crate::env;

/// The form of a command's answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// How a piece of text stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Not at all.
    Plain,
    /// Less than the rest.
    Dim,
    /// More than the rest.
    Bold,
    /// It went well.
    Good,
    /// It went badly.
    Bad,
    /// Somebody should look.
    Warn,
}

/// Whether styles become colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paint(pub(crate) bool);

impl Paint {
    /// `text` in `style`, or just `text`.
    pub(crate) fn apply(self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Dim => "2",
            Style::Bold => "1",
            Style::Good => "32",
            Style::Bad => "31",
            Style::Warn => "33",
            Style::Plain => "",
        };
        if !self.0 || code.is_empty() || text.is_empty() {
            return text.to_owned();
        }
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// The two streams, and what they can show.
#[derive(Debug)]
pub(crate) struct Console {
    out: io::Stdout,
    err: io::Stderr,
    /// The form that was asked for.
    pub(crate) format: Format,
    /// Colours on standard output.
    pub(crate) paint: Paint,
    /// Standard output is a terminal: what goes there must not drive it.
    pub(crate) terminal: bool,
    /// Standard output is a terminal whose lines can be redrawn.
    pub(crate) live: bool,
    errors: Paint,
    interactive: bool,
}

impl Console {
    /// Looks at the streams and the environment once.
    pub(crate) fn new(format: Format) -> Self {
        let dumb = env::get(env::TERM).is_none_or(|term| term == "dumb");
        let colour = !dumb && env::get(env::NO_COLOR).is_none();
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        Self {
            out: io::stdout(),
            err: io::stderr(),
            format,
            paint: Paint(out && colour && format == Format::Text),
            terminal: out,
            live: out && !dumb && format == Format::Text,
            errors: Paint(err && colour),
            interactive: err && io::stdin().is_terminal(),
        }
    }

    /// Whether somebody can be asked.
    pub(crate) const fn interactive(&self) -> bool {
        self.interactive
    }

    /// Whether programs read the answer.
    pub(crate) fn json(&self) -> bool {
        self.format == Format::Json
    }

    /// Writes one line, or several, to standard output.
    pub(crate) fn say(&self, text: &str) -> Result<(), Failure> {
        let mut out = self.out.lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
    }

    /// Writes bytes to standard output as they are.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = self.out.lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
    }

    /// Writes JSON, indented by two spaces.
    pub(crate) fn value(&self, value: &Value) -> Result<(), Failure> {
        self.say(&format!("{value:#}"))
    }

    /// Answers with `value` to programs, and with `text` to people.
    pub(crate) fn answer(&self, value: &Value, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.json() { self.value(value) } else { self.say(&text()) }
    }

    /// Says something beside the answer.
    pub(crate) fn note(&self, text: &str) {
        if self.json() {
            return self.aside(&json!({ "note": text }).to_string());
        }
        self.aside(&self.errors.apply(Style::Dim, text));
    }

    /// Says something beside the answer that should not be missed.
    pub(crate) fn warn(&self, text: &str) {
        if self.json() {
            return self.aside(&json!({ "warning": text }).to_string());
        }
        self.aside(&format!("{} {text}", self.errors.apply(Style::Warn, "warning:")));
    }

    /// Says why the command failed and what to do next.
    pub(crate) fn fail(&self, failure: &Failure) {
        if failure.message.is_empty() {
            return;
        }
        if self.json() {
            return self.aside(&failure.json().to_string());
        }
        let head = self.errors.apply(Style::Bad, "error:");
        self.aside(&format!("{head} {}", coded(&format::block(&failure.message), failure.code.as_deref())));
        for detail in &failure.details {
            self.aside(&format!("  - {}", format::line(detail)));
        }
        self.aside(&format!("{} {}", self.errors.apply(Style::Bold, "next:"), failure.next()));
    }

    /// Says that a list was cut.
    pub(crate) fn more(&self, more: bool, limit: u32) {
        if more {
            self.note(&format!("there are more than {limit}: raise --limit to see them"));
        }
    }

    /// The same of a list that can be gone on with, where the server says from where.
    pub(crate) fn more_from(&self, more: bool, limit: u32, cursor: Option<&str>) {
        let Some(cursor) = cursor.map(format::line) else { return self.more(more, limit) };
        self.note(&format!(
            "there are more than {limit}: raise --limit to see them, or go on with --cursor {cursor}"
        ));
    }

    /// Writes a question to standard error, without a line end.
    pub(crate) fn ask(&self, question: &str) {
        let mut err = self.err.lock();
        let _ = write!(err, "{question}").and_then(|()| err.flush());
    }

    /// Writes a table without borders; on a terminal it is made to fit.
    pub(crate) fn table(&self, columns: &[Column], rows: &[Vec<String>]) -> Result<(), Failure> {
        let room = self.live.then(|| usize::from(size().0));
        self.say(&table(columns, rows, room))
    }

    /// Writes to standard error. When even that is gone there is nobody left to tell.
    pub(crate) fn aside(&self, text: &str) {
        let _ = writeln!(self.err.lock(), "{text}");
    }
}

/// A message with its code behind the first line, unless the message is nothing else.
fn coded(message: &str, code: Option<&str>) -> String {
    let message = message.trim();
    let Some(code) = code.map(format::line).filter(|code| code != message) else {
        return message.to_owned();
    };
    match message.split_once('\n') {
        Some((first, rest)) => format!("{} ({code})\n{rest}", first.trim_end()),
        None => format!("{message} ({code})"),
    }
}

/// Columns and rows of the terminal behind standard output; 80 by 24 when nobody knows.
pub(crate) fn size() -> (u16, u16) {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col, size.ws_row),
        _ => (80, 24),
    }
}

/// Lines of `name  value`, the values under each other. Pairs without a value are left out.
pub(crate) fn fields(pairs: &[(&str, String)]) -> String {
    let shown = || pairs.iter().filter(|(_, value)| !value.is_empty());
    let longest = shown().map(|(name, _)| name.len()).max().unwrap_or_default();
    let lines = shown().map(|(name, value)| format!("{name:<longest$}  {}", format::line(value)));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_optional() {
        assert_eq!(Paint(true).apply(Style::Bad, "no"), "\u{1b}[31mno\u{1b}[0m");
        assert_eq!(Paint(true).apply(Style::Plain, "no"), "no");
        assert_eq!(Paint(false).apply(Style::Bad, "no"), "no");
    }

    #[test]
    fn a_code_follows_the_first_line_and_is_not_said_twice() {
        for (message, code, want) in [
            ("it broke", Some("failed"), "it broke (failed)"),
            ("it broke", None, "it broke"),
            ("no TOML: line 1\n  |\n1 | x\n\n", Some("bad"), "no TOML: line 1 (bad)\n  |\n1 | x"),
            ("unauthorized", Some("unauthorized"), "unauthorized"),
        ] {
            assert_eq!(coded(message, code), want);
        }
    }

    #[test]
    fn fields_are_aligned_and_empty_ones_left_out() {
        let pairs = [("id", "7".to_owned()), ("error", String::new()), ("status", "queued".to_owned())];
        assert_eq!(fields(&pairs), "id      7\nstatus  queued");
    }
}
