//! Who is asked next for a step of a run: every model that would do, with each of its keys.
//!
//! Invariant: nobody is left out. Who failed for this step already comes after those that did not, and who did not answer lately
//! comes last: the first of what is left is asked, and a step is refused only when there is nobody at all. No clock, no breakers:
//! the time and what they say are passed in.

use lantern_types::{At, Denial, Route, RunId, Tried};

use crate::Catalogue;
use crate::route::{Choices, rank};

/// A way that is better left alone for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cooling {
    /// The provider's name.
    pub provider: String,
    /// The provider's own name of the model.
    pub model: String,
    /// Which of the provider's keys, from 0.
    pub key: u32,
    /// Until when.
    pub until: At,
}

/// What bears on the order besides what was asked.
#[derive(Clone, Copy, Debug)]
pub struct Past<'a> {
    /// What this step has tried, in that order.
    pub tried: &'a [Tried],
    /// The time.
    pub now: At,
    /// Spreads steps over the keys of a provider: any number, the same for every attempt of a step.
    pub spread: u32,
}

/// Spreads runs over the keys of a provider: the last bytes of an id are as good as random.
pub const fn spread(run: RunId) -> u32 {
    let [.., a, b] = *run.bytes();
    u16::from_be_bytes([a, b]) as u32
}

/// Who is to be asked, the first first; never nobody. Each route says why it is where it is.
pub fn turns(
    asked: &str,
    choices: &Choices,
    catalogue: &Catalogue,
    past: Past<'_>,
) -> Result<Vec<Route>, Denial> {
    let all = ranked(asked, choices, catalogue, past)?;
    if all.is_empty() {
        return Err(Denial::new("model_not_found", format!("no configured provider serves {asked:?}")));
    }
    if all.len() == 1 {
        return Ok(all.into_iter().map(|way| way.route).collect());
    }
    let last = past.tried.last();
    let ordered = order(&all).into_iter().filter_map(|n| Some((n, all.get(n)?.route.clone())));
    let said = ordered.map(|(n, mut route)| {
        // Those that would have been asked first, were they not in trouble.
        let before = all.iter().take(n).filter(|other| other.tried == 0 && other.rests.is_some());
        let rested = before.map(|other| format!("{} is left alone for now", named(&other.route)));
        let after = last.map(|last| format!("after {}: {}", of(last), last.code));
        let which = (route.key > 0).then(|| format!("key {}", route.key + 1));
        let words: Vec<String> =
            route.why.take().into_iter().chain(which).chain(rested).chain(after).collect();
        route.why = (!words.is_empty()).then(|| words.join("; "));
        route
    });
    Ok(said.collect())
}

/// Whether anybody is left who was not asked for this step, is not in trouble, and `fits` what may be spent: then there is nothing to
/// wait for. Somebody too dear is nobody: asking at once would ask whoever failed just now.
pub fn elsewhere(
    asked: &str,
    choices: &Choices,
    catalogue: &Catalogue,
    past: Past<'_>,
    fits: impl Fn(&Route) -> bool,
) -> bool {
    let Ok(ranked) = rank(asked, choices, catalogue) else { return false };
    let all = keyed(ranked, choices, past.spread);
    let idle = |route: &Route| tried(route, past.tried) == 0 && rests(route, choices, past.now).is_none();
    all.iter().any(|route| idle(route) && fits(route))
}

/// A candidate where it ranks, and what speaks against it.
#[derive(Clone, Debug)]
pub(crate) struct Ranked {
    pub(crate) route: Route,
    /// Until when it is better left alone.
    pub(crate) rests: Option<At>,
    /// How often this step tried it.
    pub(crate) tried: usize,
}

/// Every candidate, the best first, whatever speaks against it.
pub(crate) fn ranked(
    asked: &str,
    choices: &Choices,
    catalogue: &Catalogue,
    past: Past<'_>,
) -> Result<Vec<Ranked>, Denial> {
    let all = keyed(rank(asked, choices, catalogue)?, choices, past.spread);
    let marked = |route: Route| Ranked {
        rests: rests(&route, choices, past.now),
        tried: tried(&route, past.tried),
        route,
    };
    Ok(all.into_iter().map(marked).collect())
}

/// The places of candidates in the order in which they take their turns.
pub(crate) fn order(all: &[Ranked]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..all.len()).collect();
    places.sort_by_key(|n| all.get(*n).map(|way| (way.rests, way.tried)));
    places
}

/// Every route with each of its provider's keys, which take turns.
fn keyed(routes: Vec<Route>, choices: &Choices, spread: u32) -> Vec<Route> {
    let keys = |route: &Route| {
        let provider = choices.providers.iter().find(|provider| provider.name == route.provider);
        provider.map_or(1, |provider| provider.keys.max(1))
    };
    let each = |route: Route| {
        let count = keys(&route);
        (0..count).map(move |n| Route { key: (spread % count + n) % count, ..route.clone() })
    };
    routes.into_iter().flat_map(each).collect()
}

/// Until when the way is better left alone; `None` when it is not.
fn rests(route: &Route, choices: &Choices, now: At) -> Option<At> {
    let same = |cooling: &&Cooling| {
        (&cooling.provider, &cooling.model, cooling.key) == (&route.provider, &route.model, route.key)
    };
    choices.cooling.iter().find(same).map(|cooling| cooling.until).filter(|until| *until > now)
}

