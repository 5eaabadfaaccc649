//! The failures of a model call: their codes, and how a broken connection becomes one.
//!
//! Invariant: whatever leaves this crate went through [`presentable`], so every message is one short line of visible
//! characters, and none holds the key.
//! What a provider's own error means is the business of [`crate::vendor`].

use lantern_net::{Error, Why};
use lantern_types::llm::Cause;
use lantern_types::{Dur, Failure, Secret};

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

const MESSAGE_CHARS_MAX: usize = 300;
/// A shorter key is hidden only where it stands alone: as part of words it would hide these and be shown by the gaps.
const KEY_CHARS_MIN: usize = 8;

/// The reply makes no sense. The provider may have done (and charged) the work all the same.
pub(crate) fn invalid(message: impl Into<String>) -> Failure {
    Failure::unknown(INVALID_RESPONSE, message)
}

/// What came is not the JSON that was expected. Says where, and not what: the library would quote it.
pub(crate) fn unreadable(what: &str, error: &serde_json::Error) -> Failure {
    let kind = match error.classify() {
        serde_json::error::Category::Data => "has another form",
        serde_json::error::Category::Eof => "ends too early",
        _ => "is not JSON",
    };
    invalid(format!("{what} {kind} (line {}, column {})", error.line(), error.column()))
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

/// What a broken connection says about where it broke; nothing where the code says all.
pub(crate) const fn cause(error: &Error) -> Option<Cause> {
    match error {
        Error::Unreachable { why: Why::Name, .. } => Some(Cause::Name),
        Error::Unreachable { why: Why::Refused, .. } => Some(Cause::Refused),
        Error::Unreachable { why: Why::Tls, .. } => Some(Cause::Tls),
        Error::Unreachable { why: Why::Slow, .. } | Error::Timeout { .. } => Some(Cause::Slow),
        Error::Interrupted { .. } => Some(Cause::Broken),
        Error::TooLarge { .. } => Some(Cause::Form),
        Error::Unreachable { why: Why::Other, .. }
        | Error::Invalid(_)
        | Error::Denied(_)
        | Error::Setup(_) => None,
    }
}

/// A failure whose `acted` and `retryable` follow no constructor of [`Failure`].
pub(crate) fn final_but_unknown(code: &'static str, message: impl Into<String>) -> Failure {
    Failure { retryable: false, ..Failure::unknown(code, message) }
}

/// Names the provider, hides the key, and makes one short line of it: what people may see.
pub(crate) fn presentable(failure: Failure, endpoint: &Endpoint) -> Failure {
    let mut said = one_line(&failure.message);
    if let Some(key) = endpoint.api_key.as_ref().map(Secret::expose).filter(|key| !key.is_empty()) {
        said = hide(&said, key);
    }
    // Cut last: half a key would not be found.
    let mut message = format!("{}: {said}", endpoint.provider);
    if message.chars().count() > MESSAGE_CHARS_MAX {
        message = message.chars().take(MESSAGE_CHARS_MAX - 1).chain(['…']).collect();
    }
    Failure { message, ..failure }
}

/// Spaces for line ends and other control characters, and for those that turn the direction of writing.
fn one_line(text: &str) -> String {
    let unseen = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let seen: String = text.chars().map(|c| if unseen(c) { ' ' } else { c }).collect();
    seen.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn hide(text: &str, key: &str) -> String {
    if key.chars().count() >= KEY_CHARS_MIN {
        return text.replace(key, "***");
    }
    let beside = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let (mut out, mut rest, mut before) = (String::new(), text, None);
    while let Some((head, tail)) = rest.split_once(key) {
        let alone = !beside(head.chars().next_back().or(before)) && !beside(tail.chars().next());
        out.extend([head, if alone { "***" } else { key }]);
        before = key.chars().next_back();
        rest = tail;
    }
    out + rest
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
        let torn = presentable(invalid("a\u{1b}[31m\r\n\tb\u{202e}c"), &endpoint);
        assert_eq!(torn.message, "lab: a [31m b c");
        let edge = presentable(invalid(format!("{} sk-secret", "x".repeat(290))), &endpoint);
        assert!(!edge.message.contains("sk-"), "{}", edge.message);
        let long = presentable(invalid("żółw".repeat(1_000)), &endpoint);
        assert_eq!(long.message.chars().count(), MESSAGE_CHARS_MAX);
    }

    #[test]
    fn a_short_key_does_not_show_in_the_gaps() {
        for (key, text, want) in [
            ("k", "fake: 429 k, asked with Bearer k", "fake: 429 ***, asked with Bearer ***"),
            ("k", "kk k", "kk ***"),
            ("key", "no such key: monkey key", "no such ***: monkey ***"),
            ("sk-secret", "Xsk-secretX", "X***X"),
        ] {
            assert_eq!(hide(text, key), want, "{key}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_quoted() {
        let error = serde_json::from_str::<Vec<u8>>("[\"private words\"]").unwrap_err();
        let message = unreadable("the reply", &error).message;
        assert_eq!(message, "the reply has another form (line 1, column 16)");
    }
}
