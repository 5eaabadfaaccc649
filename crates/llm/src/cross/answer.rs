//! A streamed answer, turned as it comes: the provider's bytes in, the client's out.
//!
//! Invariant: where the network cut the bytes cannot matter. Whatever ends it, its client is told so in its own words: by the end of
//! an answer, or by an error that its official clients raise. Pure: the caller feeds it.

use lantern_policy::escrow::Seen;
use lantern_types::Failure;

use super::{broken, used};
use crate::Family;
use crate::neutral::{Delta, Finish, Opening, Usage};
use crate::wire::{Decoder, Encoder, Stamp};

/// Turns one stream.
#[derive(Debug)]
pub struct Turning {
    from: Family,
    decoder: Option<Decoder>,
    encoder: Encoder,
    seen: Seen,
    usage: Option<Usage>,
    /// Parts that began and did not end.
    open: Vec<usize>,
    whole: bool,
}

impl Turning {
    /// For a stream of `from` to a client of `to`.
    pub fn new(to: Family, from: Family, stamp: Stamp, hides: bool) -> Self {
        Self {
            from,
            decoder: Some(Decoder::new(from)),
            encoder: Encoder::new(to, from, stamp),
            seen: Seen { hides, ..Seen::default() },
            usage: None,
            open: Vec::new(),
            whole: false,
        }
    }

