//! The model catalogue: which models exist, which capability names mean them, what they cost. Data with a digest.

use std::collections::BTreeMap;

use lantern_types::{At, Digest, MicroUsd, Price};
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
    /// The day on which the price was put here, as in `2026-11-30`.
    pub priced_on: String,
    /// The page that the price is from.
    pub source: String,
    /// Tokens that a prompt and its answer may have together.
    pub context_tokens: u64,
    /// What it reads: `text`, `image`, `audio`.
    pub reads: Vec<String>,
    /// How good its answers are, from 1 to 10: a judgement of ours.
    pub quality: u8,
    /// How quick its answers are, from 1 to 10: a judgement of ours.
    pub speed: u8,
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
    priced_on: String,
    source: String,
    context_tokens: u64,
    reads: Vec<String>,
    quality: u8,
    speed: u8,
}

impl Catalogue {
    /// The catalogue that ships with this build.
    pub fn builtin() -> Result<Self, Invalid> {
        Self::parse(include_str!("../data/catalogue.json"))
    }

    /// Reads a catalogue; refuses prices it cannot read and capabilities that name no model.
    pub fn parse(json: &str) -> Result<Self, Invalid> {
        let text: Text = serde_json::from_str(json).map_err(|e| Invalid(e.to_string()))?;
        if text.format != 2 {
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

    /// The names of all capabilities.
    pub fn capabilities(&self) -> impl Iterator<Item = &str> {
        self.capabilities.keys().map(String::as_str)
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
    let TextModel { provider, model, priced_on, source, context_tokens, reads, quality, speed, .. } = text;
    let dated = format!("{priced_on}T00:00:00Z").parse::<At>().is_ok();
    let graded = (1..=10).contains(&quality) && (1..=10).contains(&speed);
    if !dated || !graded || !source.starts_with("https://") || context_tokens == 0 || reads.is_empty() {
        return Err(Invalid(format!("{model}: a day, a page, a size or a grade is not right")));
    }
    Ok(Model { provider, model, price, priced_on, source, context_tokens, reads, quality, speed })
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
            ("\"format\": 2", "\"format\": 1"),
            ("\"quality\": 8", "\"quality\": 11"),
            ("https://", "http://"),
            ("\"2026-11-22\"", "\"soon\""),
            ("[\"gpt-4o\"", "[\"gpt-9\""),
        ] {
            assert!(Catalogue::parse(&text.replacen(from, to, 1)).is_err(), "{from} -> {to}");
        }
    }
}
