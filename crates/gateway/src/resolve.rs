//! Which provider and model a name means. Pure.
//!
//! Invariant: a provider that speaks the wire of the door comes before one that does not. A model at a vendor needs a price.

use lantern_edge::{Code, Error, Result};
use lantern_llm::{Door, Offer, pass};
use lantern_policy::Catalogue;
use lantern_policy::alias::Aliases;
use lantern_policy::route::{Choices, OFFLINE, Provider, rank, unnamed};
use lantern_policy::strategy::Strategy;
use lantern_types::{Denial, PriceSource, Route, nearest};

use crate::Reachable;

/// Names that a refusal proposes.
const PROPOSED: usize = 3;

/// A provider, and the priced route to a model of it.
pub(crate) type Candidate<'a> = (&'a Offer, Route);

/// Who may answer `asked` through this door, the best first; never nobody.
pub(crate) fn resolve<'a>(
    asked: &str,
    door: Door,
    strategy: Strategy,
    reach: &'a Reachable,
    catalogue: &Catalogue,
) -> Result<Vec<Candidate<'a>>> {
    let offers = &reach.offers;
    if offers.is_empty() {
        let words = "no model provider is configured: save one with `lantern providers set`";
        return Err(Error::new(Code::ModelNotConfigured, words));
    }
    let speaks = |offer: &&Offer| pass::speaks(&offer.endpoint, door);
    let (speaking, others): (Vec<&Offer>, Vec<&Offer>) = offers.iter().partition(speaks);
    let all: Vec<&Offer> = speaking.into_iter().chain(others).collect();
    let tabled = reach.aliases.contains_key(asked);
    let found = among(asked, (strategy, &reach.aliases), &all, catalogue);
    let found = found.map_err(|denial| refused(asked, &denial, tabled, (&all, catalogue)))?;
    // Who says in which order means it.
    if door != Door::Embeddings && (strategy != Strategy::Balanced || tabled) {
        return Ok(found);
    }
    let (mut own, other): (Vec<Candidate<'_>>, Vec<_>) =
        found.into_iter().partition(|(offer, _)| speaks(offer));
    match other.first() {
        Some((offer, route)) if door == Door::Embeddings && own.is_empty() => {
            return Err(other_wire(&offer.endpoint.provider, &route.model));
        }
        // A client's own wire loses nothing, so it comes first where nothing else was asked for.
        _ if door != Door::Embeddings => own.extend(other),
        _ => {}
    }
    Ok(own)
}

fn among<'a>(
    asked: &str,
    (strategy, aliases): (Strategy, &Aliases),
    offers: &[&'a Offer],
    catalogue: &Catalogue,
) -> Result<Vec<Candidate<'a>>, Denial> {
    let provider = |offer: &&Offer| Provider {
        name: offer.endpoint.provider.clone(),
        self_hosted: offer.self_hosted,
        models: offer.models.clone(),
        // A call asks with each of them by itself.
        keys: 1,
    };
    let choices = Choices {
        providers: offers.iter().map(provider).collect(),
        strategy,
        aliases: aliases.clone(),
        ..Choices::default()
    };
    let ranked = rank(asked, &choices, catalogue)?;
    let found = ranked.into_iter().filter_map(|route| {
        let offer = offers.iter().find(|offer| offer.endpoint.provider == route.provider)?;
        // A server that has said what it serves does not serve anything else.
        let unlisted = route.price_source == PriceSource::SelfHosted
            && !offer.models.is_empty()
            && !offer.models.contains(&route.model);
        let known = route.provider != OFFLINE && !unlisted && !unnamed(&route, catalogue);
        known.then_some((*offer, route))
    });
    let found: Vec<Candidate<'a>> = found.collect();
    if found.is_empty() {
        return Err(Denial::new("model_not_found", format!("the model {asked:?} is not known here")));
    }
    Ok(found)
}

fn other_wire(provider: &str, model: &str) -> Error {
    let words = format!(
        "{model} is served by {provider}, which speaks another wire than this route, and embeddings are not converted between wires"
    );
    Error::new(Code::WireUnsupported, words)
}

fn refused(
    asked: &str,
    denial: &Denial,
    tabled: bool,
    (offers, catalogue): (&[&Offer], &Catalogue),
) -> Error {
    if tabled {
        return Error::new(Code::ModelNotFound, denial.reason.clone());
    }
    let named =
        asked.split_once('/').is_some_and(|(name, _)| offers.iter().any(|o| o.endpoint.provider == name));
    if denial.code == "price_unknown" && named {
        return Error::new(Code::PriceUnknown, denial.reason.clone());
    }
    if catalogue.capability(asked).is_some() {
        let words = format!("no configured provider serves {asked}");
        return Error::new(Code::ModelNotFound, words);
    }
    let near = near(asked, offers, catalogue);
    let words = match near.as_slice() {
        [] => format!("the model {asked:?} does not exist here, or nothing that speaks this route serves it"),
        near => format!("the model {asked:?} does not exist here; did you mean {}?", near.join(", ")),
    };
    Error::new(Code::ModelNotFound, words)
}

/// Known names that are like this one, the most alike first.
fn near(asked: &str, offers: &[&Offer], catalogue: &Catalogue) -> Vec<String> {
    let mut known = known(offers, catalogue);
    let bare = asked.rsplit('/').next().unwrap_or(asked);
    let mut found = Vec::new();
    while found.len() < PROPOSED
        && let Some(name) = nearest(bare, known.iter().map(|(_, model)| model.as_str())).map(str::to_owned)
    {
        known.retain(|(_, model)| *model != name);
        found.push(name);
    }
    found
}

