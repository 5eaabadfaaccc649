//! Where a call goes and what goes with it: URLs and headers, by vendor and family.
//!
//! Invariant: a key stands in a header that is marked as sensitive, or signs, and nowhere else.

use lantern_net::http::{HeaderMap, HeaderName, HeaderValue, header};
use lantern_net::sigv4::{Signed, Signer, authorization, stamp};
use lantern_types::{At, Digest, Failure, Secret};

use super::table::{Auth, Paths, Vendor};
use crate::failure::{AUTH, REFUSED};
use crate::{Endpoint, Family};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const VERSION: HeaderName = HeaderName::from_static("anthropic-version");
/// The version of the messages wire. <https://docs.anthropic.com/en/api/versioning>
const MESSAGES_VERSION: &str = "2023-06-01";
/// The version of deployment URLs. <https://learn.microsoft.com/azure/ai-services/openai/api-version-lifecycle>
const DEPLOYMENTS_VERSION: &str = "2024-10-21";

/// The URL of a call for `model`.
pub(crate) fn call_url(endpoint: &Endpoint, vendor: &Vendor, model: &str, stream: bool) -> String {
    let base = endpoint.base_url.trim_end_matches('/');
    let model = segment(model.strip_prefix("models/").unwrap_or(model));
    let path = match vendor.dialect.family {
        Family::Chat if deployments(endpoint, vendor) => {
            return format!(
                "{base}/openai/deployments/{model}/chat/completions?api-version={DEPLOYMENTS_VERSION}"
            );
        }
        Family::Chat => "chat/completions".to_owned(),
        Family::Responses => "responses".to_owned(),
        Family::Messages => "messages".to_owned(),
        Family::Generate if stream => format!("models/{model}:streamGenerateContent?alt=sse"),
        Family::Generate => format!("models/{model}:generateContent"),
        Family::Converse if stream => format!("model/{model}/converse-stream"),
        Family::Converse => format!("model/{model}/converse"),
    };
    format!("{base}/{path}")
}

/// The URL that lists the models; `None` where the vendor has none beside its calls.
pub(crate) fn models_url(endpoint: &Endpoint, vendor: &Vendor) -> Option<String> {
    let base = endpoint.base_url.trim_end_matches('/');
    match vendor.dialect.family {
        Family::Converse => None,
        Family::Chat if deployments(endpoint, vendor) => {
            Some(format!("{base}/openai/models?api-version={DEPLOYMENTS_VERSION}"))
        }
        Family::Generate => Some(format!("{base}/models?pageSize=1000")),
        Family::Messages => Some(format!("{base}/models?limit=1000")),
        Family::Chat | Family::Responses => Some(format!("{base}/models")),
    }
}

/// Base URLs of the newer kind end in `/v1` and are like everybody's.
pub(crate) fn deployments(endpoint: &Endpoint, vendor: &Vendor) -> bool {
    vendor.paths == Paths::Deployments && !endpoint.base_url.trim_end_matches('/').ends_with("/v1")
}

/// A segment of a path. Models of some vendors have colons and slashes in their names.
fn segment(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0').to_ascii_uppercase();
            out.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    out
}

/// The headers of every request to `endpoint` that is not signed. Fails when the key cannot be a header.
pub(crate) fn headers(endpoint: &Endpoint, vendor: &Vendor) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    let accept = match vendor.dialect.family {
        Family::Converse => "application/vnd.amazon.eventstream, application/json",
        _ => "text/event-stream, application/json",
    };
    headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
    if vendor.dialect.family == Family::Messages {
        headers.insert(VERSION, HeaderValue::from_static(MESSAGES_VERSION));
    }
    let Some(key) = &endpoint.api_key else { return Ok(headers) };
    match vendor.auth {
        Auth::Bearer => bearer(&mut headers, key)?,
        Auth::Header(name) => {
            headers.insert(HeaderName::from_static(name), sensitive(key.expose().clone())?);
        }
        Auth::Signed if Access::read(key).is_none() => bearer(&mut headers, key)?,
        Auth::Signed => {}
    }
    Ok(headers)
}

