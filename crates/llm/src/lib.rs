//! Model calls: one neutral call in, one whole reply or one classified failure out, text as it arrives on the side.
//!
//! Invariant: a reply that broke off is a failure, never a success with part of the text; and a failure says whether
//! the provider may have acted on the request. Nothing here retries, routes, prices or stores: the caller holds an
//! [`Admitted`] call, so all of that was decided before.

#![warn(missing_docs)]

mod convert;
mod failure;
mod offline;
mod stream;
mod transport;
mod types;
mod vendor;

use lantern_net::Client;
use lantern_policy::Admitted;
use lantern_policy::egress::Reach;
use lantern_types::llm::{LlmCall, LlmReply, Unlisted};
use lantern_types::{Dur, Failure, Secret};

pub use offline::{BANNER as OFFLINE_BANNER, OfflinePace};

/// Where a provider answers.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its configured name, for messages.
    pub provider: String,
    /// The URL that `/chat/completions` and `/models` are appended to, usually ending in `/v1`.
    pub base_url: String,
    /// Sent as a bearer token; `None` for servers that want none.
    pub api_key: Option<Secret<String>>,
    /// Which addresses the URL may lead to.
    pub reach: Reach,
}

/// Who answers a call.
#[derive(Clone, Debug)]
pub enum Target {
    /// A provider over HTTP.
    Endpoint(Endpoint),
    /// The built-in model, which needs no network.
    Offline(OfflinePace),
}

/// Receives text as it arrives: best effort, possibly of a reply that fails later, never stored.
pub type Deltas<'a> = &'a mut (dyn FnMut(&str) + Send);

/// Makes the call and waits for the whole reply, at most `timeout`.
///
/// Fails with one of the stable codes `provider_rate_limited`, `provider_unavailable`, `provider_refused`,
/// `provider_auth`, `provider_invalid_response`, `provider_interrupted`, `provider_timeout`, `provider_unreachable`
/// and `egress_denied`. Messages quote at most 500 characters of the provider and never the key.
pub async fn call(
    client: &Client,
    target: &Target,
    call: &Admitted<LlmCall>,
    timeout: Dur,
    deltas: Deltas<'_>,
) -> Result<LlmReply, Failure> {
    match target {
        Target::Endpoint(endpoint) => transport::call(client, endpoint, call.work(), timeout, deltas)
            .await
            .map_err(|failure| failure::presentable(failure, endpoint)),
        Target::Offline(pace) => {
            let reply = offline::reply(call.work());
            match tokio::time::timeout(timeout.std(), offline::say(&reply, *pace, deltas)).await {
                Ok(()) => Ok(reply),
                Err(_) => Err(failure::too_slow("the offline model", timeout)),
            }
        }
    }
}

/// The names of the models the endpoint serves, in its own order. Fails with the codes of [`call`].
pub async fn list_models(
    client: &Client,
    endpoint: &Endpoint,
    timeout: Dur,
) -> Result<Vec<String>, Unlisted> {
    transport::list_models(client, endpoint, timeout).await
}
