//! Content blocks and the parts they are.

use crate::Family;
use crate::convert::lost::Lost;
use crate::convert::shared::{self, Malformed, past_arguments};
use crate::neutral::{Cache, Call, Content, Extra, Json, Media, Outcome, Part, Signature, Source, Thought};
use crate::types::Said;
use crate::types::messages as wire;

/// The content of a message, in parts.
pub(super) fn read_said(at: &str, said: Said<wire::Block>) -> Result<Vec<Part>, Malformed> {
    match said {
        Said::Text(text) => Ok(vec![Part::text(text)]),
        Said::Parts(blocks) => {
            let blocks = blocks.into_iter().enumerate();
            blocks.map(|(n, block)| read(&format!("{at}[{n}]"), block)).collect()
        }
    }
}

/// Reads a block. One of a kind that is not known is kept as it is.
pub(super) fn read(at: &str, block: wire::Block) -> Result<Part, Malformed> {
    let missing = |field: &str| Malformed::missing(format!("{at}.{field}"));
    let kind = block.kind.clone().ok_or_else(|| missing("type"))?;
    let mut signature = None;
    let content = match kind.as_str() {
        "text" => Content::Text(block.text.ok_or_else(|| missing("text"))?),
        "image" | "document" => {
            let source = block.source.as_ref().ok_or_else(|| missing("source"))?;
            let Some(source) = read_source(source) else {
                return Ok(Part::new(Content::Other(shared::json(&block))));
            };
            let media = Media { source, name: block.title, detail: None };
            if kind == "image" { Content::Image(media) } else { Content::File(media) }
        }
        "tool_use" => Content::Call(Call {
            id: block.id.ok_or_else(|| missing("id"))?,
            name: block.name.ok_or_else(|| missing("name"))?,
            arguments: block.input.unwrap_or_default().text().to_owned(),
        }),
        "tool_result" => {
            let said = block.content.map(|content| serde_json::from_str(content.text())).transpose();
            let said = said.map_err(|error| Malformed::at(format!("{at}.content"), error.to_string()))?;
            let parts = said.map(|said| read_said(&format!("{at}.content"), said)).transpose()?;
            Content::Outcome(Outcome {
                call: block.tool_use_id.ok_or_else(|| missing("tool_use_id"))?,
                name: None,
                parts: parts.unwrap_or_default(),
                failed: block.is_error.unwrap_or_default(),
            })
        }
        "thinking" => {
            signature = block.signature;
            let text = block.thinking.ok_or_else(|| missing("thinking"))?;
            Content::Thought(Thought { text, id: None, withheld: false })
        }
        "redacted_thinking" => {
            signature = Some(block.data.ok_or_else(|| missing("data"))?);
            Content::Thought(Thought { text: String::new(), id: None, withheld: true })
        }
        _ => return Ok(Part::new(Content::Other(shared::json(&block)))),
    };
    let signature = signature.filter(|proof| !proof.is_empty());
    Ok(Part {
        content,
        cache: block.cache_control.map(|control| shared::cache(control.ttl)),
        signature: signature.map(|proof| Signature::read(Family::Messages, proof)),
        extra: block.rest,
    })
}

fn read_source(source: &Json) -> Option<Source> {
    let source: wire::Source = serde_json::from_str(source.text()).ok()?;
    match source.kind.as_deref()? {
        "base64" => Some(Source::Base64 { media_type: source.media_type?, data: source.data? }),
        "url" => Some(Source::Url { url: source.url?, media_type: None }),
        "text" => Some(Source::Text(source.data?)),
        "file" => Some(Source::Id(source.file_id?)),
        _ => None,
    }
}

/// Writes a part for a provider: its own proofs only, and nothing that it would refuse. Proofs of the same models count
/// on both of their wires.
pub(super) fn write(part: &Part, lost: &mut Lost) -> Option<wire::Block> {
    let own = |proof: &&Signature| matches!(proof.family, Family::Messages | Family::Converse);
    let own = part.signature.as_ref().filter(own);
    if let Content::Thought(_) = part.content {
        // Without a proof of its own the provider refuses the whole conversation.
        let Some(proof) = own else {
            lost.note("thinking");
            return None;
        };
        return thought(part, proof.data.clone());
    }
    written(part, lost)
}

