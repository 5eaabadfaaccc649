//! What happens around every request: its id, its span, its measurements, what web pages may do with its answer, and
//! the rendering of errors.
//!
//! Invariant: every answer has an `X-Request-Id`, every error body is made here, and a handler that panics is an
//! error like any other. Decides nothing about what a request may do.

use std::any::Any;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{DefaultBodyLimit, FromRequestParts, MatchedPath, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use futures_util::FutureExt;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use lantern_policy::network::Network;
use lantern_types::edge::{Clock, IdGen};
use lantern_types::{Limits, RequestId};
use tracing::Instrument;

use crate::audit::{self, Answered, Asked, Witness};
use crate::code::Code;
use crate::cors::{self, Cors};
use crate::etag::{self, Seen};
use crate::leftover::Leftover;
use crate::metrics;
use crate::problem::{Error, Shape};
use crate::proxy;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const IGNORED: HeaderName = HeaderName::from_static("lantern-ignored");
/// The most of a `Lantern-Ignored` header that is sent, in bytes.
const IGNORED_MAX: usize = 1_024;

/// Where a request comes from: the peer of the socket, or whom a proxy that the operator trusts says that it asks for. No other
/// header is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

const UNKNOWN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// The unspecified address when the request came over no socket, as in tests.
impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<Self>().copied();
        Ok(peer.unwrap_or(Self(UNKNOWN)))
    }
}

/// Stands in place of a request that could not be read: what to answer.
#[derive(Clone, Debug)]
pub(crate) struct Unread(pub(crate) Error);

/// The largest body that is read, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyMax(pub(crate) u64);

/// What the layer needs.
#[derive(Clone)]
pub struct Around {
    /// For request ids.
    pub ids: Arc<dyn IdGen>,
    /// For durations.
    pub clock: Arc<dyn Clock>,
    /// Which web pages may call.
    pub cors: Cors,
    /// Proxies that are believed about whom they ask for.
    pub trusted: Arc<[Network]>,
    /// Where requests leave their entries; nowhere in tests that have no log.
    pub audit: Option<audit::Log>,
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
        .layer(Extension(BodyMax(limits.body_bytes_max)))
        .layer(from_fn_with_state(around, around_each))
}

