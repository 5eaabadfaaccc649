//! Which provider and model a name means. Pure.
//!
//! Invariant: a provider that speaks the wire of the door comes before one that does not. A model at a vendor needs a price.

use lantern_edge::{Code, Error, Result};
use lantern_llm::{Door, Offer, pass};
use lantern_policy::Catalogue;
use lantern_policy::route::{Choices, OFFLINE, Provider, route, unnamed};
use lantern_types::{Denial, PriceSource, Route, nearest};

/// Names that a refusal proposes.
const PROPOSED: usize = 3;

/// The provider and the priced route for `asked` through the door of this wire.
pub(crate) fn resolve<'a>(
    asked: &str,
    door: Door,
    offers: &'a [Offer],
    catalogue: &Catalogue,
) -> Result<(&'a Offer, Route)> {
    if offers.is_empty() {
        let words = "no model provider is configured: save one with `lantern providers set`";
        return Err(Error::new(Code::ModelNotConfigured, words));
    }
    let (speaking, others): (Vec<&Offer>, Vec<&Offer>) =
        offers.iter().partition(|offer| pass::speaks(&offer.endpoint, door));
    let all: Vec<&Offer> = speaking.iter().chain(&others).copied().collect();
    // A model goes to whoever is known to have it; for a capability, whoever speaks the client's wire comes first.
    let own = catalogue.capability(asked).and_then(|_| among(asked, &speaking, catalogue).ok());
    match own.map_or_else(|| among(asked, &all, catalogue), Ok) {
        Ok((offer, route)) if door == Door::Embeddings && !pass::speaks(&offer.endpoint, door) => {
            Err(other_wire(&offer.endpoint.provider, &route.model))
        }
        Ok(found) => Ok(found),
        Err(denial) => Err(refused(asked, &denial, &all, catalogue)),
    }
}

fn among<'a>(asked: &str, offers: &[&'a Offer], catalogue: &Catalogue) -> Result<(&'a Offer, Route), Denial> {
    let provider = |offer: &&Offer| Provider {
        name: offer.endpoint.provider.clone(),
        self_hosted: offer.self_hosted,
        models: offer.models.clone(),
    };
    let choices = Choices { providers: offers.iter().map(provider).collect(), offline_stands_in: false };
    let route = route(asked, &choices, catalogue)?;
    let unknown = || Denial::new("model_not_found", format!("the model {asked:?} is not known here"));
    let offer = offers.iter().find(|offer| offer.endpoint.provider == route.provider);
    let offer = *offer.filter(|_| route.provider != OFFLINE).ok_or_else(unknown)?;
    // A server that has said what it serves does not serve anything else.
    let unlisted = route.price_source == PriceSource::SelfHosted
        && !offer.models.is_empty()
        && !offer.models.contains(&route.model);
    if unlisted || unnamed(&route, catalogue) {
        return Err(unknown());
    }
    Ok((offer, route))
}

fn other_wire(provider: &str, model: &str) -> Error {
    let words = format!(
        "{model} is served by {provider}, which speaks another wire than this route, and embeddings are not converted between wires"
    );
    Error::new(Code::WireUnsupported, words)
}

fn refused(asked: &str, denial: &Denial, offers: &[&Offer], catalogue: &Catalogue) -> Error {
    let named =
        asked.split_once('/').is_some_and(|(name, _)| offers.iter().any(|o| o.endpoint.provider == name));
    if denial.code == "price_unknown" && named {
        return Error::new(Code::PriceUnknown, denial.reason.clone());
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
        Offer { endpoint, self_hosted, models: models.iter().map(ToString::to_string).collect() }
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
            let got = match resolve(asked, door, &offers, &catalogue) {
                Ok((_, route)) => format!("{}/{}", route.provider, route.model),
                Err(error) => error.to_string(),
            };
            let (code, name) = want.split_once(' ').unwrap_or((want, ""));
            assert!(got.starts_with(code) && got.contains(name), "{asked}: {got}");
        }
    }
}
