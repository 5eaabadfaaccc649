//! Errors on their way to a client: the one place that knows status numbers and the shape of an error body.
//!
//! Invariant: what a client sees is `public`, `code` and `fields`, never a source. A fault of ours says "internal
//! error" and a request id, nothing else. An [`Error`] becomes a bare response that carries it; [`crate::request`]
//! renders the body, because only there the path, the request id and the `Accept` header are known, and logs it once.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::panic::Location;
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use lantern_types::{Dur, RequestId};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::code::{Code, Kind};

const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// What the edge's functions answer with.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How a front door words an error, in place of our own way: as the official clients of its wire expect it.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The body.
    pub body: fn(&Told<'_>) -> Value,
    /// Clients of this wire know being out of money as a rate limit, and no status of its own for it.
    pub quota_is_a_rate: bool,
}

/// What an error says.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// Its code.
    pub code: Code,
    /// Its words.
    pub words: &'a str,
    /// Its status.
    pub status: u16,
    /// The first field that is wrong.
    pub field: Option<&'a str>,
    /// The request.
    pub request: RequestId,
}

/// One thing that is wrong with a request, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// `tools[1].effect`; empty for the whole body.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

/// Fields that an answer names; it says how many more there are.
const FIELDS_MAX: usize = 20;

/// An error for a client.
#[derive(Clone, Debug)]
pub struct Error {
    code: Code,
    public: Cow<'static, str>,
    fields: Vec<FieldError>,
    extras: Map<String, Value>,
    retry_after: Option<Dur>,
    /// Somebody else's, passed on in place of our own.
    status: Option<StatusCode>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    at: &'static Location<'static>,
}

