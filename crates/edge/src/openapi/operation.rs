//! What a route says of itself: its handler's arguments say what it takes, its answer what it gives.

mod answers;

use std::collections::BTreeSet;
use std::future::Future;

use axum::Extension;
use axum::extract::{Request, State};
use http::HeaderMap;
use lantern_policy::{Access, Act, Permit};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{Kind, Param, sketch};
use crate::audit::Witness;
use crate::body::{Body, Model, Raw};
use crate::code;
use crate::problem;
use crate::query::{Params, Path};
use crate::reply;
use crate::request::{Heard, Peer};

pub use answers::Answers;

/// One method of one path, as it describes itself.
#[derive(Clone, Debug, Default)]
pub struct Operation {
    summary: &'static str,
    pub(crate) query: Vec<Param>,
    /// The route takes an `Idempotency-Key`.
    keyed: bool,
    /// A ticket in the address does for a credential.
    streams: bool,
    /// It answers with an `ETag`, and a change may name one.
    versioned: bool,
    /// That `ETag` is not of all that is shown.
    live: bool,
    /// A change that may name one although its method or its answer does not say so.
    conditional: bool,
    /// A client may prefer that the answer waits.
    waits: bool,
    /// It reads a body, which may hold nothing.
    reads_body: bool,
    /// It reads its query, which may hold nothing.
    reads_query: bool,
    body: Option<(Value, bool)>,
    answers: Vec<Answer>,
    /// What it refuses beyond what its arguments say.
    refuses: Vec<code::Kind>,
    /// Its errors are in the words of another API.
    shaped: bool,
    /// What is said of an answer that is somebody else's.
    passes_on: Option<&'static str>,
    schemas: Map<String, Value>,
}

impl Operation {
    /// Whether an `Idempotency-Key` says nothing here. Another API's words may hand it on.
    pub(crate) const fn ignores_keys(&self) -> bool {
        !self.keyed && !self.shaped
    }

    /// The codes that say that it was done, as in `200 201`; `-` where somebody else's answer is passed on and nothing is said of it.
    pub(crate) fn successes(&self) -> String {
        let codes: BTreeSet<u16> =
            self.answers.iter().map(|answer| answer.status).filter(|status| *status < 400).collect();
        if codes.is_empty() {
            return "-".to_owned();
        }
        codes.iter().map(u16::to_string).collect::<Vec<_>>().join(" ")
    }
}

#[derive(Clone, Debug)]
struct Answer {
    status: u16,
    about: &'static str,
    media: Option<(&'static str, Value)>,
}

/// Something that a handler takes, and what that says of the request. Most say nothing.
pub trait Argument {
    /// Adds what it says.
    fn describe(_: &mut Operation) {}
}

impl<A: Act> Argument for Permit<A> {}
impl<S> Argument for State<S> {}
impl<T> Argument for Extension<T> {}
impl<T> Argument for Path<T> {}
impl Argument for HeaderMap {}
impl Argument for Heard {}
impl Argument for Peer {}
impl Argument for Witness {}
impl Argument for Request {}

impl Argument for Params {
    fn describe(operation: &mut Operation) {
        operation.reads_query = true;
    }
}

impl Argument for Raw {
    fn describe(operation: &mut Operation) {
        operation.reads_body = true;
    }
}

impl<T: Model> Argument for Body<T> {
    fn describe(operation: &mut Operation) {
        operation.reads_body = true;
        operation.body = sketch::of::<T>();
    }
}

/// A handler, and what its signature says. `T` is its arguments as axum numbers them.
pub trait Call<T> {
    /// What the handler's arguments and answer say.
    fn describe(operation: &mut Operation);
}

macro_rules! calls {
    ($(($($argument:ident),*);)+) => {$(
        impl<F, R, M, $($argument),*> Call<(M, $($argument,)*)> for F
        where
            F: Fn($($argument),*) -> R,
            R: Future<Output: Answers>,
            $($argument: Argument,)*
        {
            fn describe(operation: &mut Operation) {
                $($argument::describe(operation);)*
                R::Output::describe(operation);
            }
        }
    )+};
}

calls! {
    (T1);
    (T1, T2);
    (T1, T2, T3);
    (T1, T2, T3, T4);
    (T1, T2, T3, T4, T5);
    (T1, T2, T3, T4, T5, T6);
}

/// Handlers without arguments.
impl<F, R> Call<((),)> for F
where
    F: Fn() -> R,
    R: Future<Output: Answers>,
{
    fn describe(operation: &mut Operation) {
        R::Output::describe(operation);
    }
}

impl Operation {
    /// What the handler `H` says.
    pub(crate) fn of<H: Call<T>, T>(summary: &'static str) -> Self {
        let mut operation = Self { summary, ..Self::default() };
        H::describe(&mut operation);
        operation
    }

