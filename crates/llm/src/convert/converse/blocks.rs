//! Content blocks and the parts they are.
//!
//! Invariant: a breakpoint is a block of its own, after the part whose prefix it ends.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::Family;
use crate::convert::lost::Lost;
use crate::convert::shared::{self, Malformed, past_arguments};
use crate::neutral::{Cache, Call, Content, Extra, Media, Outcome, Part, Signature, Source, Thought};
use crate::types::converse as wire;

/// Reads blocks.
pub(super) fn read(at: &str, blocks: Vec<wire::Block>) -> Result<Vec<Part>, Malformed> {
    let mut parts = Vec::<Part>::new();
    for (n, block) in blocks.into_iter().enumerate() {
        if let Some(point) = &block.cache_point {
            if let Some(last) = parts.last_mut() {
                last.cache = Some(shared::cache(point.ttl.clone()));
            }
            continue;
        }
        parts.push(read_block(&format!("{at}[{n}]"), block)?);
    }
    Ok(parts)
}

fn read_block(at: &str, block: wire::Block) -> Result<Part, Malformed> {
    let missing = |field: &str| Malformed::missing(format!("{at}.{field}"));
    let whole = block.clone();
    let mut signature = None;
    let content = if let Some(text) = block.text {
        Content::Text(text)
    } else if let Some(media) = block.image {
        read_media("image", media).map_or_else(|| Content::Other(shared::json(&whole)), Content::Image)
    } else if let Some(media) = block.document {
        read_media("document", media).map_or_else(|| Content::Other(shared::json(&whole)), Content::File)
    } else if let Some(media) = block.audio {
        read_media("audio", media).map_or_else(|| Content::Other(shared::json(&whole)), Content::Audio)
    } else if let Some(call) = block.tool_use {
        Content::Call(Call {
            id: call.id.ok_or_else(|| missing("toolUse.toolUseId"))?,
            name: call.name.ok_or_else(|| missing("toolUse.name"))?,
            arguments: call.input.unwrap_or_default().text().to_owned(),
        })
    } else if let Some(result) = block.tool_result {
        Content::Outcome(Outcome {
            call: result.tool_use_id.ok_or_else(|| missing("toolResult.toolUseId"))?,
            name: None,
            parts: read(&format!("{at}.toolResult.content"), result.content.unwrap_or_default())?,
            failed: result.status.as_deref() == Some("error"),
        })
    } else if let Some(json) = block.json {
        Content::Text(json.text().to_owned())
    } else if let Some(thought) = block.reasoning_content {
        let withheld = thought.redacted_content.is_some();
        let said = thought.said.unwrap_or_default();
        signature = thought.redacted_content.or(said.signature);
        Content::Thought(Thought { text: said.text.unwrap_or_default(), id: None, withheld })
    } else {
        return Ok(Part::new(Content::Other(shared::json(&whole))));
    };
    let signature = signature.map(read_proof);
    Ok(Part { content, cache: None, signature, extra: block.rest })
}

/// A proof, as text or as the base64 of another family's.
pub(super) fn read_proof(text: String) -> Signature {
    let foreign = shared::text_in(&text).filter(|inner| inner.starts_with("wire:"));
    Signature::read(Family::Converse, foreign.unwrap_or(text))
}

/// The other way. What is withheld is bytes on this wire.
pub(super) fn show_proof(proof: &Signature, withheld: bool) -> String {
    let text = proof.shown_to(Family::Converse);
    if withheld && proof.family != Family::Converse { STANDARD.encode(text) } else { text }
}

fn read_media(kind: &str, media: wire::Media) -> Option<Media> {
    let format = media.format.unwrap_or_default();
    let source = media.source?;
    let media_type = match (kind, format.as_str()) {
        ("document", "pdf") => "application/pdf".to_owned(),
        ("document", "csv" | "html") => format!("text/{format}"),
        ("document", "md") => "text/markdown".to_owned(),
        ("document", "txt") => "text/plain".to_owned(),
        ("document", other) => format!("application/{other}"),
        (kind, format) => format!("{kind}/{format}"),
    };
    let source = match (source.bytes, source.text, source.s3_location.and_then(|place| place.uri)) {
        (Some(data), ..) => Source::Base64 { media_type, data },
        (_, Some(text), _) => Source::Text(text),
        (_, _, Some(url)) => Source::Url { url, media_type: Some(media_type) },
        _ => return None,
    };
    Some(Media { source, name: media.name, detail: None })
}

/// Writes a part for the provider, with the breakpoint after it.
pub(super) fn write(part: &Part, lost: &mut Lost) -> Vec<wire::Block> {
    // Proofs of the same models count on both of their wires.
    let proof = part.signature.as_ref();
    let proof = proof.filter(|proof| matches!(proof.family, Family::Converse | Family::Messages));
    let proof = proof.map(|proof| proof.data.clone());
    let block = match &part.content {
        Content::Thought(_) if proof.is_none() => {
            lost.note("thinking");
            None
        }
        Content::Thought(thought) => Some(reasoning(thought, proof)),
        _ => written(part, lost),
    };
    let point = part.cache.as_ref().filter(|_| block.is_some()).map(write_point);
    block.into_iter().chain(point).collect()
}

