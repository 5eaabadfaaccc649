//! Model calls: one neutral call in, one whole reply or one classified failure out, text as it arrives on the side.
//!
//! Invariant: a reply that broke off is a failure, never a success with part of the text; and a failure says whether
//! the provider may have acted on the request. Nothing here retries, routes, prices or stores: the caller holds an
//! [`Admitted`] call, so all of that was decided before.
//!
//! # The wires
//!
//! Conversations are spoken on five wires, the [`Family`]s. [`neutral`] is the form between them, and [`wire`] has the
//! pure functions from each to it and back:
//!
//! | | a front door (we answer) | upstream (we ask) |
//! |---|---|---|
//! | request | [`wire::read_request`] | [`wire::write_request`], in the server's [`vendor::Dialect`] |
//! | whole reply | [`wire::write_reply`] | [`wire::read_reply`] |
//! | stream | [`wire::Encoder`]: a [`neutral::Delta`] in, frames out | [`wire::Decoder`]: bytes in, deltas out |
//! | error | [`wire::Problem::told`], [`wire::Encoder::fail`] | [`wire::refusal`] |
//!
//! A reply from one family to a client of another is a `Decoder` feeding an `Encoder`; [`neutral::Assembly`] puts the
//! same deltas together to a whole [`neutral::Reply`]. When both sides speak one family, bytes may pass as they are and
//! none of this is needed; [`cross`] is a whole call between two. What one family says and another cannot is in [`wire::Written::ignored`]. To stop a stream
//! on the way, give the encoder `Close` for the parts that are open, `Finish` and `End`: its client sees a clean end.
//!
//! [`vendor`] is the table of who speaks which wire, where, and with which differences.

#![warn(missing_docs)]

pub mod breakers;
mod convert;
pub mod cross;
mod failure;
mod family;
mod frames;
pub mod neutral;
mod offline;
pub mod pass;
pub mod peek;
mod reader;
mod transport;
mod types;
pub mod vendor;
pub mod wire;

use lantern_net::Client;
use lantern_policy::Admitted;
use lantern_policy::egress::Reach;
use lantern_types::llm::{LlmCall, LlmReply, Unlisted};
use lantern_types::{At, Dur, Failure, Secret};

pub use breakers::{Breakers, Line};
pub use family::Family;
pub use offline::{BANNER as OFFLINE_BANNER, OfflinePace};
pub use peek::Door;

/// Where a provider answers.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its configured name, for messages. It also tells who it is: see [`vendor::of_provider`].
    pub provider: String,
    /// The URL that the paths of its wire are appended to, usually ending in `/v1`.
    pub base_url: String,
    /// Sent as a bearer token; `None` for servers that want none.
    pub api_key: Option<Secret<String>>,
    /// Which addresses the URL may lead to.
    pub reach: Reach,
}

impl Endpoint {
    /// Who answers there, as far as its name and address tell.
    pub fn vendor(&self) -> vendor::Vendor {
        vendor::of_provider(&self.provider, &self.base_url)
    }
}

/// A provider that a tenant can use.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Where it answers.
    pub endpoint: Endpoint,
    /// Whether that is the tenant's or operator's own address rather than the vendor's.
    pub self_hosted: bool,
    /// The models it is known to serve; empty when unknown.
    pub models: Vec<String>,
    /// Further keys for the same address, beside the endpoint's.
    pub more_keys: Vec<Secret<String>>,
}

impl Offer {
    /// Its address with each of its keys.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let more =
            self.more_keys.iter().map(|key| Endpoint { api_key: Some(key.clone()), ..self.endpoint.clone() });
        std::iter::once(self.endpoint.clone()).chain(more).collect()
    }
}

/// The keys in a text that holds several, apart by commas, spaces or lines.
pub fn keys(text: &Secret<String>) -> Vec<Secret<String>> {
    let apart = text.expose().split(|c: char| c == ',' || c.is_whitespace());
    apart.filter(|key| !key.is_empty()).map(|key| Secret::new(key.to_owned())).collect()
}

/// Whether a model may think without showing it, as far as its name says.
pub fn hides_thoughts(model: &str) -> bool {
    vendor::thinks(model)
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

/// Makes the call at `now` and waits for the whole reply, at most `timeout`. The time goes into signatures only.
///
/// Fails with one of the stable codes `provider_rate_limited`, `provider_unavailable`, `provider_refused`,
/// `provider_auth`, `provider_invalid_response`, `provider_interrupted`, `provider_timeout`, `provider_unreachable`
/// and `egress_denied`. Messages quote at most 500 characters of the provider and never the key.
pub async fn call(
    client: &Client,
    target: &Target,
    call: &Admitted<LlmCall>,
    now: At,
    timeout: Dur,
    deltas: Deltas<'_>,
) -> Result<LlmReply, Failure> {
    match target {
        Target::Endpoint(endpoint) => transport::call(client, endpoint, call.work(), now, timeout, deltas)
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
