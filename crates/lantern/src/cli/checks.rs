//! Questions and their answers, one after the other, each told as soon as it is known.

use serde_json::{Value, json};

use crate::cli::console::{Console, Style};
use crate::cli::failure::{Exit, Failure};

/// One question and its answer.
struct Check {
    name: &'static str,
    /// What was found, or why it does not work.
    outcome: Result<String, Failure>,
}

/// What was asked so far.
pub(crate) struct Checks<'a> {
    console: &'a Console,
    asked: Vec<Check>,
}

impl<'a> Checks<'a> {
    /// Nothing yet.
    pub(crate) const fn new(console: &'a Console) -> Self {
        Self { console, asked: Vec::new() }
    }

    /// Says how a check went, and whether it went well.
    pub(crate) fn told(
        &mut self,
        name: &'static str,
        outcome: Result<String, Failure>,
    ) -> Result<bool, Failure> {
        let check = Check { name, outcome };
        if !self.console.json() {
            self.console.say(&check.lines(self.console))?;
        }
        let well = check.outcome.is_ok();
        self.asked.push(check);
        Ok(well)
    }

    /// The exit code of the first failure.
    pub(crate) fn exit(&self) -> Exit {
        let failed = self.asked.iter().find_map(|check| check.outcome.as_ref().err());
        failed.map_or(Exit::Ok, |failure| failure.exit)
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        self.asked.iter().map(Check::json).collect()
    }
}

impl Check {
    fn lines(&self, console: &Console) -> String {
        let paint = console.paint;
        match &self.outcome {
            Ok(found) => format!("{} {:<7} {found}", paint.apply(Style::Good, "✔"), self.name),
            Err(failure) => {
                let mark = paint.apply(Style::Bad, "✘");
                format!("{mark} {:<7} {}\n  {:<7} next: {}", self.name, failure.message, "", failure.next())
            }
        }
    }

    fn json(&self) -> Value {
        match &self.outcome {
            Ok(found) => json!({ "name": self.name, "ok": true, "detail": found }),
            Err(failure) => {
                json!({ "name": self.name, "ok": false, "detail": failure.message, "code": failure.code,
                    "next": failure.next() })
            }
        }
    }
}
