//! The choice of a model: a name that an agent asked for, and the providers at hand, in; a priced route out.
//!
//! Fails closed: a model without a known price is refused, and so is one of a provider that is not there. A model that the
//! catalogue knows goes to its vendor when that is configured; a server that lists it too is named, as `lab/gpt-4o`. A
//! capability goes to a server whose models nobody knows yet under its own name: [`unnamed`] until the call is made. The
//! built-in offline model answers only when it is named, or in `dev` when nothing else is there.

use lantern_types::{Denial, Price, PriceSource, Route, nearest};

use crate::Catalogue;
use crate::alias::{self, Aliases};
use crate::catalogue::Model;
use crate::strategy::{self, Strategy};
use crate::turns::Cooling;

/// The name of the built-in model and of its provider.
pub const OFFLINE: &str = "offline";
/// The capability of who has no wish.
const AUTO: &str = "auto";

/// A provider that could be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Its configured name.
    pub name: String,
    /// Whether the base URL is the tenant's or operator's own rather than the vendor's.
    pub self_hosted: bool,
    /// The models it is known to serve, best first; empty when unknown.
    pub models: Vec<String>,
    /// How many keys there are for it. One that needs none counts as having one.
    pub keys: u32,
}

/// What there is to choose from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choices {
    /// Configured providers, in order of preference.
    pub providers: Vec<Provider>,
    /// Providers that are configured and cannot be called, because their key is not to be had.
    pub keyless: Vec<String>,
    /// Whether the offline model may stand in when no provider is configured: only in `dev`.
    pub offline_stands_in: bool,
    /// What counts when several models would do.
    pub strategy: Strategy,
    /// Which models the tenant means by a name of the catalogue's.
    pub aliases: Aliases,
    /// Who did not answer lately.
    pub cooling: Vec<Cooling>,
}

/// Where a call for `asked` goes: a capability (`auto`, `chat-small`), a model (`gpt-4o`), or `provider/model`.
pub fn route(asked: &str, choices: &Choices, catalogue: &Catalogue) -> Result<Route, Denial> {
    let mut ranked = rank(asked, choices, catalogue)?.into_iter();
    ranked
        .next()
        .ok_or_else(|| Denial::new("model_not_found", format!("no configured provider serves {asked:?}")))
}

/// Where it may go, the best first: several only for a capability, or for a model that several providers are known to have.
pub fn rank(asked: &str, choices: &Choices, catalogue: &Catalogue) -> Result<Vec<Route>, Denial> {
    let named = asked == OFFLINE || asked.split_once('/') == Some((OFFLINE, OFFLINE));
    if named || (choices.providers.is_empty() && choices.offline_stands_in) {
        return Ok(vec![offline()]);
    }
    if choices.providers.is_empty() {
        return Err(Denial::new("model_not_configured", "no model provider is configured for this tenant"));
    }
    if let Some(models) = choices.aliases.get(asked) {
        return alias::rank(asked, models, choices, catalogue);
    }
    if let Some(models) = catalogue.capability(asked) {
        return by_capability(asked, models.collect(), choices);
    }
    by_name(asked, choices, catalogue)
}

/// Where a call for a model that is named goes.
pub(crate) fn by_name(asked: &str, choices: &Choices, catalogue: &Catalogue) -> Result<Vec<Route>, Denial> {
    let Some((name, model)) = asked.split_once('/') else { return by_model(asked, choices, catalogue) };
    if let Some(provider) = choices.providers.iter().find(|p| p.name == name) {
        return priced(provider, model, catalogue).map(|route| vec![route]);
    }
    // Servers list models such as `meta-llama/Llama-3` too.
    match knowing(asked, choices, catalogue).next() {
        Some(provider) => priced(provider, asked, catalogue).map(|route| vec![route]),
        None => {
            let near = nearest(name, choices.providers.iter().map(|p| p.name.as_str()));
            let hint = near.map(|near| format!("; did you mean {near}/{model}?")).unwrap_or_default();
            Err(Denial::new("provider_not_found", format!("no model provider {name:?} is configured{hint}")))
        }
    }
}

fn offline() -> Route {
    Route {
        provider: OFFLINE.to_owned(),
        model: OFFLINE.to_owned(),
        price: Price::default(),
        price_source: PriceSource::Builtin,
        key: 0,
        why: None,
    }
}

