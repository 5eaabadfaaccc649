//! A tenant's own table of models: which of them it means by a name that the catalogue has too.
//!
//! Invariant: a name in the table means the models in it and no others. When none of them can be called, the call is refused: it
//! does not go to a model that the tenant took out.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use lantern_types::{Denial, PriceSource, Route, nearest};

use crate::Catalogue;
use crate::route::{Choices, OFFLINE, by_name};
use crate::strategy::{self, Strategy};

/// Models by the name that means them, in the order in which they are tried.
pub type Aliases = BTreeMap<String, Vec<String>>;

/// Models that one name may mean.
pub const MODELS_MAX: usize = 16;
/// Bytes of a model's name.
const NAME_BYTES_MAX: usize = 200;
/// Names that a refusal proposes.
const PROPOSED: usize = 3;

/// Why an entry cannot be in a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// The name is none of the catalogue's.
    #[error("{0}")]
    Alias(String),
    /// The model at this place cannot be meant.
    #[error("{1}")]
    Model(usize, String),
    /// There are no models, or too many.
    #[error("expected 1 to {MODELS_MAX} models")]
    Count,
}

/// Looks at one entry: a name, and the models that it is to mean.
pub fn check(alias: &str, models: &[String], choices: &Choices, catalogue: &Catalogue) -> Result<(), Wrong> {
    known(alias, catalogue)?;
    if models.is_empty() || models.len() > MODELS_MAX {
        return Err(Wrong::Count);
    }
    for (n, model) in models.iter().enumerate() {
        let again = models.iter().take(n).any(|earlier| earlier == model);
        let problem = if again { Some("it is named twice".to_owned()) } else { None };
        if let Some(words) = problem.or_else(|| unmeant(model, choices, catalogue)) {
            return Err(Wrong::Model(n, words));
        }
    }
    Ok(())
}

/// Looks at a name alone.
pub fn known(alias: &str, catalogue: &Catalogue) -> Result<(), Wrong> {
    match catalogue.capability(alias) {
        Some(_) => Ok(()),
        None => Err(Wrong::Alias(unknown(alias, catalogue))),
    }
}

/// What is said of a name that the catalogue does not have: those that are like it, or all of them.
fn unknown(alias: &str, catalogue: &Catalogue) -> String {
    let mut known: Vec<&str> = catalogue.capabilities().collect();
    let mut near = Vec::new();
    while near.len() < PROPOSED
        && let Some(name) = nearest(alias, known.iter().copied())
    {
        near.push(name);
        known.retain(|other| *other != name);
    }
    let shown: String = alias.chars().take(NAME_BYTES_MAX).collect();
    if near.is_empty() {
        return format!("there is no alias {shown:?}; the aliases are {}", known.join(", "));
    }
    format!("there is no alias {shown:?}; did you mean {}?", near.join(", "))
}

/// Why a model cannot be meant by a name, if it cannot.
fn unmeant(model: &str, choices: &Choices, catalogue: &Catalogue) -> Option<String> {
    if model.is_empty() || model.len() > NAME_BYTES_MAX {
        return Some(format!("expected a model's name of 1 to {NAME_BYTES_MAX} bytes"));
    }
    if catalogue.capability(model).is_some() {
        return Some(format!("{model} is an alias itself: name a model"));
    }
    if model == OFFLINE {
        return Some("the offline model stands in by itself where nothing else is there".to_owned());
    }
    if choices.providers.is_empty() {
        return Some("no model provider is configured: save one first".to_owned());
    }
    let routes = match by_name(model, choices, catalogue) {
        Ok(routes) => routes,
        Err(denial) => return Some(denial.reason),
    };
    let listed = |route: &Route| {
        let provider = choices.providers.iter().find(|provider| provider.name == route.provider);
        route.price_source != PriceSource::SelfHosted
            || provider.is_some_and(|p| p.models.is_empty() || p.models.contains(&route.model))
    };
    if routes.iter().any(listed) {
        return None;
    }
    let known = choices.providers.iter().flat_map(|provider| provider.models.iter().map(String::as_str));
    let near = nearest(model.rsplit('/').next().unwrap_or(model), known);
    let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    Some(format!("no configured provider is known to serve it{hint}"))
}

/// Where a call for a name of the table may go, the best first: as the table has them, or by what counts.
pub(crate) fn rank(
    asked: &str,
    models: &[String],
    choices: &Choices,
    catalogue: &Catalogue,
) -> Result<Vec<Route>, Denial> {
    let strategy = choices.strategy;
    let mut found: Vec<Route> = Vec::new();
    for route in models.iter().filter_map(|model| by_name(model, choices, catalogue).ok()).flatten() {
        let same = |other: &Route| (&other.provider, &other.model) == (&route.provider, &route.model);
        if !found.iter().any(same) {
            found.push(route);
        }
    }
    if found.is_empty() {
        let words = format!(
            "by {asked:?} this tenant means {}, and no configured provider serves any of them",
            models.join(", ")
        );
        return Err(Denial::new("model_not_found", words));
    }
    if strategy != Strategy::Balanced {
        found.sort_by_key(|route| Reverse(worth(strategy, route, catalogue)));
    }
    let all = found.len();
    for (n, route) in found.iter_mut().enumerate() {
        route.why = Some(format!("{asked} by the tenant's table, {strategy}: {} of {all}", n + 1));
    }
    Ok(found)
}

