//! Binary event streams (`application/vnd.amazon.eventstream`), read and written.
//! <https://smithy.io/2.0/aws/amazon-eventstream.html>
//!
//! Invariant: a message comes out only when both of its checksums hold, and the messages do not depend on where the
//! bytes were cut.

use lantern_types::Failure;

use crate::failure::invalid;

/// The lengths, and their checksum.
const PRELUDE: usize = 12;
/// The checksum of the whole.
const TRAILER: usize = 4;
/// No header of a model's stream comes near it.
const HEADERS_MAX: usize = 128 << 10;

/// One message: its headers that are texts, and its payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) payload: Vec<u8>,
}

impl Message {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Its bytes.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut headers = Vec::new();
        for (name, value) in &self.headers {
            headers.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
            headers.extend_from_slice(name.as_bytes());
            headers.push(7);
            headers.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
            headers.extend_from_slice(value.as_bytes());
        }
        let total = PRELUDE + headers.len() + self.payload.len() + TRAILER;
        let from = out.len();
        for length in [total, headers.len()] {
            out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        }
        let prelude = crc(out.get(from..).unwrap_or_default());
        out.extend_from_slice(&prelude.to_be_bytes());
        out.extend_from_slice(&headers);
        out.extend_from_slice(&self.payload);
        let whole = crc(out.get(from..).unwrap_or_default());
        out.extend_from_slice(&whole.to_be_bytes());
    }
}

/// Reads one stream.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    limit: usize,
    bytes: Vec<u8>,
}

impl Reader {
    /// A reader that refuses a message of more than `limit` bytes.
    pub(crate) const fn new(limit: usize) -> Self {
        Self { limit, bytes: Vec::new() }
    }

    /// Adds the messages that these bytes complete to `out`, also those before one that is damaged.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut Vec<Message>) -> Result<(), Failure> {
        self.bytes.extend_from_slice(bytes);
        let mut read = 0;
        while let Some(length) = self.length(read)? {
            let Some(message) = self.bytes.get(read..read + length) else { break };
            out.push(parse(message)?);
            read += length;
        }
        self.bytes.drain(..read);
        Ok(())
    }

    /// The length of the message that begins at `from`, once its prelude is there.
    fn length(&self, from: usize) -> Result<Option<usize>, Failure> {
        let Some(prelude) = self.bytes.get(from..from + PRELUDE) else { return Ok(None) };
        if number(prelude, 8) != Some(crc(prelude.get(..8).unwrap_or_default())) {
            return Err(invalid(
                "the stream is damaged: the lengths of a message do not match their checksum",
            ));
        }
        let size = |at| number(prelude, at).and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
        let (total, headers) = (size(0), size(4));
        if total > self.limit || headers > HEADERS_MAX {
            return Err(invalid(format!("a message of the stream has more than {} bytes", self.limit)));
        }
        if total < PRELUDE + headers + TRAILER {
            return Err(invalid("the stream is damaged: a message is shorter than its headers"));
        }
        Ok(Some(total))
    }
}

fn parse(message: &[u8]) -> Result<Message, Failure> {
    let end = message.len().saturating_sub(TRAILER);
    if number(message, end) != Some(crc(message.get(..end).unwrap_or_default())) {
        return Err(invalid("the stream is damaged: a message does not match its checksum"));
    }
    let split = number(message, 4).and_then(|n| usize::try_from(n).ok()).unwrap_or_default() + PRELUDE;
    let (Some(headers), Some(payload)) = (message.get(PRELUDE..split), message.get(split..end)) else {
        return Err(invalid("the stream is damaged: a message is shorter than its headers"));
    };
    let headers =
        read_headers(headers).ok_or_else(|| invalid("the stream is damaged: a header makes no sense"))?;
    Ok(Message { headers, payload: payload.to_vec() })
}

fn read_headers(mut rest: &[u8]) -> Option<Vec<(String, String)>> {
    let mut headers = Vec::new();
    while let Some((length, after)) = rest.split_first() {
        let (name, after) = after.split_at_checked(usize::from(*length))?;
        let (kind, after) = after.split_first()?;
        let (size, after) = match kind {
            0 | 1 => (0, after),
            2 => (1, after),
            3 => (2, after),
            4 => (4, after),
            5 | 8 => (8, after),
            6 | 7 => {
                let (size, after) = after.split_first_chunk::<2>()?;
                (usize::from(u16::from_be_bytes(*size)), after)
            }
            9 => (16, after),
            _ => return None,
        };
        let (value, after) = after.split_at_checked(size)?;
        if *kind == 7 {
            headers.push((String::from_utf8(name.to_vec()).ok()?, String::from_utf8(value.to_vec()).ok()?));
        }
        rest = after;
    }
    Some(headers)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes))
}

/// CRC-32 as in gzip.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        let at = usize::from(crc.to_le_bytes()[0] ^ byte);
        TABLE.get(at).copied().unwrap_or_default() ^ (crc >> 8)
    })
}

const TABLE: [u32; 256] = table();

#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "constant, and checked by the compiler"
)]
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let (mut crc, mut bit) = (n as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
            bit += 1;
        }
        table[n] = crc;
        n += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_published_checksum() {
        assert_eq!(crc(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc(b""), 0);
    }

    /// The empty message and one header, as the tests of Amazon's own libraries write them.
    #[test]
    fn the_published_messages() {
        let empty = hex("0000001000000000 05c248eb 7d98c8ff");
        assert_eq!(read(64, &[&empty]).unwrap(), [Message::default()]);
        let mut out = Vec::new();
        Message::default().write(&mut out);
        assert_eq!(out, empty);
        let payload = hex("0000001d00000000 fd528c5a 7b27666f6f273a27626172277d c3653936");
        assert_eq!(read(64, &[&payload]).unwrap()[0].payload, b"{'foo':'bar'}");
    }

    fn read(limit: usize, pieces: &[&[u8]]) -> Result<Vec<Message>, Failure> {
        let (mut reader, mut out) = (Reader::new(limit), Vec::new());
        pieces.iter().try_for_each(|piece| reader.push(piece, &mut out))?;
        Ok(out)
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn what_is_damaged_is_refused() {
        let message = Message { headers: vec![(":event-type".into(), "x".into())], payload: b"{}".to_vec() };
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        for at in 0..bytes.len() {
            let mut spoilt = bytes.clone();
            spoilt[at] ^= 1;
            let read = read(1 << 20, &[&spoilt]);
            // A longer length only waits for more, unless its checksum tells.
            assert!(read.is_err(), "byte {at}: {read:?}");
        }
        assert!(read(8, &[&bytes]).is_err());
    }

    proptest! {
        #[test]
        fn messages_come_back_however_they_are_cut(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..4),
            name in "[a-z:-]{1,12}", value in "\\PC{0,20}",
        ) {
            let messages: Vec<Message> = payloads
                .into_iter()
                .map(|payload| Message { headers: vec![(name.clone(), value.clone())], payload })
                .collect();
            let mut bytes = Vec::new();
            for message in &messages {
                message.write(&mut bytes);
            }
            for cut in 0..=bytes.len() {
                prop_assert_eq!(&read(1 << 20, &[&bytes[..cut], &bytes[cut..]]).unwrap(), &messages);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(read(1 << 16, &[&bytes]));
            drop(read_headers(&bytes));
        }
    }
}
