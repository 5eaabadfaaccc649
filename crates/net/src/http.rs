//! The HTTP client that every outgoing request takes.
//!
//! Invariant: no request leaves before its address was checked against the caller's [`Reach`], no redirect is
//! followed, no proxy from the environment is used, and every wait has a deadline. Retries and the meaning of a
//! status are the caller's.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use lantern_policy::egress::{Reach, Rule};
use lantern_policy::network::Network;
use lantern_types::trace::TRACEPARENT;
use lantern_types::{Dur, TraceParent};
use reqwest::Url;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Sleep, sleep, timeout};

use crate::dns::GuardedDns;
pub use crate::error::Awaited;
use crate::error::Error;
pub use crate::retry_after::retry_after;

pub use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};

/// A connection that takes longer has failed; nothing was sent over it.
const CONNECT_MAX: Dur = Dur::from_secs(10);
/// Idle connections are closed before the usual load balancer (60 s) closes them under a request.
const POOL_IDLE_MAX: Dur = Dur::from_secs(30);
const POOL_IDLE_PER_HOST_MAX: usize = 64;

/// What is requested.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// An absolute `http` or `https` URL.
    pub url: String,
    /// Headers beside those that HTTP itself needs. Mark secret values as sensitive.
    pub headers: HeaderMap,
    /// The body; empty for none.
    pub body: Bytes,
}

impl Request {
    /// A GET without headers.
    pub fn get(url: impl Into<String>) -> Self {
        Self { method: Method::GET, url: url.into(), headers: HeaderMap::new(), body: Bytes::new() }
    }
}

/// The header that tells the other side which span its request belongs to.
pub fn traced(trace: TraceParent) -> Option<(HeaderName, HeaderValue)> {
    let value = HeaderValue::try_from(trace.to_string()).ok()?;
    Some((HeaderName::from_static(TRACEPARENT), value))
}

/// Whether a URL has a name or a password in it. Whoever writes such a URL down writes those down too.
pub fn has_credentials(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| !url.username().is_empty() || url.password().is_some())
}

/// The host that a request to this URL is sent to: a name in small letters, or an address. `None` of what is no URL of a host.
pub fn host(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']');
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    (!host.is_empty()).then_some(host)
}

/// How long each part of an exchange may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// From the call to status and headers, connecting included.
    pub first_byte: Dur,
    /// Between two pieces of the body.
    pub idle: Dur,
    /// From the call to the last byte.
    pub total: Dur,
}

impl Deadlines {
    /// One deadline for everything.
    pub const fn total(total: Dur) -> Self {
        Self { first_byte: total, idle: total, total }
    }
}

/// Sends requests. Cheap to clone; clones share their connections.
///
/// The two reaches have separate pools, so a connection opened for the operator never serves a tenant.
#[derive(Clone, Debug)]
pub struct Client {
    public: Door,
    private: Door,
}

/// One pool of connections, and where they may lead.
#[derive(Clone, Debug)]
struct Door {
    rule: Rule,
    inner: reqwest::Client,
}

impl Client {
    /// A client that trusts the Mozilla root certificates built into this binary. Opens no connection yet.
    pub fn new() -> Result<Self, Error> {
        Self::opening(Arc::default())
    }

    /// The same, whose public reach includes these networks.
    pub fn opening(opened: Arc<[Network]>) -> Result<Self, Error> {
        let tls = tls()?;
        Ok(Self {
            public: Door::new(Rule { reach: Reach::Public, opened }, tls.clone())?,
            private: Door::new(Rule { reach: Reach::Private, opened: Arc::default() }, tls)?,
        })
    }

    /// Sends `request` and waits for status and headers. Any status is a reply, redirects included.
    pub async fn send(
        &self,
        reach: Reach,
        request: Request,
        deadlines: Deadlines,
    ) -> Result<Response, Error> {
        let door = match reach {
            Reach::Public => &self.public,
            Reach::Private => &self.private,
        };
        let (url, host) = checked(&door.rule, &request.url)?;
        let total = Box::pin(sleep(deadlines.total.std()));
        let reply =
            door.inner.request(request.method, url).headers(request.headers).body(request.body).send();
        let first_byte = deadlines.first_byte.min(deadlines.total);
        match timeout(first_byte.std(), reply).await {
            Ok(Ok(inner)) => Ok(Response { inner, host, deadlines, total }),
            Ok(Err(error)) => Err(Error::of(&host, &error)),
            Err(_) => Err(Error::Timeout { host, awaited: Awaited::FirstByte, after: first_byte }),
        }
    }
}

/// A reply whose body is still to be read. Dropping it closes the exchange.
#[derive(Debug)]
pub struct Response {
    inner: reqwest::Response,
    host: String,
    deadlines: Deadlines,
    total: Pin<Box<Sleep>>,
}

