//! The head of a request as a program in a box wrote it, read strictly.
//!
//! Invariant: what is read here can be read in one way only. A head with a bare line feed, a folded line, two lengths, or a body whose
//! end only its own chunks say is refused, so whoever gets the request reads the same one. Pure.

/// Bytes of a head.
pub(crate) const HEAD_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 100;
/// What is between a program and its proxy, and not for whoever it asks.
const OURS: [&str; 10] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "upgrade",
    "http2-settings",
    "host",
];

/// What the first bytes of a connection are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// More must come.
    Partial,
    /// No request.
    Invalid,
    /// A head, and how many bytes it has.
    Whole(Head, usize),
}

/// A head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) target: Target,
    pub(crate) headers: Vec<(String, String)>,
    /// Bytes of the body.
    pub(crate) length: u64,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// `CONNECT host:port`.
    Tunnel { host: String, port: u16 },
    /// `GET http://host:port/path`.
    Away { host: String, port: u16, path: String },
    /// `GET /path`: of us.
    Here { path: String },
}

/// Reads the first bytes of a connection.
pub(crate) fn read(bytes: &[u8]) -> Read {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if bytes.len() >= HEAD_MAX { Read::Invalid } else { Read::Partial };
    };
    let text = bytes.get(..end).and_then(|head| std::str::from_utf8(head).ok());
    match text.filter(|_| end < HEAD_MAX).and_then(head) {
        Some(head) => Read::Whole(head, end + 4),
        None => Read::Invalid,
    }
}

fn head(text: &str) -> Option<Head> {
    let mut lines = text.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let fine = is_token(method) && words.next().is_none() && matches!(version, "HTTP/1.1" | "HTTP/1.0");
    let headers: Option<Vec<_>> = lines.map(header).collect();
    let headers = headers.filter(|headers| fine && headers.len() <= HEADERS_MAX)?;
    let target = self::target(method, target)?;
    let length = length(&headers)?;
    Some(Head { method: method.to_owned(), target, headers, length })
}

fn is_token(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(plain)
}

fn header(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    let value = value.trim_matches([' ', '\t']);
    let clean = !value.contains(|c: char| c.is_control() && c != '\t');
    (is_token(name) && clean).then(|| (name.to_ascii_lowercase(), value.to_owned()))
}

fn length(headers: &[(String, String)]) -> Option<u64> {
    let mut lengths = headers.iter().filter(|(name, _)| name == "content-length");
    if headers.iter().any(|(name, _)| name == "transfer-encoding") {
        return None;
    }
    match (lengths.next(), lengths.next()) {
        (None, _) => Some(0),
        (Some((_, value)), None) if value.bytes().all(|byte| byte.is_ascii_digit()) => value.parse().ok(),
        _ => None,
    }
}

fn target(method: &str, target: &str) -> Option<Target> {
    if target.is_empty() || target.contains(|c: char| c.is_control() || !c.is_ascii() || c == '#') {
        return None;
    }
    if method == "CONNECT" {
        let (host, port) = authority(target)?;
        return Some(Target::Tunnel { host, port: port? });
    }
    if target.starts_with('/') {
        return Some(Target::Here { path: target.to_owned() });
    }
    let rest = target.split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("http://"))?.1;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at_checked(end)?;
    let (host, port) = authority(host)?;
    let slash = if path.starts_with('/') { "" } else { "/" };
    Some(Target::Away { host, port: port.unwrap_or(80), path: format!("{slash}{path}") })
}

/// A host and its port, which may be missing.
fn authority(text: &str) -> Option<(String, Option<u16>)> {
    let split = match text.rfind(']') {
        Some(end) => text.split_at_checked(end + 1)?,
        None => text.split_at_checked(text.find(':').unwrap_or(text.len()))?,
    };
    let port = match split.1.strip_prefix(':') {
        None if split.1.is_empty() => None,
        None => return None,
        Some(port) if (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(port.parse().ok().filter(|port| *port > 0)?)
        }
        Some(_) => return None,
    };
    Some((split.0.to_owned(), port))
}

impl Head {
    /// A header's value.
    pub(crate) fn header(&self, wanted: &str) -> Option<&str> {
        self.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }

