//! OTLP in JSON: ids in hex, 64-bit numbers as text, enums as numbers.

use lantern_types::At;
use serde_json::{Value, json};

use super::{Resource, SCOPE};
use crate::span::{Attribute, Kind, Span};

pub(super) fn request(resource: &Resource, spans: &[Span]) -> Vec<u8> {
    let of_service = resource.attributes().map(|(key, value)| attribute(key, &value.into()));
    let body = json!({ "resourceSpans": [{
        "resource": { "attributes": of_service },
        "scopeSpans": [{
            "scope": { "name": SCOPE, "version": resource.version },
            "spans": spans.iter().map(span).collect::<Vec<_>>(),
        }],
    }] });
    // Made of plain values: this cannot fail.
    serde_json::to_vec(&body).unwrap_or_default()
}

fn span(span: &Span) -> Value {
    let kind = match span.kind {
        Kind::Internal => 1,
        Kind::Client => 3,
    };
    let attributes: Vec<Value> = span.attributes.iter().map(|(key, value)| attribute(key, value)).collect();
    let mut written = json!({
        "traceId": span.trace.to_string(),
        "spanId": span.id.to_string(),
        "name": span.name,
        "kind": kind,
        "startTimeUnixNano": nanos(span.start),
        "endTimeUnixNano": nanos(span.end),
        "attributes": attributes,
    });
    if let Some(fields) = written.as_object_mut() {
        if let Some(parent) = span.parent {
            fields.insert("parentSpanId".to_owned(), parent.to_string().into());
        }
        if let Some((trace, id)) = span.link {
            let link = json!([{ "traceId": trace.to_string(), "spanId": id.to_string() }]);
            fields.insert("links".to_owned(), link);
        }
        if let Some(code) = &span.error {
            fields.insert("status".to_owned(), json!({ "code": 2, "message": code }));
        }
    }
    written
}

fn attribute(key: &str, value: &Attribute) -> Value {
    let value = match value {
        Attribute::Text(text) => json!({ "stringValue": text }),
        Attribute::Int(number) => json!({ "intValue": number.to_string() }),
        Attribute::Bool(yes) => json!({ "boolValue": yes }),
    };
    json!({ "key": key, "value": value })
}

fn nanos(at: At) -> String {
    (i128::from(at.micros().max(0)) * 1_000).to_string()
}
