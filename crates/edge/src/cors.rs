//! Which web pages may call from a browser (CORS).
//!
//! Invariant: an origin is allowed by standing in the operator's list, letter for letter, and is never allowed to send
//! cookies: who asks is told by a header that only the page itself can set. Decides nothing about the request.

use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE, OPTIONS");
const HEADERS: HeaderValue = HeaderValue::from_static(
    "Content-Type, Authorization, X-Request-ID, X-API-Key, Idempotency-Key, Last-Event-ID, If-Match, If-None-Match, Prefer, \
     X-Lantern-Turn-Hint",
);
/// What a page may read of an answer beside its body.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "ETag, Idempotent-Replayed, Lantern-Ignored, Link, Location, Preference-Applied, Retry-After, X-Next-Cursor, X-Request-ID",
);
/// How long a browser may remember a permission, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("86400");
const ORIGIN: HeaderValue = HeaderValue::from_static("Origin");

const ANY: HeaderValue = HeaderValue::from_static("*");

/// The origins that are allowed. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Cors {
    origins: std::sync::Arc<[String]>,
}

impl Cors {
    /// Allows these origins, such as `http://localhost:3001`, and no others.
    pub fn of(origins: &[String]) -> Self {
        Self { origins: origins.into() }
    }

    /// The request's origin, when it is allowed. Any is where everybody may ask without saying who they are.
    pub(crate) fn allowed(&self, path: &str, asked: &HeaderMap) -> Option<HeaderValue> {
        if path.trim_start_matches("/v1").starts_with("/.well-known/") || path == "/v1/runs/receipts/verify" {
            return Some(ANY);
        }
        let origin = asked.get(header::ORIGIN)?;
        self.origins.iter().any(|known| known.as_bytes() == origin.as_bytes()).then(|| origin.clone())
    }
}

/// What a browser asks before the real request. It carries no credentials, so every path answers alike.
pub(crate) fn preflight() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// Says on every answer what pages may do.
pub(crate) fn mark(headers: &mut HeaderMap, allowed: Option<HeaderValue>) {
    // Also where the origin is not allowed: a cache must not hand that answer to one that is.
    headers.append(header::VARY, ORIGIN);
    let said: [(HeaderName, HeaderValue); 3] = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
        (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE),
    ];
    headers.extend(said);
    if let Some(origin) = allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}
