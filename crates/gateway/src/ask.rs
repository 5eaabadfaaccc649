//! What a request asks for, and the few members that are changed in it before it is sent on.
//!
//! Invariant: members that are not changed keep their bytes, and when none is, the body is the one that came. A member that
//! stands twice is refused, because two readers could each believe another one. Pure.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use lantern_edge::{Code, Error, Result};
use lantern_llm::{Door, cross};
use lantern_types::llm::IMAGE_TOKENS_MAX;
use serde::Deserializer;
use serde::de::{Deserialize, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// Completion tokens of a call that does not say how many it wants.
const UNSAID: u64 = 16_384;
/// A model's name.
pub(crate) const MODEL_BYTES_MAX: usize = 256;
/// Answers that one call may ask for.
const ANSWERS_MAX: u64 = 128;

/// What a request asks for.
pub(crate) struct Asked<'a> {
    /// For which model, as it is named there.
    pub(crate) model: Cow<'a, str>,
    /// Whether the answer is to be streamed.
    pub(crate) stream: bool,
    /// The most completion tokens of each answer, if it says so.
    pub(crate) most: Option<u64>,
    /// How many answers.
    pub(crate) answers: u64,
    /// Whether whoever asks wants to be told in the stream what was used.
    pub(crate) wants_usage: bool,
    door: Door,
    members: Members<'a>,
    body: &'a Bytes,
}

/// What is changed in a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    /// The model, as the provider names it.
    pub(crate) model: String,
    /// The most completion tokens of each answer.
    pub(crate) most: Option<u64>,
    /// The model takes its most completion tokens under the newer name.
    pub(crate) newer_name: bool,
}

/// The members of an object in their order, unread.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Asked<'a> {
    /// Reads a request of this wire.
    pub(crate) fn read(door: Door, body: &'a Bytes) -> Result<Self> {
        let members: Members<'a> = serde_json::from_slice(body).map_err(|error| {
            Error::new(Code::InvalidJson, format!("the body is not a JSON object: {error}"))
        })?;
        members.stand_once()?;
        let model: Cow<'a, str> = match members.read::<String>("model")? {
            Some(model) if !model.is_empty() && model.len() <= MODEL_BYTES_MAX => model.into(),
            _ => return Err(wrong("model", "name a model")),
        };
        let mut most = None;
        for name in most_names(door) {
            most = most.max(members.read::<u64>(name)?);
        }
        let answers = if door == Door::Chat { members.read::<u64>("n")?.unwrap_or(1) } else { 1 };
        if answers == 0 || answers > ANSWERS_MAX {
            return Err(wrong("n", "expected 1 to 128 answers"));
        }
        let stream = door != Door::Embeddings && members.read::<bool>("stream")?.unwrap_or_default();
        let options = members.read::<Map<String, Value>>("stream_options")?;
        let wants_usage =
            options.is_some_and(|options| options.get("include_usage") == Some(&Value::Bool(true)));
        Ok(Self { model, stream, most, answers, wants_usage, door, members, body })
    }

    /// Completion tokens of each answer: what it asks for, else a bound that it is given.
    pub(crate) fn output(&self, most: u64) -> u64 {
        match self.door {
            Door::Embeddings => 0,
            _ => self.most.unwrap_or(UNSAID).min(most),
        }
    }

    /// Bytes that may be prompt.
    pub(crate) fn bytes(&self) -> u64 {
        self.body.len() as u64
    }

    /// Whether it asks for its beginning to be kept in the provider's cache, which costs more.
    pub(crate) fn caches(&self) -> bool {
        self.door == Door::Messages && contains(self.body, b"cache_control")
    }

    /// Tokens of what is named in it and not in its bytes: pictures and files. Some of them by a spelling that hides what it is,
    /// so they are looked for in what the JSON means.
    pub(crate) fn apart(&self) -> u64 {
        let plain =
            [&b"image"[..], b"file", b"document", b"\\u"].iter().all(|mark| !contains(self.body, mark));
        if plain {
            return 0;
        }
        let parts = ["messages", "input", "system"].iter().filter_map(|name| self.members.find(name));
        let values = parts.filter_map(|raw| serde_json::from_str::<Value>(raw.get()).ok());
        values.map(|value| pictures(&value)).sum::<u64>().saturating_mul(IMAGE_TOKENS_MAX as u64)
    }

    /// What makes its cost unbounded, if something does: what the provider remembers, fetches or runs by itself.
    pub(crate) fn unbounded(&self) -> Option<&'static str> {
        let said = |name: &&&'static str| {
            self.members.find(name).is_some_and(|raw| !matches!(raw.get(), "null" | "false"))
        };
        if let Some(name) = cross::OWN.iter().find(said) {
            return Some(name);
        }
        let tier = self.members.read::<String>("service_tier").ok().flatten();
        if tier.is_some_and(|tier| !matches!(tier.as_str(), "auto" | "default" | "flex" | "standard_only")) {
            return Some("service_tier");
        }
        let own = |tool: &Value| match tool.get("type") {
            None => true,
            Some(kind) => matches!(kind.as_str(), Some("function" | "custom")),
        };
        let tools = self.members.read::<Vec<Value>>("tools").ok().flatten().unwrap_or_default();
        (!tools.iter().all(own)).then_some("tools")
    }

    /// The body to be sent on.
    pub(crate) fn rewritten(&self, changes: &Changes) -> Bytes {
        let mut wanted: Vec<(&str, Value)> = vec![("model", json!(changes.model))];
        if let Some(most) = changes.most {
            let names = most_names(self.door);
            let there: Vec<&str> =
                names.iter().copied().filter(|name| self.members.find(name).is_some()).collect();
            let new = names.first().filter(|_| !changes.newer_name).or_else(|| names.last());
            let named = if there.is_empty() { new.copied().into_iter().collect() } else { there };
            wanted.extend(named.into_iter().map(|name| (name, json!(most))));
        }
        if self.door == Door::Chat && self.stream && !self.wants_usage {
            let options = self.members.read::<Map<String, Value>>("stream_options").ok().flatten();
            let mut options = options.unwrap_or_default();
            options.insert("include_usage".to_owned(), Value::Bool(true));
            wanted.push(("stream_options", Value::Object(options)));
        }
        self.members.with(self.body, &wanted)
    }
}

