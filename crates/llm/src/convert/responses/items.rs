//! Items, and the messages that they make.
//!
//! Invariant: neighbouring items of the model are one message, and so are neighbouring results, because other families
//! want the calls of a turn together and all results of it in the next message.

use serde_json::Value;

use crate::Family;
use crate::convert::lost::Lost;
use crate::convert::shared::{self, Malformed, source_of, url_of, words};
use crate::neutral::{Call, Content, Extra, Media, Message, Outcome, Part, Role, Signature, Source, Thought};
use crate::types::Said;
use crate::types::responses as wire;

/// Reads the input of a request.
pub(super) fn read(items: Vec<wire::Item>) -> Result<Vec<Message>, Malformed> {
    let mut messages = Vec::<Message>::new();
    for (n, item) in items.into_iter().enumerate() {
        let (role, parts, extra) = read_item(&format!("input[{n}]"), item)?;
        match messages.last_mut() {
            Some(last) if last.role == role && matches!(role, Role::Assistant | Role::Tool) => {
                last.parts.extend(parts);
                last.extra.extend(extra);
            }
            _ => messages.push(Message { role, parts, name: None, extra }),
        }
    }
    Ok(messages)
}

fn read_item(at: &str, item: wire::Item) -> Result<(Role, Vec<Part>, Extra), Malformed> {
    let kind = item.kind.clone().unwrap_or_else(|| "message".to_owned());
    if kind == "message" {
        let role = match item.role.as_deref() {
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            Some("system") => Role::System,
            Some("developer") => Role::Developer,
            Some(other) => {
                return Err(Malformed::at(format!("{at}.role"), format!("{other:?} is not a role")));
            }
            None => return Err(Malformed::missing(format!("{at}.role"))),
        };
        let content = item.content.ok_or_else(|| Malformed::missing(format!("{at}.content")))?;
        return Ok((role, read_said(&format!("{at}.content"), content)?, item.rest));
    }
    let role = if kind == "function_call_output" { Role::Tool } else { Role::Assistant };
    Ok((role, vec![read_output_item(at, item)?], Extra::new()))
}

/// Reads an item that is no message. One of a kind that is not known is kept as it is.
pub(super) fn read_output_item(at: &str, item: wire::Item) -> Result<Part, Malformed> {
    let missing = |field: &str| Malformed::missing(format!("{at}.{field}"));
    let whole = item.clone();
    Ok(match item.kind.as_deref() {
        Some("function_call") => {
            let arguments = match item.arguments {
                Some(Value::String(text)) => text,
                Some(other) => other.to_string(),
                None => String::new(),
            };
            let call = Call {
                id: item.call_id.ok_or_else(|| missing("call_id"))?,
                name: item.name.ok_or_else(|| missing("name"))?,
                arguments,
            };
            Part { extra: item.rest, ..Part::new(Content::Call(call)) }
        }
        Some("function_call_output") => {
            let said = item.output.map(|output| serde_json::from_str(output.text())).transpose();
            let said = said.map_err(|error| Malformed::at(format!("{at}.output"), error.to_string()))?;
            let parts = said.map(|said| read_said(&format!("{at}.output"), said)).transpose()?;
            let outcome = Outcome {
                call: item.call_id.ok_or_else(|| missing("call_id"))?,
                name: None,
                parts: parts.unwrap_or_default(),
                failed: false,
            };
            Part { extra: item.rest, ..Part::new(Content::Outcome(outcome)) }
        }
        Some("reasoning") => read_thought(item),
        _ => Part::new(Content::Other(shared::json(&whole))),
    })
}

fn read_thought(item: wire::Item) -> Part {
    let said = |parts: Vec<wire::Part>| {
        let texts: Vec<String> = parts.into_iter().filter_map(|part| part.text).collect();
        texts.join("\n\n")
    };
    let summary = said(item.summary.unwrap_or_default());
    let text = match item.content {
        Some(Said::Parts(parts)) if summary.is_empty() => said(parts),
        _ => summary,
    };
    let proof = item.encrypted_content.map(|proof| Signature::read(Family::Responses, proof));
    let withheld = text.is_empty() && proof.is_some();
    Part {
        signature: proof,
        extra: item.rest,
        ..Part::new(Content::Thought(Thought { text, id: item.id, withheld }))
    }
}

