//! Where spans of runs go: the settings of OpenTelemetry's own exporters, as far as they mean something here.
//!
//! Invariant: a setting that cannot be done is refused before anything starts. Headers may hold a key, and are shown nowhere.

use anyhow::Result;
use lantern_net::Client;
use lantern_net::http::{HeaderName, Uri, has_credentials};
use lantern_trace::{Encoding, Resource};
use lantern_types::Secret;
use lantern_worker::traces::Collector;
use percent_encoding::percent_decode_str;

use super::advice::Advice;
use crate::env;

/// Where a collector is when somebody wants traces and does not say.
const USUAL: &str = "http://localhost:4318";
const PATH: &str = "v1/traces";
const SERVICE: &str = "lantern";

/// Who takes spans, and how.
#[derive(Debug)]
pub(crate) struct Options {
    url: String,
    headers: Vec<(HeaderName, Secret<String>)>,
    encoding: Encoding,
    service: String,
}

/// The collector that is configured, if traces are wanted.
pub(super) fn options(said: impl Fn(&'static str) -> Option<String>) -> Result<Option<Options>> {
    let enabled = match said(env::OTEL_ENABLED).as_deref() {
        None => None,
        Some("true" | "1") => Some(true),
        Some("false" | "0") => Some(false),
        Some(other) => {
            let what = format!("{} is {other:?}", env::OTEL_ENABLED);
            return Err(Advice::config(what, "write `true` or `false`").into());
        }
    };
    let (traces, base) = (said(env::OTEL_TRACES_ENDPOINT), said(env::OTEL_ENDPOINT));
    if !enabled.unwrap_or_else(|| traces.is_some() || base.is_some()) {
        return Ok(None);
    }
    let (name, url) = match traces {
        Some(whole) => (env::OTEL_TRACES_ENDPOINT, whole),
        None => {
            let base = base.unwrap_or_else(|| USUAL.to_owned());
            (env::OTEL_ENDPOINT, format!("{}/{PATH}", base.trim_end_matches('/')))
        }
    };
    let headers = said(env::OTEL_HEADERS).map(Secret::new);
    Ok(Some(Options {
        url: checked(name, url)?,
        headers: headers.as_ref().map_or(Ok(Vec::new()), read)?,
        encoding: encoding(said(env::OTEL_PROTOCOL).as_deref())?,
        service: said(env::OTEL_SERVICE_NAME).unwrap_or_else(|| SERVICE.to_owned()),
    }))
}

impl Options {
    /// The collector, asked through this client.
    pub(super) fn collector(self, client: Client) -> Collector {
        let Self { url, headers, encoding, service } = self;
        let resource = Resource { service, version: env!("LANTERN_BUILD_VERSION") };
        Collector { client, url, headers, encoding, resource }
    }

    /// Its address as it is shown to people: no path, which may tell something.
    pub(super) fn shown(&self) -> String {
        let uri: Option<Uri> = self.url.parse().ok();
        let parts = uri.as_ref().and_then(|uri| Some((uri.scheme_str()?, uri.authority()?)));
        parts.map(|(scheme, host)| format!("{scheme}://{host}")).unwrap_or_default()
    }
}

fn checked(name: &'static str, url: String) -> Result<String> {
    let uri: Option<Uri> = url.parse().ok();
    let http = uri.as_ref().is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    });
    if has_credentials(&url) {
        let next = format!("put what the collector wants to see into {}", env::OTEL_HEADERS);
        return Err(Advice::config(format!("{name} has a name or a password in it"), next).into());
    }
    if http {
        return Ok(url);
    }
    let what = format!("{name} is no address that spans can be posted to");
    Err(Advice::config(what, "write it as http://HOST:PORT or https://HOST, such as http://localhost:4318")
        .into())
}

fn encoding(said: Option<&str>) -> Result<Encoding> {
    match said {
        None | Some("http/protobuf") => Ok(Encoding::Protobuf),
        Some("http/json") => Ok(Encoding::Json),
        Some("grpc") => {
            let what = format!("{} is `grpc`, which this server does not speak", env::OTEL_PROTOCOL);
            let next = "write `http/protobuf`, and the collector's port for HTTP, which is usually 4318 and not 4317";
            Err(Advice::config(what, next).into())
        }
        Some(other) => {
            let what = format!("{} is {other:?}", env::OTEL_PROTOCOL);
            Err(Advice::config(what, "write `http/protobuf` or `http/json`").into())
        }
    }
}

