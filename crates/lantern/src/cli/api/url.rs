//! Addresses: the server's, a path's parts, and the cursor in a `Link` header.
//!
//! Invariant: a [`Base`] has one spelling for each server, so two of them can be compared, and never carries a user
//! name or password. Pure.

use http::Uri;

/// A server's address: scheme, host, port and perhaps a path, without a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    text: String,
    loopback: bool,
}

impl Base {
    /// Reads `--api-url`; the error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        // What has an @ in it may have a password before that.
        let wrong = |why: &str| {
            if text.contains('@') {
                format!("the API URL {why}")
            } else {
                format!("the API URL {text:?} {why}")
            }
        };
        let uri: Uri = text.trim().parse().map_err(|_| wrong("is not a URL"))?;
        let Some(scheme @ ("http" | "https")) = uri.scheme_str() else {
            return Err(wrong("must begin with http:// or https://"));
        };
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default().to_ascii_lowercase();
        if authority.contains('@') {
            // Not quoted back: it holds a password.
            return Err("the API URL must not carry a user name or password; use --api-key".to_owned());
        }
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        if host.is_empty() {
            return Err(wrong("names no host"));
        }
        if uri.query().is_some() || text.contains('#') {
            return Err(wrong("must end with its path: no ?query and no #fragment"));
        }
        let usual = if scheme == "http" { ":80" } else { ":443" };
        let authority = authority.strip_suffix(usual).unwrap_or(&authority);
        let text = format!("{scheme}://{authority}{}", uri.path().trim_end_matches('/'));
        Ok(Self { text, loopback: is_loopback(&host) })
    }

    /// The address, as it is saved and shown.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the server is on this machine.
    pub(crate) const fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// The URL of a path that begins with a slash.
    pub(crate) fn join(&self, path: &str) -> String {
        format!("{}{path}", self.text)
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// A path segment or query value with every reserved byte escaped.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.extend(['%', hex(byte >> 4), hex(byte & 15)]),
        }
    }
    // A dot alone would be taken for a step in the path.
    if matches!(text, "." | "..") { out.replace('.', "%2E") } else { out }
}

fn hex(nibble: u8) -> char {
    char::from_digit(nibble.into(), 16).unwrap_or_default().to_ascii_uppercase()
}

/// The `cursor` of the link whose relation is `next`. Only the cursor is taken: where to send it is our decision.
pub(crate) fn next_cursor(link: &str) -> Option<String> {
    let next = link.split(',').find(|link| link.replace('"', "").contains("rel=next"))?;
    let (_, rest) = next.split_once('<')?;
    let (target, _) = rest.split_once('>')?;
    let (_, query) = target.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix("cursor=")).map(decode)
}

fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_has_one_spelling() {
        for (text, want, loopback) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080", true),
            (" HTTP://LocalHost:8080/ ", "http://localhost:8080", true),
            ("http://[::1]:8080", "http://[::1]:8080", true),
            ("https://Lantern.example.com:443/api//", "https://lantern.example.com/api", false),
            ("http://localhost.example.com", "http://localhost.example.com", false),
        ] {
            let base = Base::parse(text).unwrap();
            assert_eq!((base.as_str(), base.is_loopback()), (want, loopback), "{text}");
        }
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for (text, why) in [
            ("127.0.0.1:8080", "must begin with http"),
            ("ftp://example.com", "must begin with http"),
            ("", "is not a URL"),
            ("http://", "is not a URL"),
            ("http://a?b=c", "no ?query"),
            ("http://a/#b", "no #fragment"),
            ("http://me:secret@a", "user name or password"),
        ] {
            let error = Base::parse(text).unwrap_err();
            assert!(error.contains(why) && !error.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn path_segments_stay_segments() {
        for (text, want) in [("digest", "digest"), ("a/b?c", "a%2Fb%3Fc"), ("é", "%C3%A9"), ("..", "%2E%2E")]
        {
            assert_eq!(encode(text), want);
        }
    }

    #[test]
    fn only_the_cursor_of_the_next_page_is_taken() {
        for (link, want) in [
            ("<http://elsewhere.example/v1/runs?limit=2&cursor=a%2Fb>; rel=\"next\"", Some("a/b")),
            ("</v1/runs?cursor=x>; rel=prev, </v1/runs?cursor=y>; rel=next", Some("y")),
            ("</v1/runs?cursor=50%>; rel=next", Some("50%")),
            ("</v1/runs>; rel=next", None),
            ("</v1/runs?cursor=x>; rel=prev", None),
            ("nonsense; rel=next", None),
        ] {
            assert_eq!(next_cursor(link).as_deref(), want, "{link}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_server_or_refused(
            text in " ?([hH]ttps?://|ftp://|//)?([a-zA-Z0-9.-]{0,9}|\\[::1\\]|me:secret@h)(:[0-9]{0,5})?(/[a-z/?#%é -]{0,8})?|\\PC{0,20}",
        ) {
            match Base::parse(&text) {
                Ok(base) => proptest::prop_assert_eq!(Base::parse(base.as_str()), Ok(base.clone())),
                Err(why) => proptest::prop_assert!(!why.contains("secret"), "{}", why),
            }
        }

        /// What is escaped is one part of a path or one value of a query, and comes back as it was.
        #[test]
        fn any_text_is_escaped_and_comes_back(text in "\\PC{0,20}|[\u{0}-\u{7f}]{0,20}|\\.{1,2}") {
            let escaped = encode(&text);
            proptest::prop_assert!(!escaped.contains(['/', '?', '#', '&', '=', '+', ',', ' ']) && escaped.is_ascii());
            proptest::prop_assert!(escaped != "." && escaped != "..");
            let link = format!("</v1/runs?a=b&cursor={escaped}>; rel=\"next\"");
            proptest::prop_assert_eq!(next_cursor(&link), Some(text));
        }

        #[test]
        fn any_link_is_read_or_passed_over(link in "(<|>|;|,|\\?|&|cursor=|rel=\"?next\"?|[a-z%é]{0,3}){0,12}") {
            drop(next_cursor(&link));
        }
    }
}
