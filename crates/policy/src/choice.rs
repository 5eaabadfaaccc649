//! What the choice of a model is recorded as, and what is read back from the record to make it again.
//!
//! Invariant: the record has all of what was there to choose from that bears on what was asked for, so that [`turns`] of what is
//! [`read`] back, with the same past, begin with the ways that were passed over and then the one that was chosen. Where the record
//! would grow too long it says how much is missing, and the choice cannot be made again.
//!
//! [`turns`]: crate::turns::turns

use lantern_types::{AccountFacts, Choice, Denial, Offered, Out, Route, Way};

use crate::Catalogue;
use crate::admit::{OVER_BUDGET, OVER_CAP};
use crate::alias::Aliases;
use crate::route::{Choices, Provider, serving};
use crate::turns::{Cooling, Past, Ranked, order, ranked};

/// Candidates and providers that a record lists.
const LISTED_MAX: usize = 16;
/// Bytes of a name that is asked for; nothing is recorded of a longer one.
const NAME_BYTES_MAX: usize = 200;

/// A way that was passed over in its turn, because it is too dear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The way.
    pub route: Route,
    /// What it is too dear for.
    pub out: Out,
    /// The account, when it is a cap of the tenant or the agent.
    pub account: Option<AccountFacts>,
}

/// Who is asked about next: the first in turn that was not passed over.
pub fn next<'a>(turns: &'a [Route], passed: &[Passed]) -> Option<&'a Route> {
    turns.iter().find(|route| !passed.iter().any(|passed| same(&passed.route, route)))
}

/// Writes down what `asked` was chosen from. `chosen` is the way that was neither passed over nor comes later; `None` when there was
/// none. `None` for a name that is too long to be kept.
pub fn record(
    asked: &str,
    choices: &Choices,
    catalogue: &Catalogue,
    past: Past<'_>,
    (passed, chosen): (&[Passed], Option<&Route>),
) -> Option<Choice> {
    if asked.len() > NAME_BYTES_MAX {
        return None;
    }
    let meaning = choices.aliases.get(asked).cloned().unwrap_or_default();
    let bears = |provider: &Provider| Offered {
        name: provider.name.clone(),
        own: provider.self_hosted,
        keys: provider.keys,
        models: bearing(asked, &meaning, provider, catalogue),
    };
    let providers: Vec<Offered> = choices.providers.iter().take(LISTED_MAX).map(bears).collect();
    let unlisted = choices.providers.len().saturating_sub(LISTED_MAX);
    let all = ranked(asked, choices, catalogue, past).unwrap_or_default();
    let (ways, more) = ways(&all, passed, chosen);
    Some(Choice {
        asked: asked.to_owned(),
        strategy: choices.strategy,
        meaning,
        providers,
        keyless: choices.keyless.iter().take(LISTED_MAX).cloned().collect(),
        stands_in: choices.offline_stands_in && choices.providers.is_empty(),
        ways,
        more: u32::try_from(more.saturating_add(unlisted)).unwrap_or(u32::MAX),
    })
}

/// What there was to choose from, as far as it bears on what was asked for.
pub fn read(choice: &Choice) -> Choices {
    let provider = |offered: &Offered| Provider {
        name: offered.name.clone(),
        self_hosted: offered.own,
        models: offered.models.clone(),
        keys: offered.keys,
    };
    let resting = |way: &Way| {
        let Way { provider, model, key, until, .. } = way;
        until.map(|until| Cooling { provider: provider.clone(), model: model.clone(), key: *key, until })
    };
    let mut aliases = Aliases::new();
    if !choice.meaning.is_empty() {
        aliases.insert(choice.asked.clone(), choice.meaning.clone());
    }
    Choices {
        providers: choice.providers.iter().map(provider).collect(),
        keyless: choice.keyless.clone(),
        offline_stands_in: choice.stands_in,
        strategy: choice.strategy,
        aliases,
        cooling: choice.ways.iter().filter_map(resting).collect(),
    }
}

/// What a way is too dear for, if that is why it was denied: then the next in turn is asked about.
pub fn too_dear(denial: &Denial) -> Option<Out> {
    match denial.code.as_str() {
        OVER_BUDGET => Some(Out::OverBudget),
        OVER_CAP => Some(Out::OverCap),
        _ => None,
    }
}

/// Of a provider's models, those without which the choice might be another one.
fn bearing(asked: &str, meaning: &[String], provider: &Provider, catalogue: &Catalogue) -> Vec<String> {
    // Nobody asks a vendor's own service for its list.
    let capability = meaning.is_empty() && catalogue.capability(asked).is_some();
    let serves = if capability { serving(asked, &provider.models) } else { None };
    let named = |model: &String| model == asked || meaning.contains(model) || Some(model) == serves;
    let mut kept: Vec<String> = provider.models.iter().filter(|model| named(model)).cloned().collect();
    kept.dedup();
    // A list in which nothing bears on it is not the same as no list.
    if kept.is_empty() {
        kept.extend(provider.models.first().cloned());
    }
    kept
}

/// The ways that a record lists, as they rank, and how many it leaves out.
fn ways(all: &[Ranked], passed: &[Passed], chosen: Option<&Route>) -> (Vec<Way>, usize) {
    let at = chosen.and_then(|chosen| all.iter().position(|way| same(&way.route, chosen)));
    let turns = order(all);
    let turn = |n: usize| turns.iter().position(|place| *place == n);
    // Before one that is in trouble itself, everybody comes that is not.
    let trouble = at.and_then(|at| all.get(at)).is_none_or(|way| way.rests.is_some() || way.tried > 0);
    let listed = |n: usize| trouble || at.is_none_or(|at| n <= at || turn(n) < turn(at));
    let mut left = LISTED_MAX - usize::from(at.is_some());
    let (mut ways, mut more) = (Vec::new(), 0);
    for (n, way) in all.iter().enumerate().filter(|(n, _)| listed(*n)) {
        if at == Some(n) {
            ways.push(Way { out: None, account: None, ..told(way, passed) });
        } else if left > 0 {
            left -= 1;
            ways.push(told(way, passed));
        } else {
            more += 1;
        }
    }
    (ways, more)
}

fn told(Ranked { route, rests, tried }: &Ranked, passed: &[Passed]) -> Way {
    let dear = passed.iter().find(|passed| same(&passed.route, route));
    let trouble = match (rests, tried) {
        (Some(_), _) => Some(Out::Resting),
        (None, 0) => None,
        (None, _) => Some(Out::Tried),
    };
    Way {
        provider: route.provider.clone(),
        model: route.model.clone(),
        key: route.key,
        out: dear.map(|dear| dear.out).or(trouble),
        until: *rests,
        account: dear.and_then(|dear| dear.account),
    }
}

fn same(one: &Route, other: &Route) -> bool {
    (&one.provider, &one.model, one.key) == (&other.provider, &other.model, other.key)
}

#[cfg(test)]
#[path = "choice/tests.rs"]
mod tests;