impl<'a> Members<'a> {
    fn find(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, raw)| *raw)
    }

    /// A member, read; `null` is as good as none.
    fn read<T: Deserialize<'a>>(&self, name: &'static str) -> Result<Option<T>> {
        let Some(raw) = self.find(name) else { return Ok(None) };
        serde_json::from_str::<Option<T>>(raw.get()).map_err(|_| wrong(name, "it has another form"))
    }

    fn stand_once(&self) -> Result<()> {
        let mut names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair.first() == pair.last()) {
            Some(pair) => {
                let name = pair.concat();
                let name = name.get(..name.len() / 2).unwrap_or_default();
                Err(Error::new(Code::DuplicateKey, format!("{name:?} stands twice in the body")))
            }
            None => Ok(()),
        }
    }

    /// The object with these members, which replace those of their name; the same bytes when nothing is another.
    fn with(&self, body: &Bytes, wanted: &[(&str, Value)]) -> Bytes {
        let same = |(name, value): &(&str, Value)| {
            self.find(name)
                .is_some_and(|raw| serde_json::from_str::<Value>(raw.get()).is_ok_and(|is| is == *value))
        };
        let changed: Vec<&(&str, Value)> = wanted.iter().filter(|member| !same(member)).collect();
        if changed.is_empty() {
            return body.clone();
        }
        let mut text = String::with_capacity(body.len() + 128);
        text.push('{');
        let mut add = |name: &str, value: &str| {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&json!(name).to_string());
            text.push(':');
            text.push_str(value);
        };
        for (name, raw) in &self.0 {
            match changed.iter().find(|(found, _)| found == name) {
                Some((_, value)) => add(name, &value.to_string()),
                None => add(name, raw.get()),
            }
        }
        for (name, value) in changed.into_iter().filter(|(name, _)| self.find(name).is_none()) {
            add(name, &value.to_string());
        }
        text.push('}');
        text.into()
    }
}

/// Under which names a wire takes the most completion tokens: the older first.
const fn most_names(door: Door) -> &'static [&'static str] {
    match door {
        Door::Chat => &["max_tokens", "max_completion_tokens"],
        Door::Messages => &["max_tokens"],
        Door::Responses => &["max_output_tokens"],
        Door::Embeddings => &[],
    }
}

/// Parts of messages that are pictures or files.
fn pictures(value: &Value) -> u64 {
    match value {
        Value::Array(items) => items.iter().map(pictures).sum(),
        Value::Object(fields) => {
            const KINDS: &[&str] = &["image_url", "input_image", "image", "document", "input_file", "file"];
            let is_one = fields.get("type").and_then(Value::as_str).is_some_and(|kind| KINDS.contains(&kind));
            u64::from(is_one) + fields.values().map(pictures).sum::<u64>()
        }
        _ => 0,
    }
}

fn contains(body: &[u8], mark: &[u8]) -> bool {
    body.windows(mark.len()).any(|window| window == mark)
}