impl Error {
    /// An error with its words for the client.
    #[track_caller]
    pub fn new(code: Code, public: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            public: public.into(),
            fields: Vec::new(),
            extras: Map::new(),
            retry_after: None,
            status: None,
            source: None,
            at: Location::caller(),
        }
    }

    /// A fault of ours. The source is logged and never shown.
    #[track_caller]
    pub fn internal(source: impl StdError + Send + Sync + 'static) -> Self {
        Self::new(Code::Internal, "internal error").caused_by(source)
    }

    /// An error about these fields. The message names them too, for people who read nothing else; of many, both name the
    /// first and say how many more there are.
    #[track_caller]
    pub fn about(code: Code, lead: &str, mut fields: Vec<FieldError>) -> Self {
        let more = fields.len().saturating_sub(FIELDS_MAX);
        fields.truncate(FIELDS_MAX);
        if more > 0 {
            fields.push(FieldError { path: String::new(), message: format!("and {more} more") });
        }
        let named = fields.iter().map(|field| match field.path.as_str() {
            "" => field.message.clone(),
            path => format!("{path}: {}", field.message),
        });
        let named: Vec<String> = named.collect();
        Self { fields, ..Self::new(code, format!("{lead}: {}", named.join("; "))) }
    }

    /// One field and what is wrong with it.
    pub fn with_field(mut self, path: impl Into<String>, message: impl Into<String>) -> Self {
        self.fields.push(FieldError { path: path.into(), message: message.into() });
        self
    }

    /// The same about one part of the request: its fields are that part's. When it names none, `field` is what is wrong.
    pub fn within(mut self, part: &str, field: &str) -> Self {
        if self.fields.is_empty() {
            self = Self {
                fields: vec![FieldError { path: field.to_owned(), message: self.public.to_string() }],
                ..self
            };
        }
        for found in &mut self.fields {
            found.path =
                if found.path.is_empty() { part.to_owned() } else { format!("{part}.{}", found.path) };
        }
        self.public = format!("{part}: {}", self.public).into();
        self
    }

    /// A key that the contract adds to this error's body.
    pub fn with_extra(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.extras.insert(key.to_owned(), value.into());
        self
    }

    /// When to come back: rounded up to whole seconds, at least one.
    pub fn retry_after(mut self, wait: Dur) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The same with the status of somebody further on, whose refusal it passes on.
    pub const fn passing_on(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// What caused it, for the log.
    pub fn caused_by(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// Its code.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The fields that are wrong.
    pub fn fields(&self) -> &[FieldError] {
        &self.fields
    }

    /// The whole response in a front door's own words.
    pub fn render_shaped(&self, request: RequestId, shape: Shape) -> Response {
        let kind = match self.code.kind() {
            Kind::OverBudget if shape.quota_is_a_rate => Kind::RateLimited,
            kind => kind,
        };
        let status = status(kind);
        let field = self.fields.first().map(|field| field.path.as_str()).filter(|path| !path.is_empty());
        let told = Told { code: self.code, words: &self.public, status: status.as_u16(), field, request };
        self.response(status, (shape.body)(&told).to_string().into_bytes(), "application/json")
    }

    /// The whole response. `instance` is the request's path.
    pub(crate) fn render(&self, request: RequestId, instance: &str, asked: &HeaderMap) -> Response {
        let status = self.status.unwrap_or_else(|| status(self.code.kind()));
        let document = Document {
            error: &self.public,
            code: self.code.as_str(),
            kind: format!("https://lantern.dev/errors/{}", self.code.as_str()),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: &self.public,
            instance,
            request_id: request.to_string(),
            fields: &self.fields,
            extras: &self.extras,
        };
        let body = serde_json::to_vec(&document).unwrap_or_default();
        self.response(status, body, content_type(asked))
    }

    fn response(&self, status: StatusCode, body: Vec<u8>, media: &'static str) -> Response {
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        if let Some(wait) = self.retry_after {
            let seconds = wait.micros().unsigned_abs().div_ceil(1_000_000).max(1);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code.kind() == Kind::Unauthenticated {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // Official clients try again by themselves what would be refused again.
        let stays = matches!(self.code.kind(), Kind::OverBudget | Kind::NotSupported);
        if stays || self.code == Code::ModelNotConfigured {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        response
    }

    /// Logs it, once: loudly when a person should look, quietly when only the client can mend it.
    pub fn log(&self, request: RequestId) {
        let (code, at) = (self.code.as_str(), self.at);
        let cause = Chain(self.source.as_deref().map(|source| source as &(dyn StdError + 'static)));
        match self.code.kind() {
            _ if self.code == Code::StorageDamaged => {
                tracing::error!(%request, code, %at, %cause, "{}: restore it from a backup", self.public);
            }
            Kind::Internal => tracing::error!(%request, code, %at, %cause, "a request failed by our fault"),
            Kind::Unavailable | Kind::BadGateway => {
                tracing::warn!(%request, code, %at, %cause, "a request could not be served");
            }
            _ => tracing::debug!(%request, code, %at, %cause, error = %self.public, "a request was refused"),
        }
    }
}

/// A source and its sources, innermost last.
struct Chain<'a>(Option<&'a (dyn StdError + 'static)>);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut next = self.0;
        while let Some(error) = next {
            write!(f, "{error}")?;
            next = error.source();
            if next.is_some() {
                f.write_str(": ")?;
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.public)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<lantern_store::Error> for Error {
    #[track_caller]
    fn from(error: lantern_store::Error) -> Self {
        use lantern_store::Error as Store;
        if let Store::RunsOfDay { most } = error {
            return Self::new(Code::BudgetExceeded, error.to_string())
                .with_extra("reason", "maxRunsPerDay")
                .with_extra("maxRunsPerDay", most);
        }
        let (code, words, wait) = match &error {
            Store::Conflict => (Code::Conflict, "it was changed at the same time; read it again", None),
            Store::Unavailable(_) => (Code::Unavailable, "the database cannot answer now", Some(1)),
            Store::Full => (Code::StorageFull, "the database has no space left", Some(60)),
            Store::ReadOnly => (Code::StorageReadOnly, "the database takes no writes now", Some(5)),
            Store::Corrupt(_) => (Code::StorageDamaged, "the database is damaged", None),
            Store::Missing(_) => (Code::StorageDamaged, "a file that holds what was said is missing", None),
            _ => (Code::Internal, "internal error", None),
        };
        let made = Self::new(code, words).caused_by(error);
        match wait {
            Some(seconds) => made.retry_after(Dur::from_secs(seconds)),
            None => made,
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status.unwrap_or_else(|| status(self.code.kind()));
        response.extensions_mut().insert(self);
        response
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    error: &'a str,
    code: &'static str,
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    instance: &'a str,
    request_id: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    fields: &'a [FieldError],
    #[serde(flatten)]
    extras: &'a Map<String, Value>,
}

pub(crate) const fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::NotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Kind::TooSlow => StatusCode::REQUEST_TIMEOUT,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Outdated => StatusCode::PRECONDITION_FAILED,
        Kind::Unsupported => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::AddressTooLong => StatusCode::URI_TOO_LONG,
        Kind::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Kind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Kind::OverBudget => StatusCode::PAYMENT_REQUIRED,
        Kind::NotSupported => StatusCode::NOT_IMPLEMENTED,
        Kind::BadGateway => StatusCode::BAD_GATEWAY,
    }
}

/// The forms that an error comes in.
pub(crate) const MEDIA: [&str; 2] = ["application/json", "application/problem+json"];

/// RFC 9457's media type goes only to those who ask for it: the contract's clients look for plain JSON.
fn content_type(asked: &HeaderMap) -> &'static str {
    let accepts = asked.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if accepts
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().starts_with("application/problem+json"))
    {
        MEDIA[1]
    } else {
        MEDIA[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lantern_types::DEV_USER;

    fn rendered(error: &Error, asked: &HeaderMap) -> (Response, Value) {
        let request = RequestId::from_uuid(DEV_USER.uuid());
        let response = error.render(request, "/v1/runs", asked);
        let (parts, body) = response.into_parts();
        let bytes =
            futures_util::FutureExt::now_or_never(axum::body::to_bytes(body, 1 << 20)).unwrap().unwrap();
        (Response::from_parts(parts, Body::empty()), serde_json::from_slice(&bytes).unwrap())
    }

    #[test]
    fn a_body_says_what_the_contract_and_the_rfc_want() {
        let error = Error::new(Code::RunRateLimited, "too many runs")
            .with_extra("reason", "burst")
            .retry_after(Dur::from_millis(1_200));
        let (response, body) = rendered(&error, &HeaderMap::new());
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "2");
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(
            body,
            serde_json::json!({
                "error": "too many runs", "code": "run_rate_limited", "title": "Too Many Requests",
                "type": "https://lantern.dev/errors/run_rate_limited", "status": 429, "detail": "too many runs",
                "instance": "/v1/runs", "requestId": DEV_USER.to_string(), "reason": "burst",
            })
        );
    }

    #[test]
    fn of_many_fields_the_first_are_named_and_the_rest_counted() {
        let field = |n: usize| FieldError { path: format!("a[{n}]"), message: "is wrong".to_owned() };
        let few = Error::about(Code::InvalidBody, "invalid", vec![field(0), field(1)]);
        assert_eq!(few.to_string(), "invalid_body: invalid: a[0]: is wrong; a[1]: is wrong");
        let many = Error::about(Code::InvalidBody, "invalid", (0..1_000).map(field).collect());
        assert_eq!(many.fields().len(), 21);
        assert!(many.to_string().ends_with("a[19]: is wrong; and 980 more"), "{many}");
    }

    #[test]
    fn a_fault_of_ours_shows_nothing_of_its_source() {
        let source = lantern_store::Error::Misuse("SELECT secret".to_owned());
        let (response, body) = rendered(&source.into(), &HeaderMap::new());
        assert_eq!(response.status(), 500);
        assert!(!body.to_string().contains("SELECT"));
        assert_eq!(body["error"], "internal error");
    }

    #[test]
    fn what_is_wrong_with_the_store_has_a_code() {
        use lantern_store::Error as Store;
        for (error, status, code) in [
            (Store::Conflict, 409, "conflict"),
            (Store::Unavailable("away".into()), 503, "unavailable"),
            (Store::RunsOfDay { most: 3 }, 402, "budget_exceeded"),
            (Store::Full, 503, "storage_full"),
            (Store::ReadOnly, 503, "storage_read_only"),
            (Store::Corrupt("malformed".into()), 503, "storage_damaged"),
            (Store::Missing(lantern_types::Digest::of(b"x")), 503, "storage_damaged"),
            (Store::Internal("odd".into()), 500, "internal"),
        ] {
            let (response, body) = rendered(&error.into(), &HeaderMap::new());
            assert_eq!((response.status().as_u16(), body["code"].as_str()), (status, Some(code)));
        }
    }

    #[test]
    fn the_media_type_follows_the_accept_header() {
        let mut asked = HeaderMap::new();
        asked.insert(header::ACCEPT, HeaderValue::from_static("text/html, application/problem+json;q=0.9"));
        let (response, _) = rendered(&Error::new(Code::Conflict, "no"), &asked);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
}