/// What vendors sell by the strategy, and servers of one's own after them; before them where only the price counts.
fn by_capability(asked: &str, models: Vec<&Model>, choices: &Choices) -> Result<Vec<Route>, Denial> {
    let Choices { providers, strategy, .. } = choices;
    let own = || providers.iter().filter(|p| p.self_hosted && !models.iter().any(|m| m.provider == p.name));
    let mut sold: Vec<&Model> =
        models.iter().copied().filter(|m| providers.iter().any(|p| p.name == m.provider)).collect();
    // Each capability but `auto` lists its models in a considered order, and that is what balanced means there.
    if *strategy != Strategy::Balanced || asked == AUTO {
        sold.sort_by_key(|model| std::cmp::Reverse(strategy::score(*strategy, model)));
    }
    let all = sold.len();
    let sold = sold.into_iter().enumerate().map(|(n, model)| Route {
        provider: model.provider.clone(),
        model: model.model.clone(),
        price: model.price,
        price_source: PriceSource::Catalogue,
        key: 0,
        why: Some(format!("{asked}, {strategy}: {} of {all}", n + 1)),
    });
    let free = |provider: &Provider, model: &str| Route {
        why: Some(format!("{asked}, {strategy}: a server of your own")),
        ..self_hosted(provider, model)
    };
    let served = own().filter_map(|p| Some(free(p, serving(asked, &p.models)?)));
    let mut ranked: Vec<Route> = if *strategy == Strategy::Cheap {
        served.chain(sold).collect()
    } else {
        sold.chain(served).collect()
    };
    if ranked.is_empty() {
        // Whether one of these serves it is known when it is asked: it may have been out of reach so far.
        let unknown = providers.iter().filter(|p| p.self_hosted).find(|p| p.models.is_empty());
        ranked.extend(unknown.map(|provider| self_hosted(provider, asked)));
    }
    if ranked.is_empty() {
        return Err(Denial::new("model_not_found", format!("no configured provider serves {asked:?}")));
    }
    Ok(ranked)
}

/// Whether the route names a capability where its model should be: its provider is to be asked for its models first.
pub fn unnamed(route: &Route, catalogue: &Catalogue) -> bool {
    route.price_source == PriceSource::SelfHosted && catalogue.capability(&route.model).is_some()
}

/// Of the models on somebody's own server, the first that could hold a conversation.
pub fn conversing(models: &[String]) -> Option<&String> {
    models.iter().find(|model| converses(model))
}

/// Of the models on somebody's own server, the first that could serve a capability, as far as its name says.
pub(crate) fn serving<'a>(asked: &str, models: &'a [String]) -> Option<&'a String> {
    let marks: &[&str] = match asked {
        "embed-large" | "embed-small" => &["embed", "bge-", "e5-", "gte-"],
        "rerank" => &["rerank"],
        "transcribe" => &["whisper", "transcribe"],
        "tts" => &["tts"],
        _ => return conversing(models),
    };
    let marked = |model: &&String| {
        let name = model.to_ascii_lowercase();
        marks.iter().any(|mark| name.contains(mark))
    };
    models.iter().find(marked)
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

/// Who serves this model: its vendor, then servers that list it.
fn knowing<'a>(
    asked: &'a str,
    choices: &'a Choices,
    catalogue: &'a Catalogue,
) -> impl Iterator<Item = &'a Provider> {
    let all = || choices.providers.iter();
    let sells = move |p: &&Provider| catalogue.find(&p.name, asked).is_some();
    let lists = move |p: &&Provider| p.models.iter().any(|model| model == asked);
    all().filter(sells).chain(all().filter(move |p| lists(p) && !sells(p)))
}

fn by_model(asked: &str, choices: &Choices, catalogue: &Catalogue) -> Result<Vec<Route>, Denial> {
    let known: Vec<&Provider> = knowing(asked, choices, catalogue).collect();
    if !known.is_empty() {
        return known.into_iter().map(|provider| priced(provider, asked, catalogue)).collect();
    }
    let own = choices.providers.iter().find(|p| p.self_hosted);
    match own.or_else(|| choices.providers.first()) {
        Some(provider) => priced(provider, asked, catalogue).map(|route| vec![route]),
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
            key: 0,
            why: None,
        });
    }
    if provider.self_hosted {
        return Ok(self_hosted(provider, model));
    }
    let sold = catalogue.models().iter().filter(|m| m.provider == provider.name).map(|m| m.model.as_str());
    let near = nearest(model, sold.chain(catalogue.capabilities()));
    let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    let words = format!("the price of {model:?} is not known; a call is refused rather than guessed{hint}");
    Err(Denial::new("price_unknown", words))
}

