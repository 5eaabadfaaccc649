//! How good a choice a model is, by what counts. Pure integers.

pub use lantern_types::strategy::{Strategy, Unknown};

use crate::catalogue::Model;

/// How good a choice the model is when this counts, in thousandths; more is better.
pub fn score(strategy: Strategy, model: &Model) -> i64 {
    let micros = model.price.input.micros().saturating_add(model.price.output.micros()).max(0);
    let (quality, speed) = (i64::from(model.quality), i64::from(model.speed));
    // Dollars for a million tokens of each kind, and one more so that what is free divides too.
    let cheapness = |weight: i64| weight * 1_000_000_000 / micros.saturating_add(1_000_000);
    match strategy {
        Strategy::Balanced => quality * 20_000 + speed * 3_000 + cheapness(30),
        Strategy::Cheap => cheapness(100),
        Strategy::Best => quality * 10_000,
        Strategy::Fast => speed * 10_000,
    }
}

/// What counts: the first that says so of whoever asks, the agent, the tenant; else what holds here.
pub fn in_force(said: [Option<Strategy>; 3], usual: Strategy) -> Strategy {
    said.into_iter().flatten().next().unwrap_or(usual)
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
            assert_eq!(score(strategy, model), want, "{strategy}");
        }
    }

    #[test]
    fn whoever_is_nearer_to_the_call_counts_first() {
        use Strategy::{Balanced, Best, Cheap, Fast};
        for (said, want) in [
            ([None, None, None], Fast),
            ([None, None, Some(Cheap)], Cheap),
            ([None, Some(Best), Some(Cheap)], Best),
            ([Some(Balanced), Some(Best), Some(Cheap)], Balanced),
        ] {
            assert_eq!(in_force(said, Fast), want, "{said:?}");
        }
    }
}