    /// The same request for whoever is asked, over a connection that carries no other.
    pub(crate) fn passed_on(&self, host: &str, port: u16, path: &str) -> String {
        let named = self.header("connection").unwrap_or_default().to_ascii_lowercase();
        let named: Vec<&str> = named.split(',').map(str::trim).collect();
        let ours = |name: &str| OURS.contains(&name) || named.contains(&name) && name != "content-length";
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let port = if port == 80 { String::new() } else { format!(":{port}") };
        let mut text = format!("{} {path} HTTP/1.1\r\nhost: {host}{port}\r\n", self.method);
        for (name, value) in self.headers.iter().filter(|(name, _)| !ours(name)) {
            text.extend([name, ": ", value, "\r\n"]);
        }
        text + "connection: close\r\n\r\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        match read(text.as_bytes()) {
            Read::Partial => "partial".to_owned(),
            Read::Invalid => "invalid".to_owned(),
            Read::Whole(head, _) => match head.target {
                Target::Tunnel { host, port } => format!("tunnel {host} {port}"),
                Target::Away { host, port, path } => format!("away {host} {port} {path} {}", head.length),
                Target::Here { path } => format!("here {path}"),
            },
        }
    }

    #[test]
    fn targets() {
        for (line, want) in [
            ("CONNECT a.example:443 HTTP/1.1", "tunnel a.example 443"),
            ("CONNECT [::1]:443 HTTP/1.1", "tunnel [::1] 443"),
            ("CONNECT a.example HTTP/1.1", "invalid"),
            ("CONNECT a.example:0 HTTP/1.1", "invalid"),
            ("CONNECT a.example:65536 HTTP/1.1", "invalid"),
            ("CONNECT a.example:+443 HTTP/1.1", "invalid"),
            ("CONNECT a.example:443:80 HTTP/1.1", "invalid"),
            ("CONNECT ::1:443 HTTP/1.1", "invalid"),
            ("GET http://a.example HTTP/1.1", "away a.example 80 / 0"),
            ("GET HTTP://a.example:8080/b?c HTTP/1.0", "away a.example 8080 /b?c 0"),
            ("GET http://a.example?c HTTP/1.1", "away a.example 80 /?c 0"),
            ("GET http://a@b.example/ HTTP/1.1", "away a@b.example 80 / 0"),
            ("GET http://a.example/#x HTTP/1.1", "invalid"),
            ("GET https://a.example/ HTTP/1.1", "invalid"),
            ("GET ftp://a.example/ HTTP/1.1", "invalid"),
            ("GET /v1/step HTTP/1.1", "here /v1/step"),
            ("GET a.example/ HTTP/1.1", "invalid"),
            ("GET  http://a.example/ HTTP/1.1", "invalid"),
            ("GET http://a.example/ HTTP/2.0", "invalid"),
            ("GET http://a.example/", "invalid"),
            ("G(T http://a.example/ HTTP/1.1", "invalid"),
            ("", "invalid"),
        ] {
            assert_eq!(said(&format!("{line}\r\n\r\n")), want, "{line}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let get = "POST http://a.example/ HTTP/1.1\r\n";
        for (headers, want) in [
            ("content-length: 3\r\n", "away a.example 80 / 3"),
            ("Content-Length:3\r\nHost: b.example\r\n", "away a.example 80 / 3"),
            ("content-length: 3\r\ncontent-length: 3\r\n", "invalid"),
            ("content-length: 3, 3\r\n", "invalid"),
            ("content-length: +3\r\n", "invalid"),
            ("content-length:\r\n", "invalid"),
            ("content-length: 99999999999999999999\r\n", "invalid"),
            ("transfer-encoding: chunked\r\n", "invalid"),
            ("transfer-encoding: chunked\r\ncontent-length: 3\r\n", "invalid"),
            ("content-length : 3\r\n", "invalid"),
            (" content-length: 3\r\n", "invalid"),
            ("a: b\nc: d\r\n", "invalid"),
            ("a: b\r\n c\r\n", "invalid"),
            ("a: b\0\r\n", "invalid"),
            ("a\r\n", "invalid"),
        ] {
            assert_eq!(said(&format!("{get}{headers}\r\n")), want, "{headers:?}");
        }
        assert_eq!(said(&format!("{get}{}\r\n", "a: b\r\n".repeat(101))), "invalid");
        assert_eq!(said(&format!("{get}a: {}", "b".repeat(HEAD_MAX))), "invalid");
        assert_eq!(said(get), "partial");
    }

    #[test]
    fn what_is_between_a_program_and_its_proxy_stays_there() {
        let text = "POST http://a.example:8080/b HTTP/1.1\r\nHost: evil.example\r\nAccept: */*\r\nConnection: x-secret, content-length\r\n\
                    X-Secret: 1\r\nProxy-Authorization: p\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc";
        let Read::Whole(head, length) = read(text.as_bytes()) else { panic!("a head") };
        assert_eq!(&text[length..], "abc");
        let want = "POST /b HTTP/1.1\r\nhost: a.example:8080\r\naccept: */*\r\ncontent-length: 3\r\nconnection: close\r\n\r\n";
        assert_eq!(head.passed_on("a.example", 8_080, "/b"), want);
        assert!(head.passed_on("::1", 80, "/b").contains("host: [::1]\r\n"));
    }
}
