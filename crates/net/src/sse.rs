//! Server-sent events from a stream of bytes, as the WHATWG HTML standard (section 9.2.6) reads them.
//!
//! Invariant: the events do not depend on where the bytes were cut. An event that its blank line does not end is
//! never handed out, so half an event is no event. Knows nothing of what the data means.

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its type; `message` when the stream named none.
    pub event: String,
    /// Its data lines, joined by line feeds.
    pub data: String,
    /// The last id that the stream named, in this event or before.
    pub id: Option<String>,
}

/// An event has more bytes than the reader takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream has more than {limit} bytes")]
pub struct TooLong {
    /// The limit, in bytes.
    pub limit: usize,
}

const BOM: &[u8] = "\u{feff}".as_bytes();

/// Reads one stream. Feed it with [`Parser::push`]; what is unfinished at the end is dropped with it.
#[derive(Clone, Debug)]
pub struct Parser {
    limit: usize,
    line: Vec<u8>,
    /// The last byte was a CR that ended a line: an LF right after it belongs to the same line end.
    after_cr: bool,
    first_line: bool,
    event: String,
    data: String,
    id: Option<String>,
    retry_ms: Option<u64>,
}

impl Parser {
    /// A reader that refuses a line or an event of more than `limit` bytes.
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            after_cr: false,
            first_line: true,
            event: String::new(),
            data: String::new(),
            id: None,
            retry_ms: None,
        }
    }

    /// The events that `chunk` completes, in order.
    pub fn push(&mut self, mut chunk: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        if self.after_cr && !chunk.is_empty() {
            self.after_cr = false;
            chunk = chunk.strip_prefix(b"\n").unwrap_or(chunk);
        }
        while let Some(end) = chunk.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (line, rest) = chunk.split_at(end);
            self.grow_line(line)?;
            events.extend(self.end_line()?);
            self.after_cr = rest == b"\r";
            chunk = rest.strip_prefix(b"\r\n").or_else(|| rest.get(1..)).unwrap_or_default();
        }
        self.grow_line(chunk)?;
        Ok(events)
    }

    /// How long the server asks to wait before reconnecting, in milliseconds, if it did.
    pub const fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    fn grow_line(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        self.room_for(self.line.len() + bytes.len())?;
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn room_for(&self, bytes: usize) -> Result<(), TooLong> {
        if bytes > self.limit { Err(TooLong { limit: self.limit }) } else { Ok(()) }
    }

    /// Acts on the line that is complete now. A blank one ends the event.
    fn end_line(&mut self) -> Result<Option<Event>, TooLong> {
        let bytes = std::mem::take(&mut self.line);
        let mut bytes = bytes.as_slice();
        if std::mem::take(&mut self.first_line) {
            bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
        }
        if bytes.is_empty() {
            return Ok(self.end_event());
        }
        // Lines are decoded whole, so a character that was cut between two chunks is whole again.
        let line = String::from_utf8_lossy(bytes);
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        self.field(name, value.strip_prefix(' ').unwrap_or(value))?;
        Ok(None)
    }

    /// A comment has the empty name; unknown names are ignored, as the standard wants.
    fn field(&mut self, name: &str, value: &str) -> Result<(), TooLong> {
        match name {
            "data" => {
                self.room_for(self.data.len() + value.len() + 1)?;
                self.data.push_str(value);
                self.data.push('\n');
            }
            "event" => value.clone_into(&mut self.event),
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "retry" if value.bytes().all(|b| b.is_ascii_digit()) => {
                self.retry_ms = value.parse().ok().or(self.retry_ms);
            }
            _ => {}
        }
        Ok(())
    }

    /// An event without a data line is none, but its id counts.
    fn end_event(&mut self) -> Option<Event> {
        let mut event = std::mem::take(&mut self.event);
        let mut data = std::mem::take(&mut self.data);
        data.pop()?;
        if event.is_empty() {
            "message".clone_into(&mut event);
        }
        Some(Event { event, data, id: self.id.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(chunks: &[&[u8]]) -> Vec<Event> {
        let mut parser = Parser::new(1 << 16);
        chunks.iter().flat_map(|chunk| parser.push(chunk).unwrap()).collect()
    }

    fn event(event: &str, data: &str, id: Option<&str>) -> Event {
        Event { event: event.to_owned(), data: data.to_owned(), id: id.map(str::to_owned) }
    }

    const STREAM: &str = "\u{feff}: comment\r\n\r\ndata: one\rdata: żółw 🐢\r\revent: add\nid: 7\ndata:two\n\n\
                          id\ndata\n\nretry: 250\nnope: x\ndata:  three\r\n\r\nevent: lost\n\ndata: half";

    #[test]
    fn the_whole_grammar() {
        let want = [
            event("message", "one\nżółw 🐢", None),
            event("add", "two", Some("7")),
            event("message", "", Some("")),
            event("message", " three", Some("")),
        ];
        assert_eq!(read(&[STREAM.as_bytes()]), want);
    }

    #[test]
    fn where_the_bytes_are_cut_does_not_matter() {
        let bytes = STREAM.as_bytes();
        let want = read(&[bytes]);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&single), want);
        for at in 0..=bytes.len() {
            let (left, right) = bytes.split_at(at);
            assert_eq!(read(&[left, right]), want, "cut at {at}");
            assert_eq!(read(&[left, b"", right]), want, "cut twice at {at}");
        }
    }

    #[test]
    fn odd_bytes_and_numbers_are_harmless() {
        assert_eq!(read(&[b"data: \xff\n\n"]), [event("message", "\u{fffd}", None)]);
        assert_eq!(read(&[b"id: a\0b\ndata: x\n\n"]), [event("message", "x", None)]);
        let mut parser = Parser::new(100);
        parser.push(b"retry: 5\nretry: -1\nretry: 99999999999999999999999\n\n").unwrap();
        assert_eq!(parser.retry_ms(), Some(5));
    }

    #[test]
    fn lines_and_events_are_bounded() {
        let too_long = Err(TooLong { limit: 10 });
        assert_eq!(Parser::new(10).push(b"data: 123456"), too_long);
        assert_eq!(Parser::new(10).push(b"data: 1234\n\n").unwrap().len(), 1);
        assert_eq!(Parser::new(10).push(b"data:12345\ndata:12345\n"), too_long);
        let mut parser = Parser::new(10);
        assert_eq!(parser.push(b"01234567890123456789").map(|_| ()), Err(TooLong { limit: 10 }));
    }

    proptest! {
        /// Any text at all, cut anywhere: the same events, and never a panic.
        #[test]
        fn cuts_never_matter(
            lines in proptest::collection::vec("(data|id|event|retry|)(:| |: )[a-zé🐢:\\x00]{0,6}(\r|\n|\r\n|\n\n|\r\r)", 0..20),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..20),
        ) {
            let text = lines.concat().into_bytes();
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            ends.push(0);
            ends.push(text.len());
            ends.sort_unstable();
            let pieces: Vec<&[u8]> = ends.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&pieces), read(&[&text]));
        }
    }
}