/// As among models that are sold: what somebody serves without a price comes after them, and first where only the price counts.
fn worth(strategy: Strategy, route: &Route, catalogue: &Catalogue) -> i64 {
    match catalogue.find(&route.provider, &route.model) {
        Some(model) => strategy::score(strategy, model),
        None if strategy == Strategy::Cheap => i64::MAX,
        None => i64::MIN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{Provider, rank};

    fn provider(name: &str, self_hosted: bool, models: &[&str]) -> Provider {
        let models = models.iter().map(ToString::to_string).collect();
        Provider { name: name.to_owned(), self_hosted, models, keys: 1 }
    }

    fn three() -> Choices {
        let lab = provider("lab", true, &["llama", "qwen"]);
        let providers = vec![provider("openai", false, &[]), provider("anthropic", false, &[]), lab];
        Choices { providers, ..Choices::default() }
    }

    fn names(models: &[&str]) -> Vec<String> {
        models.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_table_of_entries() {
        let catalogue = Catalogue::builtin().unwrap();
        let many: Vec<String> = (0..17).map(|n| format!("openai/{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for (alias, models, want) in [
            ("chat-large", vec!["gpt-4o"], "fine"),
            ("auto", vec!["lab/llama", "anthropic/claude-sonnet-4-6", "qwen"], "fine"),
            ("chat-lage", vec!["gpt-4o"], "there is no alias \"chat-lage\"; did you mean chat-large"),
            ("zzzzzzzzzzzz", vec!["gpt-4o"], "the aliases are auto, "),
            ("chat-large", vec![], "expected 1 to 16 models"),
            ("chat-large", many, "expected 1 to 16 models"),
            ("chat-large", vec!["gpt-4o", "gpt-4o"], "it is named twice"),
            ("chat-large", vec!["auto"], "auto is an alias itself"),
            ("chat-large", vec!["offline"], "stands in by itself"),
            ("chat-large", vec!["nowhere/gpt-4o"], "no model provider \"nowhere\" is configured"),
            ("chat-large", vec!["opneai/gpt-4o"], "did you mean openai/gpt-4o?"),
            ("chat-large", vec!["openai/gpt-9"], "the price of \"gpt-9\" is not known"),
            ("chat-large", vec!["lab/lama"], "known to serve it; did you mean llama?"),
            ("chat-large", vec![""], "expected a model's name"),
        ] {
            let got = match check(alias, &names(&models), &three(), &catalogue) {
                Ok(()) => "fine".to_owned(),
                Err(wrong) => wrong.to_string(),
            };
            assert!(got.contains(want), "{alias} {models:?}: {got}");
        }
        let nobody = Choices { offline_stands_in: true, ..Choices::default() };
        let wrong = check("auto", &names(&["gpt-4o"]), &nobody, &catalogue).unwrap_err();
        assert!(wrong.to_string().contains("no model provider is configured"), "{wrong}");
        // A server whose models nobody knows yet may have it.
        let open = Choices { providers: vec![provider("lab", true, &[])], ..Choices::default() };
        assert_eq!(check("auto", &names(&["llama"]), &open, &catalogue), Ok(()));
    }

    #[test]
    fn a_name_means_what_the_table_says_and_nothing_else() {
        let catalogue = Catalogue::builtin().unwrap();
        for (strategy, models, want) in [
            (
                Strategy::Balanced,
                vec!["lab/qwen", "gpt-4o-mini", "openai/gpt-4o-mini"],
                "lab/qwen openai/gpt-4o-mini",
            ),
            (
                Strategy::Best,
                vec!["lab/qwen", "gpt-4o-mini", "gpt-4o"],
                "openai/gpt-4o openai/gpt-4o-mini lab/qwen",
            ),
            (
                Strategy::Cheap,
                vec!["gpt-4o", "gpt-4o-mini", "lab/qwen"],
                "lab/qwen openai/gpt-4o-mini openai/gpt-4o",
            ),
            (Strategy::Fast, vec!["gone/x", "gpt-4o"], "openai/gpt-4o"),
            (Strategy::Balanced, vec!["gone/x"], "model_not_found"),
        ] {
            let aliases = Aliases::from([("chat-small".to_owned(), names(&models))]);
            let choices = Choices { strategy, aliases, ..three() };
            let got = match rank("chat-small", &choices, &catalogue) {
                Ok(routes) => {
                    let each: Vec<_> = routes.iter().map(|r| format!("{}/{}", r.provider, r.model)).collect();
                    each.join(" ")
                }
                Err(denial) => denial.code,
            };
            assert_eq!(got, want, "{strategy} {models:?}");
        }
        let aliases = Aliases::from([("chat-small".to_owned(), names(&["lab/qwen"]))]);
        let choices = Choices { aliases, ..three() };
        let routes = rank("chat-small", &choices, &catalogue).unwrap();
        assert_eq!(routes[0].why.as_deref(), Some("chat-small by the tenant's table, balanced: 1 of 1"));
        assert_eq!(
            rank("chat-large", &choices, &catalogue).unwrap()[0].model,
            "gpt-4o",
            "others are as they were"
        );
    }
}
