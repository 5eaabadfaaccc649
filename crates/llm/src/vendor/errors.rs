//! What providers' errors mean, whatever wire they come on.
//! <https://platform.openai.com/docs/guides/error-codes>, <https://docs.anthropic.com/en/api/errors>,
//! <https://ai.google.dev/gemini-api/docs/troubleshooting>,
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html>
//!
//! Invariant: a failure says `Acted::No` only where the provider definitely refused. An unknown error is treated as
//! one that may have acted. Pure: the caller brings status, headers and body.

use lantern_net::http::{HeaderMap, HeaderName, StatusCode, retry_after as standard};
use lantern_types::{Dur, Failure};
use serde_json::Value;

use crate::failure::{AUTH, RATE_LIMITED, REFUSED, UNAVAILABLE, final_but_unknown};

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const AWS_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// Errors that say: not now.
const RATES: &[&str] = &[
    "rate_limit_exceeded",
    "rate_limit_error",
    "RESOURCE_EXHAUSTED",
    "throttlingException",
    "ThrottlingException",
    "429",
];
/// Errors that say: not so.
const WRONG: &[&str] = &[
    "invalid_request_error",
    "invalid_prompt",
    "not_found_error",
    "request_too_large",
    "context_length_exceeded",
    "INVALID_ARGUMENT",
    "FAILED_PRECONDITION",
    "NOT_FOUND",
    "validationException",
    "400",
];
/// Errors that say: not without money. Waiting does not refill an account.
const BROKE: &[&str] =
    &["insufficient_quota", "billing_error", "enforced_spend_limit_reached", "contract_spend_limit_reached"];
/// Errors that say: not you.
const NOBODY: &[&str] =
    &["authentication_error", "permission_error", "UNAUTHENTICATED", "PERMISSION_DENIED", "API_KEY_INVALID"];

/// What a status other than 2xx means.
pub fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
    let error = serde_json::from_slice::<Value>(body).unwrap_or_default();
    // A body without words meant for the caller (a proxy's page, a stack trace) stays here: only its status is told.
    let kind =
        headers.get(&AWS_TYPE).and_then(|kind| kind.to_str().ok()).and_then(|kind| kind.split(':').next());
    let words = said(&error);
    let words = match kind.filter(|kind| is_name(kind)) {
        Some(kind) => Some(words.map_or_else(|| kind.to_owned(), |words| format!("{kind}: {words}"))),
        None => words,
    };
    let message = match words {
        Some(text) => format!("{} {text}", status.as_u16()),
        None => status.to_string(),
    };
    let failure = match status.as_u16() {
        401 | 403 => Failure::refused(AUTH, message),
        400 if names(&error, NOBODY) => Failure::refused(AUTH, message),
        429 if names(&error, BROKE) => Failure::refused(REFUSED, message),
        429 => Failure::transient(RATE_LIMITED, message),
        // 408: our request came too slowly. 409: another one with the same key is being answered.
        // 424: the model behind the provider failed.
        408 | 409 | 424 | 500.. => Failure::unknown(UNAVAILABLE, message),
        300..=399 => Failure::refused(REFUSED, format!("{message} (the base URL redirects elsewhere)")),
        _ => Failure::refused(REFUSED, message),
    };
    let asked = || retry_after(headers).or_else(|| retry_delay(&error));
    let retry_after = if failure.retryable { asked() } else { None };
    Failure { retry_after, ..failure }
}

/// What an error inside a reply means that began with 200: work was begun, so it may have been charged.
pub fn in_band(error: &Value) -> Failure {
    let message = said(error).unwrap_or_else(|| "an error without a message".to_owned());
    if names(error, BROKE) || names(error, WRONG) {
        final_but_unknown(REFUSED, message)
    } else if names(error, NOBODY) {
        final_but_unknown(AUTH, message)
    } else if names(error, RATES) {
        Failure::unknown(RATE_LIMITED, message)
    } else {
        Failure::unknown(UNAVAILABLE, message)
    }
}

/// The error object itself: in `error`, or the whole body where a server leaves the wrapper out.
fn object(error: &Value) -> &Value {
    // Some streams that were refused before they began are a list of one error.
    let error = error.get(0).unwrap_or(error);
    error.get("error").filter(|inner| !inner.is_null()).unwrap_or(error)
}

/// The provider's words: `{"error": {"message"}}`, `{"error": "…"}`, `{"message"}` or `{"detail"}`, after its own name
/// for the error where it gives one.
fn said(error: &Value) -> Option<String> {
    let error = object(error);
    let text = |name| error.get(name).and_then(Value::as_str);
    let words =
        error.as_str().or_else(|| text("message")).or_else(|| text("Message")).or_else(|| text("detail"));
    let name = text("code").or_else(|| text("status")).or_else(|| text("type")).filter(|name| is_name(name));
    match (name, words) {
        (Some(name), Some(words)) => Some(format!("{name}: {words}")),
        (name, words) => name.or(words).map(str::to_owned),
    }
}

fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

/// Whether the error's `code`, `type`, `status` or detailed reason is one of these. Some servers write the status as a
/// number.
fn names(error: &Value, wanted: &[&str]) -> bool {
    let error = object(error);
    let fields = ["/code", "/type", "/status", "/details/error_code", "/details/0/reason"];
    fields.iter().filter_map(|field| error.pointer(field)).any(|value| match value {
        Value::String(name) => wanted.contains(&name.as_str()),
        Value::Number(code) => wanted.contains(&code.to_string().as_str()),
        _ => false,
    })
}

