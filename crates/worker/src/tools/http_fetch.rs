//! `http.fetch`: reads one page. GET only, so that fetching twice is fetching once.
//!
//! Every address that is dialled, redirects included, is checked after it was resolved; the body is cut at a limit and
//! says so. Secrets are never sent: there are no headers to set, and an address that has one in it is refused, a redirect's
//! too.

use lantern_cedar::steps::DENIED;
use lantern_net::http::{Deadlines, Request, Response, has_credentials, header, host, retry_after, traced};
use lantern_net::{Client, Error, Reach};
use lantern_types::tool::ToolCall;
use lantern_types::{Dur, EffectClass, Failure, ToolDef, ToolName, TraceParent};
use serde_json::{Value, json};

pub(crate) const NAME: &str = "http.fetch";

/// Redirects that are followed.
const HOPS_MAX: usize = 5;
/// Bytes of body that are returned when the call names no number, and the most that it may name.
const BYTES_DEFAULT: usize = 128 * 1024;
const BYTES_MAX: usize = 512 * 1024;

/// Why an address with a name and password in it is not fetched. It shows neither.
const CREDENTIALS: &str = "an address with a name or password in it is not fetched, because addresses are written \
    down in the run and shown; http.fetch sends no credentials: fetch a page that needs none, or have a program of your \
    own fetch this one and put what it says into the run's input";

pub(super) fn def() -> Option<ToolDef> {
    Some(ToolDef {
        name: ToolName::parse(NAME).ok()?,
        description:
            "Fetches a web page or API resource over HTTP(S) with GET and returns its status, content type \
                      and text. Private addresses are refused unless the operator of this server opened them."
                .to_owned(),
        input_schema: json!({
            "type": "object",
            "properties": {
                "url": { "type": "string", "description": "Absolute http or https URL.", "maxLength": 8192 },
                "maxBytes": { "type": "integer", "minimum": 1, "maximum": BYTES_MAX, "description": "Cut the body here." }
            },
            "required": ["url"],
            "additionalProperties": false
        }),
        effect: EffectClass::Idempotent,
    })
}

/// Fetches. What comes back has at most `output_bytes_max` bytes of JSON.
pub(super) async fn call(
    client: &Client,
    call: &ToolCall,
    (timeout, output_bytes_max): (Dur, u64),
    refused: &(dyn Fn(&str) -> Option<String> + Sync),
) -> Result<Value, Failure> {
    let url = call.arguments.get("url").and_then(Value::as_str).unwrap_or_default();
    let asked = call.arguments.get("maxBytes").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let bytes_max = asked.unwrap_or(BYTES_DEFAULT).min(BYTES_MAX);
    let (url, mut response) = follow(client, url.to_owned(), (timeout, call.trace), refused).await?;
    let status = response.status();
    if matches!(status.as_u16(), 429 | 500..=599) {
        let message = format!("{url} answered {}", status.as_u16());
        return Err(Failure {
            retry_after: retry_after(response.headers()),
            ..Failure::transient("http_status", message)
        });
    }
    let content_type = response.header(&header::CONTENT_TYPE).unwrap_or_default().to_owned();
    let (body, truncated) = response.up_to(bytes_max).await.map_err(|error| failure(&error))?;
    let output = |body: &str, truncated: bool| {
        json!({
            "status": status.as_u16(),
            "url": url,
            "contentType": content_type,
            "body": body,
            "truncated": truncated,
        })
    };
    let room = output_bytes_max.saturating_sub(output("", truncated).to_string().len() as u64);
    let text = String::from_utf8_lossy(&body);
    let kept = beginning(&text, room);
    Ok(output(kept, truncated || kept.len() < text.len()))
}

/// As much of a text as comes to at most `room` bytes inside a JSON string: what is no text, or not to be printed, takes
/// several for each of its own.
fn beginning(text: &str, room: u64) -> &str {
    let written = |char: char| match char {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        other => other.len_utf8() as u64,
    };
    let mut bytes = 0;
    let cut = text.char_indices().find(|(_, char)| {
        bytes += written(*char);
        bytes > room
    });
    text.get(..cut.map_or(text.len(), |(at, _)| at)).unwrap_or_default()
}

/// Follows redirects. What the policies refuse of where they lead is not asked.
async fn follow(
    client: &Client,
    mut url: String,
    (timeout, trace): (Dur, Option<TraceParent>),
    refused: &(dyn Fn(&str) -> Option<String> + Sync),
) -> Result<(String, Response), Failure> {
    for _ in 0..=HOPS_MAX {
        if has_credentials(&url) {
            return Err(Failure::refused("url_invalid", CREDENTIALS));
        }
        if let Some(words) = host(&url).and_then(|host| refused(&host)) {
            return Err(Failure::refused(DENIED, words));
        }
        let mut request = Request::get(url.clone());
        let agent = concat!("lantern/", env!("CARGO_PKG_VERSION"));
        request.headers.insert(header::USER_AGENT, header::HeaderValue::from_static(agent));
        request.headers.extend(trace.and_then(traced));
        let sent = client.send(Reach::Public, request, Deadlines::total(timeout)).await;
        let response = sent.map_err(|error| failure(&error))?;
        match response.redirect() {
            Some(next) => url = next,
            None => return Ok((url, response)),
        }
    }
    Err(Failure::refused("too_many_redirects", format!("more than {HOPS_MAX} redirects")))
}