/// Provider and name of every model that is known to be there.
pub(crate) fn known(offers: &[&Offer], catalogue: &Catalogue) -> Vec<(String, String)> {
    let mut known: Vec<(String, String)> = Vec::new();
    for offer in offers {
        let provider = &offer.endpoint.provider;
        let unlisted = !offer.self_hosted || offer.models.is_empty();
        let sold = catalogue.models().iter().filter(|model| model.provider == *provider && unlisted);
        let listed =
            offer.models.iter().filter(|name| offer.self_hosted || catalogue.find(provider, name).is_some());
        for model in listed.cloned().chain(sold.map(|model| model.model.clone())) {
            let entry = (provider.clone(), model);
            if !known.contains(&entry) {
                known.push(entry);
            }
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;
    use lantern_llm::Endpoint;
    use lantern_policy::egress::Reach;

    fn offer(provider: &str, self_hosted: bool, models: &[&str]) -> Offer {
        let endpoint = Endpoint {
            provider: provider.to_owned(),
            base_url: String::new(),
            api_key: None,
            reach: Reach::Public,
        };
        let models = models.iter().map(ToString::to_string).collect();
        Offer { endpoint, self_hosted, models, more_keys: Vec::new() }
    }

    fn reach(offers: Vec<Offer>) -> Reachable {
        Reachable { offers, ..Reachable::default() }
    }

    #[test]
    fn a_tenants_table_counts_before_the_clients_wire() {
        let catalogue = Catalogue::builtin().unwrap();
        let both = || vec![offer("openai", false, &[]), offer("anthropic", false, &[])];
        let table = |models: &[&str]| {
            let models = models.iter().map(ToString::to_string).collect();
            let aliases = Aliases::from([("chat-small".to_owned(), models)]);
            Reachable { offers: both(), aliases, ..Reachable::default() }
        };
        for (models, want) in [
            (vec!["gpt-4o", "claude-haiku-4-5"], "gpt-4o claude-haiku-4-5"),
            (vec!["claude-opus-4-6"], "claude-opus-4-6"),
            (vec!["gone/llama"], "gone/llama, and no configured provider serves any of them"),
        ] {
            let reach = table(&models);
            let got = match resolve("chat-small", Door::Messages, Strategy::Balanced, &reach, &catalogue) {
                Ok(found) => {
                    let models: Vec<&str> = found.iter().map(|(_, route)| route.model.as_str()).collect();
                    models.join(" ")
                }
                Err(error) => error.to_string(),
            };
            assert!(got.ends_with(want), "{models:?}: {got}");
        }
    }

    #[test]
    fn the_table_of_names() {
        let both = || vec![offer("openai", false, &[]), offer("anthropic", false, &[])];
        let lab = || vec![offer("lab", true, &["llama-3", "gpt-4o"]), offer("openai", false, &[])];
        let open = || vec![offer("lab", true, &[])];
        for (asked, door, offers, want) in [
            ("gpt-4o", Door::Chat, both(), "openai/gpt-4o"),
            ("openai/gpt-4o", Door::Chat, both(), "openai/gpt-4o"),
            ("chat-small", Door::Chat, both(), "openai/gpt-4o-mini"),
            ("gpt-4o-mni", Door::Chat, both(), "model_not_found gpt-4o-mini"),
            ("openai/gpt-9", Door::Chat, both(), "price_unknown"),
            ("gpt-4o", Door::Messages, both(), "openai/gpt-4o"),
            ("auto", Door::Messages, both(), "anthropic/claude-sonnet-4-6"),
            ("claude-sonnet-4-6", Door::Embeddings, both(), "wire_unsupported"),
            ("gpt-4o", Door::Chat, vec![], "model_not_configured"),
            ("llama-3", Door::Chat, lab(), "lab/llama-3"),
            ("lab/llama-4", Door::Chat, lab(), "model_not_found llama-3"),
            ("gpt-4o", Door::Chat, lab(), "openai/gpt-4o"),
            ("lab/gpt-4o", Door::Chat, lab(), "lab/gpt-4o"),
            ("whatever", Door::Chat, open(), "lab/whatever"),
            (
                "claude-sonnet-4-6",
                Door::Chat,
                vec![offer("openai", true, &[]), offer("anthropic", true, &[])],
                "anthropic/claude-sonnet-4-6",
            ),
            ("auto", Door::Chat, open(), "model_not_found"),
            ("offline", Door::Chat, both(), "model_not_found"),
            ("nowhere/gpt-4o", Door::Chat, both(), "model_not_found gpt-4o"),
        ] {
            let catalogue = Catalogue::builtin().unwrap();
            let got = match resolve(asked, door, Strategy::Balanced, &reach(offers), &catalogue) {
                Ok(found) => format!("{}/{}", found[0].1.provider, found[0].1.model),
                Err(error) => error.to_string(),
            };
            let (code, name) = want.split_once(' ').unwrap_or((want, ""));
            assert!(got.starts_with(code) && got.contains(name), "{asked}: {got}");
        }
    }

    #[test]
    fn a_strategy_counts_before_the_clients_wire() {
        let catalogue = Catalogue::builtin().unwrap();
        let reach = reach(vec![offer("openai", false, &[]), offer("anthropic", false, &[])]);
        for (strategy, want) in [
            (Strategy::Balanced, "claude-haiku-4-5 gpt-4o-mini"),
            (Strategy::Cheap, "gpt-4o-mini claude-haiku-4-5"),
            (Strategy::Best, "claude-haiku-4-5 gpt-4o-mini"),
        ] {
            let found = resolve("chat-small", Door::Messages, strategy, &reach, &catalogue).unwrap();
            let models: Vec<&str> = found.iter().map(|(_, route)| route.model.as_str()).collect();
            assert_eq!(models.join(" "), want, "{strategy}");
        }
    }
}