    /// The same, done once for each `Idempotency-Key`.
    pub(crate) fn keyed(mut self) -> Self {
        self.keyed = true;
        self
    }

    /// The same, opened by a ticket as well, and resumed by the number of the last frame.
    pub(crate) fn streaming(mut self) -> Self {
        self.streams = true;
        self
    }

    pub(crate) const fn conditional(&mut self) {
        self.conditional = true;
    }

    pub(crate) const fn shaped(&mut self) {
        self.shaped = true;
    }

    pub(crate) fn reads(&mut self, schema: Value) {
        self.body = Some((schema, true));
    }

    pub(crate) const fn passes_on(&mut self, about: &'static str) {
        self.passes_on = Some(about);
    }

    pub(crate) const fn waits(&mut self) {
        self.waits = true;
    }

    pub(crate) fn refuses(&mut self, kinds: &[code::Kind]) {
        self.refuses.extend(kinds);
    }

    pub(crate) fn also<T: Answers>(&mut self) {
        T::describe(self);
    }

    /// A stream of events, told by those who answer with [`Response`].
    pub(crate) fn event_stream(&mut self, about: &'static str) {
        // What a frame holds is told by `docs/guide/events.md`: OpenAPI has no words for a stream of several kinds.
        self.answer(reply::OK, about, Some(("text/event-stream", json!({}))));
    }

    /// A file, told by those who answer with [`Response`].
    pub(crate) fn file(&mut self, media: &'static str, about: &'static str) {
        self.answer(reply::OK, about, Some((media, json!({ "type": "string" }))));
    }

    fn answer(&mut self, status: u16, about: &'static str, media: Option<(&'static str, Value)>) {
        self.answers.push(Answer { status, about, media });
    }

    /// A reference to the schema of `T`, which is kept with all that it names.
    fn schema<T: ToSchema>(&mut self) -> Value {
        let mut named = Vec::new();
        T::schemas(&mut named);
        let whole = json(&T::schema());
        let plain = whole.get("type").is_some_and(|kind| kind == "array" || kind == "string");
        for (name, schema) in named {
            self.schemas.insert(name, json(&schema));
        }
        if plain {
            return whole;
        }
        let name = T::name().into_owned();
        let reference = json!({ "$ref": format!("#/components/schemas/{name}") });
        self.schemas.insert(name, whole);
        reference
    }

    pub(crate) fn into_schemas(self) -> Map<String, Value> {
        self.schemas
    }

    /// As OpenAPI shows it.
    pub(crate) fn shown(&self, method: &str, path: &str, action: Option<(&str, Access)>) -> Value {
        let parameters: Vec<Value> =
            in_path(path).chain(self.query.iter().map(in_query)).chain(self.headers(method)).collect();
        let mut shown = json!({
            "operationId": operation_id(method, path),
            "summary": self.summary,
            "tags": [tag(path)],
            "parameters": parameters,
            "responses": self.responses((method, path), action.is_some()),
            "security": match action {
                None => json!([]),
                Some(_) if self.streams => json!([{ "bearer": [] }, { "apiKey": [] }, { "ticket": [] }]),
                Some(_) => json!([{ "bearer": [] }, { "apiKey": [] }]),
            },
        });
        if let Some((schema, needed)) = &self.body {
            let content = json!({ "application/json": { "schema": schema } });
            put(&mut shown, "requestBody", json!({ "required": needed, "content": content }));
        }
        if let Some((name, access)) = action {
            put(&mut shown, "x-action", name.into());
            put(&mut shown, "x-access", lantern_policy::action::required(access).into());
        }
        shown
    }

