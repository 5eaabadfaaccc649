//! What several families' conversions have in common.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lantern_types::Failure;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::{invalid, unreadable};
use crate::neutral::{
    Cache, Content, Delta, Extra, Function, Json, Opening, Output, Part, Source, Thinking, Tool, ToolChoice,
};

/// A request that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The field that is wrong, as a path: `messages[2].role`.
    pub at: Option<String>,
    /// What is wrong, in words for the caller.
    pub message: String,
}

impl Malformed {
    pub(crate) fn at(at: impl Into<String>, message: impl Into<String>) -> Self {
        Self { at: Some(at.into()), message: message.into() }
    }
    pub(crate) fn missing(at: impl Into<String>) -> Self {
        let at = at.into();
        Self { message: format!("{at} is required"), at: Some(at) }
    }
}

/// A request's body as a shape of the wire.
pub(crate) fn body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    serde_json::from_slice(bytes).map_err(|error| {
        let what = if error.is_data() { "has another form" } else { "is not JSON" };
        Malformed { at: None, message: format!("the body {what}: {error}") }
    })
}

/// What a provider sent as a shape of the wire.
pub(crate) fn sent<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| unreadable("the reply", &error))
}

/// A shape as the bytes of a body. Shapes hold nothing that JSON cannot say.
pub(crate) fn bytes(shape: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(shape).unwrap_or_default()
}

/// A shape as JSON that is carried and not read.
pub(crate) fn json(shape: &impl Serialize) -> Json {
    serde_json::value::to_raw_value(shape).ok().and_then(|raw| Json::parse(raw.get())).unwrap_or_default()
}

/// Whether text is JSON.
pub(crate) fn is_json(text: &str) -> bool {
    serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok()
}

/// The arguments of a past call as an object. Several vendors parse them and refuse the whole conversation when one is
/// malformed, so a model's slip goes back to it as a text in an object.
pub(crate) fn past_arguments(text: &str) -> Json {
    let slip = || Json::of(&Value::from_iter([("malformed", text)]));
    match text.trim() {
        "" => Json::default(),
        object if object.starts_with('{') => Json::parse(object).unwrap_or_else(slip),
        _ => slip(),
    }
}

