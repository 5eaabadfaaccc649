//! Cuts a stream into its events without changing a byte, and finds an event's data.
//!
//! Invariant: the events and the rest, one after another, are the bytes that came. An event ends with its blank line.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};

/// What is not complete is kept up to here; a longer event is handed on in parts.
const KEPT_MAX: usize = 4 << 20;

#[derive(Debug, Default)]
pub(super) struct Frames {
    kept: BytesMut,
    /// Up to here no blank line begins.
    looked: usize,
}

impl Frames {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Bytes> {
        self.kept.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(end) = end_of_event(&self.kept, self.looked) {
            events.push(self.kept.split_to(end).freeze());
            self.looked = 0;
        }
        // A blank line may have begun with the last three bytes.
        self.looked = self.kept.len().saturating_sub(3);
        if self.kept.len() > KEPT_MAX {
            events.push(self.rest());
        }
        events
    }

    pub(super) fn rest(&mut self) -> Bytes {
        self.looked = 0;
        std::mem::take(&mut self.kept).freeze()
    }
}

/// Where the first event ends: behind two ends of lines in a row. A CR at the end of the bytes may be half of one.
fn end_of_event(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += bytes.get(at..)?.iter().position(|byte| matches!(byte, b'\n' | b'\r'))?;
        let second = end_of_line(bytes, at)?;
        match end_of_line(bytes, second) {
            Some(end) => return Some(end),
            None if second < bytes.len() && !matches!(bytes.get(second), Some(b'\r')) => at = second,
            None => return None,
        }
    }
}

/// Behind the end of a line that begins at `at`, if one does and is known to be whole.
fn end_of_line(bytes: &[u8], at: usize) -> Option<usize> {
    match (bytes.get(at)?, bytes.get(at + 1)) {
        (b'\n', _) => Some(at + 1),
        (b'\r', Some(b'\n')) => Some(at + 2),
        (b'\r', Some(_)) => Some(at + 1),
        _ => None,
    }
}

/// The data lines of an event, joined; empty when it has none.
pub(super) fn data(event: &[u8]) -> Cow<'_, [u8]> {
    let lines = event.split(|byte| matches!(byte, b'\n' | b'\r'));
    let mut found = lines.filter_map(|line| {
        let value = line.strip_prefix(b"data")?;
        let value = if value.is_empty() { value } else { value.strip_prefix(b":")? };
        Some(value.strip_prefix(b" ").unwrap_or(value))
    });
    let Some(first) = found.next() else { return Cow::Borrowed(&[]) };
    let Some(second) = found.next() else { return Cow::Borrowed(first) };
    let mut all = [first, second].join(&b'\n');
    for more in found {
        all.push(b'\n');
        all.extend_from_slice(more);
    }
    Cow::Owned(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> (Vec<Bytes>, Bytes) {
        let mut frames = Frames::default();
        let events = pieces.iter().flat_map(|piece| frames.push(piece)).collect();
        (events, frames.rest())
    }

    #[test]
    fn events_end_with_their_blank_line_whatever_ends_lines() {
        let stream = b"data: a\n\nevent: b\r\ndata: b\r\n\r\n: c\r\rdata: d\ndata\n\n\ndata: half";
        let (events, rest) = cut(&[stream]);
        let want: [&[u8]; 4] =
            [b"data: a\n\n", b"event: b\r\ndata: b\r\n\r\n", b": c\r\r", b"data: d\ndata\n\n"];
        assert_eq!(events, want);
        assert_eq!(&rest[..], b"\ndata: half");
        let data: Vec<_> = events.iter().map(|event| data(event)).collect();
        assert_eq!(data, [&b"a"[..], b"b", b"", b"d\n"]);
    }

    #[test]
    fn where_the_bytes_are_cut_does_not_matter() {
        let stream = b"data: a\n\nevent: b\r\ndata: b\r\n\r\ndata: c\n\ndata: [DONE]\n\n";
        let want = cut(&[stream]);
        for at in 0..=stream.len() {
            let (left, right) = stream.split_at(at);
            assert_eq!(cut(&[left, right]), want, "cut at {at}");
        }
        assert_eq!(cut(&stream.chunks(1).collect::<Vec<_>>()), want);
    }

    #[test]
    fn an_event_without_end_is_handed_on_in_parts() {
        let (events, rest) = cut(&[&vec![b'a'; KEPT_MAX + 1]]);
        assert_eq!((events.len(), events[0].len(), rest.len()), (1, KEPT_MAX + 1, 0));
    }
}
