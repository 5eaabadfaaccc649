//! How a command ends: with an exit code that scripts can rely on, and on failure with words that say what to do.
//!
//! Invariant: every failure has a code and a next step, if only the general ones of its exit code. Never holds a secret.

use std::io;
use std::process::ExitCode;

use serde_json::{Value, json};

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

impl Exit {
    /// The code and the next step of a failure that has none of its own.
    const fn general(self) -> (&'static str, &'static str) {
        match self {
            Self::Ok => ("ok", "nothing"),
            Self::Failed => ("failed", "see that the server, the login and the model work: `lantern doctor`"),
            Self::Usage => ("usage", "see `lantern --help`, or --help after the command"),
            Self::Forbidden => ("forbidden", "see who you are to the server with `lantern whoami`"),
            Self::NotFound => {
                ("not_found", "see what there is with `lantern agents list` and `lantern runs list`")
            }
            Self::Unreachable => ("unreachable", "see that the server runs and that --api-url is right"),
            Self::Cancelled => ("cancelled", "see why with `lantern runs get`"),
            Self::Interrupted => ("interrupted", "run the command again"),
        }
    }
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
    /// The stable code: the server's, or ours where it says more than the exit code.
    pub(crate) code: Option<String>,
    /// One line for each part of the request that is wrong.
    pub(crate) details: Vec<String>,
    /// What to do next.
    pub(crate) hint: Option<String>,
    /// The same request may succeed later: the server is away, busy or restarting.
    pub(crate) passing: bool,
    /// What the process answers in place of `exit`: the exit code of a program that was followed.
    pub(crate) status: Option<u8>,
}

impl Failure {
    /// A failure without code, details or hint.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { exit, message, code: None, details: Vec::new(), hint: None, passing: false, status: None }
    }

    /// The command line or the input makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The same, with a code.
    pub(crate) fn code(mut self, code: &str) -> Self {
        self.code = Some(code.to_owned());
        self
    }

    /// The same, with what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What to do next.
    pub(crate) fn next(&self) -> &str {
        self.hint.as_deref().unwrap_or_else(|| self.exit.general().1)
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        json!({
            "error": self.message,
            "code": self.code.as_deref().unwrap_or_else(|| self.exit.general().0),
            "details": self.details,
            "next": self.next(),
            "exitCode": self.status.unwrap_or(self.exit as u8),
        })
    }

    /// Writing to the terminal or pipe failed. A reader that has had enough (`| head`) is no failure.
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Ok, "");
        }
        Self::new(Exit::Failed, format!("cannot write the output: {error}"))
            .code("output_failed")
            .hint("make space where the output goes, or send it elsewhere")
    }
}
