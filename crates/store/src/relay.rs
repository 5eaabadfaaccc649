//! What a model says, on its way to the processes where somebody watches: in pieces that fit a notification, sealed.
//!
//! Invariant: text leaves this process only under a key that is derived from the master key, one for each run, and is
//! written nowhere. A process does not hear itself. What cannot be opened is dropped: all of it is best effort, and the
//! event that settles the step makes it whole.

use std::sync::Arc;

use aws_lc_rs::aead::{Aad, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use lantern_types::edge::IdGen;
use lantern_types::{Digest, RunId};

use crate::error::{Error, Result};
use crate::keys::Keys;
use crate::notify::Delta;
use crate::seal::DataKey;

/// Bytes of text in one piece, and of a step's id: sealed and written as text they stay below the 8,000 bytes that a
/// notification may have.
const TEXT_MAX: usize = 4_096;
const STEP_MAX: usize = 1_024;
const NONCE: usize = 12;
/// Letters of a process's mark.
const MARK: usize = 16;
/// Letters of a run's id.
const RUN: usize = 32;

/// One process's end of the relay. Cheap to clone.
#[derive(Clone)]
pub struct Relay {
    key: Arc<DataKey>,
    ids: Arc<dyn IdGen>,
    /// Tells this process's notifications from those of others.
    mark: String,
}

impl Relay {
    /// The end of a process whose master key is `keys`: it understands those that have the same.
    pub fn new(keys: &Keys, ids: Arc<dyn IdGen>) -> Result<Self> {
        let mut mark = [0; MARK / 2];
        ids.fill(&mut mark);
        let key = DataKey::new(keys.derive("relay")?.expose())?;
        Ok(Self { key: Arc::new(key), ids, mark: hex::encode(mark) })
    }

    /// A notification that these runs are watched here.
    pub(crate) fn watching(&self, runs: &[RunId]) -> String {
        let runs: Vec<String> = runs.iter().map(|run| hex::encode(run.bytes())).collect();
        format!("{}{}", self.mark, runs.join(","))
    }

    /// The runs that another process watches.
    pub(crate) fn watched(&self, payload: &str) -> Vec<RunId> {
        let runs = self.foreign(payload).unwrap_or_default();
        runs.split(',').filter_map(|run| RunId::from_bytes(&hex::decode(run).ok()?)).collect()
    }

    /// A notification with a piece that [`pieces`] made.
    pub(crate) fn seal(&self, delta: &Delta) -> Result<String> {
        let length = u16::try_from(delta.step.len()).map_err(Error::internal)?;
        let mut sealed = delta.generation.to_be_bytes().to_vec();
        sealed.extend(delta.offset.to_be_bytes());
        sealed.extend(length.to_be_bytes());
        sealed.extend(delta.step.bytes());
        sealed.extend(delta.text.bytes());
        let mut nonce = [0; NONCE];
        self.ids.fill(&mut nonce);
        let place = place(delta.run);
        self.key
            .of(&place)?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place.bytes()),
                &mut sealed,
            )
            .map_err(|_| Error::internal("sealing failed"))?;
        let text = STANDARD_NO_PAD.encode([nonce.as_slice(), &sealed].concat());
        Ok(format!("{}{}{text}", self.mark, hex::encode(delta.run.bytes())))
    }

    /// What another process says; `None` when it is our own, or nothing that we understand.
    pub(crate) fn open(&self, payload: &str) -> Option<Delta> {
        let (run, text) = self.foreign(payload)?.split_at_checked(RUN)?;
        let run = RunId::from_bytes(&hex::decode(run).ok()?)?;
        let mut sealed = STANDARD_NO_PAD.decode(text).ok()?;
        let nonce = *sealed.first_chunk::<NONCE>()?;
        let place = place(run);
        let plain = self
            .key
            .of(&place)
            .ok()?
            .open_within(Nonce::assume_unique_for_key(nonce), Aad::from(place.bytes()), &mut sealed, NONCE..)
            .ok()?;
        let (generation, rest) = plain.split_first_chunk()?;
        let (offset, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (step, text) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        Some(Delta {
            run,
            step: String::from_utf8(step.to_vec()).ok()?,
            generation: u32::from_be_bytes(*generation),
            offset: u64::from_be_bytes(*offset),
            text: String::from_utf8(text.to_vec()).ok()?,
        })
    }

    fn foreign<'a>(&self, payload: &'a str) -> Option<&'a str> {
        let (mark, rest) = payload.split_at_checked(MARK)?;
        (mark != self.mark).then_some(rest)
    }
}

fn place(run: RunId) -> Digest {
    Digest::of_parts(&[b"relay", run.bytes()])
}

/// Joins what follows on each other and cuts it to what a notification takes, in the order in which it was said.
pub(crate) fn pieces(said: impl IntoIterator<Item = Arc<Delta>>) -> Vec<Delta> {
    let mut joined: Vec<Delta> = Vec::new();
    for delta in said.into_iter().filter(|delta| delta.step.len() <= STEP_MAX) {
        let same = |last: &&mut Delta| {
            let end = last.offset.saturating_add(last.text.len() as u64);
            (last.run, &last.step, last.generation, end)
                == (delta.run, &delta.step, delta.generation, delta.offset)
        };
        match joined.iter_mut().rev().find(same) {
            Some(last) => last.text.push_str(&delta.text),
            None => joined.push(Delta::clone(&delta)),
        }
    }
    joined.into_iter().flat_map(cut).collect()
}

