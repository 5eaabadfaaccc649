//! Which of a tenant's runs go first.

use serde::Serialize;

/// How much a run comes before others of its tenant when more is due than can be taken up: the higher goes first. Runs of
/// other tenants it does not touch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Priority(i64);

impl Priority {
    /// The last.
    pub const MIN: i64 = -5;
    /// The first.
    pub const MAX: i64 = 5;
    /// How many there are.
    pub const LEVELS: u32 = 11;

    /// This one, if there is it.
    pub fn of(number: i64) -> Option<Self> {
        (Self::MIN..=Self::MAX).contains(&number).then_some(Self(number))
    }

    /// One that was stored: what a later build may have written beyond ours is the nearest of ours.
    pub fn stored(number: i64) -> Self {
        Self(number.clamp(Self::MIN, Self::MAX))
    }

    /// Its number.
    pub const fn get(self) -> i64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_and_no_others() {
        let all: Vec<i64> = (-9..=9).filter_map(Priority::of).map(Priority::get).collect();
        assert_eq!(all.first().zip(all.last()), Some((&-5, &5)));
        assert_eq!(u32::try_from(all.len()).ok(), Some(Priority::LEVELS));
        assert_eq!(Priority::default().get(), 0);
        assert_eq!([Priority::stored(9), Priority::stored(-9)].map(Priority::get), [5, -5]);
    }
}