/// Content of a message, or what a tool answered.
pub(super) fn read_said(at: &str, said: Said<wire::Part>) -> Result<Vec<Part>, Malformed> {
    match said {
        Said::Text(text) => Ok(vec![Part::text(text)]),
        Said::Parts(parts) => {
            let parts = parts.into_iter().enumerate();
            parts.map(|(n, part)| read_part(&format!("{at}[{n}]"), part)).collect()
        }
    }
}

fn read_part(at: &str, part: wire::Part) -> Result<Part, Malformed> {
    let missing = |field: &str| Malformed::missing(format!("{at}.{field}"));
    let whole = part.clone();
    let content = match part.kind.as_deref() {
        Some("input_text" | "output_text" | "text") => {
            Content::Text(part.text.ok_or_else(|| missing("text"))?)
        }
        Some("refusal") => Content::Refusal(part.refusal.ok_or_else(|| missing("refusal"))?),
        Some("input_image") => {
            let source = match (part.image_url, part.file_id) {
                (Some(url), _) => source_of(url),
                (None, Some(id)) => Source::Id(id),
                (None, None) => return Err(missing("image_url")),
            };
            Content::Image(Media { source, name: None, detail: part.detail })
        }
        Some("input_file") => {
            let source = match (part.file_data, part.file_url, part.file_id) {
                (Some(data), ..) => source_of(data),
                (_, Some(url), _) => Source::Url { url, media_type: None },
                (_, _, Some(id)) => Source::Id(id),
                _ => return Err(missing("file_data")),
            };
            Content::File(Media { source, name: part.filename, detail: None })
        }
        Some(_) => return Ok(Part::new(Content::Other(shared::json(&whole)))),
        None => return Err(missing("type")),
    };
    Ok(Part {
        content,
        cache: part.prompt_cache_breakpoint.map(|point| shared::cache(point.ttl)),
        signature: None,
        extra: part.rest,
    })
}

/// Writes a message for the provider.
pub(super) fn write(message: &Message, lost: &mut Lost) -> Vec<wire::Item> {
    lost.note_if(message.name.is_some(), "messages.name");
    let role = match message.role {
        Role::System => "system",
        Role::Developer => "developer",
        Role::User | Role::Tool => "user",
        Role::Assistant => "assistant",
    };
    let rest = lost.rest("input", &message.extra);
    let (mut items, mut said) = (Vec::new(), Vec::new());
    for part in &message.parts {
        let item = match &part.content {
            Content::Call(call) => Some(write_call(call, lost.rest("input", &part.extra))),
            Content::Outcome(outcome) => Some(write_outcome(outcome, part, lost)),
            Content::Thought(thought) => {
                let proof = part.signature.as_ref().filter(|proof| proof.family == Family::Responses);
                if proof.is_none() && !(lost.same() && thought.id.is_some()) {
                    lost.note("thinking");
                    continue;
                }
                Some(write_thought(thought, proof.map(|proof| proof.data.clone())))
            }
            Content::Other(json) if !is_part(&json.value()) => {
                match lost.other::<wire::Item>("input", json) {
                    Some(item) => Some(item),
                    None => continue,
                }
            }
            _ => None,
        };
        match item {
            Some(item) => {
                flush(role, &mut said, &rest, &mut items);
                items.push(item);
            }
            None => said.extend(write_part(part, role == "assistant", lost)),
        }
    }
    flush(role, &mut said, &rest, &mut items);
    items
}

/// Whether something of an unknown kind is a part of a message, not an item.
fn is_part(value: &Value) -> bool {
    let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
    kind.starts_with("input_") || kind.starts_with("output_")
}

fn flush(role: &str, said: &mut Vec<wire::Part>, rest: &Extra, items: &mut Vec<wire::Item>) {
    if said.is_empty() {
        return;
    }
    items.push(wire::Item {
        kind: Some("message".to_owned()),
        role: Some(role.to_owned()),
        content: Some(Said::Parts(std::mem::take(said))),
        rest: rest.clone(),
        ..wire::Item::default()
    });
}

