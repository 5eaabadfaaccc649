//! What comes with a message: texts, which become part of it, and pictures. Pure.
//!
//! Invariant: what an agent cannot be shown is refused, never dropped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lantern_edge::{Code, Error, Fields, Result};
use lantern_types::Limits;
use serde_json::{Map, Value, json};

const NAME_BYTES_MAX: usize = 255;
const MEDIA_BYTES_MAX: usize = 127;
/// Pictures that vendors take.
const PICTURES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];
/// Texts that are not called so.
const TEXTS: [&str; 8] = [
    "application/json",
    "application/xml",
    "application/yaml",
    "application/x-yaml",
    "application/toml",
    "application/javascript",
    "application/sql",
    "application/x-ndjson",
];

/// An attachment as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attachment {
    name: Option<String>,
    media: String,
    content: Sent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Sent {
    Text(String),
    /// In base64.
    Data(String),
}

/// The attachments of a message. What is wrong with one is said with its place.
pub(super) fn read(fields: &mut Fields<'_>) -> Vec<Attachment> {
    const NAME: &str = "attachments";
    fields.describe(NAME, || {
        let object = json!({ "type": "object", "properties": {
            "name": { "type": "string" }, "mediaType": { "type": "string" },
            "text": { "type": "string" }, "data": { "type": "string", "description": "In base64." },
        } });
        let url = json!({ "type": "string", "description": "A `data:` URL." });
        json!({ "type": ["array", "null"], "items": { "oneOf": [url, object] } })
    });
    let Some(value) = fields.value(NAME) else { return Vec::new() };
    let Some(list) = value.as_array() else {
        fields.issue(NAME, "expected a list");
        return Vec::new();
    };
    let mut read = Vec::with_capacity(list.len());
    for (n, entry) in list.iter().enumerate() {
        match one(entry) {
            Ok(attachment) => read.push(attachment),
            Err(message) => fields.issue(format!("{NAME}[{n}]"), message),
        }
    }
    read
}

fn one(value: &Value) -> Result<Attachment, &'static str> {
    let (name, media, content) = match value {
        Value::String(url) => data_url(url)?,
        Value::Object(map) => object(map)?,
        _ => return Err("expected a data: URL, or an object with mediaType and text or data"),
    };
    let plain = |text: &str| !text.chars().any(char::is_control);
    if name.as_deref().is_some_and(|name| name.len() > NAME_BYTES_MAX || !plain(name)) {
        return Err("its name is too long, or holds characters that no name has");
    }
    let media = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let known = media.len() <= MEDIA_BYTES_MAX
        && media.split_once('/').is_some_and(|(kind, sub)| {
            !kind.is_empty() && !sub.is_empty() && media.bytes().all(|b| b.is_ascii_graphic())
        });
    if !known {
        return Err("expected a mediaType such as text/plain or image/png");
    }
    Ok(Attachment { name, media, content })
}

type Parts = (Option<String>, String, Sent);

fn object(map: &Map<String, Value>) -> Result<Parts, &'static str> {
    let text = |names: [&str; 2]| -> Option<String> {
        names.iter().find_map(|name| map.get(*name)).and_then(Value::as_str).map(str::to_owned)
    };
    let media = text(["mediaType", "media_type"]);
    let content = match (text(["text"; 2]), text(["data"; 2])) {
        (Some(text), None) => Sent::Text(text),
        (None, Some(data)) => Sent::Data(data),
        _ => return Err("expected either text, or data in base64"),
    };
    let media = media.or_else(|| matches!(content, Sent::Text(_)).then(|| "text/plain".to_owned()));
    Ok((text(["name"; 2]), media.ok_or("its mediaType is missing")?, content))
}

fn data_url(url: &str) -> Result<Parts, &'static str> {
    const WANTED: &str = "expected a data: URL with its data in base64";
    let (about, data) = url.strip_prefix("data:").and_then(|rest| rest.split_once(',')).ok_or(WANTED)?;
    let media = about.strip_suffix(";base64").ok_or(WANTED)?;
    let media = if media.is_empty() { "text/plain" } else { media };
    Ok((None, media.to_owned(), Sent::Data(data.to_owned())))
}

