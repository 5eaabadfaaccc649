//! How a command ends: with an exit code that scripts can rely on, and on failure with words that say what to do.
//!
//! Invariant: every failure that a user can mend carries a hint. Never holds a secret.

use std::io;
use std::process::ExitCode;

/// The exit codes. They are documented in `lantern --help` and never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It worked.
    Ok = 0,
    /// The command or the run failed.
    Failed = 1,
    /// The command line or the input makes no sense.
    Usage = 2,
    /// Not logged in, or not allowed.
    Forbidden = 3,
    /// There is no such thing.
    NotFound = 4,
    /// The server cannot be reached.
    Unreachable = 5,
    /// The run that was followed was cancelled.
    Cancelled = 6,
    /// Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What the process will answer.
    pub(crate) exit: Exit,
    /// What went wrong, in one sentence without a full stop. Empty: say nothing.
    pub(crate) message: String,
    /// The server's stable code, when the server refused.
    pub(crate) code: Option<String>,
    /// One line for each part of the request that is wrong.
    pub(crate) details: Vec<String>,
    /// What to do next.
    pub(crate) hint: Option<String>,
    /// The same request may succeed later: the server is away, busy or restarting.
    pub(crate) passing: bool,
}

impl Failure {
    /// A failure without code, details or hint.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { exit, message, code: None, details: Vec::new(), hint: None, passing: false }
    }

    /// The command line or the input makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The same, with what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Writing to the terminal or pipe failed. A reader that has had enough (`| head`) is no failure.
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Ok, "");
        }
        Self::new(Exit::Failed, format!("cannot write the output: {error}"))
    }
}
