//! What is said in a session, as people and programs see it: text as it comes, whole messages once, tools in a line each.

use std::collections::HashMap;

use crate::cli::console::{Console, Style};
use crate::cli::failure::Failure;
use crate::cli::format::{block, cut, line, text};
use crate::cli::sessions::listen::Frame;

/// A tool's arguments and an error are told in this many columns.
const COLUMNS: usize = 100;

/// Shows frames one after another.
pub(crate) struct Printer<'a> {
    console: &'a Console,
    /// What was shown of each model call before its message was whole.
    shown: HashMap<String, String>,
    /// Whether the last line has not ended.
    open: bool,
    /// Whether what the person says is shown too.
    echo: bool,
}

impl<'a> Printer<'a> {
    /// Shows everything.
    pub(crate) fn new(console: &'a Console) -> Self {
        Self { console, shown: HashMap::new(), open: false, echo: true }
    }

    /// Shows what the agent says: the person has just typed the rest.
    pub(crate) fn of_the_agent(console: &'a Console) -> Self {
        Self { echo: false, ..Self::new(console) }
    }

    /// Shows one frame.
    pub(crate) fn show(&mut self, frame: &Frame) -> Result<(), Failure> {
        if self.console.json() {
            return self.console.say(&frame.raw);
        }
        let data = &frame.data;
        match frame.kind.as_str() {
            "user.message" if self.echo => {
                self.say(&format!("> {}", block(text(data, "content")).replace('\n', "\n> ")))
            }
            "agent.delta" => self.piece(text(data, "step"), text(data, "offset"), text(data, "content")),
            "agent.message" => self.message(text(data, "step"), text(data, "content")),
            "agent.tool_call_started" => {
                let call =
                    format!("  · {} {}", line(text(data, "name")), cut(&line(text(data, "args")), COLUMNS));
                self.dim(&call)
            }
            "agent.tool_call_failed" | "agent.llm_attempt_failed" => {
                let name =
                    [text(data, "name"), text(data, "model")].into_iter().find(|name| !name.is_empty());
                let name = name.unwrap_or_default();
                self.dim(&format!("  ✗ {} {}", line(name), cut(&line(text(data, "error")), COLUMNS)))
            }
            "agent.thinking" if text(data, "status") == "waiting_for_approval" => {
                let (run, step) = (line(text(data, "runId")), line(text(data, "step")));
                self.dim(&format!("  ? waits for approval: lantern runs approve {run} {step}"))
            }
            "session.status_idle" if text(data, "status") != "succeeded" => {
                let why = [text(data, "code"), text(data, "error")].into_iter().filter(|why| !why.is_empty());
                let why = why.collect::<Vec<_>>().join(": ");
                self.dim(&format!("  ✗ {} {}", line(text(data, "status")), cut(&line(&why), COLUMNS)))
            }
            "session.stopped" => self.dim("  the session was stopped"),
            _ => Ok(()),
        }
    }

    /// Ends a line that is open.
    pub(crate) fn close(&mut self) -> Result<(), Failure> {
        if std::mem::take(&mut self.open) { self.console.raw(b"\n") } else { Ok(()) }
    }

    /// A piece that follows what was shown. What came in between and was missed comes with the message.
    fn piece(&mut self, step: &str, offset: &str, text: &str) -> Result<(), Failure> {
        let shown = self.shown.entry(step.to_owned()).or_default();
        if offset.parse() != Ok(shown.len()) {
            return Ok(());
        }
        shown.push_str(text);
        self.open = true;
        self.console.raw(block(text).as_bytes())
    }

    fn message(&mut self, step: &str, content: &str) -> Result<(), Failure> {
        let shown = self.shown.remove(step).unwrap_or_default();
        match content.strip_prefix(shown.as_str()).filter(|_| !shown.is_empty()) {
            Some(rest) => {
                self.open = true;
                self.console.raw(block(rest).as_bytes())?;
                self.close()
            }
            // Another attempt said something else, or nothing was heard of it.
            None => self.say(&block(content)),
        }
    }

    fn say(&mut self, text: &str) -> Result<(), Failure> {
        self.close()?;
        self.console.say(text)
    }

    fn dim(&mut self, text: &str) -> Result<(), Failure> {
        self.say(&self.console.paint.apply(Style::Dim, text))
    }
}