fn wrong(name: &str, what: &str) -> Error {
    Error::new(Code::InvalidBody, format!("{name}: {what}")).with_field(name, what)
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(String, &'de RawValue)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Object).map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(door: Door, body: &str, changes: &Changes) -> String {
        let body = Bytes::from(body.to_owned());
        String::from_utf8(Asked::read(door, &body).unwrap().rewritten(changes).to_vec()).unwrap()
    }

    fn to(model: &str, most: Option<u64>) -> Changes {
        Changes { model: model.to_owned(), most, newer_name: false }
    }

    #[test]
    fn what_need_not_change_keeps_its_bytes() {
        let odd = "{ \"model\" : \"m\",\n  \"x\": [1.0, 1e2, \"\\u00e9\"], \"max_tokens\": 5 }";
        assert_eq!(rewritten(Door::Chat, odd, &to("m", None)), odd);
        assert_eq!(rewritten(Door::Chat, odd, &to("m", Some(5))), odd);
        let changed = rewritten(Door::Chat, odd, &to("n", Some(4)));
        assert_eq!(changed, r#"{"model":"n","x":[1.0, 1e2, "\u00e9"],"max_tokens":4}"#);
    }

    #[test]
    fn what_a_cap_or_the_count_needs_is_added() {
        for (door, body, changes, want) in [
            (Door::Chat, r#"{"model":"m"}"#, to("m", Some(9)), r#"{"model":"m","max_tokens":9}"#),
            (
                Door::Chat,
                r#"{"model":"m"}"#,
                Changes { newer_name: true, ..to("m", Some(9)) },
                r#"{"model":"m","max_completion_tokens":9}"#,
            ),
            (
                Door::Chat,
                r#"{"model":"m","max_tokens":1,"max_completion_tokens":20}"#,
                to("m", Some(9)),
                r#"{"model":"m","max_tokens":9,"max_completion_tokens":9}"#,
            ),
            (
                Door::Chat,
                r#"{"model":"m","stream":true}"#,
                to("m", None),
                r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
            ),
            (
                Door::Chat,
                r#"{"model":"m","stream":true,"stream_options":{"a":1,"include_usage":false}}"#,
                to("m", None),
                r#"{"model":"m","stream":true,"stream_options":{"a":1,"include_usage":true}}"#,
            ),
            (
                Door::Messages,
                r#"{"model":"m","stream":true}"#,
                to("m", None),
                r#"{"model":"m","stream":true}"#,
            ),
            (Door::Responses, r#"{"model":"m"}"#, to("m", Some(3)), r#"{"model":"m","max_output_tokens":3}"#),
            (Door::Embeddings, r#"{"model":"m"}"#, to("m", Some(3)), r#"{"model":"m"}"#),
        ] {
            assert_eq!(rewritten(door, body, &changes), want, "{body}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (body, code) in [
            ("", "invalid_json"),
            ("[]", "invalid_json"),
            ("{\"model\":\"m\"", "invalid_json"),
            (r#"{"messages":[]}"#, "invalid_body"),
            (r#"{"model":""}"#, "invalid_body"),
            (r#"{"model":7}"#, "invalid_body"),
            (r#"{"model":"m","max_tokens":"many"}"#, "invalid_body"),
            (r#"{"model":"m","max_tokens":-1}"#, "invalid_body"),
            (r#"{"model":"m","n":0}"#, "invalid_body"),
            (r#"{"model":"m","model":"dear"}"#, "duplicate_key"),
            (r#"{"model":"m","mod\u0065l":"dear"}"#, "duplicate_key"),
        ] {
            let body = Bytes::from(body);
            let error = Asked::read(Door::Chat, &body).err().unwrap();
            assert_eq!(error.code().as_str(), code, "{body:?}");
        }
    }

    #[test]
    fn what_is_not_in_the_bytes_is_counted_or_named() {
        let apart = |body: &str| {
            let body = Bytes::from(body.to_owned());
            Asked::read(Door::Chat, &body).unwrap().apart() / IMAGE_TOKENS_MAX as u64
        };
        assert_eq!(apart(r#"{"model":"m","messages":[{"content":"an image"}]}"#), 0);
        assert_eq!(
            apart(r#"{"model":"m","messages":[{"content":[{"type":"image_url"},{"type":"file"}]}]}"#),
            2
        );
        assert_eq!(apart(r#"{"model":"m","messages":[{"content":[{"type":"\u0069mage_url"}]}]}"#), 1);
        for (body, want) in [
            (r#"{"model":"m"}"#, None),
            (r#"{"model":"m","background":false,"conversation":null}"#, None),
            (r#"{"model":"m","previous_response_id":"r"}"#, Some("previous_response_id")),
            (r#"{"model":"m","tools":[{"type":"function"},{"name":"own"}]}"#, None),
            (r#"{"model":"m","tools":[{"type":"web_search"}]}"#, Some("tools")),
            (r#"{"model":"m","service_tier":"priority"}"#, Some("service_tier")),
        ] {
            let body = Bytes::from(body);
            assert_eq!(Asked::read(Door::Responses, &body).unwrap().unbounded(), want, "{body:?}");
        }
    }
}
