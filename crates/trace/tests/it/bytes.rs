//! The bytes that a collector is sent: the same in both encodings, and nothing that was said.

use std::collections::BTreeMap;

use lantern_trace::{Attribute, Encoding, Kind, Resource, Span, encode};
use lantern_types::{At, SpanId, TraceParent};
use serde_json::{Value, json};

fn span() -> Span {
    let at: TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap();
    let parent: SpanId = "00f067aa0ba902b7".parse().unwrap();
    Span {
        trace: at.trace,
        id: at.span,
        parent: Some(parent),
        link: Some((at.trace, parent)),
        name: "chat m".to_owned(),
        kind: Kind::Client,
        start: At::from_micros(1_700_000_000_000_001),
        end: At::from_micros(1_700_000_000_000_300),
        attributes: vec![
            ("text", Attribute::Text("é".repeat(100))),
            ("int", Attribute::Int(-5)),
            ("bool", Attribute::Bool(true)),
        ],
        error: Some("crashed".to_owned()),
    }
}

fn resource() -> Resource {
    Resource { service: "lantern".to_owned(), version: "1.2.3" }
}

#[test]
fn json_is_as_the_protocol_has_it() {
    let body: Value = serde_json::from_slice(&encode(Encoding::Json, &resource(), &[span()])).unwrap();
    let of_service = &body["resourceSpans"][0]["resource"]["attributes"][0];
    assert_eq!(*of_service, json!({"key": "service.name", "value": {"stringValue": "lantern"}}));
    let scope = &body["resourceSpans"][0]["scopeSpans"][0];
    assert_eq!(scope["scope"]["name"], "lantern");
    assert_eq!(
        scope["spans"][0],
        json!({
            "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331",
            "parentSpanId": "00f067aa0ba902b7", "name": "chat m", "kind": 3,
            "startTimeUnixNano": "1700000000000001000", "endTimeUnixNano": "1700000000000300000",
            "attributes": [
                {"key": "text", "value": {"stringValue": "é".repeat(100)}},
                {"key": "int", "value": {"intValue": "-5"}},
                {"key": "bool", "value": {"boolValue": true}},
            ],
            "links": [{"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "00f067aa0ba902b7"}],
            "status": {"code": 2, "message": "crashed"},
        })
    );
}

/// A message of protobuf, by the numbers of its fields.
#[derive(Debug)]
struct Message(BTreeMap<u64, Vec<Field>>);

#[derive(Clone, Debug, PartialEq)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

impl Message {
    fn read(mut bytes: &[u8]) -> Self {
        let mut fields: BTreeMap<u64, Vec<Field>> = BTreeMap::new();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes);
            let field = match tag & 7 {
                0 => Field::Number(varint(&mut bytes)),
                1 => {
                    let (number, rest) = bytes.split_at(8);
                    bytes = rest;
                    Field::Number(u64::from_le_bytes(number.try_into().unwrap()))
                }
                2 => {
                    let length = usize::try_from(varint(&mut bytes)).unwrap();
                    let (text, rest) = bytes.split_at(length);
                    bytes = rest;
                    Field::Bytes(text.to_vec())
                }
                other => panic!("wire type {other}"),
            };
            fields.entry(tag >> 3).or_default().push(field);
        }
        Self(fields)
    }
    fn messages(&self, field: u64) -> Vec<Self> {
        self.0[&field].iter().map(|field| Self::read(Self::of(field))).collect()
    }
    fn of(field: &Field) -> &[u8] {
        match field {
            Field::Bytes(bytes) => bytes,
            Field::Number(number) => panic!("{number} is no message"),
        }
    }
    fn hex(&self, field: u64) -> String {
        Self::of(&self.0[&field][0]).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }
    fn text(&self, field: u64) -> String {
        String::from_utf8(Self::of(&self.0[&field][0]).to_vec()).unwrap()
    }
    fn number(&self, field: u64) -> u64 {
        match self.0[&field][0] {
            Field::Number(number) => number,
            Field::Bytes(_) => panic!("{field} is no number"),
        }
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut number, mut shift) = (0, 0);
    loop {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return number;
        }
    }
}

#[test]
fn protobuf_says_the_same() {
    let bytes = encode(Encoding::Protobuf, &resource(), &[span(), span()]);
    let resource = &Message::read(&bytes).messages(1)[0];
    let of_service = &resource.messages(1)[0].messages(1)[0];
    assert_eq!(
        (of_service.text(1), of_service.messages(2)[0].text(1)),
        ("service.name".into(), "lantern".into())
    );
    let scope = &resource.messages(2)[0];
    assert_eq!(scope.messages(1)[0].text(1), "lantern");
    let spans = scope.messages(2);
    assert_eq!(spans.len(), 2);
    let span = &spans[0];
    assert_eq!(
        (span.hex(1).as_str(), span.hex(2).as_str(), span.hex(4).as_str()),
        ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7")
    );
    assert_eq!((span.text(5).as_str(), span.number(6)), ("chat m", 3));
    assert_eq!((span.number(7), span.number(8)), (1_700_000_000_000_001_000, 1_700_000_000_000_300_000));
    let attributes = span.messages(9);
    assert_eq!(
        (attributes[0].text(1).as_str(), attributes[0].messages(2)[0].text(1)),
        ("text", "é".repeat(100))
    );
    assert_eq!(attributes[1].messages(2)[0].number(3).cast_signed(), -5);
    assert_eq!(attributes[2].messages(2)[0].number(2), 1);
    assert_eq!(span.messages(13)[0].hex(2), "00f067aa0ba902b7");
    let status = &span.messages(15)[0];
    assert_eq!((status.text(2).as_str(), status.number(3)), ("crashed", 2));
}