/// `NAME=VALUE,NAME=VALUE`. What is wrong with it is said without quoting it.
fn read(said: &Secret<String>) -> Result<Vec<(HeaderName, Secret<String>)>> {
    let mut headers = Vec::new();
    for (n, entry) in said.expose().split(',').enumerate().filter(|(_, entry)| !entry.trim().is_empty()) {
        let wrong = || {
            let what = format!("{}: its entry {} is no header", env::OTEL_HEADERS, n + 1);
            Advice::config(what, "write NAME=VALUE, with commas between them and values percent-encoded")
        };
        let (name, value) = entry.split_once('=').ok_or_else(wrong)?;
        let name: HeaderName = name.trim().to_ascii_lowercase().parse().map_err(|_| wrong())?;
        let value = percent_decode_str(value.trim()).decode_utf8().map_err(|_| wrong())?.into_owned();
        if value.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
            return Err(wrong().into());
        }
        headers.push((name, Secret::new(value)));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(said: &[(&'static str, &str)]) -> Result<Option<Options>> {
        options(|name| said.iter().find(|(said, _)| *said == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn traces_are_made_where_somebody_says_so() {
        let (on, base, whole) = (env::OTEL_ENABLED, env::OTEL_ENDPOINT, env::OTEL_TRACES_ENDPOINT);
        for (said, want) in [
            (&[][..], None),
            (&[(env::OTEL_HEADERS, "a=b")], None),
            (&[(on, "true")], Some("http://localhost:4318/v1/traces")),
            (&[(base, "http://c:4318")], Some("http://c:4318/v1/traces")),
            (&[(base, "https://c.example/otlp/")], Some("https://c.example/otlp/v1/traces")),
            (&[(base, "http://c:4318"), (whole, "http://t:1/x?y=z")], Some("http://t:1/x?y=z")),
            (&[(base, "http://c:4318"), (on, "false")], None),
            (&[(base, "http://c:4318"), (on, "1")], Some("http://c:4318/v1/traces")),
        ] {
            let made = decide(said).unwrap().map(|made| made.url);
            assert_eq!(made.as_deref(), want, "{said:?}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_what_can() {
        for (name, value, words) in [
            (env::OTEL_PROTOCOL, "grpc", "4318"),
            (env::OTEL_PROTOCOL, "carrier-pigeon", "http/json"),
            (env::OTEL_ENABLED, "maybe", "`true`"),
            (env::OTEL_TRACES_ENDPOINT, "localhost:4318", "http://HOST:PORT"),
            (env::OTEL_TRACES_ENDPOINT, "grpc://c:4317", "http://HOST:PORT"),
            (env::OTEL_TRACES_ENDPOINT, "http://ada:hush@c:4318", env::OTEL_HEADERS),
            (env::OTEL_HEADERS, "hush", "NAME=VALUE"),
            (env::OTEL_HEADERS, "a b=hush", "NAME=VALUE"),
            (env::OTEL_HEADERS, "a=hush%0a", "NAME=VALUE"),
        ] {
            let error = decide(&[(name, value), (env::OTEL_ENDPOINT, "http://c:4318")]).unwrap_err();
            let failure = super::super::advice::failure(&error);
            let hint = failure.hint.clone().unwrap_or_default();
            assert!(hint.contains(words), "{name}={value}: {failure:?}");
            assert!(!format!("{error:?} {failure:?}").contains("hush"), "{name}: {failure:?}");
        }
    }

    #[test]
    fn headers_are_read_and_not_shown() {
        let said = [
            (env::OTEL_ENDPOINT, "https://c.example:443/secret-path"),
            (env::OTEL_HEADERS, "Authorization=Bearer%20hush, x-scope = a=b ,"),
            (env::OTEL_PROTOCOL, "http/json"),
        ];
        let made = decide(&said).unwrap().unwrap();
        let headers: Vec<_> =
            made.headers.iter().map(|(name, value)| (name.as_str(), value.expose().as_str())).collect();
        assert_eq!(headers, [("authorization", "Bearer hush"), ("x-scope", "a=b")]);
        assert!(!format!("{made:?}").contains("hush"), "{made:?}");
        assert_eq!((made.shown().as_str(), made.encoding), ("https://c.example:443", Encoding::Json));
    }
}
