//! A registry that the operator lists: its scheme, its host and its port. Pure.

use std::fmt;
use std::str::FromStr;

/// Where a registry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Whether it is asked without TLS.
    plain: bool,
    /// Its name or address, with the port where one is said, in lower case.
    host: String,
}

/// What is wrong with an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid;

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected https:// or http:// and a host, with a port if it has one of its own")
    }
}

impl std::error::Error for Invalid {}

impl FromStr for Origin {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (plain, host) = match text.split_once("://") {
            Some(("https", host)) => (false, host),
            Some(("http", host)) => (true, host),
            _ => return Err(Invalid),
        };
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        if host.is_empty() || host.len() > 260 || !host.bytes().all(fine) {
            return Err(Invalid);
        }
        Ok(Self { plain, host: host.to_ascii_lowercase() })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.plain { "http" } else { "https" }, self.host)
    }
}

impl Origin {
    /// Of a registry by the name that images have it under.
    pub(super) fn of<'a>(listed: &'a [Self], host: &str) -> Option<&'a Self> {
        listed.iter().find(|origin| origin.host.eq_ignore_ascii_case(host))
    }

    /// Whether a URL is of this very origin: the same scheme, host and port.
    pub(super) fn has(&self, url: &str) -> bool {
        Self::in_url(url).is_some_and(|of_url| of_url == *self)
    }

    /// The origin of a URL.
    pub(super) fn in_url(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let host = rest.split(['/', '?', '#']).next()?;
        // Who hides a host behind a name and a password is of no origin.
        format!("{scheme}://{host}").parse().ok()
    }

    pub(super) const fn is_plain(&self) -> bool {
        self.plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_scheme_a_host_and_a_port() {
        for (text, want) in [
            ("https://registry.example", Some("https://registry.example")),
            ("http://127.0.0.1:5000", Some("http://127.0.0.1:5000")),
            ("https://[fd00::1]:5000", Some("https://[fd00::1]:5000")),
            ("https://Registry.Example", Some("https://registry.example")),
            ("registry.example", None),
            ("ftp://registry.example", None),
            ("https://", None),
            ("https://a/b", None),
            ("https://ada:pw@a", None),
        ] {
            let read = text.parse::<Origin>().ok().map(|origin| origin.to_string());
            assert_eq!(read.as_deref(), want, "{text}");
        }
    }

    #[test]
    fn a_url_is_of_an_origin_by_all_three() {
        let origin: Origin = "http://127.0.0.1:5000".parse().unwrap();
        for (url, want) in [
            ("http://127.0.0.1:5000/v2/a", true),
            ("http://127.0.0.1:5000?x", true),
            ("https://127.0.0.1:5000/v2/a", false),
            ("http://127.0.0.1:5001/v2/a", false),
            ("http://127.0.0.1:5000.evil.example/", false),
            ("http://127.0.0.1:5000@evil.example/", false),
            ("http://evil.example/http://127.0.0.1:5000", false),
        ] {
            assert_eq!(origin.has(url), want, "{url}");
        }
    }
}