/// How long to wait: `retry-after-ms`, which some vendors send, or the standard's `Retry-After`.
fn retry_after(headers: &HeaderMap) -> Option<Dur> {
    let millis = headers.get(RETRY_AFTER_MS).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    millis.map(Dur::from_millis).or_else(|| standard(headers))
}

/// How long to wait, as Google's errors say it: `{"@type": "…RetryInfo", "retryDelay": "34.07s"}` among the details.
fn retry_delay(error: &Value) -> Option<Dur> {
    let details = object(error).get("details")?.as_array()?;
    let said = details.iter().find_map(|detail| detail.get("retryDelay"))?.as_str()?;
    let (secs, part) = said.strip_suffix('s')?.split_once('.').unwrap_or((said.strip_suffix('s')?, ""));
    let millis: u64 = format!("{part:0<3}").get(..3)?.parse().ok()?;
    Some(Dur::from_millis(secs.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(millis)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lantern_net::http::HeaderValue;
    use lantern_types::Acted;
    use serde_json::json;

    #[test]
    fn the_status_table() {
        use Acted::{No, Unknown};
        let quota = json!({"error": {"message": "pay", "code": "insufficient_quota"}});
        let context = json!({"error": {"message": "too long", "code": "context_length_exceeded"}});
        for (status, body, code, acted, retryable) in [
            (400, context, REFUSED, No, false),
            (401, json!({"error": {"message": "no"}}), AUTH, No, false),
            (402, json!({"error": "pay"}), REFUSED, No, false),
            (403, json!(null), AUTH, No, false),
            (404, json!({"detail": "no such model"}), REFUSED, No, false),
            (408, json!({}), UNAVAILABLE, Unknown, true),
            (409, json!({}), UNAVAILABLE, Unknown, true),
            (413, json!({}), REFUSED, No, false),
            (429, json!({}), RATE_LIMITED, No, true),
            (429, quota, REFUSED, No, false),
            (500, json!({}), UNAVAILABLE, Unknown, true),
            (503, json!([1]), UNAVAILABLE, Unknown, true),
            (529, json!({}), UNAVAILABLE, Unknown, true),
            (302, json!({}), REFUSED, No, false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let failure = refusal(status, &HeaderMap::new(), body.to_string().as_bytes());
            assert_eq!(
                (failure.code, failure.acted, failure.retryable),
                (code, acted, retryable),
                "{status}"
            );
        }
    }

    #[test]
    fn the_providers_words_are_kept() {
        for (body, want) in [
            (r#"{"error":{"message":"too long"}}"#, "400 too long"),
            (r#"{"error":"plain"}"#, "400 plain"),
            (r#"{"message":"bare"}"#, "400 bare"),
            (r#"{"error":null,"detail":"fast"}"#, "400 fast"),
            (r#"{"error":{"message":"m","type":"t","code":"c"}}"#, "400 c: m"),
            (r#"{"error":{"message":"m","type":"t","code":null}}"#, "400 t: m"),
            (r#"{"error":{"message":"m","code":"two words"}}"#, "400 m"),
            (r#"{"error":{"code":"c"}}"#, "400 c"),
            (r#"{"trace":"at db.internal:5432"}"#, "400 Bad Request"),
            ("<html>nginx</html>", "400 Bad Request"),
            ("", "400 Bad Request"),
        ] {
            assert_eq!(refusal(StatusCode::BAD_REQUEST, &HeaderMap::new(), body.as_bytes()).message, want);
        }
    }

    #[test]
    fn waiting_times() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:07 GMT");
        let ms = Dur::from_millis;
        for (headers, want) in [
            (vec![("retry-after", "7")], Some(ms(7_000))),
            (vec![("retry-after", " 0 ")], Some(ms(0))),
            (vec![("retry-after", "7"), ("retry-after-ms", "250")], Some(ms(250))),
            (vec![("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), date], Some(ms(30_000))),
            (vec![("retry-after", "Sun, 06 Nov 1994 08:49:00 GMT"), date], Some(ms(0))),
            (vec![("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], None),
            (vec![("retry-after", "soon")], None),
            (vec![("retry-after", "-5")], None),
            (vec![("retry-after", "99999999999999999999")], Some(ms(31_536_000_000))),
            (vec![], None),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in &headers {
                map.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            assert_eq!(refusal(StatusCode::TOO_MANY_REQUESTS, &map, b"").retry_after, want, "{headers:?}");
        }
    }

    #[test]
    fn errors_inside_a_reply() {
        for (error, code, retryable) in [
            (json!({"message": "m", "type": "server_error"}), UNAVAILABLE, true),
            (json!({"message": "m", "code": 429}), RATE_LIMITED, true),
            (json!({"message": "m", "code": "context_length_exceeded"}), REFUSED, false),
            (json!("overloaded"), UNAVAILABLE, true),
            (json!({}), UNAVAILABLE, true),
        ] {
            let failure = in_band(&error);
            assert_eq!((failure.code, failure.retryable, failure.acted), (code, retryable, Acted::Unknown));
        }
    }
}
