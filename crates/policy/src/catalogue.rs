//! The model catalogue: which models exist, which capability names mean them, what they cost. Data with a digest.

use std::collections::BTreeMap;

use lantern_types::{Digest, MicroUsd, Price};
use serde::Deserialize;

/// The catalogue in force.
#[derive(Clone, Debug)]
pub struct Catalogue {
    models: Vec<Model>,
    capabilities: BTreeMap<String, Vec<String>>,
    digest: Digest,
}

/// One model with its price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// The provider that sells it.
    pub provider: String,
    /// The provider's name of it.
    pub model: String,
    /// Its price.
    pub price: Price,
}

/// The catalogue's text is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("model catalogue: {0}")]
pub struct Invalid(pub String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    format: u32,
    capabilities: BTreeMap<String, Vec<String>>,
    models: Vec<TextModel>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TextModel {
    provider: String,
    model: String,
    input_usd_per_million: String,
    output_usd_per_million: String,
}

impl Catalogue {
    /// The catalogue that ships with this build.
    pub fn builtin() -> Result<Self, Invalid> {
        Self::parse(include_str!("../data/catalogue.json"))
    }

    /// Reads a catalogue; refuses prices it cannot read and capabilities that name no model.
    pub fn parse(json: &str) -> Result<Self, Invalid> {
        let text: Text = serde_json::from_str(json).map_err(|e| Invalid(e.to_string()))?;
        if text.format != 1 {
            return Err(Invalid(format!("format {} is not known", text.format)));
        }
        let models = text.models.into_iter().map(read_model).collect::<Result<Vec<_>, _>>()?;
        for (capability, names) in &text.capabilities {
            if let Some(name) = names.iter().find(|name| !models.iter().any(|m| &m.model == *name)) {
                return Err(Invalid(format!("capability {capability} names {name}, which has no price")));
            }
        }
        Ok(Self { models, capabilities: text.capabilities, digest: Digest::of(json.as_bytes()) })
    }

    /// The model of that name, from that provider.
    pub fn find(&self, provider: &str, model: &str) -> Option<&Model> {
        self.models.iter().find(|m| m.provider == provider && m.model == model)
    }

    /// The models that a capability name means, best first; `None` when the name is no capability.
    pub fn capability(&self, name: &str) -> Option<impl Iterator<Item = &Model>> {
        let names = self.capabilities.get(name)?;
        Some(names.iter().filter_map(|name| self.models.iter().find(|m| &m.model == name)))
    }

    /// Every model, in file order.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// Names this catalogue in the journal.
    pub const fn digest(&self) -> Digest {
        self.digest
    }
}

fn read_model(text: TextModel) -> Result<Model, Invalid> {
    let price =
        |usd: &str| MicroUsd::parse_usd(usd).ok_or_else(|| Invalid(format!("{}: price {usd:?}", text.model)));
    let price =
        Price { input: price(&text.input_usd_per_million)?, output: price(&text.output_usd_per_million)? };
    Ok(Model { provider: text.provider, model: text.model, price })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_catalogue_reads() {
        let catalogue = Catalogue::builtin().unwrap();
        assert_eq!(catalogue.find("openai", "gpt-4o").unwrap().price.output.micros(), 10_000_000);
        assert_eq!(catalogue.capability("chat-small").unwrap().next().unwrap().model, "gpt-4o-mini");
        assert!(catalogue.capability("gpt-4o").is_none());
    }

    #[test]
    fn a_doubtful_catalogue_is_refused() {
        let text = include_str!("../data/catalogue.json");
        for (from, to) in [
            ("\"2.50\"", "\"free\""),
            ("\"2.50\"", "2.5"),
            ("\"format\": 1", "\"format\": 2"),
            ("[\"gpt-4o\"", "[\"gpt-9\""),
        ] {
            assert!(Catalogue::parse(&text.replacen(from, to, 1)).is_err(), "{from} -> {to}");
        }
    }
}
