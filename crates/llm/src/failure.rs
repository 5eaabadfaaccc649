//! The failures of a model call: their codes, and how a broken connection becomes one.
//!
//! Invariant: whatever leaves this crate went through [`presentable`], so no message is long and none holds the key.
//! What a provider's own error means is the business of [`crate::vendor`].

use lantern_net::Error;
use lantern_types::{Acted, Dur, Failure, Secret};

use crate::Endpoint;

pub(crate) const RATE_LIMITED: &str = "provider_rate_limited";
pub(crate) const UNAVAILABLE: &str = "provider_unavailable";
pub(crate) const REFUSED: &str = "provider_refused";
pub(crate) const AUTH: &str = "provider_auth";
pub(crate) const INVALID_RESPONSE: &str = "provider_invalid_response";
pub(crate) const INTERRUPTED: &str = "provider_interrupted";
pub(crate) const TIMEOUT: &str = "provider_timeout";
pub(crate) const UNREACHABLE: &str = "provider_unreachable";
pub(crate) const EGRESS_DENIED: &str = "egress_denied";

const MESSAGE_CHARS_MAX: usize = 500;

/// The reply makes no sense. The provider may have done (and charged) the work all the same.
pub(crate) fn invalid(message: impl Into<String>) -> Failure {
    Failure::unknown(INVALID_RESPONSE, message)
}

/// The reply broke off.
pub(crate) fn interrupted(message: impl Into<String>) -> Failure {
    Failure::unknown(INTERRUPTED, message)
}

/// The reply did not come in time.
pub(crate) fn too_slow(who: &str, timeout: Dur) -> Failure {
    Failure::unknown(TIMEOUT, format!("{who} did not answer within {} ms", timeout.millis()))
}

/// What the connection's failure means for the call.
pub(crate) fn of_connection(error: Error) -> Failure {
    let message = error.to_string();
    match error {
        Error::Invalid(_) => Failure::refused(REFUSED, message),
        Error::Denied(_) => Failure::refused(EGRESS_DENIED, message),
        Error::Unreachable { .. } | Error::Setup(_) => Failure::transient(UNREACHABLE, message),
        Error::Timeout { .. } => Failure::unknown(TIMEOUT, message),
        Error::Interrupted { .. } => interrupted(message),
        Error::TooLarge { .. } => invalid(message),
    }
}

/// A failure whose `acted` and `retryable` follow no constructor of [`Failure`].
pub(crate) fn final_but_unknown(code: &'static str, message: impl Into<String>) -> Failure {
    Failure { code, message: message.into(), acted: Acted::Unknown, retryable: false, retry_after: None }
}

/// Names the provider, hides the key and bounds the length: what people may see.
pub(crate) fn presentable(failure: Failure, endpoint: &Endpoint) -> Failure {
    let mut message = format!("{}: {}", endpoint.provider, failure.message);
    if let Some(key) = endpoint.api_key.as_ref().map(Secret::expose).filter(|key| !key.is_empty()) {
        message = message.replace(key.as_str(), "***");
    }
    if message.chars().count() > MESSAGE_CHARS_MAX {
        message = message.chars().take(MESSAGE_CHARS_MAX - 1).chain(['…']).collect();
    }
    Failure { message, ..failure }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lantern_policy::egress::Reach;

    #[test]
    fn messages_are_short_and_hold_no_key() {
        let endpoint = Endpoint {
            provider: "lab".to_owned(),
            base_url: String::new(),
            api_key: Some(Secret::new("sk-secret".to_owned())),
            reach: Reach::Public,
        };
        let shown = presentable(invalid("bad key sk-secret"), &endpoint);
        assert_eq!(shown.message, "lab: bad key ***");
        let long = presentable(invalid("żółw".repeat(1_000)), &endpoint);
        assert_eq!(long.message.chars().count(), MESSAGE_CHARS_MAX);
    }
}