/// Writes a part for a client.
pub(super) fn show(part: &Part, lost: &mut Lost) -> Option<wire::Block> {
    if let Content::Thought(_) = part.content {
        let proof = part.signature.as_ref().map(|proof| proof.shown_to(Family::Messages));
        return thought(part, proof.unwrap_or_default());
    }
    written(part, lost)
}

fn thought(part: &Part, proof: String) -> Option<wire::Block> {
    let Content::Thought(thought) = &part.content else { return None };
    let block = if thought.withheld {
        wire::Block { data: Some(proof), ..kind("redacted_thinking") }
    } else {
        wire::Block { thinking: Some(thought.text.clone()), signature: Some(proof), ..kind("thinking") }
    };
    Some(block)
}

fn kind(kind: &str) -> wire::Block {
    wire::Block { kind: Some(kind.to_owned()), ..wire::Block::default() }
}

fn written(part: &Part, lost: &mut Lost) -> Option<wire::Block> {
    let block = match &part.content {
        Content::Text(text) | Content::Refusal(text) => {
            // Empty texts are refused.
            if text.is_empty() {
                return None;
            }
            wire::Block { text: Some(text.clone()), ..kind("text") }
        }
        Content::Image(media) => wire::Block { source: write_source(media, "image", lost), ..kind("image") },
        Content::File(media) => wire::Block {
            source: write_source(media, "document", lost),
            title: media.name.clone(),
            ..kind("document")
        },
        Content::Call(call) => wire::Block {
            id: Some(call.id.clone()),
            name: Some(call.name.clone()),
            input: Some(past_arguments(&call.arguments)),
            ..kind("tool_use")
        },
        Content::Outcome(outcome) => wire::Block {
            tool_use_id: Some(outcome.call.clone()),
            content: write_outcome(outcome, lost),
            is_error: outcome.failed.then_some(true),
            ..kind("tool_result")
        },
        Content::Audio(_) => {
            lost.note("audio");
            return None;
        }
        Content::Other(json) => return lost.other("content", json),
        Content::Thought(_) => return None,
    };
    if block.source.is_none() && matches!(part.content, Content::Image(_) | Content::File(_)) {
        return None;
    }
    Some(wire::Block {
        cache_control: part.cache.as_ref().map(write_cache),
        rest: lost.rest("content", &part.extra),
        ..block
    })
}

/// A breakpoint; a time that only other families know is left to the default.
pub(super) fn write_cache(cache: &Cache) -> wire::CacheControl {
    let ttl = cache.ttl.clone().filter(|ttl| matches!(ttl.as_str(), "5m" | "1h"));
    wire::CacheControl { kind: Some("ephemeral".to_owned()), ttl, rest: Extra::new() }
}

fn write_outcome(outcome: &Outcome, lost: &mut Lost) -> Option<Json> {
    match outcome.parts.as_slice() {
        [] => None,
        [Part { content: Content::Text(text), cache: None, extra, .. }] if extra.is_empty() => {
            Some(shared::json(text))
        }
        parts => {
            let blocks: Vec<wire::Block> = parts.iter().filter_map(|part| written(part, lost)).collect();
            Some(shared::json(&blocks))
        }
    }
}

fn write_source(media: &Media, kind: &str, lost: &mut Lost) -> Option<Json> {
    let shape = |kind: &str| wire::Source { kind: Some(kind.to_owned()), ..wire::Source::default() };
    let source = match &media.source {
        Source::Base64 { media_type, data } if kind == "document" && media_type.starts_with("text/") => {
            let Some(text) = shared::text_in(data) else {
                lost.note(kind);
                return None;
            };
            wire::Source { media_type: Some("text/plain".to_owned()), data: Some(text), ..shape("text") }
        }
        Source::Base64 { media_type, data } => {
            wire::Source { media_type: Some(media_type.clone()), data: Some(data.clone()), ..shape("base64") }
        }
        Source::Url { url, .. } => wire::Source { url: Some(url.clone()), ..shape("url") },
        Source::Text(text) => {
            let media_type = Some("text/plain".to_owned());
            wire::Source { media_type, data: Some(text.clone()), ..shape("text") }
        }
        // An id says nothing to another provider.
        Source::Id(id) if lost.same() => wire::Source { file_id: Some(id.clone()), ..shape("file") },
        Source::Id(_) => {
            lost.note(&format!("{kind}.file_id"));
            return None;
        }
    };
    Some(shared::json(&source))
}
