//! What happens around every request: its id, its span, its measurements, and the rendering of errors.
//!
//! Invariant: every answer has an `X-Request-Id`, every error body is made here, and a handler that panics is an
//! error like any other. Decides nothing about what a request may do.

use std::any::Any;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts, MatchedPath, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use lantern_types::edge::{Clock, IdGen};
use lantern_types::{Limits, RequestId};
use tracing::Instrument;

use crate::code::Code;
use crate::metrics;
use crate::problem::Error;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const IGNORED: HeaderName = HeaderName::from_static("lantern-ignored");
/// The most of a `Lantern-Ignored` header that is sent, in bytes.
const IGNORED_MAX: usize = 1_024;

/// Where a connection comes from: the peer of the socket. No header is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// The unspecified address when the request came over no socket, as in tests.
impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<Self>().copied();
        Ok(peer.unwrap_or(Self(SocketAddr::from(([0, 0, 0, 0], 0)))))
    }
}

/// What the layer needs.
#[derive(Clone)]
pub struct Around {
    /// For request ids.
    pub ids: Arc<dyn IdGen>,
    /// For durations.
    pub clock: Arc<dyn Clock>,
}

/// Puts the layer around a router whose routes are all there, with answers for what it has no route for.
pub fn wrap<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    around: Around,
    limits: &Limits,
) -> Router<S> {
    let body_max = usize::try_from(limits.body_bytes_max).unwrap_or(usize::MAX);
    router
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(body_max))
        .layer(from_fn_with_state(around, around_each))
}

async fn unknown_route(method: Method, uri: Uri) -> Error {
    Error::new(Code::RouteNotFound, format!("there is no {method} {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Error {
    Error::new(Code::MethodNotAllowed, format!("{} does not take {method}", uri.path()))
}

/// The fields of a body that nobody read, to be named in the answer.
#[derive(Clone, Default)]
pub(crate) struct Ignored(Arc<Mutex<Vec<String>>>);

impl Ignored {
    pub(crate) fn add(&self, names: Vec<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
    }

    fn header(&self) -> Option<HeaderValue> {
        let names = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut text = String::new();
        for name in names {
            let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b',');
            if plain && text.len() + name.len() < IGNORED_MAX {
                text.push_str(if text.is_empty() { "" } else { "," });
                text.push_str(&name);
            }
        }
        if text.is_empty() { None } else { HeaderValue::from_str(&text).ok() }
    }
}

async fn around_each(State(around): State<Around>, mut request: Request, next: Next) -> Response {
    let started = around.clock.now();
    let id = request_id(request.headers(), &*around.ids);
    let route = request.extensions().get::<MatchedPath>().cloned();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let asked = accept(request.headers());
    let ignored = Ignored::default();
    request.extensions_mut().insert(id);
    request.extensions_mut().insert(ignored.clone());

    let span = tracing::info_span!("http.request", request_id = %id, method = %method, path);
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span).await;
    let mut response = match answered {
        Ok(response) => response,
        Err(panic) => Error::internal(Panicked(words(&*panic))).into_response(),
    };
    if let Some(error) = response.extensions_mut().remove::<Error>() {
        error.log(id);
        let allow = response.headers_mut().remove(header::ALLOW);
        response = error.render(id, &path, &asked);
        if let Some(allow) = allow {
            response.headers_mut().insert(header::ALLOW, allow);
        }
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(REQUEST_ID, value);
    }
    if let Some(names) = ignored.header() {
        headers.insert(IGNORED, names);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    metrics::answered(route, &method, response.status(), around.clock.now().since(started));
    response
}

/// The caller's own id when it is a UUID, so that a request can be followed across systems; else a new one.
fn request_id(headers: &HeaderMap, ids: &dyn IdGen) -> RequestId {
    let brought = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()?.parse().ok());
    brought.unwrap_or_else(|| RequestId::from_uuid(ids.uuid()))
}

fn accept(headers: &HeaderMap) -> HeaderMap {
    headers.get_all(header::ACCEPT).iter().map(|value| (header::ACCEPT, value.clone())).collect()
}

#[derive(Debug, thiserror::Error)]
#[error("a handler panicked: {0}")]
struct Panicked(String);

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