fn bearer(headers: &mut HeaderMap, key: &Secret<String>) -> Result<(), Failure> {
    headers.insert(header::AUTHORIZATION, sensitive(format!("Bearer {}", key.expose()))?);
    Ok(())
}

fn sensitive(text: String) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| Failure::refused(AUTH, "the API key holds characters that no header may have"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The headers of a model call: also names the effect, where a repeat of it can be recognised.
pub(crate) fn call_headers(endpoint: &Endpoint, vendor: &Vendor, key: &str) -> Result<HeaderMap, Failure> {
    let mut headers = headers(endpoint, vendor)?;
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let (true, Ok(key)) = (vendor.dialect.idempotency_key, HeaderValue::try_from(key)) {
        headers.insert(IDEMPOTENCY_KEY, key);
    }
    Ok(headers)
}

/// Signs a request that is sent at `now`, where the vendor wants that.
pub(crate) fn signed(
    endpoint: &Endpoint,
    vendor: &Vendor,
    url: &str,
    body: &[u8],
    now: At,
    headers: &mut HeaderMap,
) -> Result<(), Failure> {
    let access = endpoint.api_key.as_ref().filter(|_| vendor.auth == Auth::Signed).and_then(Access::read);
    let Some(access) = access else { return Ok(()) };
    let wrong = || Failure::refused(REFUSED, "the base URL of a signed vendor names no host");
    let (_, rest) = url.split_once("://").ok_or_else(wrong)?;
    let (host, path) = rest.split_once('/').ok_or_else(wrong)?;
    let region = region(host).ok_or_else(|| {
        Failure::refused(
            REFUSED,
            "the base URL names no region, as https://bedrock-runtime.REGION.amazonaws.com does",
        )
    })?;
    let stamp = stamp(now);
    let mut lines =
        vec![("content-type", "application/json"), ("host", host), ("x-amz-date", stamp.as_str())];
    if let Some(token) = &access.token {
        lines.push(("x-amz-security-token", token));
    }
    // Every segment is encoded once more for the signature than for the wire.
    let path: Vec<String> = path.split('/').map(segment).collect();
    let signer =
        Signer { access_key_id: &access.id, secret_access_key: &access.secret, region, service: "bedrock" };
    let request = Signed {
        method: "POST",
        path: &format!("/{}", path.join("/")),
        query: "",
        headers: &lines,
        payload: Digest::of(body),
    };
    headers.insert(header::AUTHORIZATION, sensitive(authorization(signer, request, now))?);
    headers.insert(HeaderName::from_static("x-amz-date"), sensitive(stamp.clone())?);
    if let Some(token) = access.token {
        headers.insert(HeaderName::from_static("x-amz-security-token"), sensitive(token)?);
    }
    Ok(())
}

/// The region in `bedrock-runtime.REGION.amazonaws.com` and in hosts made like it.
fn region(host: &str) -> Option<&str> {
    let host = host.split(':').next().unwrap_or(host);
    let mut labels = host.split('.');
    let service = labels.next()?;
    let region = labels.next()?;
    (service.starts_with("bedrock") && region.split('-').count() >= 3).then_some(region)
}

/// A key that signs, written as `ID:SECRET` or `ID:SECRET:SESSION_TOKEN`. Any other is a bearer token.
struct Access {
    id: String,
    secret: Secret<String>,
    token: Option<String>,
}

impl Access {
    fn read(key: &Secret<String>) -> Option<Self> {
        let mut fields = key.expose().splitn(3, ':');
        let (id, secret) = (fields.next()?, fields.next()?);
        let named = id.len() >= 16 && id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        named.then(|| Self {
            id: id.to_owned(),
            secret: Secret::new(secret.to_owned()),
            token: fields.next().filter(|token| !token.is_empty()).map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vendor::vendor;
    use lantern_policy::egress::Reach;

    fn endpoint(base_url: &str, key: &str) -> Endpoint {
        Endpoint {
            provider: "p".to_owned(),
            base_url: base_url.to_owned(),
            api_key: Some(Secret::new(key.to_owned())),
            reach: Reach::Public,
        }
    }

    #[test]
    fn urls() {
        for (name, base, model, stream, want) in [
            ("openai", "https://a/v1/", "gpt-4o", true, "https://a/v1/chat/completions"),
            ("openai-responses", "https://a/v1", "gpt-5", true, "https://a/v1/responses"),
            ("anthropic", "https://a/v1", "m", true, "https://a/v1/messages"),
            (
                "gemini",
                "https://a/v1beta",
                "models/g",
                true,
                "https://a/v1beta/models/g:streamGenerateContent?alt=sse",
            ),
            ("gemini", "https://a/v1beta", "g", false, "https://a/v1beta/models/g:generateContent"),
            ("bedrock", "https://a", "x.y-v1:0", true, "https://a/model/x.y-v1%3A0/converse-stream"),
            ("bedrock", "https://a", "m", false, "https://a/model/m/converse"),
            (
                "azure-openai",
                "https://r.openai.azure.com",
                "my gpt",
                true,
                "https://r.openai.azure.com/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21",
            ),
            (
                "azure-openai",
                "https://r.openai.azure.com/openai/v1",
                "d",
                true,
                "https://r.openai.azure.com/openai/v1/chat/completions",
            ),
        ] {
            let vendor = vendor(name).unwrap();
            assert_eq!(call_url(&endpoint(base, "k"), vendor, model, stream), want);
        }
    }

    #[test]
    fn who_asks_is_shown_in_each_vendors_way() {
        for (name, header, want) in [
            ("openai", "authorization", "Bearer k"),
            ("anthropic", "x-api-key", "k"),
            ("gemini", "x-goog-api-key", "k"),
            ("azure-openai", "api-key", "k"),
            ("bedrock", "authorization", "Bearer k"),
            ("groq", "authorization", "Bearer k"),
        ] {
            let headers = headers(&endpoint("https://a", "k"), vendor(name).unwrap()).unwrap();
            let value = headers.get(header).unwrap();
            assert!(value.is_sensitive(), "{name}");
            assert_eq!(value, want, "{name}");
        }
        let bad = headers(&endpoint("https://a", "a\nb"), vendor("anthropic").unwrap()).unwrap_err();
        assert_eq!(bad.code, AUTH);
    }

    #[test]
    fn signed_requests_say_their_region_service_and_token() {
        let endpoint =
            endpoint("https://bedrock-runtime.eu-west-1.amazonaws.com", "AKIDEXAMPLE12345:secret:tok");
        let vendor = vendor("bedrock").unwrap();
        let url = call_url(&endpoint, vendor, "anthropic.claude-v1:0", true);
        let mut headers = call_headers(&endpoint, vendor, "key").unwrap();
        signed(&endpoint, vendor, &url, b"{}", At::from_micros(1_440_938_160_000_000), &mut headers).unwrap();
        let said = headers["authorization"].to_str().unwrap();
        // As the vendor's own library signs it: the path is encoded twice, and `host` is among the headers.
        let want = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE12345/20150830/eu-west-1/bedrock/aws4_request, \
                    SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, \
                    Signature=93107cb2008c242256502d10ec429c209e0d620cae3268e862edc1764cbe314d";
        assert_eq!(said, want);
        assert_eq!(headers["x-amz-date"], "20150830T123600Z");
        assert_eq!(headers["x-amz-security-token"], "tok");
        assert!(headers.get("idempotency-key").is_none());
    }

    #[test]
    fn regions() {
        for (host, want) in [
            ("bedrock-runtime.us-east-1.amazonaws.com", Some("us-east-1")),
            ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com:443", Some("us-gov-west-1")),
            ("127.0.0.1:8080", None),
            ("example.com", None),
        ] {
            assert_eq!(region(host), want, "{host}");
        }
    }
}
