//! What a choice among models goes by: a word from whoever asks, and a score for each model. Pure integers.

use std::fmt;
use std::str::FromStr;

use crate::catalogue::Model;

/// What counts when several models would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Quality first, then speed, then price.
    #[default]
    Balanced,
    /// The least price.
    Cheap,
    /// The best answers.
    Best,
    /// The quickest answers.
    Fast,
}

/// The text names no strategy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected balanced, cheap, best or fast")]
pub struct Unknown;

impl Strategy {
    /// Every strategy.
    pub const ALL: [Self; 4] = [Self::Balanced, Self::Cheap, Self::Best, Self::Fast];

    /// Its stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::Cheap => "cheap",
            Self::Best => "best",
            Self::Fast => "fast",
        }
    }

    /// How good a choice the model is, in thousandths; more is better.
    pub fn score(self, model: &Model) -> i64 {
        let micros = model.price.input.micros().saturating_add(model.price.output.micros()).max(0);
        let (quality, speed) = (i64::from(model.quality), i64::from(model.speed));
        // Dollars for a million tokens of each kind, and one more so that what is free divides too.
        let cheapness = |weight: i64| weight * 1_000_000_000 / micros.saturating_add(1_000_000);
        match self {
            Self::Balanced => quality * 20_000 + speed * 3_000 + cheapness(30),
            Self::Cheap => cheapness(100),
            Self::Best => quality * 10_000,
            Self::Fast => speed * 10_000,
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Strategy {
    type Err = Unknown;
    fn from_str(text: &str) -> Result<Self, Unknown> {
        Self::ALL.into_iter().find(|strategy| strategy.as_str() == text).ok_or(Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Catalogue;

    #[test]
    fn scores_are_those_of_the_contract() {
        let catalogue = Catalogue::builtin().unwrap();
        let model = catalogue.find("openai", "gpt-4o").unwrap();
        // Quality 8 and speed 8 of 10, at 2.50 and 10 dollars: 8*20 + 8*3 + 30/13.5.
        for (strategy, want) in [
            (Strategy::Balanced, 186_222),
            (Strategy::Cheap, 7_407),
            (Strategy::Best, 80_000),
            (Strategy::Fast, 80_000),
        ] {
            assert_eq!(strategy.score(model), want, "{strategy}");
            assert_eq!(strategy.as_str().parse(), Ok(strategy));
        }
        assert_eq!("Best".parse::<Strategy>(), Err(Unknown));
    }
}