fn failure(error: &Error) -> Failure {
    let (code, retryable) = match error {
        Error::Denied(denial) => return Failure::refused("egress_denied", denial.reason.clone()),
        Error::Invalid(_) => ("url_invalid", false),
        Error::Unreachable { .. } => ("http_unreachable", true),
        Error::Timeout { .. } => ("http_timeout", true),
        Error::Interrupted { .. } => ("http_interrupted", true),
        Error::TooLarge { .. } => ("http_too_large", false),
        Error::Setup(_) => ("http_setup", false),
    };
    let acted = error.acted();
    Failure { acted, retryable, ..Failure::refused(code, error.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::Arc;

    use lantern_net::Network;
    use lantern_types::tool::EffectKey;
    use lantern_types::{DEV_USER, RunId};

    async fn fetched(url: String) -> Failure {
        let here: Arc<[Network]> = Arc::new(["127.0.0.1".parse().unwrap()]);
        let client = Client::opening(here).unwrap();
        follow(&client, url, (Dur::from_secs(20), None), &|_| None).await.unwrap_err()
    }

    #[tokio::test]
    async fn an_address_with_a_password_is_refused_and_not_repeated() {
        for url in
            ["http://ada:s3cret@127.0.0.1:9/", "https://s3cret@example.com/", "http:ada:s3cret@127.0.0.1"]
        {
            let failure = fetched(url.to_owned()).await;
            assert_eq!((failure.code, failure.retryable), ("url_invalid", false), "{url}");
            assert!(!failure.message.contains("s3cret") && failure.message.contains("password"), "{url}");
        }
    }

    #[tokio::test]
    async fn a_redirect_to_such_an_address_is_not_followed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::task::spawn_blocking(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 4_096]).unwrap() > 0);
            let answer = format!(
                "HTTP/1.1 302 Found\r\nlocation: http://ada:s3cret@{address}/\r\ncontent-length: 0\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let failure = fetched(format!("http://{address}/")).await;
        served.await.unwrap();
        assert_eq!(failure.code, "url_invalid");
        assert!(!failure.message.contains("s3cret"));
    }

    #[test]
    fn a_text_is_cut_by_what_it_takes_as_json() {
        for text in ["plain", "a\"b\\c\n\t\r\u{8}\u{c}", "\0\u{1}\u{1f}\u{7f}", "é\u{2028}\u{fffd}"] {
            let whole = Value::from(text).to_string().len() as u64 - 2;
            assert_eq!(beginning(text, whole), text);
            for room in 0..whole {
                let kept = beginning(text, room);
                assert!(text.starts_with(kept) && kept.len() < text.len(), "{text:?} {room}");
                assert!(Value::from(kept).to_string().len() as u64 - 2 <= room, "{text:?} {room}");
            }
        }
    }

    #[tokio::test]
    async fn a_page_that_is_no_text_is_cut_and_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let served = tokio::task::spawn_blocking(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 4_096]).unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 524288\r\n\r\n").unwrap();
            stream.write_all(&[0xff, 0x00].repeat(262_144)).unwrap();
        });
        let here: Arc<[Network]> = Arc::new(["127.0.0.1".parse().unwrap()]);
        let (client, call) =
            (Client::opening(here).unwrap(), a_call(json!({"url": url, "maxBytes": BYTES_MAX})));
        let output = super::call(&client, &call, (Dur::from_secs(20), 1 << 20), &|_| None).await.unwrap();
        served.await.unwrap();
        assert_eq!(output["truncated"], json!(true));
        let bytes = output.to_string().len();
        assert!(bytes <= 1 << 20 && bytes > (1 << 20) - 16, "{bytes}");
    }

    /// Ways to write an address of this machine or its network, in whichever clothes.
    fn inside() -> impl proptest::strategy::Strategy<Value = String> {
        use proptest::prelude::*;
        let host = proptest::sample::select(
            &[
                "127.0.0.1",
                "127.1",
                "0x7f000001",
                "2130706433",
                "0177.0.0.1",
                "[::1]",
                "[::ffff:10.0.0.1]",
                "10.0.0.1",
                "192.168.1.1",
                "169.254.169.254",
                "[fd00::1]",
                "[fe80::1]",
                "0.0.0.0",
                "[::]",
                "localhost",
                "LOCALHOST",
                "127.0.0.1.",
                "①②⑦.0.0.1",
                "[64:ff9b::a00:1]",
                "100.64.0.1",
            ][..],
        );
        let scheme = proptest::sample::select(
            &["http://", "https://", "HTTP:", "http:\\\\", "http:/", " http://", "http://\t"][..],
        );
        (scheme, host, "(:[0-9]{1,6})?", "(/[ -~é]{0,12})?")
            .prop_map(|(scheme, host, port, path)| format!("{scheme}{host}{port}{path}"))
    }

    fn no_address() -> impl proptest::strategy::Strategy<Value = String> {
        proptest::strategy::Strategy::prop_map("[ -~é]{0,24}", |text| text.replace(':', ""))
    }

    fn a_call(arguments: Value) -> ToolCall {
        let key = EffectKey { run: RunId::from_uuid(DEV_USER.uuid()), step: "fetch".into(), generation: 1 };
        ToolCall {
            name: ToolName::parse(NAME).unwrap(),
            arguments: Arc::new(arguments),
            config: None,
            key,
            trace: None,
            asker: None,
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(96))]

        /// Nothing that a model writes as an address leads inside, and nothing that is none leads anywhere.
        #[test]
        fn no_address_of_a_model_leads_inside(
            url in proptest::prop_oneof![inside(), no_address()],
            bytes in proptest::prelude::any::<i64>(),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let call = a_call(json!({"url": url, "maxBytes": bytes}));
            let client = Client::new().unwrap();
            let refused = runtime.block_on(super::call(&client, &call, (Dur::from_secs(5), 1 << 20), &|_| None)).unwrap_err();
            proptest::prop_assert!(matches!(refused.code, "url_invalid" | "egress_denied"), "{}: {:?}", url, refused);
            proptest::prop_assert!(!refused.retryable);
        }
    }
}