    /// Whether a change may say which version it is about.
    fn matches(&self, method: &str) -> bool {
        self.conditional || self.versioned && matches!(method, "PUT" | "PATCH" | "DELETE")
    }

    /// Whether a reader may say what it has already.
    fn rereads(&self, method: &str) -> bool {
        let json = |answer: &Answer| {
            answer.status == reply::OK && matches!(answer.media, Some(("application/json", _)))
        };
        method == "GET" && !self.live && !self.streams && self.answers.iter().any(json)
    }

    fn headers(&self, method: &str) -> impl Iterator<Item = Value> {
        let key = self.keyed.then(|| {
            json!({
                "name": "Idempotency-Key", "in": "header", "schema": { "type": "string", "maxLength": 255 },
                "description": "A key of your own: the same request with the same key is done once.",
            })
        });
        let resume = self.streams.then(|| {
            json!({
                "name": "Last-Event-ID", "in": "header", "schema": { "type": "string", "pattern": "^[0-9]+$" },
                "description": "The `id` of the last frame that was seen: the stream goes on after it.",
            })
        });
        let version = self.matches(method).then(|| {
            json!({
                "name": "If-Match", "in": "header",
                "schema": { "type": "string", "pattern": "^(\\*|\"[0-9]+\"( *, *\"[0-9]+\")*)$" },
                "description": "The `ETag` that the change is about, or several: of another revision nothing is changed.",
            })
        });
        let wait = self.waits.then(|| {
            json!({
                "name": "Prefer", "in": "header", "schema": { "type": "string" },
                "description": "`wait=N`: answer when the run is over, or after so many seconds, of which no more than \
                                `Preference-Applied` says are waited.",
            })
        });
        let seen = self.rereads(method).then(|| {
            json!({
                "name": "If-None-Match", "in": "header", "schema": { "type": "string" },
                "description": "The `ETag` of an answer that is there already, or several: if it is still that, it is not sent again.",
            })
        });
        key.into_iter().chain(resume).chain(version).chain(wait).chain(seen)
    }

    fn responses(&self, (method, path): (&str, &str), guarded: bool) -> Value {
        let mut responses = Map::new();
        for answer in &self.answers {
            let response =
                responses.entry(answer.status.to_string()).or_insert(json!({ "description": answer.about }));
            if let Some((media, schema)) = &answer.media {
                put_content(response, media, schema.clone());
            }
        }
        if self.rereads(method) {
            responses.insert(
                reply::NOT_MODIFIED.to_string(),
                json!({ "description": "It is what `If-None-Match` names." }),
            );
        }
        for kind in self.refusals(method, path, guarded) {
            let status = problem::status(kind).as_u16().to_string();
            if self.shaped {
                let title = problem::status(kind).canonical_reason().unwrap_or("Error");
                let response = responses.entry(status).or_insert(json!({ "description": title }));
                put_content(response, problem::MEDIA[0], json!({ "type": "object" }));
                continue;
            }
            let reference = match self.passes_on {
                // What is passed on may have any status, those of ours too.
                Some(about) => json!({ "description": about }),
                None => json!({ "$ref": format!("#/components/responses/{}", refusal(kind)) }),
            };
            let response = responses.entry(status).or_insert(reference);
            if response.get("$ref").is_none() {
                for media in problem::MEDIA {
                    put_content(response, media, json!({ "$ref": PROBLEM }));
                }
            }
        }
        if let Some(about) = self.passes_on {
            let mut response = json!({ "description": about });
            for media in problem::MEDIA {
                put_content(
                    &mut response,
                    media,
                    if self.shaped { json!({}) } else { json!({ "$ref": PROBLEM }) },
                );
            }
            responses.insert("default".to_owned(), response);
        }
        Value::Object(responses)
    }

