//! An attempt that came to nothing, and what its caller is told when nobody else answers.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use lantern_edge::{Code, Error, Result};
use lantern_ledger::{OverLimit, Refused};
use lantern_llm::pass::{self, ERROR_BYTES_MAX};
use lantern_llm::{Endpoint, cross};
use lantern_policy::breaker::Trouble;
use lantern_types::call::CallEnd;
use lantern_types::{Dur, Failure};

use crate::open::Open;

/// An attempt that came to nothing.
pub(crate) struct Missed {
    pub(crate) trouble: Trouble,
    /// How long the provider asks to wait.
    pub(crate) asked: Option<Dur>,
    /// What the provider's refusal means, when it was one.
    pub(crate) refusal: Option<Failure>,
    /// Something went out.
    pub(crate) sent: bool,
    /// What the caller is told when nobody else answers.
    pub(crate) answer: Result<Response>,
}

impl Missed {
    pub(crate) fn unsent(trouble: Trouble, error: Error) -> Self {
        Self { trouble, asked: None, refusal: None, sent: false, answer: Err(error) }
    }

    /// It is not known what came of it: it was settled at what it may have cost.
    pub(crate) fn broken(error: Error) -> Self {
        Self { trouble: Trouble::Down, asked: None, refusal: None, sent: true, answer: Err(error) }
    }

    pub(crate) fn failed(failure: Failure) -> Self {
        let trouble = if failure.code == "provider_auth" { Trouble::Key } else { Trouble::Down };
        let answer = Err(failed(&failure));
        Self { trouble, asked: failure.retry_after, refusal: None, sent: true, answer }
    }
}

/// Settles a call that was refused, and says what the refusal means. Its body comes back unread by others.
pub(crate) async fn refused(
    open: &mut Open,
    response: &mut lantern_net::http::Response,
    endpoint: &Endpoint,
) -> (Missed, Bytes) {
    // A status says that the provider did not do it, and so does not charge for it.
    open.settle(CallEnd::Refused);
    let body = response.up_to(ERROR_BYTES_MAX).await.map(|(body, _)| body).unwrap_or_default();
    let failure = cross::failure(endpoint, response, &body);
    let trouble = match response.status().as_u16() {
        401..=403 => Trouble::Key,
        429 if failure.retryable => Trouble::Rate,
        429 => Trouble::Key,
        404 => Trouble::Missing,
        300..=399 | 408 | 409 | 424 | 500.. => Trouble::Down,
        _ if failure.code == "provider_auth" => Trouble::Key,
        _ => Trouble::Wrong,
    };
    let answer = ours(response, endpoint).map(|()| Response::new(Body::empty()));
    (Missed { trouble, asked: failure.retry_after, refusal: Some(failure), sent: true, answer }, body)
}

/// A provider's refusal, in its own words.
pub(crate) fn refusal(response: &lantern_net::http::Response, endpoint: &Endpoint, body: Bytes) -> Response {
    let (status, headers) = (response.status(), pass::returned(response));
    let mut answer = Response::new(Body::from(pass::without_key(endpoint, body)));
    (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
    answer
}

/// Fails for a refusal that is about us: what a provider says of our key is not the caller's business.
pub(crate) fn ours(response: &lantern_net::http::Response, endpoint: &Endpoint) -> Result<()> {
    let status = response.status();
    if matches!(status.as_u16(), 401 | 403) {
        let words = format!("{} refuses the key that this server has for it", endpoint.provider);
        return Err(Error::new(Code::ProviderAuth, words));
    }
    if status.is_redirection() {
        let words = format!("{} redirects elsewhere: its base URL is not right", endpoint.provider);
        return Err(Error::new(Code::ProviderRefused, words));
    }
    Ok(())
}

/// What a caller is told for whom no money could be held.
pub(crate) fn refused_money(refused: Refused) -> Error {
    let words = refused.to_string();
    match refused {
        Refused::Exceeded { .. } => {
            Error::new(Code::BudgetExceeded, words).with_extra("reason", "the cap of the period is reached")
        }
        Refused::Busy(_) => Error::new(Code::Unavailable, words).retry_after(Dur::from_secs(1)),
        Refused::Range(error) => Error::internal(error),
        Refused::Store(error) => error.into(),
    }
}

/// What a program is told whose workload may not have this call.
pub(crate) fn over_limit(over: OverLimit) -> Error {
    let words = over.to_string();
    let limit = match over {
        OverLimit::Cost { .. } => "limits.max_cost_usd",
        OverLimit::Tokens { .. } => "limits.max_tokens",
        OverLimit::Calls(_) => "limits.max_steps",
        OverLimit::Over => return Error::new(Code::Unavailable, words),
        OverLimit::Busy => return Error::new(Code::Unavailable, words).retry_after(Dur::from_secs(1)),
        OverLimit::Range(error) => return Error::internal(error),
        OverLimit::Store(error) => return error.into(),
    };
    Error::new(Code::BudgetExceeded, words).with_extra("reason", limit)
}

pub(crate) fn heed(stop: Option<&str>) -> Result<()> {
    match stop {
        Some(reason) => {
            let words = format!("an emergency stop holds, so no model is called: {reason}");
            Err(Error::new(Code::StopHolds, words))
        }
        None => Ok(()),
    }
}

/// A failure on the way to a provider, for whoever asked.
pub(crate) fn failed(failure: &Failure) -> Error {
    let code = match failure.code {
        "egress_denied" => Code::EgressDenied,
        "provider_auth" => Code::ProviderAuth,
        "provider_timeout" => Code::ProviderTimeout,
        "provider_interrupted" => Code::ProviderInterrupted,
        "provider_invalid_response" => Code::ProviderInvalidResponse,
        "provider_unreachable" => Code::ProviderUnreachable,
        "secret_not_found" => Code::SecretNotFound,
        "unavailable" => Code::Unavailable,
        _ => Code::ProviderRefused,
    };
    Error::new(code, failure.message.clone())
}

pub(crate) fn broken(error: &lantern_net::Error) -> Error {
    Error::new(Code::ProviderInterrupted, format!("the provider's answer broke off: {error}"))
}