/// The texts among some parts, one after another.
pub(crate) fn words<'a>(parts: impl IntoIterator<Item = &'a Part>) -> String {
    let texts: Vec<&str> = parts
        .into_iter()
        .filter_map(|part| match &part.content {
            Content::Text(text) | Content::Refusal(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    texts.join("\n\n")
}

/// A `data:` URL with base64, or an address.
pub(crate) fn source_of(url: String) -> Source {
    let inline = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
    match inline {
        Some((media_type, data)) => {
            Source::Base64 { media_type: media_type.to_owned(), data: data.to_owned() }
        }
        None => Source::Url { url, media_type: None },
    }
}

/// The other way; `None` for what is neither.
pub(crate) fn url_of(source: &Source) -> Option<String> {
    match source {
        Source::Base64 { media_type, data } => Some(format!("data:{media_type};base64,{data}")),
        Source::Url { url, .. } => Some(url.clone()),
        Source::Text(_) | Source::Id(_) => None,
    }
}

/// A breakpoint, from the time that a wire says to keep it.
pub(crate) fn cache(ttl: Option<String>) -> Cache {
    Cache { ttl }
}

/// The functions among the tools that may be used, and what is left to say about the choice: families that cannot
/// narrow the choice to several get a narrower list.
pub(crate) fn narrowed(tools: &[Tool], choice: Option<&ToolChoice>) -> (Vec<Tool>, Option<ToolChoice>) {
    let Some(ToolChoice::Allowed { names, required }) = choice else {
        return (tools.to_vec(), choice.cloned());
    };
    let allowed = |tool: &&Tool| match tool {
        Tool::Function(Function { name, .. }) => names.contains(name),
        Tool::Other(_) => true,
    };
    let choice = if *required { ToolChoice::Required } else { ToolChoice::Auto };
    (tools.iter().filter(allowed).cloned().collect(), Some(choice))
}

/// What to tell a model of the form that its reply must have, where no field says it.
pub(crate) fn instruction(output: &Output) -> String {
    const JSON: &str = "Answer with one JSON value and nothing else: no words around it, no code fence.";
    match output {
        Output::Json => JSON.to_owned(),
        Output::Schema { schema, .. } => {
            format!("{JSON} It must be valid under this JSON Schema: {}", schema.text())
        }
    }
}

/// A schema in which every object is closed, for families that take no others; `None` when one is meant to be open.
pub(crate) fn closed(schema: &Json) -> Option<Json> {
    fn close(schema: &mut Value) -> bool {
        let Value::Object(fields) = schema else { return true };
        let inner = |(name, value): (&String, &mut Value)| match (name.as_str(), value) {
            ("properties" | "$defs" | "definitions", Value::Object(named)) => named.values_mut().all(close),
            ("anyOf" | "oneOf" | "allOf" | "prefixItems", Value::Array(several)) => {
                several.iter_mut().all(close)
            }
            ("items" | "not", one) => close(one),
            _ => true,
        };
        if !fields.iter_mut().all(inner) {
            return false;
        }
        let named = fields.contains_key("properties");
        if !named && fields.get("type").is_none_or(|kind| kind != "object") {
            return true;
        }
        named && *fields.entry("additionalProperties").or_insert(Value::Bool(false)) == Value::Bool(false)
    }
    let mut value = schema.value();
    let before = value.clone();
    // As it was, when nothing had to be done: the order of properties is kept.
    close(&mut value).then(|| if value == before { schema.clone() } else { Json::of(&value) })
}

/// Tokens to think, for families that want a number where only an effort was said.
pub(crate) fn budget(thinking: &Thinking) -> Option<u64> {
    let by_effort = |effort: &str| match effort {
        "none" => 0,
        "minimal" | "low" => 1_024,
        "medium" => 8_192,
        _ => 24_576,
    };
    thinking.budget.or_else(|| thinking.effort.as_deref().map(by_effort))
}

/// An effort, for families that want a word where only a number was said.
pub(crate) fn effort(thinking: &Thinking) -> Option<String> {
    let by_budget = |tokens: u64| match tokens {
        0..=2_048 => "low",
        2_049..=12_288 => "medium",
        _ => "high",
    };
    thinking.effort.clone().or_else(|| thinking.budget.map(|tokens| by_budget(tokens).to_owned()))
}

/// The numbers of a streamed reply's parts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbers {
    next: usize,
    open: Vec<usize>,
}

impl Numbers {
    /// Begins a part.
    pub(crate) fn open(&mut self, what: Opening, out: &mut Vec<Delta>) -> usize {
        let part = self.next;
        self.next += 1;
        self.open.push(part);
        out.push(Delta::Open { part, what });
        part
    }
    /// Ends a part, once.
    pub(crate) fn close(&mut self, part: usize, out: &mut Vec<Delta>) {
        if let Some(place) = self.open.iter().position(|open| *open == part) {
            self.open.remove(place);
            out.push(Delta::Close { part });
        }
    }
    /// Ends all of them.
    pub(crate) fn close_all(&mut self, out: &mut Vec<Delta>) {
        out.extend(self.open.drain(..).map(|part| Delta::Close { part }));
    }
}

/// A failure for a reply that asks for a tool without naming it.
pub(crate) fn nameless() -> Failure {
    invalid("the reply asks for a tool without naming it")
}

/// Keeps what an inner object said beside what was understood, under the object's name.
pub(crate) fn tuck(extra: &mut Extra, name: &str, rest: Extra) {
    if !rest.is_empty() {
        extra.insert(name.to_owned(), Value::Object(rest));
    }
}

/// Takes it out again, for writing the inner object.
pub(crate) fn untuck(extra: &mut Extra, name: &str) -> Extra {
    match extra.remove(name) {
        Some(Value::Object(rest)) => rest,
        Some(other) => {
            extra.insert(name.to_owned(), other);
            Extra::new()
        }
        None => Extra::new(),
    }
}

/// The text that some base64 is, if it is one.
pub(crate) fn text_in(base64: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(base64).ok()?).ok()
}