fn self_hosted(provider: &Provider, model: &str) -> Route {
    Route {
        provider: provider.name.clone(),
        model: model.to_owned(),
        price: Price::default(),
        price_source: PriceSource::SelfHosted,
        key: 0,
        why: None,
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
            keys: 1,
        }
    }

    fn ask(asked: &str, providers: Vec<Provider>, dev: bool) -> String {
        let choices = Choices { providers, offline_stands_in: dev, ..Choices::default() };
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

    fn ranked(asked: &str, strategy: Strategy, providers: Vec<Provider>) -> Vec<String> {
        let choices = Choices { providers, strategy, ..Choices::default() };
        let ranked = rank(asked, &choices, &Catalogue::builtin().unwrap()).unwrap();
        ranked.into_iter().map(|route| format!("{}/{}", route.provider, route.model)).collect()
    }

    #[test]
    fn strategies_order_what_the_tenant_has() {
        let both = || vec![provider("openai", false, &[]), provider("anthropic", false, &[])];
        let own = || vec![provider("lab", true, &["llama"]), provider("anthropic", false, &[])];
        let eu = || vec![provider("anthropic", false, &[]), provider("eu", true, &["claude-sonnet-4-6"])];
        for (asked, strategy, providers, want) in [
            (
                "auto",
                Strategy::Balanced,
                both(),
                "anthropic/claude-sonnet-4-6 openai/gpt-4o openai/gpt-4o-mini",
            ),
            ("auto", Strategy::Cheap, both(), "openai/gpt-4o-mini openai/gpt-4o anthropic/claude-sonnet-4-6"),
            ("auto", Strategy::Fast, both(), "openai/gpt-4o-mini openai/gpt-4o anthropic/claude-sonnet-4-6"),
            (
                "reasoning-frontier",
                Strategy::Best,
                both(),
                "anthropic/claude-opus-4-6 openai/o3 openai/gpt-4o",
            ),
            ("chat-large", Strategy::Balanced, both(), "openai/gpt-4o anthropic/claude-sonnet-4-6"),
            ("chat-large", Strategy::Balanced, own(), "anthropic/claude-sonnet-4-6 lab/llama"),
            ("chat-large", Strategy::Cheap, own(), "lab/llama anthropic/claude-sonnet-4-6"),
            ("claude-sonnet-4-6", Strategy::Cheap, eu(), "anthropic/claude-sonnet-4-6 eu/claude-sonnet-4-6"),
            ("anthropic/claude-sonnet-4-6", Strategy::Best, eu(), "anthropic/claude-sonnet-4-6"),
        ] {
            assert_eq!(ranked(asked, strategy, providers).join(" "), want, "{asked} {strategy}");
        }
    }

    #[test]
    fn a_wrong_name_is_told_what_it_is_like() {
        let choices = Choices { providers: vec![provider("openai", false, &[])], ..Choices::default() };
        let reason = |asked: &str| rank(asked, &choices, &Catalogue::builtin().unwrap()).unwrap_err().reason;
        assert!(reason("gpt-4o-mni").ends_with("did you mean gpt-4o-mini?"), "{}", reason("gpt-4o-mni"));
        assert!(reason("chat-smal").ends_with("did you mean chat-small?"), "{}", reason("chat-smal"));
        assert!(
            reason("opneai/gpt-4o").ends_with("did you mean openai/gpt-4o?"),
            "{}",
            reason("opneai/gpt-4o")
        );
        assert!(reason("tts").contains("no configured provider serves"), "{}", reason("tts"));
    }

    #[test]
    fn every_alias_of_the_contract_is_known() {
        let catalogue = Catalogue::builtin().unwrap();
        for alias in [
            "auto",
            "reasoning-frontier",
            "reasoning-large",
            "reasoning-small",
            "chat-large",
            "chat-small",
            "chat-edge",
            "code-large",
            "code-small",
            "vision-large",
            "vision-small",
            "embed-large",
            "embed-small",
            "rerank",
            "transcribe",
            "tts",
        ] {
            assert!(catalogue.capability(alias).is_some(), "{alias}");
        }
    }
}