/// The attachments as a run's input has them, or why an agent cannot be shown them.
pub(super) fn shown(attachments: Vec<Attachment>, limits: &Limits) -> Result<Vec<Value>> {
    let most = usize::try_from(limits.attachments_per_message_max).unwrap_or(usize::MAX);
    if attachments.len() > most {
        let words = format!("expected at most {most} attachments; the limit is attachmentsPerMessageMax");
        return Err(
            Error::new(Code::InvalidBody, format!("attachments: {words}")).with_field("attachments", words)
        );
    }
    let bytes_max = usize::try_from(limits.attachment_bytes_max).unwrap_or(usize::MAX);
    attachments.into_iter().enumerate().map(|(n, attachment)| show(n, attachment, bytes_max)).collect()
}

fn show(n: usize, attachment: Attachment, bytes_max: usize) -> Result<Value> {
    let refused = |code: Code, words: String| {
        let path = format!("attachments[{n}]");
        Error::new(code, format!("{path}: {words}")).with_field(path, words)
    };
    let Attachment { name, media, content } = attachment;
    let name = name.unwrap_or_else(|| format!("attachment-{}", n + 1));
    let too_large = |bytes: usize| {
        let words = format!("has {bytes} bytes; the limit (attachmentBytesMax) is {bytes_max}");
        refused(Code::InputTooLarge, words)
    };
    let bytes = match content {
        Sent::Text(text) => text.into_bytes(),
        Sent::Data(data) => STANDARD
            .decode(data.trim())
            .map_err(|_| refused(Code::InvalidBody, "its data is not base64".to_owned()))?,
    };
    if bytes.len() > bytes_max {
        return Err(too_large(bytes.len()));
    }
    if PICTURES.contains(&media.as_str()) {
        return Ok(json!({ "name": name, "mediaType": media, "data": STANDARD.encode(bytes) }));
    }
    if !is_text(&media) {
        let words = format!("{media} is neither text nor one of {}", PICTURES.join(", "));
        return Err(refused(Code::AttachmentUnsupported, words));
    }
    let text = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    let text = text.ok_or_else(|| {
        refused(Code::AttachmentUnsupported, format!("it is called {media} and is not UTF-8 text"))
    })?;
    Ok(json!({ "name": name, "mediaType": media, "text": text }))
}

fn is_text(media: &str) -> bool {
    media.starts_with("text/")
        || TEXTS.contains(&media)
        || media.ends_with("+json")
        || media.ends_with("+xml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_can_be_shown_is_shown_and_the_rest_is_refused() {
        let limits = Limits { attachment_bytes_max: 8, attachments_per_message_max: 2, ..Limits::default() };
        let shown_as = |name: &str, media: &str, key: &str, value: &str| {
            Ok(json!({ "name": name, "mediaType": media, key: value }))
        };
        for (sent, want) in [
            (json!("data:text/plain;base64,aGk="), shown_as("attachment-1", "text/plain", "text", "hi")),
            (json!("data:;base64,aGk="), shown_as("attachment-1", "text/plain", "text", "hi")),
            (json!("data:image/png;base64,AAE="), shown_as("attachment-1", "image/png", "data", "AAE=")),
            (json!({"name": "a.csv", "text": "a,b"}), shown_as("a.csv", "text/plain", "text", "a,b")),
            (
                json!({"name": "a", "media_type": "Application/JSON; charset=utf-8", "data": "e30="}),
                shown_as("a", "application/json", "text", "{}"),
            ),
            (json!("data:application/pdf;base64,AAE="), Err(Code::AttachmentUnsupported)),
            (json!("data:text/plain;base64,/w=="), Err(Code::AttachmentUnsupported)),
            (json!("data:text/plain;base64,aGVsbG8gd29ybGQ="), Err(Code::InputTooLarge)),
            (json!({"mediaType": "text/plain", "data": "?"}), Err(Code::InvalidBody)),
        ] {
            let read = one(&sent).unwrap();
            let got = shown(vec![read], &limits).map_err(|error| error.code());
            assert_eq!(got.map(|mut all| all.remove(0)), want, "{sent}");
        }
        for bad in [
            json!(5),
            json!("https://x.y/z"),
            json!("data:text/plain,hi"),
            json!({"text": "a", "data": "b"}),
            json!({"data": "AAE="}),
            json!({"mediaType": "png", "data": "AAE="}),
            json!({"name": "a\nb", "text": "x"}),
        ] {
            assert!(one(&bad).is_err(), "{bad}");
        }
        let three = vec![one(&json!({"text": "a"})).unwrap(); 3];
        assert_eq!(shown(three, &limits).unwrap_err().code(), Code::InvalidBody);
    }
}
