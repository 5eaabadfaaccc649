//! The choice of a model: a name that an agent asked for, and the providers at hand, in; a priced route out.
//!
//! Fails closed: a model without a known price is refused, and so is one of a provider that is not there. A model that the
//! catalogue knows goes to its vendor when that is configured; a server that lists it too is named, as `lab/gpt-4o`. A
//! capability goes to a server whose models nobody knows yet under its own name: [`unnamed`] until the call is made. The
//! built-in offline model answers only when it is named, or in `dev` when nothing else is there.

use lantern_types::{Denial, Price, PriceSource, Route};

use crate::Catalogue;

/// The name of the built-in model and of its provider.
pub const OFFLINE: &str = "offline";

/// A provider that could be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Its configured name.
    pub name: String,
    /// Whether the base URL is the tenant's or operator's own rather than the vendor's.
    pub self_hosted: bool,
    /// The models it is known to serve, best first; empty when unknown.
    pub models: Vec<String>,
}

/// What there is to choose from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choices {
    /// Configured providers, in order of preference.
    pub providers: Vec<Provider>,
    /// Whether the offline model may stand in when no provider is configured: only in `dev`.
    pub offline_stands_in: bool,
}

/// Where a call for `asked` goes: a capability (`auto`, `chat-small`), a model (`gpt-4o`), or `provider/model`.
pub fn route(asked: &str, choices: &Choices, catalogue: &Catalogue) -> Result<Route, Denial> {
    let named = asked == OFFLINE || asked.split_once('/') == Some((OFFLINE, OFFLINE));
    if named || (choices.providers.is_empty() && choices.offline_stands_in) {
        return Ok(offline());
    }
    if choices.providers.is_empty() {
        return Err(Denial::new("model_not_configured", "no model provider is configured for this tenant"));
    }
    if let Some(models) = catalogue.capability(asked) {
        return by_capability(asked, models, choices);
    }
    let Some((name, model)) = asked.split_once('/') else { return by_model(asked, choices, catalogue) };
    if let Some(provider) = choices.providers.iter().find(|p| p.name == name) {
        return priced(provider, model, catalogue);
    }
    // Servers list models such as `meta-llama/Llama-3` too.
    match knowing(asked, choices, catalogue) {
        Some(provider) => priced(provider, asked, catalogue),
        None => Err(Denial::new("provider_not_found", format!("no model provider {name:?} is configured"))),
    }
}

fn offline() -> Route {
    Route {
        provider: OFFLINE.to_owned(),
        model: OFFLINE.to_owned(),
        price: Price::default(),
        price_source: PriceSource::Builtin,
    }
}

fn by_capability<'a>(
    asked: &str,
    mut models: impl Iterator<Item = &'a crate::catalogue::Model>,
    choices: &Choices,
) -> Result<Route, Denial> {
    let sold = models.find(|m| choices.providers.iter().any(|p| p.name == m.provider));
    if let Some(model) = sold {
        return Ok(Route {
            provider: model.provider.clone(),
            model: model.model.clone(),
            price: model.price,
            price_source: PriceSource::Catalogue,
        });
    }
    let own = || choices.providers.iter().filter(|p| p.self_hosted);
    if let Some((provider, model)) = own().find_map(|p| Some((p, conversing(&p.models)?))) {
        return Ok(self_hosted(provider, model));
    }
    // Whether one of these serves it is known when it is asked: it may have been out of reach so far.
    match own().find(|p| p.models.is_empty()) {
        Some(provider) => Ok(self_hosted(provider, asked)),
        None => Err(Denial::new("model_not_found", format!("no configured provider serves {asked:?}"))),
    }
}

/// Whether the route names a capability where its model should be: its provider is to be asked for its models first.
pub fn unnamed(route: &Route, catalogue: &Catalogue) -> bool {
    route.price_source == PriceSource::SelfHosted && catalogue.capability(&route.model).is_some()
}

/// Of the models on somebody's own server, the first that could hold a conversation.
pub fn conversing(models: &[String]) -> Option<&String> {
    models.iter().find(|model| converses(model))
}

/// Whether a model on somebody's own server could hold a conversation, as far as its name says: such servers list models of
/// every kind, in no order.
fn converses(model: &str) -> bool {
    const OTHERS: [&str; 12] = [
        "embed",
        "rerank",
        "whisper",
        "tts",
        "moderation",
        "dall-e",
        "stable-diffusion",
        "clip",
        "bge-",
        "e5-",
        "gte-",
        "minilm",
    ];
    let name = model.to_ascii_lowercase();
    !OTHERS.iter().any(|other| name.contains(other))
}

/// Who serves this model: its vendor, else a server that lists it.
fn knowing<'a>(asked: &str, choices: &'a Choices, catalogue: &Catalogue) -> Option<&'a Provider> {
    let all = || choices.providers.iter();
    let sells = |p: &&Provider| catalogue.find(&p.name, asked).is_some();
    all().find(sells).or_else(|| all().find(|p| p.models.iter().any(|model| model == asked)))
}

