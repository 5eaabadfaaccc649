//! One collector of OpenTelemetry, over OTLP/HTTP.

use lantern_net::http::{
    Deadlines, HeaderMap, HeaderName, HeaderValue, Method, Request, header, retry_after,
};
use lantern_net::{Client, Reach};
use lantern_trace::{Encoding, Resource, Span, encode};
use lantern_types::{Dur, Secret};
use serde::Deserialize;

/// How long a collector may take.
const ANSWER_MAX: Dur = Dur::from_secs(10);
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Of what a collector says, for a line of the log.
const WORDS_MAX: usize = 200;

/// Who takes spans.
pub struct Collector {
    /// The client that asks it.
    pub client: Client,
    /// The whole URL that spans are posted to. The operator chose it, so it may be a private one.
    pub url: String,
    /// What goes with each request beside what is said of its body.
    pub headers: Vec<(HeaderName, Secret<String>)>,
    /// How spans are written.
    pub encoding: Encoding,
    /// Whose spans they are.
    pub resource: Resource,
}

/// Why spans were not taken.
#[derive(Debug)]
pub(super) enum Unsent {
    /// Another time they may be.
    Away { after: Option<Dur>, why: String },
    /// These never will.
    Refused { why: String },
}

impl Collector {
    /// Where it is, without what is a secret.
    pub fn shown(&self) -> &str {
        self.url.split(['?', '#']).next().unwrap_or_default()
    }

    /// Sends spans. Answers how many of them the collector rejected although it took the rest, and why.
    pub(super) async fn send(&self, spans: &[Span]) -> Result<Option<(u64, String)>, Unsent> {
        let request = Request {
            method: Method::POST,
            url: self.url.clone(),
            headers: self.request_headers().map_err(|why| Unsent::Away { after: None, why })?,
            body: encode(self.encoding, &self.resource, spans).into(),
        };
        let answer = self.client.send(Reach::Private, request, Deadlines::total(ANSWER_MAX)).await;
        let mut response = answer.map_err(|error| Unsent::Away { after: None, why: error.to_string() })?;
        let status = response.status();
        let after = retry_after(response.headers());
        // The status alone says what to do.
        let (body, _) = response.up_to(ANSWER_BYTES_MAX).await.unwrap_or_default();
        match status.as_u16() {
            200..=299 => Ok(rejected(&body)),
            // It does not take this, however often it comes.
            400 | 413 | 422 => Err(Unsent::Refused { why: said(status.as_u16(), &body) }),
            // Also what a person has to mend first: a key, a path.
            code => Err(Unsent::Away { after, why: said(code, &body) }),
        }
    }

    fn request_headers(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let mut value = HeaderValue::try_from(value.expose().as_str())
                .map_err(|_| format!("the header {name} holds characters that no header may have"))?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.encoding.content_type()));
        Ok(headers)
    }
}

fn said(status: u16, body: &[u8]) -> String {
    let words: String =
        String::from_utf8_lossy(body).chars().filter(|char| !char.is_control()).take(WORDS_MAX).collect();
    if words.trim().is_empty() {
        format!("status {status}")
    } else {
        format!("status {status}: {}", words.trim())
    }
}

/// What an answer in JSON says of spans that were rejected. One in protobuf has it as text in the middle, and is taken at its status.
fn rejected(body: &[u8]) -> Option<(u64, String)> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        partial_success: Option<Partial>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    #[derive(Default)]
    struct Partial {
        rejected_spans: serde_json::Value,
        error_message: String,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let Partial { rejected_spans, error_message } = answer.partial_success?;
    // A number of 64 bits is text in the JSON of protobuf.
    let count = rejected_spans.as_u64().or_else(|| rejected_spans.as_str()?.parse().ok())?;
    let words = error_message.chars().filter(|char| !char.is_control()).take(WORDS_MAX).collect();
    (count > 0).then_some((count, words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_rejected_is_read_in_both_spellings() {
        for (body, want) in [
            (r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"no"}}"#, Some((3, "no".to_owned()))),
            (r#"{"partialSuccess":{"rejectedSpans":2}}"#, Some((2, String::new()))),
            (r#"{"partialSuccess":{"rejectedSpans":0,"errorMessage":"mind"}}"#, None),
            (r#"{"partialSuccess":{}}"#, None),
            ("{}", None),
            ("", None),
            ("\u{a}", None),
        ] {
            assert_eq!(rejected(body.as_bytes()), want, "{body}");
        }
    }

    #[test]
    fn a_collector_is_shown_without_its_secrets() {
        let collector = Collector {
            client: Client::new().unwrap(),
            url: "https://c.example/v1/traces?key=hush".to_owned(),
            headers: vec![(header::AUTHORIZATION, Secret::new("Bearer hush".to_owned()))],
            encoding: Encoding::Json,
            resource: Resource { service: "lantern".to_owned(), version: "0" },
        };
        assert_eq!(collector.shown(), "https://c.example/v1/traces");
        assert!(!format!("{:?}", collector.headers).contains("hush"));
        let headers = collector.request_headers().unwrap();
        assert!(!format!("{headers:?}").contains("hush"), "{headers:?}");
        assert_eq!(headers["authorization"], "Bearer hush");
    }
}
