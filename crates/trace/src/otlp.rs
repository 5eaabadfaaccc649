//! What a collector takes: a list of spans as one request of OTLP, in protobuf or in its JSON form.
//!
//! Written by hand from the definitions of opentelemetry-proto 1.x, of which this is a part that has been stable since 1.0: the
//! numbers of fields in `proto` are theirs.

mod json;
mod proto;

use crate::span::Span;

/// How a request is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// `http/protobuf`, which every collector takes.
    #[default]
    Protobuf,
    /// `http/json`.
    Json,
}

impl Encoding {
    /// What the body of a request is.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }
}

/// Whose spans they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The name of the service.
    pub service: String,
    /// Its version.
    pub version: &'static str,
}

impl Resource {
    fn attributes(&self) -> [(&'static str, &str); 2] {
        [("service.name", &self.service), ("service.version", self.version)]
    }
}

/// Under which name the spans are made.
const SCOPE: &str = "lantern";

/// These spans as the body of one request to export them.
pub fn encode(encoding: Encoding, resource: &Resource, spans: &[Span]) -> Vec<u8> {
    match encoding {
        Encoding::Protobuf => proto::request(resource, spans),
        Encoding::Json => json::request(resource, spans),
    }
}
