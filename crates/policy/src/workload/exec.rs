//! Another program that somebody runs in a box: what is asked, and what came of it. Pure.

use lantern_types::Dur;

/// A program that is to run in a box that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// For how long at most.
    pub timeout: Dur,
    /// Who asks, as the run's journal records it.
    pub by: String,
}

/// What it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execd {
    /// What it answered; nothing when it was ended because its time was over.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// Whether it wrote more than is told here.
    pub cut: bool,
}

/// Why it was not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unrun {
    /// There is no box now.
    NoBox,
    /// The box takes no other program.
    Refused(String),
    /// As many run there as may.
    Busy,
    /// The run keeps no more of what it is told, so this could not be told either.
    Full,
    /// Nobody knows now: ask again.
    Away,
}
