//! Parts of contents.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::Family;
use crate::convert::lost::Lost;
use crate::convert::shared::{self, Malformed, past_arguments, words};
use crate::neutral::{Call, Content, Extra, Json, Media, Outcome, Part, Signature, Source, Thought};
use crate::types::generate as wire;

/// Proofs are bytes on this wire: another family's travels as the base64 of its text.
pub(super) fn read_proof(text: String) -> Signature {
    let foreign = shared::text_in(&text).filter(|inner| inner.starts_with("wire:"));
    Signature::read(Family::Generate, foreign.unwrap_or(text))
}

/// The other way.
pub(super) fn show_proof(proof: &Signature) -> String {
    let text = proof.shown_to(Family::Generate);
    if proof.family == Family::Generate { text } else { STANDARD.encode(text) }
}

/// Reads a part. `n` numbers the call, for those that come without an id.
pub(super) fn read(at: &str, part: wire::Part, n: usize) -> Result<Part, Malformed> {
    let whole = part.clone();
    let content = if let Some(call) = part.function_call {
        Content::Call(Call {
            id: call.id.filter(|id| !id.is_empty()).unwrap_or_else(|| made_id(n)),
            name: call.name.ok_or_else(|| Malformed::missing(format!("{at}.functionCall.name")))?,
            arguments: call.args.unwrap_or_default().text().to_owned(),
        })
    } else if let Some(response) = part.function_response {
        Content::Outcome(read_outcome(at, response)?)
    } else if let Some(blob) = part.inline_data {
        let media_type =
            blob.mime_type.ok_or_else(|| Malformed::missing(format!("{at}.inlineData.mimeType")))?;
        let data = blob.data.ok_or_else(|| Malformed::missing(format!("{at}.inlineData.data")))?;
        let kind = media_type.clone();
        media(&kind, Source::Base64 { media_type, data }, blob.display_name)
    } else if let Some(file) = part.file_data {
        let url = file.file_uri.ok_or_else(|| Malformed::missing(format!("{at}.fileData.fileUri")))?;
        let kind = file.mime_type.clone().unwrap_or_default();
        media(&kind, Source::Url { url, media_type: file.mime_type }, file.display_name)
    } else if let Some(text) = part.text {
        if part.thought == Some(true) {
            Content::Thought(Thought { text, id: None, withheld: false })
        } else {
            Content::Text(text)
        }
    } else if part.thought_signature.is_some() && part.rest.is_empty() {
        Content::Text(String::new())
    } else {
        return Ok(Part::new(Content::Other(shared::json(&whole))));
    };
    Ok(Part { content, cache: None, signature: part.thought_signature.map(read_proof), extra: part.rest })
}

/// Calls without an id are matched by their order.
pub(super) fn made_id(n: usize) -> String {
    format!("{MADE}{n}")
}

const MADE: &str = "gen_";

fn media(media_type: &str, source: Source, name: Option<String>) -> Content {
    let media = Media { source, name, detail: None };
    match media_type.split('/').next() {
        Some("image") => Content::Image(media),
        Some("audio") => Content::Audio(media),
        _ => Content::File(media),
    }
}