    /// What these bytes come to for the client.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Some(decoder) = &mut self.decoder else { return Vec::new() };
        let mut steps = Vec::new();
        let pushed = decoder.push_into(bytes, &mut steps);
        let done = decoder.is_done();
        let mut out = self.written(&steps);
        match pushed {
            Err(failure) => out.extend(self.fail(&failure)),
            Ok(()) if done => out.extend(self.end()),
            Ok(()) => {}
        }
        out
    }

    /// No more bytes come: the rest for the client.
    pub fn end(&mut self) -> Vec<u8> {
        match self.decoder.take().map(Decoder::finish) {
            Some(Ok(steps)) => {
                self.whole = true;
                self.seen.last_word = self.usage.is_some();
                self.written(&steps)
            }
            Some(Err(failure)) => {
                let problem = broken(&failure);
                self.encoder.fail(&problem)
            }
            None => Vec::new(),
        }
    }

    /// Ends it with an error.
    pub fn fail(&mut self, failure: &Failure) -> Vec<u8> {
        match self.decoder.take() {
            Some(_) => self.encoder.fail(&broken(failure)),
            None => Vec::new(),
        }
    }

    /// Ends it here as if it had reached its length.
    pub fn stop(&mut self) -> Vec<u8> {
        if self.decoder.take().is_none() {
            return Vec::new();
        }
        let mut steps: Vec<Delta> =
            std::mem::take(&mut self.open).into_iter().map(|part| Delta::Close { part }).collect();
        let usage = self.usage.unwrap_or_default();
        let output = usage.output.max(self.seen.at_least());
        steps.push(Delta::Usage(Usage { output, ..usage }));
        steps.extend([Delta::Finish { finish: Finish::Length, stop: None }, Delta::End]);
        steps.iter().flat_map(|step| self.encoder.push(step)).collect()
    }

    /// Whether nothing more is to be read.
    pub const fn is_over(&self) -> bool {
        self.decoder.is_none()
    }

    /// Whether the provider said all of it.
    pub const fn is_whole(&self) -> bool {
        self.whole
    }

    /// What was seen so far.
    pub const fn seen(&self) -> Seen {
        self.seen
    }

    fn written(&mut self, steps: &[Delta]) -> Vec<u8> {
        let mut out = Vec::new();
        for step in steps {
            self.note(step);
            out.extend(self.encoder.push(step));
        }
        out
    }

    fn note(&mut self, step: &Delta) {
        let said = match step {
            Delta::Open { part, what } => {
                self.open.push(*part);
                match what {
                    Opening::Call { name, .. } => name.len(),
                    Opening::Other(json) => json.text().len(),
                    Opening::Text | Opening::Refusal | Opening::Thought { .. } => 0,
                }
            }
            Delta::Add { text, .. } => text.len(),
            Delta::Close { part } => {
                self.open.retain(|open| open != part);
                0
            }
            Delta::Usage(usage) => {
                self.usage = Some(*usage);
                let now = used(self.from, *usage);
                self.seen.reported = Some(self.seen.reported.map_or(now, |before| before.max(now)));
                0
            }
            _ => 0,
        };
        self.seen.bytes = self.seen.bytes.saturating_add(said as u64);
        self.seen.pieces = self.seen.pieces.saturating_add(u64::from(said > 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lantern_types::call::Used;
    use std::path::Path;

    fn stamp() -> Stamp {
        Stamp { id: "id_1".to_owned(), created: 1, model: "m".to_owned(), stream_usage: true }
    }

    /// The recorded streams of three wires, each turned into the others, cut at every byte.
    #[test]
    fn where_the_bytes_are_cut_does_not_matter() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        for (from, name) in
            [(Family::Chat, "chat"), (Family::Messages, "messages"), (Family::Generate, "generate")]
        {
            for case in ["text.sse", "tools.sse", "broken_off.sse", "error_midway.sse"] {
                let bytes = std::fs::read(folder.join(name).join("stream").join(case)).unwrap();
                for to in [Family::Chat, Family::Messages, Family::Responses] {
                    let turn = |pieces: &[&[u8]]| {
                        let mut turning = Turning::new(to, from, stamp(), false);
                        let mut out: Vec<u8> = pieces.iter().flat_map(|piece| turning.push(piece)).collect();
                        out.extend(turning.end());
                        (out, turning.is_whole(), turning.seen())
                    };
                    let want = turn(&[&bytes]);
                    assert_eq!(want.1, matches!(case, "text.sse" | "tools.sse"), "{name} {case}");
                    for at in (0..bytes.len()).step_by(7) {
                        assert!(
                            turn(&[&bytes[..at], &bytes[at..]]) == want,
                            "{name} {case} to {to:?} at {at}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_stream_that_is_stopped_ends_as_one_that_reached_its_length() {
        let chunk = |delta: &str| {
            format!("data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{delta}}}]}}\n\n")
        };
        for (to, want) in [
            (Family::Messages, "\"stop_reason\":\"max_tokens\""),
            (Family::Responses, "response.incomplete"),
            (Family::Chat, "\"finish_reason\":\"length\""),
        ] {
            let mut turning = Turning::new(to, Family::Chat, stamp(), false);
            let begun =
                turning.push(chunk("{\"role\":\"assistant\",\"content\":\"word after word\"}").as_bytes());
            assert!(!begun.is_empty());
            let ended = String::from_utf8(turning.stop()).unwrap();
            assert!(ended.contains(want), "{ended}");
            assert!(turning.is_over() && !turning.is_whole() && turning.seen().bytes == 15);
            assert!(turning.push(b"data: [DONE]\n\n").is_empty() && turning.end().is_empty(), "once");
        }
    }

    #[test]
    fn what_came_from_a_cache_costs_what_it_costs_on_the_providers_own_wire() {
        let usage = Usage {
            input: 100,
            output: 7,
            cache_read: 40,
            cache_write: 30,
            cache_write_long: 10,
            thoughts: 0,
        };
        let apart = Used { input: 30, cache_read: 40, cache_write: 20, cache_write_long: 10, output: 7 };
        let full = Used { input: 100, output: 7, ..Used::default() };
        for (family, want) in [
            (Family::Messages, apart),
            (Family::Converse, apart),
            (Family::Chat, full),
            (Family::Generate, full),
        ] {
            assert_eq!(used(family, usage), want, "{family:?}");
        }
    }
}
