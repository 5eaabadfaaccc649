//! The first words of TLS: for which name a client asks, read from its `ClientHello`.
//!
//! Invariant: what this reads, a server would read the same way; anything that could be read otherwise is no TLS. Nothing is
//! allocated beyond what came, and what comes is bounded by [`HELLO_MAX`].

/// Bytes of a whole hello, with those of its records.
pub const HELLO_MAX: usize = 20 << 10;
const RECORD_MAX: usize = 16 << 10;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// The beginning of what may become a hello.
    Partial,
    /// Something else.
    NotTls,
    /// A hello, and the name that it asks for.
    Tls(Option<String>),
}

/// Reads the first bytes of a connection.
pub fn read(bytes: &[u8]) -> Hello {
    let full = bytes.len() >= HELLO_MAX;
    match message(bytes) {
        Some(Ok(message)) => named(&message).unwrap_or(Hello::NotTls),
        Some(Err(())) => Hello::NotTls,
        None if full => Hello::NotTls,
        None => Hello::Partial,
    }
}

/// The body of the first handshake message, which may come in several records. `None` while there is more to come.
fn message(bytes: &[u8]) -> Option<Result<Vec<u8>, ()>> {
    let (mut rest, mut whole) = (bytes, Vec::new());
    loop {
        // The first byte that differs tells, so that a program that speaks something else is not waited for.
        match rest {
            [] => return None,
            [kind, ..] if *kind != HANDSHAKE => return Some(Err(())),
            [_, major, ..] if *major != 3 => return Some(Err(())),
            [_, _, _, a, b, after @ ..] => {
                let length = usize::from(u16::from_be_bytes([*a, *b]));
                if length == 0 || length > RECORD_MAX {
                    return Some(Err(()));
                }
                let (record, next) = after.split_at(length.min(after.len()));
                whole.extend_from_slice(record);
                if let Some(judged) = judged(&whole) {
                    return Some(judged);
                }
                if record.len() < length {
                    return None;
                }
                rest = next;
            }
            _ => return None,
        }
    }
}

/// What the bytes of handshake messages begin with: the body of a hello, something else, or not enough to know.
fn judged(whole: &[u8]) -> Option<Result<Vec<u8>, ()>> {
    match whole {
        [kind, ..] if *kind != CLIENT_HELLO => Some(Err(())),
        [_, a, b, c, body @ ..] => {
            let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            if length > HELLO_MAX {
                return Some(Err(()));
            }
            body.get(..length).map(|body| Ok(body.to_vec()))
        }
        _ => None,
    }
}

/// What is left to be read of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    }

    /// A part that says its own length.
    fn part(&mut self, bytes: usize) -> Option<Self> {
        let length = self.number(bytes)?;
        self.take(length).map(Reader)
    }
}

/// A hello with its name; `None` when it breaks its own form, or has two.
fn named(message: &[u8]) -> Option<Hello> {
    let mut rest = Reader(message);
    rest.take(2 + 32)?;
    rest.part(1)?;
    rest.part(2)?;
    rest.part(1)?;
    if rest.0.is_empty() {
        return Some(Hello::Tls(None));
    }
    let mut extensions = rest.part(2)?;
    if !rest.0.is_empty() {
        return None;
    }
    let mut found = None;
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let mut body = extensions.part(2)?;
        if kind != usize::from(SERVER_NAME) {
            continue;
        }
        let mut list = body.part(2)?;
        let is_host = list.number(1)? == usize::from(HOST_NAME);
        let host = list.part(2)?;
        if found.is_some() || !is_host || !list.0.is_empty() || !body.0.is_empty() {
            return None;
        }
        found = Some(std::str::from_utf8(host.0).ok()?.to_owned());
    }
    Some(Hello::Tls(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(bytes: usize, body: &[u8]) -> Vec<u8> {
        let length = body.len().to_be_bytes();
        [&length[length.len() - bytes..], body].concat()
    }

    fn server_name(names: &[&str]) -> Vec<u8> {
        let list: Vec<u8> =
            names.iter().flat_map(|name| [vec![HOST_NAME], sized(2, name.as_bytes())].concat()).collect();
        [vec![0, 0], sized(2, &sized(2, &list))].concat()
    }

    fn hello(extensions: &[u8]) -> Vec<u8> {
        let body = [
            &[3, 3][..],
            &[7; 32],
            &sized(1, &[1; 32]),
            &sized(2, &[0x13, 0x01]),
            &sized(1, &[0]),
            &sized(2, extensions),
        ]
        .concat();
        [vec![CLIENT_HELLO], sized(3, &body)].concat()
    }

    fn records(message: &[u8], each: usize) -> Vec<u8> {
        message.chunks(each).flat_map(|chunk| [vec![HANDSHAKE, 3, 1], sized(2, chunk)].concat()).collect()
    }

    #[test]
    fn names_are_read_however_the_hello_is_cut() {
        let other = [0, 43, 0, 3, 2, 3, 4];
        let message = hello(&[&other[..], &server_name(&["api.example.com"])].concat());
        let want = Hello::Tls(Some("api.example.com".to_owned()));
        for each in [1, 3, 4, 5, 40, 16_384] {
            let whole = records(&message, each);
            assert_eq!(read(&whole), want, "{each}");
            for cut in 0..whole.len() {
                assert_eq!(read(&whole[..cut]), Hello::Partial, "{each} {cut}");
            }
            // What follows is not looked at.
            assert_eq!(read(&[&whole[..], b"\x14\x03\x03\0\x01\x01"].concat()), want);
        }
        assert_eq!(read(&records(&hello(&other), 100)), Hello::Tls(None));
    }

    #[test]
    fn what_is_no_hello_is_known_at_once() {
        let good = server_name(&["a.example"]);
        let two = server_name(&["a.example", "b.example"]);
        let twice = [good.clone(), server_name(&["b.example"])].concat();
        let mut long = good.clone();
        long[3] += 1;
        for (about, bytes) in [
            ("HTTP", b"GET / HTTP/1.1\r\n".to_vec()),
            ("one byte of HTTP", b"G".to_vec()),
            ("SSH", b"SSH-2.0-x".to_vec()),
            ("TLS of another age", vec![HANDSHAKE, 2, 0]),
            ("an alert", vec![21, 3, 3, 0, 2, 1, 0]),
            ("another handshake message", vec![HANDSHAKE, 3, 1, 0, 9, 2]),
            ("an empty record", vec![HANDSHAKE, 3, 1, 0, 0]),
            ("a record that is too long", vec![HANDSHAKE, 3, 1, 0xff, 0xff]),
            ("a message that is too long", vec![HANDSHAKE, 3, 1, 0, 9, 1, 0xff, 0xff, 0xff]),
            ("two names", records(&hello(&two), 900)),
            ("the name twice", records(&hello(&twice), 900)),
            ("a length that lies", records(&hello(&long), 900)),
            ("no UTF-8", records(&hello(&[0, 0, 0, 6, 0, 4, 0, 0, 1, 0xff]), 900)),
        ] {
            assert_eq!(read(&bytes), Hello::NotTls, "{about}");
        }
        let endless = [vec![HANDSHAKE, 3, 1, 0x40, 0, 1, 0, 0x4f, 0], vec![0; HELLO_MAX]].concat();
        assert_eq!(read(&endless[..HELLO_MAX]), Hello::NotTls);
    }
}