fn cut(delta: Delta) -> Vec<Delta> {
    let mut cut = Vec::new();
    let (mut rest, mut offset) = (delta.text.as_str(), delta.offset);
    while !rest.is_empty() {
        let (text, more) = rest.split_at_checked(rest.floor_char_boundary(TEXT_MAX)).unwrap_or((rest, ""));
        cut.push(Delta { text: text.to_owned(), offset, step: delta.step.clone(), ..delta });
        offset = offset.saturating_add(text.len() as u64);
        rest = more;
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use lantern_types::DEV_USER;
    use uuid::Uuid;

    /// Draws that count up from a seed.
    struct Counting(u8, std::sync::atomic::AtomicU8);

    impl IdGen for Counting {
        fn uuid(&self) -> Uuid {
            DEV_USER.uuid()
        }
        fn fill(&self, bytes: &mut [u8]) {
            let draw = self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            bytes.fill(self.0.wrapping_add(draw));
        }
    }

    fn relay(key: u8, process: u8) -> Relay {
        let keys = Keys::from_ids(&Counting(key, 0.into()));
        Relay::new(&keys, Arc::new(Counting(process, 0.into()))).unwrap()
    }

    fn said(offset: u64, text: &str) -> Delta {
        let run = RunId::from_uuid(DEV_USER.uuid());
        Delta { run, step: "llm-1".to_owned(), generation: 2, offset, text: text.to_owned() }
    }

    #[test]
    fn what_is_said_is_understood_by_the_others_and_by_nobody_else() {
        let (one, two) = (relay(1, 10), relay(1, 20));
        let payload = one.seal(&said(7, "a secret word")).unwrap();
        assert!(!payload.contains("secret") && !payload.contains("llm-1"), "{payload}");
        assert_ne!(payload, one.seal(&said(7, "a secret word")).unwrap(), "a fresh nonce each time");
        assert_eq!(two.open(&payload), Some(said(7, "a secret word")));
        assert_eq!(one.open(&payload), None, "a process does not hear itself");
        assert_eq!(relay(2, 20).open(&payload), None, "another master key");
        let elsewhere = payload.replacen("00000000", "10000000", 1);
        assert_eq!(two.open(&elsewhere), None, "another run");
        for cut in 0..payload.len() {
            assert_eq!(two.open(&payload[..cut]), None, "{cut}");
        }
        assert_eq!(two.open("é"), None);
    }

    #[test]
    fn watched_runs_are_told_to_the_others() {
        let (one, two) = (relay(1, 10), relay(1, 20));
        let runs: Vec<RunId> = (1..=200).map(|n| RunId::from_uuid(Uuid::from_u128(n))).collect();
        let payload = one.watching(&runs);
        assert!(payload.len() < 8_000, "{}", payload.len());
        assert_eq!(two.watched(&payload), runs);
        assert!(
            one.watched(&payload).is_empty() && two.watched("").is_empty() && two.watched("x").is_empty()
        );
    }

    #[test]
    fn what_follows_is_joined_and_what_is_long_is_cut() {
        let all = |said: Vec<Delta>| pieces(said.into_iter().map(Arc::new));
        assert_eq!(all(vec![said(0, "ab"), said(2, "c"), said(3, "d")]), [said(0, "abcd")]);
        assert_eq!(
            all(vec![said(0, "ab"), said(5, "c")]),
            [said(0, "ab"), said(5, "c")],
            "a gap stays a gap"
        );
        let other = Delta { step: "llm-2".to_owned(), ..said(2, "x") };
        let between = all(vec![said(0, "ab"), other.clone(), said(2, "c")]);
        assert_eq!(between, [said(0, "abc"), other]);
        assert!(all(vec![Delta { step: "s".repeat(STEP_MAX + 1), ..said(0, "x") }]).is_empty());
        assert!(all(vec![said(0, "")]).is_empty());

        let long = "é".repeat(TEXT_MAX * 3);
        let step = "s".repeat(STEP_MAX);
        let cut = all(vec![Delta { step, ..said(1, &long) }]);
        let mut offset = 1;
        for piece in &cut {
            assert_eq!(piece.offset, offset);
            offset += piece.text.len() as u64;
            let payload = relay(1, 10).seal(piece).unwrap();
            assert!(payload.len() < 8_000, "{}", payload.len());
            assert_eq!(relay(1, 20).open(&payload).as_ref(), Some(piece));
        }
        assert_eq!(cut.iter().map(|piece| piece.text.as_str()).collect::<String>(), long);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(128))]

        /// What is not quite a payload says nothing, and so does anything else.
        #[test]
        fn any_payload_is_understood_or_dropped(
            text in "[ -~é🐢]{0,40}",
            at in proptest::prelude::any::<proptest::sample::Index>(),
            with in "|[ -~]{1,2}",
            noise in "[0-9a-f]{16}([0-9a-f]{32})?[0-9a-zA-Z+/=,é]{0,60}",
        ) {
            let (one, two) = (relay(1, 10), relay(1, 20));
            let payload = one.seal(&said(0, &text)).unwrap();
            proptest::prop_assert_eq!(two.open(&payload), Some(said(0, &text)));
            // Behind the mark, which only says that it is not one's own.
            let place = MARK + at.index(payload.len() - MARK);
            let mut changed = payload.clone();
            changed.replace_range(place..=place, &with);
            let same = changed.eq_ignore_ascii_case(&payload) && place < MARK + RUN;
            proptest::prop_assert!(changed == payload || same || two.open(&changed).is_none(), "{}", changed);
            proptest::prop_assert_eq!(two.open(&noise), None);
            proptest::prop_assert!(two.watched(&noise).len() <= noise.len() / RUN + 1);
        }
    }
}