fn by_model(asked: &str, choices: &Choices, catalogue: &Catalogue) -> Result<Route, Denial> {
    let provider = knowing(asked, choices, catalogue)
        .or_else(|| choices.providers.iter().find(|p| p.self_hosted))
        .or_else(|| choices.providers.first());
    match provider {
        Some(provider) => priced(provider, asked, catalogue),
        None => Err(Denial::new("model_not_found", format!("no configured provider serves {asked:?}"))),
    }
}

/// A model that the catalogue prices keeps its price even at a base URL of one's own: charging too much is safe.
fn priced(provider: &Provider, model: &str, catalogue: &Catalogue) -> Result<Route, Denial> {
    if let Some(known) = catalogue.find(&provider.name, model) {
        return Ok(Route {
            provider: provider.name.clone(),
            model: model.to_owned(),
            price: known.price,
            price_source: PriceSource::Catalogue,
        });
    }
    if provider.self_hosted {
        return Ok(self_hosted(provider, model));
    }
    Err(Denial::new(
        "price_unknown",
        format!("the price of {model:?} is not known; a call is refused rather than guessed"),
    ))
}

fn self_hosted(provider: &Provider, model: &str) -> Route {
    Route {
        provider: provider.name.clone(),
        model: model.to_owned(),
        price: Price::default(),
        price_source: PriceSource::SelfHosted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(name: &str, self_hosted: bool, models: &[&str]) -> Provider {
        Provider {
            name: name.to_owned(),
            self_hosted,
            models: models.iter().map(ToString::to_string).collect(),
        }
    }

    fn ask(asked: &str, providers: Vec<Provider>, dev: bool) -> String {
        let choices = Choices { providers, offline_stands_in: dev };
        match route(asked, &choices, &Catalogue::builtin().unwrap()) {
            Ok(route) => format!("{}/{} {:?}", route.provider, route.model, route.price_source),
            Err(denial) => denial.code,
        }
    }

    #[test]
    fn the_route_table() {
        let vendor = || provider("openai", false, &[]);
        let custom = || provider("openai", true, &[]);
        let own = || provider("lab", true, &["llama"]);
        let mixed = || provider("lab", true, &["text-embedding-3-large", "llama", "gpt-4o", "meta/llama-3"]);
        for (asked, providers, dev, want) in [
            ("auto", vec![], true, "offline/offline Builtin"),
            ("gpt-4o", vec![], true, "offline/offline Builtin"),
            ("auto", vec![], false, "model_not_configured"),
            ("offline", vec![], false, "offline/offline Builtin"),
            ("auto", vec![vendor()], true, "openai/gpt-4o Catalogue"),
            ("chat-small", vec![vendor()], false, "openai/gpt-4o-mini Catalogue"),
            ("gpt-4o-mini", vec![vendor()], false, "openai/gpt-4o-mini Catalogue"),
            ("openai/o3", vec![vendor()], false, "openai/o3 Catalogue"),
            ("gpt-9", vec![vendor()], false, "price_unknown"),
            ("gpt-9", vec![custom()], false, "openai/gpt-9 SelfHosted"),
            ("gpt-4o", vec![custom()], false, "openai/gpt-4o Catalogue"),
            ("auto", vec![own()], false, "lab/llama SelfHosted"),
            ("llama", vec![vendor(), own()], false, "lab/llama SelfHosted"),
            ("gpt-4o", vec![own(), vendor()], false, "openai/gpt-4o Catalogue"),
            ("lab/phi", vec![vendor(), own()], false, "lab/phi SelfHosted"),
            ("auto", vec![mixed()], false, "lab/llama SelfHosted"),
            ("auto", vec![provider("lab", true, &["nomic-embed-text"])], false, "model_not_found"),
            ("auto", vec![provider("lab", true, &[])], false, "lab/auto SelfHosted"),
            ("auto", vec![provider("far", true, &[]), own()], false, "lab/llama SelfHosted"),
            ("chat-small", vec![provider("far", true, &[]), vendor()], false, "openai/gpt-4o-mini Catalogue"),
            ("text-embedding-3-large", vec![mixed()], false, "lab/text-embedding-3-large SelfHosted"),
            ("gpt-4o", vec![mixed(), vendor()], false, "openai/gpt-4o Catalogue"),
            ("lab/gpt-4o", vec![mixed(), vendor()], false, "lab/gpt-4o SelfHosted"),
            ("meta/llama-3", vec![mixed(), vendor()], false, "lab/meta/llama-3 SelfHosted"),
            ("lab/meta/llama-3", vec![own()], false, "lab/meta/llama-3 SelfHosted"),
            ("opneai/gpt-4o", vec![own(), vendor()], false, "provider_not_found"),
            ("openai/gpt-4o", vec![own()], false, "provider_not_found"),
            ("offline/offline", vec![own()], false, "offline/offline Builtin"),
        ] {
            assert_eq!(ask(asked, providers, dev), want, "{asked} dev={dev}");
        }
    }
}
