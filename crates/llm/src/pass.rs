//! A request of somebody else's, sent on as it came, and its answer as it comes.
//!
//! Invariant: the body is sent byte for byte, with the endpoint's key and never the caller's; what comes back holds no key of
//! ours. Nothing is retried. Dropping the answer ends the request.

use bytes::Bytes;
use lantern_net::Client;
use lantern_net::http::{Deadlines, HeaderMap, Method, Request, Response};
use lantern_policy::Admitted;
use lantern_types::{Dur, Failure, Secret};

use crate::failure::{of_connection, presentable};
use crate::vendor::door;
use crate::{Door, Endpoint};

/// Until the first byte: as long as the official clients wait.
const FIRST_BYTE_MAX: Dur = Dur::from_secs(600);
/// Between two bytes. Models that think without a word need this long.
const IDLE_MAX: Dur = Dur::from_secs(300);
const TOTAL_MAX: Dur = Dur::from_secs(3_600);
pub(crate) const DEADLINES: Deadlines =
    Deadlines { first_byte: FIRST_BYTE_MAX, idle: IDLE_MAX, total: TOTAL_MAX };
/// The most of an error that is looked through and passed on.
pub const ERROR_BYTES_MAX: usize = 64 << 10;

/// What is sent on.
#[derive(Clone, Debug)]
pub struct Passing {
    /// What it came in by.
    pub door: Door,
    /// What is asked below the wire's own path, if anything: `count_tokens`.
    pub below: Option<&'static str>,
    /// The caller's headers, of which some pass.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Whether whoever answers there takes requests of this door as they are.
pub fn speaks(endpoint: &Endpoint, door: Door) -> bool {
    door::speaks(endpoint, door)
}

/// Sends it and answers with status and headers; any status is an answer. Fails with the codes of [`call`](crate::call).
pub async fn pass(
    client: &Client,
    endpoint: &Endpoint,
    call: Admitted<Passing>,
) -> Result<Response, Failure> {
    let Passing { door, below, headers, body } = call.into_work();
    let below = below.map(|below| format!("/{below}")).unwrap_or_default();
    let url = format!("{}/{}{below}", endpoint.base_url.trim_end_matches('/'), door::path(door));
    let headers = door::headers(endpoint, &headers)?;
    let request = Request { method: Method::POST, url, headers, body };
    let sent = client.send(endpoint.reach, request, DEADLINES).await;
    sent.map_err(|error| presentable(of_connection(error), endpoint))
}

/// The headers of an answer that pass back.
pub fn returned(response: &Response) -> HeaderMap {
    door::returned(response.headers())
}

/// The same bytes without the endpoint's key, should a provider have repeated it.
pub fn without_key(endpoint: &Endpoint, body: Bytes) -> Bytes {
    let key = endpoint.api_key.as_ref().map(Secret::expose).filter(|key| key.len() >= 8);
    match (key, std::str::from_utf8(&body)) {
        (Some(key), Ok(text)) if text.contains(key.as_str()) => text.replace(key.as_str(), "***").into(),
        _ => body,
    }
}
