//! What the API says of itself, in OpenAPI 3.1: derived from the routes, so that it cannot say otherwise.
//!
//! ```text
//! operation.rs   what a handler's arguments and answer say     from their types
//! sketch.rs      what a request's body may hold                from the reader that parses it
//! html.rs        the same as a page for people
//! ```
//!
//! Invariant: a route that is mounted is described, and nothing else is.

mod html;
mod operation;
pub(crate) mod sketch;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

pub use html::page;
pub use operation::{Answers, Argument, Call, Operation};
pub(crate) use sketch::Sketch;

use crate::code::{Code, Kind as Kinds};
use crate::problem;
use crate::route::Entry;

/// A parameter of a query, as its reader takes it.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// In camelCase; `snake_case` is read as well.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// What it may be.
    pub kind: Kind,
}

/// What a parameter may be.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Any text.
    Text,
    /// An id.
    Id,
    /// A whole number from this one on.
    From(u32),
    /// One of these words.
    Word(&'static [&'static str]),
    /// Some of these words: given several times, or with commas between them.
    Words(&'static [&'static str]),
    /// Any texts: given several times.
    Texts,
    /// A time, as RFC 3339 has it.
    Time,
}

/// What a list takes that comes in pages.
pub const PAGING: [Param; 2] = [
    Param {
        name: "limit",
        about: "The most items of a page; more than 100 asks for 100.",
        kind: Kind::From(1),
    },
    Param {
        name: "cursor",
        about: "Which page: copied from the `Link` or `X-Next-Cursor` header of the one before.",
        kind: Kind::Text,
    },
];

/// The name, the version and the words that the document begins with.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// The API's name.
    pub title: &'static str,
    /// Its version.
    pub version: &'static str,
    /// What it is, in Markdown.
    pub description: &'static str,
}

/// The document of these routes.
pub fn document<'a>(about: About, routes: impl IntoIterator<Item = &'a Entry>) -> Value {
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let mut schemas = Map::new();
    for route in routes {
        let operation = route.operation.clone();
        let item = paths.entry(route.path().replace("{*", "{")).or_default();
        // What answers to any method is described as what people ask of it.
        let method = if route.method() == "ANY" { "get".to_owned() } else { route.method().to_lowercase() };
        item.insert(method, operation.shown(route.method(), route.path(), route.action()));
        schemas.extend(operation.into_schemas());
    }
    schemas.insert("Problem".to_owned(), problem_schema());
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": about.title, "version": about.version, "description": about.description,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": refusals(),
            "securitySchemes": {
                "bearer": {
                    "type": "http", "scheme": "bearer",
                    "description": "An access token from signing in, or an API key that begins with `hlx_live_`.",
                },
                "apiKey": { "type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key." },
                "ticket": {
                    "type": "apiKey", "in": "query", "name": "token",
                    "description": "A ticket for one event stream, good for a minute and one use.",
                },
            },
        },
    })
}

/// A response for each kind of error: its media types, and the codes that it may have.
fn refusals() -> Map<String, Value> {
    let mut kinds: BTreeMap<Kinds, Vec<&str>> = BTreeMap::new();
    for code in Code::ALL {
        kinds.entry(code.kind()).or_default().push(code.as_str());
    }
    let response = |(kind, codes): (Kinds, Vec<&str>)| {
        let schema = json!({
            "allOf": [{ "$ref": "#/components/schemas/Problem" }],
            "properties": { "code": { "enum": codes } },
        });
        let content = problem::MEDIA.map(|media| (media.to_owned(), json!({ "schema": schema })));
        let title = problem::status(kind).canonical_reason().unwrap_or("Error");
        let about = format!("{title}: a stable code, and words for people.");
        let content: Map<String, Value> = content.into_iter().collect();
        (operation::refusal(kind), json!({ "description": about, "content": content }))
    };
    kinds.into_iter().map(response).collect()
}

/// An error's body.
fn problem_schema() -> Value {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    json!({
        "type": "object",
        "required": ["error", "code", "type", "title", "status", "detail", "instance", "requestId"],
        "properties": {
            "error": { "type": "string", "description": "For people." },
            "code": { "type": "string", "enum": codes, "description": "For programs: stable." },
            "type": { "type": "string", "description": "Where the code is explained." },
            "title": { "type": "string", "description": "What the status is called." },
            "status": { "type": "integer", "description": "The status." },
            "detail": { "type": "string", "description": "The same as `error`." },
            "instance": { "type": "string", "description": "The path that was asked for." },
            "requestId": { "type": "string", "description": "Names the request in the server's log." },
            "fields": {
                "type": "array",
                "description": "What was wrong with which field.",
                "items": {
                    "type": "object",
                    "required": ["path", "message"],
                    "properties": { "path": { "type": "string" }, "message": { "type": "string" } },
                },
            },
        },
    })
}
