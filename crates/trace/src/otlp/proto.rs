//! OTLP in protobuf: a handful of messages, each written as its fields.

use lantern_types::At;

use super::{Resource, SCOPE};
use crate::span::{Attribute, Kind, Span};

/// A message as far as it was written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: u64) {
        loop {
            let [low, ..] = number.to_le_bytes();
            number >>= 7;
            if number == 0 {
                return self.0.push(low & 0x7f);
            }
            self.0.push(low | 0x80);
        }
    }

    /// A number.
    fn int(&mut self, field: u64, number: u64) -> &mut Self {
        self.varint(field << 3);
        self.varint(number);
        self
    }

    /// A number of eight bytes.
    fn fixed(&mut self, field: u64, number: u64) -> &mut Self {
        self.varint(field << 3 | 1);
        self.0.extend(number.to_le_bytes());
        self
    }

    /// Bytes, text, or another message.
    fn bytes(&mut self, field: u64, bytes: &[u8]) -> &mut Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    fn text(&mut self, field: u64, text: &str) -> &mut Self {
        self.bytes(field, text.as_bytes())
    }

    fn message(&mut self, field: u64, message: &Self) -> &mut Self {
        self.bytes(field, &message.0)
    }
}

pub(super) fn request(resource: &Resource, spans: &[Span]) -> Vec<u8> {
    let mut of_service = Message::default();
    for (key, value) in resource.attributes() {
        of_service.message(1, &attribute(key, &value.into()));
    }
    let mut scope = Message::default();
    scope.text(1, SCOPE).text(2, resource.version);
    let mut of_scope = Message::default();
    of_scope.message(1, &scope);
    for one in spans {
        of_scope.message(2, &span(one));
    }
    let mut of_resource = Message::default();
    of_resource.message(1, &of_service).message(2, &of_scope);
    let mut request = Message::default();
    request.message(1, &of_resource);
    request.0
}

fn span(span: &Span) -> Message {
    let kind = match span.kind {
        Kind::Internal => 1,
        Kind::Client => 3,
    };
    let mut written = Message::default();
    written.bytes(1, span.trace.bytes()).bytes(2, span.id.bytes());
    if let Some(parent) = span.parent {
        written.bytes(4, parent.bytes());
    }
    written.text(5, &span.name).int(6, kind).fixed(7, nanos(span.start)).fixed(8, nanos(span.end));
    for (key, value) in &span.attributes {
        written.message(9, &attribute(key, value));
    }
    if let Some((trace, id)) = span.link {
        let mut link = Message::default();
        link.bytes(1, trace.bytes()).bytes(2, id.bytes());
        written.message(13, &link);
    }
    if let Some(code) = &span.error {
        let mut status = Message::default();
        status.text(2, code).int(3, 2);
        written.message(15, &status);
    }
    written
}

fn attribute(key: &str, value: &Attribute) -> Message {
    let mut any = Message::default();
    match value {
        Attribute::Text(text) => any.text(1, text),
        Attribute::Bool(yes) => any.int(2, u64::from(*yes)),
        Attribute::Int(number) => any.int(3, number.cast_unsigned()),
    };
    let mut written = Message::default();
    written.text(1, key).message(2, &any);
    written
}

fn nanos(at: At) -> u64 {
    at.micros().max(0).unsigned_abs().saturating_mul(1_000)
}