fn read_outcome(at: &str, response: wire::FunctionResponse) -> Result<Outcome, Malformed> {
    let name = response.name.ok_or_else(|| Malformed::missing(format!("{at}.functionResponse.name")))?;
    let said = response.response.unwrap_or_default();
    let value = said.value();
    let only = |field: &str| match value.as_object() {
        Some(object) if object.len() == 1 => object.get(field).map(plain),
        _ => None,
    };
    let failed = only("error");
    let text = failed.clone().or_else(|| only("result")).or_else(|| only("output"));
    let mut parts = vec![Part::text(text.unwrap_or_else(|| said.text().to_owned()))];
    for (n, part) in response.parts.unwrap_or_default().into_iter().enumerate() {
        parts.push(read(&format!("{at}.functionResponse.parts[{n}]"), part, n)?);
    }
    // Without an id it answers the call of that name: the writer of another family looks for it.
    let call = response.id.unwrap_or_default();
    Ok(Outcome { call, name: Some(name), parts, failed: failed.is_some() })
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Writes a part for the provider: its own proofs only.
pub(super) fn write(part: &Part, lost: &mut Lost) -> Option<wire::Part> {
    let proof = part.signature.as_ref().filter(|proof| proof.family == Family::Generate);
    if matches!(part.content, Content::Thought(_)) && proof.is_none() {
        lost.note("thinking");
        return None;
    }
    lost.note_if(part.cache.is_some(), "cache_control");
    let written = written(part, lost)?;
    Some(wire::Part { thought_signature: proof.map(|proof| proof.data.clone()), ..written })
}

/// Writes a part for a client.
pub(super) fn show(part: &Part, lost: &mut Lost) -> Option<wire::Part> {
    let written = written(part, lost)?;
    Some(wire::Part { thought_signature: part.signature.as_ref().map(show_proof), ..written })
}

/// What a part is, as this family writes it.
pub(super) fn whole(content: Content) -> Json {
    let mut lost = Lost::new(Family::Generate, Some(Family::Generate));
    shared::json(&written(&Part::new(content), &mut lost).unwrap_or_default())
}

fn written(part: &Part, lost: &mut Lost) -> Option<wire::Part> {
    let shape = wire::Part::default;
    let wire = match &part.content {
        Content::Text(text) | Content::Refusal(text) => wire::Part { text: Some(text.clone()), ..shape() },
        Content::Thought(thought) => {
            wire::Part { text: Some(thought.text.clone()), thought: Some(true), ..shape() }
        }
        Content::Call(call) => {
            let function_call = wire::FunctionCall {
                id: Some(call.id.clone()).filter(|id| !id.starts_with(MADE)),
                name: Some(call.name.clone()),
                args: Some(past_arguments(&call.arguments)),
                rest: Extra::new(),
            };
            wire::Part { function_call: Some(function_call), ..shape() }
        }
        Content::Outcome(outcome) => {
            wire::Part { function_response: Some(write_outcome(outcome, lost)), ..shape() }
        }
        Content::Image(media) | Content::File(media) | Content::Audio(media) => {
            let part = write_media(media);
            lost.note_if(part.is_none(), "content.file_id");
            part?
        }
        Content::Other(json) => return lost.other("parts", json),
    };
    Some(wire::Part { rest: lost.rest("parts", &part.extra), ..wire })
}

fn write_media(media: &Media) -> Option<wire::Part> {
    let shape = wire::Part::default;
    Some(match &media.source {
        Source::Base64 { media_type, data } => {
            let blob = wire::Blob {
                mime_type: Some(media_type.clone()),
                data: Some(data.clone()),
                ..wire::Blob::default()
            };
            wire::Part { inline_data: Some(blob), ..shape() }
        }
        Source::Url { url, media_type } => {
            let file = wire::FileData {
                mime_type: media_type.clone().or_else(|| by_ending(url)),
                file_uri: Some(url.clone()),
                ..wire::FileData::default()
            };
            wire::Part { file_data: Some(file), ..shape() }
        }
        Source::Text(text) => wire::Part { text: Some(text.clone()), ..shape() },
        Source::Id(_) => return None,
    })
}

/// The media type that an address ends like: the wire wants one.
fn by_ending(url: &str) -> Option<String> {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let kind = match path.rsplit('.').next().unwrap_or_default().to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "pdf" => "application/pdf",
        "txt" => "text/plain",
        _ => return None,
    };
    Some(kind.to_owned())
}

/// What a tool answered has to be an object.
fn write_outcome(outcome: &Outcome, lost: &mut Lost) -> wire::FunctionResponse {
    let text = words(&outcome.parts);
    let object = Json::parse(&text).filter(|json| json.is_object() && !outcome.failed);
    let wrapped = || Json::of(&if outcome.failed { json!({"error": text}) } else { json!({"result": text}) });
    let media: Vec<wire::Part> = outcome
        .parts
        .iter()
        .filter(|part| matches!(part.content, Content::Image(_) | Content::File(_)))
        .filter_map(|part| written(part, lost))
        .collect();
    wire::FunctionResponse {
        id: Some(outcome.call.clone()).filter(|id| !id.is_empty() && !id.starts_with(MADE)),
        name: outcome.name.clone(),
        response: Some(object.unwrap_or_else(wrapped)),
        parts: Some(media).filter(|media| !media.is_empty()),
        rest: Extra::new(),
    }
}