impl Response {
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.inner.status()
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        self.inner.headers()
    }

    /// A header's value; `None` when absent or not visible ASCII.
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// Where a redirect points, absolute; `None` when this is no redirect. Sending a request there checks the new
    /// address like any other.
    pub fn redirect(&self) -> Option<String> {
        let follows = matches!(self.status().as_u16(), 301 | 302 | 303 | 307 | 308);
        let location = self.header(&header::LOCATION).filter(|_| follows)?;
        self.inner.url().join(location).ok().map(String::from)
    }

    /// The next piece of the body, or `None` after the last.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let timed_out = |awaited, after| Err(Error::Timeout { host: self.host.clone(), awaited, after });
        tokio::select! {
            biased;
            () = &mut self.total => timed_out(Awaited::LastByte, self.deadlines.total),
            next = timeout(self.deadlines.idle.std(), self.inner.chunk()) => match next {
                Ok(Ok(chunk)) => Ok(chunk),
                Ok(Err(error)) => Err(Error::of(&self.host, &error)),
                Err(_) => timed_out(Awaited::NextByte, self.deadlines.idle),
            },
        }
    }

    /// The whole body; an error when it has more than `limit` bytes.
    pub async fn bytes(mut self, limit: usize) -> Result<Bytes, Error> {
        match self.up_to(limit).await? {
            (_, true) => Err(Error::TooLarge { limit }),
            (body, false) => Ok(body),
        }
    }

    /// The first `limit` bytes of what is left of the body, and whether there was more.
    pub async fn up_to(&mut self, limit: usize) -> Result<(Bytes, bool), Error> {
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            let room = limit - body.len();
            if chunk.len() > room {
                body.extend_from_slice(&chunk.slice(..room));
                return Ok((body.freeze(), true));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((body.freeze(), false))
    }
}

/// Reads the URL and checks what can be checked before a name is resolved.
fn checked(rule: &Rule, url: &str) -> Result<(Url, String), Error> {
    let url = Url::parse(url).map_err(|error| Error::Invalid(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Error::Invalid(format!("the scheme {:?} is neither http nor https", url.scheme())));
    }
    let host = url.host_str().unwrap_or_default().to_owned();
    // An address in the URL skips the resolver, so it is checked here. The parser has already turned every odd
    // spelling (`0x7f.1`, `[::FFFF:7F00:1]`) into the usual one.
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = literal.parse::<IpAddr>() {
        rule.check(address)?;
    }
    let named = url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
    Ok((url, named))
}

impl Door {
    #[expect(clippy::disallowed_methods, reason = "the one place where an HTTP client is made")]
    fn new(rule: Rule, tls: ClientConfig) -> Result<Self, Error> {
        let inner = reqwest::ClientBuilder::new()
            .tls_backend_preconfigured(tls)
            .dns_resolver(GuardedDns(rule.clone()))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .user_agent(concat!("lantern/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_MAX.std())
            .pool_idle_timeout(POOL_IDLE_MAX.std())
            .pool_max_idle_per_host(POOL_IDLE_PER_HOST_MAX)
            .build()
            .map_err(|error| Error::Setup(error.to_string()))?;
        Ok(Self { rule, inner })
    }
}

/// The Mozilla root certificates built into this binary, for whoever speaks TLS below something else than HTTP.
pub fn roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

/// TLS with a named provider and built-in roots: nothing depends on what the process installed or the machine has.
fn tls() -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Setup(error.to_string()))?
        .with_root_certificates(roots())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_a_url_are_found() {
        for (url, want) in [
            ("http://ada:pw@example.com/", true),
            ("http://ada@example.com/", true),
            ("https://:pw@example.com/", true),
            ("http:ada:pw@example.com", true),
            ("http://a%40b:p%3Aw@[::1]:80/", true),
            ("http://example.com/@ada:pw?a=b@c#d@e", false),
            ("http://example.com:80/", false),
            ("http://@example.com/", false),
            ("ada:pw@", false),
            ("", false),
        ] {
            assert_eq!(has_credentials(url), want, "{url}");
        }
    }

    #[test]
    fn urls_are_checked_before_anything_is_resolved() {
        for (url, public, private) in [
            ("https://example.com/a?b", "ok", "ok"),
            ("http://93.184.216.34/", "ok", "ok"),
            ("http://127.0.0.1:80/", "denied", "ok"),
            ("http://2130706433/", "denied", "ok"),
            ("http://0x7f.1/", "denied", "ok"),
            ("http://[::1]/", "denied", "ok"),
            ("http://[::ffff:127.0.0.1]/", "denied", "ok"),
            ("http://169.254.169.254/latest/meta-data", "denied", "denied"),
            ("http://[::ffff:a9fe:a9fe]/", "denied", "denied"),
            ("file:///etc/passwd", "invalid", "invalid"),
            ("ftp://example.com/", "invalid", "invalid"),
            ("//example.com", "invalid", "invalid"),
            ("http://", "invalid", "invalid"),
            ("", "invalid", "invalid"),
        ] {
            for (reach, want) in [(Reach::Public, public), (Reach::Private, private)] {
                let rule = Rule { reach, opened: Arc::default() };
                let got = match checked(&rule, url) {
                    Ok(_) => "ok",
                    Err(Error::Denied(_)) => "denied",
                    Err(_) => "invalid",
                };
                assert_eq!(got, want, "{reach:?} {url}");
            }
        }
    }
}
