//! How requests of each wire are sent on as they came: paths, key headers, which headers pass, and who speaks what.
//! <https://platform.openai.com/docs/api-reference>, <https://docs.anthropic.com/en/api/messages>

use lantern_net::http::{HeaderMap, HeaderName, HeaderValue, header};
use lantern_types::Failure;

use super::request;
use crate::{Door, Endpoint, Family};

/// Headers of a request that pass on, beside those that begin with one of [`PASSING`].
const PASSED: &[&str] =
    &["accept", "content-type", "idempotency-key", "openai-beta", "traceparent", "tracestate"];
/// Headers of an answer that pass back, beside those that begin with one of [`PASSING`].
const RETURNED: &[&str] = &["content-type", "request-id", "retry-after", "retry-after-ms", "x-should-retry"];
const PASSING: &[&str] = &["anthropic-", "openai-", "x-ratelimit-"];

/// Whether whoever answers there takes requests of this door as they are. Who speaks the chat wire may know its vendor's other
/// paths too, and says so itself when not. A URL that names the model is not one to pass a request on to.
pub(crate) fn speaks(endpoint: &Endpoint, door: Door) -> bool {
    let vendor = endpoint.vendor();
    match vendor.dialect.family {
        Family::Chat => door != Door::Messages && !request::deployments(endpoint, &vendor),
        Family::Responses => matches!(door, Door::Responses | Door::Embeddings),
        Family::Messages => door == Door::Messages,
        Family::Generate | Family::Converse => false,
    }
}

/// Where requests of a door go, below the base URL.
pub(crate) const fn path(door: Door) -> &'static str {
    match door {
        Door::Chat => "chat/completions",
        Door::Messages => "messages",
        Door::Responses => "responses",
        Door::Embeddings => "embeddings",
    }
}

/// The headers to send: those of the caller that pass, and the endpoint's own key. Fails when the key cannot be a header.
pub(crate) fn headers(endpoint: &Endpoint, asked: &HeaderMap) -> Result<HeaderMap, Failure> {
    let mut headers = passing(asked, PASSED);
    headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    // What is read along must come as it is.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    for (name, value) in &request::headers(endpoint, &endpoint.vendor())? {
        if value.is_sensitive() {
            headers.insert(name, value.clone());
        } else {
            headers.entry(name).or_insert(value.clone());
        }
    }
    Ok(headers)
}

/// Of an answer's headers, those that pass back.
pub(crate) fn returned(answered: &HeaderMap) -> HeaderMap {
    passing(answered, RETURNED)
}

fn passing(headers: &HeaderMap, named: &[&str]) -> HeaderMap {
    let passes = |name: &HeaderName| {
        let name = name.as_str();
        named.contains(&name) || PASSING.iter().any(|start| name.starts_with(start))
    };
    headers
        .iter()
        .filter(|(name, _)| passes(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lantern_policy::egress::Reach;
    use lantern_types::Secret;

    #[test]
    fn the_callers_key_stays_here_and_the_endpoints_goes() {
        let endpoint = |provider: &str| Endpoint {
            provider: provider.to_owned(),
            base_url: String::new(),
            api_key: Some(Secret::new("sk-own".to_owned())),
            reach: Reach::Public,
        };
        let mut asked = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer hlx_live_caller"),
            ("x-api-key", "hlx_live_caller"),
            ("cookie", "a=b"),
            ("accept-encoding", "gzip"),
            ("anthropic-beta", "b1"),
            ("idempotency-key", "k"),
            ("traceparent", "t"),
        ] {
            asked.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        for (provider, key, value) in
            [("lab", "authorization", "Bearer sk-own"), ("anthropic", "x-api-key", "sk-own")]
        {
            let sent = headers(&endpoint(provider), &asked).unwrap();
            assert_eq!(sent[key], value);
            assert!(!sent.values().any(|value| value.to_str().unwrap().contains("caller")), "{sent:?}");
            assert!(!sent.contains_key("cookie"));
            assert_eq!(
                (&sent["anthropic-beta"], &sent["idempotency-key"]),
                (&"b1".parse().unwrap(), &"k".parse().unwrap())
            );
            assert_eq!(
                (&sent["accept-encoding"], &sent["traceparent"]),
                (&"identity".parse().unwrap(), &"t".parse().unwrap())
            );
        }
    }
}