/// How often the way was tried.
fn tried(route: &Route, tried: &[Tried]) -> usize {
    tried.iter().filter(|tried| tried.is(route)).count()
}

fn named(route: &Route) -> String {
    way(&route.provider, &route.model, route.key)
}

fn of(tried: &Tried) -> String {
    way(&tried.provider, &tried.model, tried.key)
}

fn way(provider: &str, model: &str, key: u32) -> String {
    match key {
        0 => format!("{provider}/{model}"),
        key => format!("{provider}/{model} (key {})", key + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Provider;

    const fn at(secs: i64) -> At {
        At::from_micros(secs * 1_000_000)
    }

    fn choices(openai_keys: u32, cooling: &[(&str, &str, u32, i64)]) -> Choices {
        let provider = |name: &str, keys| Provider {
            name: name.to_owned(),
            self_hosted: false,
            models: Vec::new(),
            keys,
        };
        let cooling = cooling.iter().map(|(provider, model, key, until)| Cooling {
            provider: (*provider).to_owned(),
            model: (*model).to_owned(),
            key: *key,
            until: at(*until),
        });
        Choices {
            providers: vec![provider("openai", openai_keys), provider("anthropic", 1)],
            cooling: cooling.collect(),
            ..Choices::default()
        }
    }

    fn past(tried: &[Tried], spread: u32) -> Past<'_> {
        Past { tried, now: at(10), spread }
    }

    fn failed(provider: &str, model: &str, key: u32) -> Tried {
        let (provider, model) = (provider.to_owned(), model.to_owned());
        Tried { provider, model, key, code: "provider_rate_limited".to_owned() }
    }

    const O: &str = "gpt-4o";
    const C: &str = "claude-sonnet-4-6";

    #[test]
    fn who_failed_comes_later_and_who_is_in_trouble_last() {
        let catalogue = Catalogue::builtin().unwrap();
        let (o, c) = (|key| failed("openai", O, key), || failed("anthropic", C, 0));
        for (keys, spread, cooling, tried, want, more) in [
            (1, 0, vec![], vec![], "O0 C0", true),
            (1, 9, vec![], vec![o(0)], "C0 O0", true),
            (1, 0, vec![], vec![o(0), c()], "O0 C0", false),
            (1, 0, vec![], vec![o(0), c(), o(0)], "C0 O0", false),
            (1, 0, vec![("openai", O, 0, 20)], vec![], "C0 O0", true),
            (1, 0, vec![("openai", O, 0, 20)], vec![c()], "C0 O0", false),
            (1, 0, vec![("openai", O, 0, 10)], vec![], "O0 C0", true),
            (1, 0, vec![("openai", O, 0, 30), ("anthropic", C, 0, 20)], vec![], "C0 O0", false),
            (2, 0, vec![], vec![], "O0 O1 C0", true),
            (2, 1, vec![], vec![], "O1 O0 C0", true),
            (2, 1, vec![], vec![o(1)], "O0 C0 O1", true),
            (2, 0, vec![("openai", O, 0, 20)], vec![], "O1 C0 O0", true),
            (2, 0, vec![("openai", "gpt-4o-mini", 0, 20)], vec![], "O0 O1 C0", true),
            (3, 5, vec![], vec![o(2), o(0)], "O1 C0 O2 O0", true),
        ] {
            let choices = choices(keys, &cooling);
            let got = turns("chat-large", &choices, &catalogue, past(&tried, spread)).unwrap();
            let short = |route: &Route| {
                let model = if route.model == O { 'O' } else { 'C' };
                format!("{model}{}", route.key)
            };
            let got: Vec<String> = got.iter().map(short).collect();
            assert_eq!(got.join(" "), want, "{keys} {spread} {cooling:?} {tried:?}");
            let left = elsewhere("chat-large", &choices, &catalogue, past(&tried, spread), |_| true);
            assert_eq!(left, more, "{keys} {spread} {cooling:?} {tried:?}");
        }
    }

    #[test]
    fn the_reason_is_told() {
        let catalogue = Catalogue::builtin().unwrap();
        let why = |asked: &str, choices: &Choices, tried: &[Tried]| {
            turns(asked, choices, &catalogue, past(tried, 0)).unwrap()[0].why.clone()
        };
        let ranked = "chat-large, balanced: 2 of 2";
        for (asked, keys, cooling, tried, want) in [
            ("chat-large", 1, vec![], vec![], Some("chat-large, balanced: 1 of 2".to_owned())),
            (
                "chat-large",
                1,
                vec![],
                vec![failed("openai", O, 0)],
                Some(format!("{ranked}; after openai/gpt-4o: provider_rate_limited")),
            ),
            (
                "chat-large",
                1,
                vec![("openai", O, 0, 20)],
                vec![],
                Some(format!("{ranked}; openai/gpt-4o is left alone for now")),
            ),
            ("gpt-4o", 1, vec![], vec![failed("openai", O, 0)], None),
            (
                "gpt-4o",
                2,
                vec![],
                vec![failed("openai", O, 0)],
                Some("key 2; after openai/gpt-4o: provider_rate_limited".to_owned()),
            ),
        ] {
            assert_eq!(why(asked, &choices(keys, &cooling), &tried), want, "{asked} {tried:?}");
        }
        let nobody = turns("gpt-4o", &Choices::default(), &catalogue, past(&[], 0));
        assert_eq!(nobody.unwrap_err().code, "model_not_configured");
    }
}
