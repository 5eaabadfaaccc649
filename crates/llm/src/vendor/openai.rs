//! OpenAI and the servers that imitate it: headers, the meaning of errors, and models that want other fields.
//! <https://platform.openai.com/docs/guides/error-codes>
//!
//! Invariant: a failure says `Acted::No` only where the provider definitely refused. An unknown error is treated as
//! one that may have acted. Pure: the caller brings status, headers and body.

use jiff::fmt::rfc2822;
use lantern_net::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use lantern_types::llm::LlmCall;
use lantern_types::{Dur, Failure};
use serde_json::Value;

use crate::Endpoint;
use crate::failure::{AUTH, RATE_LIMITED, REFUSED, UNAVAILABLE, final_but_unknown};

/// Where calls are sent, below the base URL.
pub(crate) const CALL_PATH: &str = "chat/completions";
/// Where the models are listed, below the base URL.
pub(crate) const MODELS_PATH: &str = "models";

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// How a model differs from the others on the same wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quirks {
    /// The reasoning models take `max_completion_tokens` instead of `max_tokens` and refuse a temperature.
    pub(crate) reasoning: bool,
}

/// The quirks of a model, by its name: `o1`, `o3-mini`, `o4-mini`, `gpt-5…`, with or without a `vendor/` in front.
pub(crate) fn quirks(model: &str) -> Quirks {
    let name = model.rsplit('/').next().unwrap_or(model);
    let o_series = name.strip_prefix('o').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    Quirks { reasoning: o_series || name.starts_with("gpt-5") }
}

/// The headers of every request to `endpoint`. Fails when the key cannot be a header.
pub(crate) fn headers(endpoint: &Endpoint) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream, application/json"));
    if let Some(key) = &endpoint.api_key {
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", key.expose()))
            .map_err(|_| Failure::refused(AUTH, "the API key holds characters that no header may have"))?;
        bearer.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, bearer);
    }
    Ok(headers)
}

/// The headers of a model call: also names the effect, so that a repeat of it can be recognised.
pub(crate) fn call_headers(endpoint: &Endpoint, call: &LlmCall) -> Result<HeaderMap, Failure> {
    let mut headers = headers(endpoint)?;
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(key) = HeaderValue::try_from(call.key.header()) {
        headers.insert(IDEMPOTENCY_KEY, key);
    }
    Ok(headers)
}

/// What a status other than 2xx means.
pub(crate) fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
    let error = serde_json::from_slice::<Value>(body).unwrap_or_default();
    // A body without words meant for the caller (a proxy's page, a stack trace) stays here: only its status is told.
    let message = match said(&error) {
        Some(text) => format!("{} {text}", status.as_u16()),
        None => status.to_string(),
    };
    let failure = match status.as_u16() {
        401 | 403 => Failure::refused(AUTH, message),
        // Waiting does not refill an account.
        429 if names(&error, &["insufficient_quota"]) => Failure::refused(REFUSED, message),
        429 => Failure::transient(RATE_LIMITED, message),
        // 408: our request came too slowly. 409: another one with the same key is being answered.
        408 | 409 | 500.. => Failure::unknown(UNAVAILABLE, message),
        300..=399 => Failure::refused(REFUSED, format!("{message} (the base URL redirects elsewhere)")),
        _ => Failure::refused(REFUSED, message),
    };
    let retry_after = if failure.retryable { retry_after(headers) } else { None };
    Failure { retry_after, ..failure }
}

/// What an error inside a reply means that began with 200: work was begun, so it may have been charged.
pub(crate) fn in_band(error: &Value) -> Failure {
    let message = said(error).unwrap_or_else(|| "an error without a message".to_owned());
    if names(error, &["rate_limit_exceeded", "rate_limit_error", "429"]) {
        Failure::unknown(RATE_LIMITED, message)
    } else if names(error, &["invalid_request_error", "context_length_exceeded", "insufficient_quota", "400"])
    {
        final_but_unknown(REFUSED, message)
    } else {
        Failure::unknown(UNAVAILABLE, message)
    }
}

/// The error object itself: in `error`, or the whole body where a server leaves the wrapper out.
fn object(error: &Value) -> &Value {
    error.get("error").filter(|inner| !inner.is_null()).unwrap_or(error)
}

/// The provider's words: `{"error": {"message"}}`, `{"error": "…"}`, `{"message"}` or `{"detail"}`, after its own name
/// for the error where it gives one.
fn said(error: &Value) -> Option<String> {
    let error = object(error);
    let text = |name| error.get(name).and_then(Value::as_str);
    let words = error.as_str().or_else(|| text("message")).or_else(|| text("detail"));
    let name = text("code").or_else(|| text("type")).filter(|name| is_name(name));
    match (name, words) {
        (Some(name), Some(words)) => Some(format!("{name}: {words}")),
        (name, words) => name.or(words).map(str::to_owned),
    }
}

fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

/// Whether the error's `code` or `type` is one of these. Some servers write the status there as a number.
fn names(error: &Value, wanted: &[&str]) -> bool {
    let error = object(error);
    ["code", "type"].iter().filter_map(|field| error.get(field)).any(|value| match value {
        Value::String(name) => wanted.contains(&name.as_str()),
        Value::Number(code) => wanted.contains(&code.to_string().as_str()),
        _ => false,
    })
}

/// How long to wait: `retry-after-ms`, or `Retry-After` in seconds or as an HTTP date. A date counts from the
/// reply's own `Date`, so neither side's clock matters.
fn retry_after(headers: &HeaderMap) -> Option<Dur> {
    let text = |name: &HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    if let Some(millis) = text(&RETRY_AFTER_MS).and_then(|ms| ms.parse().ok()) {
        return Some(Dur::from_millis(millis));
    }
    let wait = text(&header::RETRY_AFTER)?;
    if let Ok(secs) = wait.parse() {
        return Some(Dur::from_secs(secs));
    }
    let until = rfc2822::parse(wait).ok()?.timestamp();
    let sent = rfc2822::parse(text(&header::DATE)?).ok()?.timestamp();
    let secs = until.as_second().saturating_sub(sent.as_second());
    Some(Dur::from_secs(u64::try_from(secs).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
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

    #[test]
    fn reasoning_models_by_name() {
        for (model, reasoning) in [
            ("o1", true),
            ("o3-mini", true),
            ("openai/o4-mini", true),
            ("gpt-5-nano", true),
            ("gpt-4o", false),
            ("olmo-2", false),
            ("o", false),
            ("", false),
        ] {
            assert_eq!(quirks(model).reasoning, reasoning, "{model}");
        }
    }
}
