//! What a choice among models goes by: a word from whoever asks.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What counts when several models would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

    #[test]
    fn a_word_is_a_strategy_as_it_is_written() {
        for strategy in Strategy::ALL {
            assert_eq!(strategy.as_str().parse(), Ok(strategy));
            assert_eq!(serde_json::to_value(strategy).unwrap(), strategy.as_str());
        }
        assert_eq!("Best".parse::<Strategy>(), Err(Unknown));
    }
}