    /// Every way in which it may refuse: what it declares says most of them.
    fn refusals(&self, method: &str, path: &str, guarded: bool) -> BTreeSet<code::Kind> {
        use code::Kind::{
            Conflict, Forbidden, Internal, Invalid, NotFound, Outdated, TooLarge, TooSlow, Unauthenticated,
            Unavailable, Unsupported,
        };
        let headers = self.keyed || self.streams || self.matches(method);
        let said: [(bool, &[code::Kind]); 7] = [
            (true, &[Internal, Unavailable]),
            (guarded, &[Unauthenticated, Forbidden]),
            (variables(path) > 0, &[NotFound]),
            (self.reads_query || headers, &[Invalid]),
            (self.matches(method), &[Outdated]),
            (self.reads_body || self.keyed, &[Invalid, TooLarge, TooSlow, Unsupported]),
            // Whoever writes may meet another who does, or what it cannot be done to any more.
            (guarded && method != "GET", &[Conflict]),
        ];
        let derived = said.into_iter().filter(|(so, _)| *so).flat_map(|(_, kinds)| kinds);
        derived.chain(&self.refuses).copied().collect()
    }
}

const PROBLEM: &str = "#/components/schemas/Problem";

/// What a refusal is called in the document.
pub(super) fn refusal(kind: code::Kind) -> String {
    format!("{kind:?}")
}

fn variables(path: &str) -> usize {
    segments(path).filter_map(variable).count()
}

fn put(object: &mut Value, name: &str, part: Value) {
    if let Some(map) = object.as_object_mut() {
        map.insert(name.to_owned(), part);
    }
}

/// Adds a form that a response comes in.
fn put_content(response: &mut Value, media: &str, schema: Value) {
    let mut content = response.get("content").cloned().unwrap_or_else(|| json!({}));
    put(&mut content, media, json!({ "schema": schema }));
    put(response, "content", content);
}

fn json(schema: &utoipa::openapi::RefOr<utoipa::openapi::Schema>) -> Value {
    serde_json::to_value(schema).unwrap_or_default()
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty() && *segment != "v1")
}

fn variable(segment: &str) -> Option<&str> {
    let name = segment.strip_prefix('{')?.strip_suffix('}')?;
    // A rest of several segments.
    Some(name.strip_prefix('*').unwrap_or(name))
}

/// `get_runs_id`: unique, because a method and a path are.
fn operation_id(method: &str, path: &str) -> String {
    let mut id = if method == "ANY" { "get".to_owned() } else { method.to_lowercase() };
    // The only names that are there with and without a version.
    let versioned = path.starts_with("/v1/.well-known/").then_some("v1");
    for segment in versioned.into_iter().chain(segments(path)) {
        id.push('_');
        id.extend(variable(segment).unwrap_or(segment).chars().map(|c| match c {
            c if c.is_ascii_alphanumeric() => c,
            _ => '_',
        }));
    }
    id
}

/// What a path is about: its first word.
fn tag(path: &str) -> &str {
    segments(path).next().map_or("server", |first| match first {
        "settings" => segments(path).nth(1).unwrap_or(first),
        other => other,
    })
}

fn in_path(path: &str) -> impl Iterator<Item = Value> {
    segments(path).filter_map(variable).map(|name| {
        json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } })
    })
}

fn in_query(param: &Param) -> Value {
    let schema = match param.kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Id => json!({ "type": "string", "format": "uuid" }),
        Kind::From(least) => json!({ "type": "integer", "minimum": least }),
        Kind::Word(words) => json!({ "type": "string", "enum": words }),
        Kind::Words(words) => json!({ "type": "array", "items": { "type": "string", "enum": words } }),
        Kind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Time => json!({ "type": "string", "format": "date-time" }),
    };
    json!({ "name": param.name, "in": "query", "description": param.about, "schema": schema })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_tags_follow_the_path() {
        for (method, path, id, group) in [
            ("GET", "/v1/runs/{id}", "get_runs_id", "runs"),
            ("POST", "/v1/settings/llm-providers", "post_settings_llm_providers", "llm-providers"),
            ("ANY", "/healthz", "get_healthz", "healthz"),
            ("GET", "/", "get", "server"),
        ] {
            assert_eq!((operation_id(method, path).as_str(), tag(path)), (id, group));
        }
    }
}