/// Writes a part for a client.
pub(super) fn show(part: &Part, lost: &mut Lost) -> Option<wire::Block> {
    let proof = |withheld| part.signature.as_ref().map(|proof| show_proof(proof, withheld));
    match &part.content {
        Content::Thought(thought) => Some(reasoning(thought, proof(thought.withheld))),
        _ => written(part, lost),
    }
}

/// A breakpoint.
pub(super) fn write_point(cache: &Cache) -> wire::Block {
    let ttl = cache.ttl.clone().filter(|ttl| matches!(ttl.as_str(), "5m" | "1h"));
    let point = wire::CachePoint { kind: Some("default".to_owned()), ttl, rest: Extra::new() };
    wire::Block { cache_point: Some(point), ..wire::Block::default() }
}

fn reasoning(thought: &Thought, proof: Option<String>) -> wire::Block {
    let reasoning = if thought.withheld {
        wire::Reasoning { redacted_content: proof, ..wire::Reasoning::default() }
    } else {
        let said =
            wire::ReasoningText { text: Some(thought.text.clone()), signature: proof, rest: Extra::new() };
        wire::Reasoning { said: Some(said), ..wire::Reasoning::default() }
    };
    wire::Block { reasoning_content: Some(reasoning), ..wire::Block::default() }
}

fn written(part: &Part, lost: &mut Lost) -> Option<wire::Block> {
    let shape = wire::Block::default;
    let block = match &part.content {
        Content::Text(text) | Content::Refusal(text) => {
            // Empty texts are refused.
            if text.is_empty() {
                return None;
            }
            wire::Block { text: Some(text.clone()), ..shape() }
        }
        Content::Image(media) => wire::Block { image: Some(write_media("image", media, lost)?), ..shape() },
        Content::File(media) => {
            wire::Block { document: Some(write_media("document", media, lost)?), ..shape() }
        }
        Content::Audio(media) => wire::Block { audio: Some(write_media("audio", media, lost)?), ..shape() },
        Content::Call(call) => {
            let call = wire::ToolUse {
                id: Some(call.id.clone()),
                name: Some(call.name.clone()),
                input: Some(past_arguments(&call.arguments)),
                rest: Extra::new(),
            };
            wire::Block { tool_use: Some(call), ..shape() }
        }
        Content::Outcome(outcome) => {
            let content = outcome.parts.iter().filter_map(|part| written(part, lost)).collect();
            let result = wire::ToolResult {
                tool_use_id: Some(outcome.call.clone()),
                content: Some(content),
                status: outcome.failed.then(|| "error".to_owned()),
                rest: Extra::new(),
            };
            wire::Block { tool_result: Some(result), ..shape() }
        }
        Content::Other(json) => return lost.other("content", json),
        Content::Thought(_) => return None,
    };
    Some(wire::Block { rest: lost.rest("content", &part.extra), ..block })
}

fn write_media(kind: &str, media: &Media, lost: &mut Lost) -> Option<wire::Media> {
    let shape = wire::Source::default;
    let (format, source) = match &media.source {
        Source::Base64 { media_type, data } => {
            (format_of(media_type), wire::Source { bytes: Some(data.clone()), ..shape() })
        }
        Source::Text(text) if kind == "document" => {
            ("txt".to_owned(), wire::Source { text: Some(text.clone()), ..shape() })
        }
        Source::Url { url, media_type } if url.starts_with("s3://") => {
            let place = wire::S3Location { uri: Some(url.clone()), rest: Extra::new() };
            let ending = || url.rsplit('.').next().unwrap_or_default().to_owned();
            let format = media_type.as_deref().map_or_else(ending, format_of);
            (format, wire::Source { s3_location: Some(place), ..shape() })
        }
        _ => {
            lost.note(&format!("{kind}.url"));
            return None;
        }
    };
    let name = (kind == "document").then(|| document_name(media.name.as_deref().unwrap_or("document")));
    Some(wire::Media { format: Some(format), name, source: Some(source), rest: Extra::new() })
}

/// `png` of `image/png`; documents have names of their own.
fn format_of(media_type: &str) -> String {
    let kind = media_type.split(';').next().unwrap_or(media_type).trim();
    match kind {
        "image/jpg" => "jpeg",
        "text/plain" => "txt",
        "text/markdown" => "md",
        "application/msword" => "doc",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => "docx",
        "application/vnd.ms-excel" => "xls",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => "xlsx",
        other => other.rsplit('/').next().unwrap_or(other),
    }
    .to_owned()
}

/// Names may have letters, digits, single spaces, hyphens and brackets.
fn document_name(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '(' | ')' | '[' | ']');
    let spaced: String = name.chars().map(|c| if allowed(c) { c } else { ' ' }).take(200).collect();
    let words: Vec<&str> = spaced.split_whitespace().collect();
    if words.is_empty() { "document".to_owned() } else { words.join(" ") }
}