fn write_call(call: &Call, rest: Extra) -> wire::Item {
    let arguments = match call.arguments.trim() {
        "" => "{}".to_owned(),
        text if shared::is_json(text) => call.arguments.clone(),
        _ => shared::past_arguments(&call.arguments).text().to_owned(),
    };
    wire::Item {
        kind: Some("function_call".to_owned()),
        call_id: Some(call.id.clone()),
        name: Some(call.name.clone()),
        arguments: Some(Value::String(arguments)),
        rest,
        ..wire::Item::default()
    }
}

fn write_outcome(outcome: &Outcome, part: &Part, lost: &mut Lost) -> wire::Item {
    let plain = outcome.parts.iter().all(|part| matches!(part.content, Content::Text(_)));
    let output = if plain {
        shared::json(&words(&outcome.parts))
    } else {
        let parts: Vec<wire::Part> =
            outcome.parts.iter().filter_map(|part| write_part(part, false, lost)).collect();
        shared::json(&parts)
    };
    wire::Item {
        kind: Some("function_call_output".to_owned()),
        call_id: Some(outcome.call.clone()),
        output: Some(output),
        rest: lost.rest("input", &part.extra),
        ..wire::Item::default()
    }
}

/// A thought, for the provider that had it or for a client.
pub(super) fn write_thought(thought: &Thought, proof: Option<String>) -> wire::Item {
    let summary = wire::Part {
        kind: Some("summary_text".to_owned()),
        text: Some(thought.text.clone()),
        ..wire::Part::default()
    };
    wire::Item {
        kind: Some("reasoning".to_owned()),
        id: thought.id.clone(),
        summary: Some(if thought.text.is_empty() { Vec::new() } else { vec![summary] }),
        encrypted_content: proof,
        ..wire::Item::default()
    }
}

fn write_part(part: &Part, assistant: bool, lost: &mut Lost) -> Option<wire::Part> {
    let kind = |kind: &str| wire::Part { kind: Some(kind.to_owned()), ..wire::Part::default() };
    let mut wire = match &part.content {
        Content::Text(text) if assistant => {
            wire::Part { text: Some(text.clone()), annotations: Some(Vec::new()), ..kind("output_text") }
        }
        Content::Text(text) => wire::Part { text: Some(text.clone()), ..kind("input_text") },
        Content::Refusal(text) if assistant => wire::Part { refusal: Some(text.clone()), ..kind("refusal") },
        Content::Refusal(text) => wire::Part { text: Some(text.clone()), ..kind("input_text") },
        Content::Image(media) => {
            let detail = Some(media.detail.clone().unwrap_or_else(|| "auto".to_owned()));
            let shape = wire::Part { detail, ..kind("input_image") };
            match (&media.source, url_of(&media.source)) {
                (_, Some(url)) => wire::Part { image_url: Some(url), ..shape },
                (Source::Id(id), None) if lost.same() => wire::Part { file_id: Some(id.clone()), ..shape },
                _ => {
                    lost.note("image.file_id");
                    return None;
                }
            }
        }
        Content::File(media) => {
            let shape = kind("input_file");
            match &media.source {
                Source::Text(text) => wire::Part { text: Some(text.clone()), ..kind("input_text") },
                Source::Url { url, .. } => wire::Part { file_url: Some(url.clone()), ..shape },
                Source::Id(id) => wire::Part { file_id: Some(id.clone()), ..shape },
                Source::Base64 { .. } => wire::Part {
                    file_data: url_of(&media.source),
                    filename: Some(media.name.clone().unwrap_or_else(|| "file".to_owned())),
                    ..shape
                },
            }
        }
        Content::Audio(_) => {
            lost.note("audio");
            return None;
        }
        Content::Other(json) => return lost.other("content", json),
        Content::Call(_) | Content::Outcome(_) | Content::Thought(_) => return None,
    };
    if let Some(cache) = part.cache.as_ref().filter(|_| !assistant) {
        let ttl = cache.ttl.clone().filter(|ttl| matches!(ttl.as_str(), "30m" | "12h"));
        let mode = Some("explicit".to_owned());
        wire.prompt_cache_breakpoint = Some(wire::CacheBreakpoint { mode, ttl, rest: Extra::new() });
    }
    wire.rest = lost.rest("content", &part.extra);
    Some(wire)
}
