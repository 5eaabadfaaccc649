//! The steps of a simulation: what may happen next, and its dice.
//!
//! An [`Op`] carries everything that was random about it, so a list of them is the whole story of a seed: it can be
//! replayed, and what is left after taking some out is a story too. One that finds nothing to do does nothing.

use crate::rng::Rng;

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A result reaches its worker.
    Deliver,
    /// A result reaches its worker, and another copy of it is still under way.
    Duplicate,
    /// A result is lost.
    Drop,
    /// A result and all that lies in the inbox reach the worker in one turn.
    Batch,
    /// The worker looks into the inbox.
    Inbox,
    /// The worker wakes by itself.
    Wake,
    /// Something that a run owes to another is delivered.
    Errand,
    /// The same, and it will be delivered again.
    ErrandTwice,
    /// A worker dies during a turn.
    Crash,
    /// All workers die.
    Kill,
    /// A worker that stops takes what has come, admits nothing more, and lets the run go if nothing is outside.
    Drain,
    /// A run that no worker holds is taken up, perhaps with what lies in its inbox.
    Recover,
    /// Somebody cancels.
    Cancel,
    /// Somebody pauses.
    Pause,
    /// Somebody resumes.
    Resume,
    /// Somebody sends a signal, waited for or not.
    Signal,
    /// Somebody decides an approval, asked for or not.
    Decide,
    /// Somebody finds out about a step in doubt.
    Resolve,
    /// A little time passes.
    Tick,
    /// Time passes until the next thing is due.
    Due,
    /// Much time passes.
    Leap,
    /// A model's reply uses all that was admitted.
    Dear,
}

/// How often each is tried, out of the sum.
const WEIGHTS: [(u64, Kind); 22] = [
    (300, Kind::Deliver),
    (40, Kind::Duplicate),
    (16, Kind::Drop),
    (40, Kind::Batch),
    (120, Kind::Inbox),
    (20, Kind::Wake),
    (110, Kind::Errand),
    (14, Kind::ErrandTwice),
    (30, Kind::Crash),
    (3, Kind::Kill),
    (12, Kind::Drain),
    (140, Kind::Recover),
    (3, Kind::Cancel),
    (6, Kind::Pause),
    (30, Kind::Resume),
    (22, Kind::Signal),
    (70, Kind::Decide),
    (50, Kind::Resolve),
    (12, Kind::Tick),
    (28, Kind::Due),
    (1, Kind::Leap),
    (16, Kind::Dear),
];

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op {
    /// What happens.
    pub kind: Kind,
    /// Decides whom it happens to, and how.
    pub dice: u64,
}

impl Op {
    /// Rolls one.
    pub fn roll(rng: &mut Rng) -> Self {
        Self { kind: rng.weighted(&WEIGHTS, Kind::Deliver), dice: rng.roll() }
    }

    /// Its own stream.
    pub const fn rng(self) -> Rng {
        Rng::new(self.dice)
    }
}