async fn unknown_route(method: Method, uri: Uri) -> Error {
    Error::new(Code::RouteNotFound, format!("there is no {method} {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Error {
    Error::new(Code::MethodNotAllowed, format!("{} does not take {method}", uri.path()))
}

/// The headers of a request, of which some may be named in the answer as ones that nobody obeys.
pub struct Heard {
    /// As they came.
    pub headers: HeaderMap,
    ignored: Ignored,
}

impl Heard {
    /// Names this header in the answer, if it came.
    pub fn ignores(&self, name: &'static str) {
        if self.headers.contains_key(name) {
            self.ignored.add(vec![name.to_owned()]);
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Heard {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let ignored = parts.extensions.get::<Ignored>().cloned().unwrap_or_default();
        Ok(Self { headers: parts.headers.clone(), ignored })
    }
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

async fn around_each(State(around): State<Around>, request: Request, next: Next) -> Response {
    let started = around.clock.now();
    let origin = around.cors.allowed(request.uri().path(), request.headers());
    // Whoever wants to be told to go on has sent nothing yet, and will not once it is refused.
    let waits = request.headers().contains_key(header::EXPECT);
    let (mut request, leftover) = kept(request);
    let id = request_id(request.headers(), &*around.ids);
    let route = request.extensions().get::<MatchedPath>().cloned();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let asked = accept(request.headers());
    let seen = (method == Method::GET).then(|| Seen::of(request.headers()));
    let ignored = Ignored::default();
    request.extensions_mut().insert(id);
    request.extensions_mut().insert(ignored.clone());
    let source = from(&mut request, &around.trusted);
    let witness = Witness::default();
    request.extensions_mut().insert(witness.clone());
    let asked_for = Asked { id, method: method.clone(), path: path.clone(), source };
    let watch = around.audit.as_ref().map(|log| log.watch(asked_for, witness));

    let span = tracing::info_span!("http.request", request_id = %id, method = %method, path);
    let unread = request.extensions_mut().remove::<Unread>();
    let answer = async {
        match unread {
            Some(Unread(error)) => error.into_response(),
            None if method == Method::OPTIONS => cors::preflight(),
            None => next.run(request).await,
        }
    };
    let answered = AssertUnwindSafe(answer).catch_unwind().instrument(span).await;
    let mut response = match answered {
        Ok(response) => response,
        Err(panic) => Error::internal(Panicked(words(&*panic))).into_response(),
    };
    let mut code = None;
    if let Some(error) = response.extensions_mut().remove::<Error>() {
        error.log(id);
        code = Some(error.code());
        let allow = response.headers_mut().remove(header::ALLOW);
        response = match response.extensions_mut().remove::<Shape>() {
            Some(shape) => error.render_shaped(id, shape),
            None => error.render(id, &path, &asked),
        };
        if let Some(allow) = allow {
            response.headers_mut().insert(header::ALLOW, allow);
        }
    }
    if let Some(watch) = watch
        && !watch.answered(Answered::of(&response, code)).await
    {
        response = unwritten().render(id, &path, &asked);
    }
    let refused = !response.status().is_success();
    let whole = waits || !refused || leftover.discard(&*around.clock).await;
    if let Some(seen) = seen {
        response = etag::answered(response, &seen).await;
    }
    let headers = response.headers_mut();
    if !whole {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    cors::mark(headers, origin);
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(REQUEST_ID, value);
    }
    if let Some(names) = ignored.header() {
        headers.insert(IGNORED, names);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // An address may hold a ticket, or what somebody took for one.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    metrics::answered(route, &method, response.status(), around.clock.now().since(started));
    response
}

/// Where it comes from, which from now on is its [`Peer`].
fn from(request: &mut Request, trusted: &[Network]) -> Option<IpAddr> {
    let Peer(socket) = request.extensions().get::<Peer>().copied()?;
    let source = proxy::source(socket.ip(), request.headers(), trusted);
    if source != socket.ip().to_canonical() {
        // Which of the proxy's ports it was says nothing.
        request.extensions_mut().insert(Peer(SocketAddr::new(source, 0)));
    }
    Some(source)
}

/// It was done, and nobody may be told so before it is in the log.
fn unwritten() -> Error {
    let words =
        "it was done, but its entry in the audit log is not written yet: look before you send it again";
    Error::new(Code::EntryUnwritten, words)
}

/// The request with a body that can be taken back.
fn kept(request: Request) -> (Request, Leftover) {
    let (parts, body) = request.into_parts();
    let (body, leftover) = Leftover::split(body);
    (Request::from_parts(parts, body), leftover)
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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::routing::{get, post};
    use lantern_net::{RealClock, RealIds};
    use serde_json::Value;
    use tower::ServiceExt as _;

    use crate::Body as Model;

    async fn ask(router: Router, request: Request) -> (http::response::Parts, Value) {
        let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
        let ids = Arc::new(RealIds::new(clock.clone()));
        let around = Around { ids, clock, cors: Cors::default(), trusted: Arc::default(), audit: None };
        let router = wrap(router, around, &Limits::default());
        let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
        let bytes = to_bytes(body, 1 << 20).await.unwrap();
        (parts, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    fn to(method: &str, body: Body) -> Request {
        Request::builder().method(method).uri("/x").body(body).unwrap()
    }

    #[tokio::test]
    async fn a_handler_that_panics_answers_like_any_fault() {
        let router = Router::new().route("/x", get(|| async { panic!("on purpose") as &str }));
        let (parts, body) = ask(router, to("GET", Body::empty())).await;
        assert_eq!((parts.status.as_u16(), body["code"].as_str()), (500, Some("internal")));
        assert_eq!(body["requestId"], parts.headers[REQUEST_ID].to_str().unwrap());
        assert!(!body.to_string().contains("on purpose"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_comes_is_not_waited_for() {
        let router = Router::new().route("/x", post(|Model(()): Model<()>| async { "read" }));
        let never = Body::from_stream(futures_util::stream::pending::<Result<&str, Infallible>>());
        let (parts, body) = ask(router, to("POST", never)).await;
        assert_eq!((parts.status.as_u16(), body["code"].as_str()), (408, Some("body_too_slow")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_said_to_be_too_large_is_not_read() {
        let router = || Router::new().route("/x", post(|Model(()): Model<()>| async { "read" }));
        let max = Limits::default().body_bytes_max;
        for (said, status, code) in
            [(max + 1, 413, "body_too_large"), (u64::MAX, 413, "body_too_large"), (max, 408, "body_too_slow")]
        {
            let never = Body::from_stream(futures_util::stream::pending::<Result<&str, Infallible>>());
            let mut request = to("POST", never);
            request.headers_mut().insert(header::CONTENT_LENGTH, said.into());
            let (parts, body) = ask(router(), request).await;
            assert_eq!((parts.status.as_u16(), body["code"].as_str()), (status, Some(code)), "{said}");
            assert_eq!(parts.headers[header::CONNECTION], "close");
        }
    }

    #[tokio::test]
    async fn fields_that_nobody_reads_are_named() {
        let router = Router::new().route("/x", post(|Model(()): Model<()>| async { "read" }));
        let (parts, _) = ask(router, to("POST", Body::from(r#"{"b": 1, "a": 2, "new\nline": 3}"#))).await;
        assert_eq!(parts.headers[IGNORED], "a,b");
    }
}
