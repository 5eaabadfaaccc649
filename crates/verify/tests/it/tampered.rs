//! Ten thousand receipts with one thing changed: a bit, an order, an end, a part of another run's. Neither verifier believes one.

use std::collections::HashSet;

use lantern_verify::verify;
use serde_json::Value;

use crate::{Folder, golden, keys, other, receipts};

const CHANGED: usize = 10_000;

/// SplitMix64: the same numbers every time.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).unwrap()
    }
}

fn flipped(dice: &mut Dice, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = dice.below(bytes.len());
    bytes[at] ^= 1 << dice.below(8);
    bytes
}

/// The file as values that are written again as they stand: `serde_json` sorts members, as a receipt has them, but for the
/// members of an event, so events are kept as text.
fn parts(bytes: &[u8]) -> (Vec<(String, Vec<String>)>, Value) {
    let text = std::str::from_utf8(bytes).unwrap();
    let mut value: Value = serde_json::from_str(text).unwrap();
    let appends = value["appends"].take();
    let mut rest = text;
    let mut all = Vec::new();
    for append in appends.as_array().unwrap() {
        let mut events = Vec::new();
        for event in append["events"].as_array().unwrap() {
            let start = rest.find(&format!("{{\"seq\":{},", event["seq"])).unwrap();
            let mut stream = serde_json::Deserializer::from_str(&rest[start..]).into_iter::<Value>();
            stream.next().unwrap().unwrap();
            let end = start + stream.byte_offset();
            events.push(rest[start..end].to_owned());
            rest = &rest[end..];
        }
        all.push((append["body"].as_str().unwrap().to_owned(), events));
    }
    (all, value)
}

fn put(bytes: &[u8], appends: &[(String, Vec<String>)]) -> Vec<u8> {
    let text = std::str::from_utf8(bytes).unwrap();
    let (start, end) = (text.find("\"appends\":").unwrap(), text.find(",\"checkpoint\":").unwrap());
    let append = |(body, events): &(String, Vec<String>)| {
        format!("{{\"body\":\"{body}\",\"events\":[{}]}}", events.join(","))
    };
    let list: Vec<String> = appends.iter().map(append).collect();
    format!("{}\"appends\":[{}]{}", &text[..start], list.join(","), &text[end..]).into_bytes()
}

fn reordered(dice: &mut Dice, bytes: &[u8]) -> Vec<u8> {
    let (mut appends, _) = parts(bytes);
    let n = dice.below(appends.len());
    match dice.below(5) {
        0 => appends.swap(0, n),
        1 => {
            let (count, at) = (appends[n].1.len(), dice.below(appends[n].1.len()));
            appends[n].1.swap(at, count - 1);
        }
        // One event less, or one twice.
        2 => drop({
            let at = dice.below(appends[n].1.len());
            appends[n].1.remove(at)
        }),
        3 => {
            let event = appends[n].1[0].clone();
            appends[n].1.push(event);
        }
        // Two appends made one.
        _ => {
            let (_, events) = appends.remove(n);
            let last = appends.len() - 1;
            appends[n.min(last)].1.extend(events);
        }
    }
    put(bytes, &appends)
}

fn truncated(dice: &mut Dice, bytes: &[u8]) -> Vec<u8> {
    if dice.below(3) == 0 {
        let (mut appends, _) = parts(bytes);
        appends.truncate(dice.below(appends.len()));
        return put(bytes, &appends);
    }
    bytes[..dice.below(bytes.len())].to_vec()
}

/// Some of another run's journal: an append, the digest of its body, or one event.
fn spliced_within(dice: &mut Dice, bytes: &[u8], from: &[u8]) -> Vec<u8> {
    let ((mut own, _), (theirs, _)) = (parts(bytes), parts(from));
    let (n, other) = (dice.below(own.len()), &theirs[dice.below(theirs.len())]);
    match dice.below(4) {
        0 => own[n] = other.clone(),
        1 => own.insert(n, other.clone()),
        2 => own[n].0.clone_from(&other.0),
        _ => {
            let at = dice.below(own[n].1.len());
            own[n].1[at].clone_from(&other.1[dice.below(other.1.len())]);
        }
    }
    put(bytes, &own)
}

/// Some members of another run's receipt.
fn spliced(dice: &mut Dice, bytes: &[u8], from: &[u8]) -> Vec<u8> {
    let (own, theirs) = (std::str::from_utf8(bytes).unwrap(), std::str::from_utf8(from).unwrap());
    let names = ["algorithm", "appends", "checkpoint", "keyId", "payload", "proof", "publicKey", "signature"];
    let cuts = |text: &str| -> Vec<usize> {
        let at = |name: &&str| text.rfind(&format!("\"{name}\":")).unwrap();
        let mut cuts: Vec<usize> = names.iter().map(at).collect();
        // These stand in payloads and events too, or nearly.
        cuts[1] = text.find("\"appends\":[").unwrap();
        cuts.push(text.len() - 1);
        cuts
    };
    let (mine, other) = (cuts(own), cuts(theirs));
    let mut out = String::from("{");
    for (own_cut, their_cut) in mine.windows(2).zip(other.windows(2)) {
        let part = if dice.below(3) == 0 {
            &theirs[their_cut[0]..their_cut[1]]
        } else {
            &own[own_cut[0]..own_cut[1]]
        };
        out.push_str(part);
    }
    out.push('}');
    out.into_bytes()
}

#[test]
fn nothing_that_was_changed_is_believed() {
    let (keys, receipts, mut dice) = (keys(), receipts(), Dice(2));
    let whole: HashSet<&[u8]> = receipts.iter().map(|(_, bytes)| bytes.as_slice()).collect();
    let folder = Folder::new("tampered");
    let (mut files, mut kinds) = (Vec::new(), [0; 4]);
    while files.len() < CHANGED {
        let (_, bytes) = &receipts[dice.below(receipts.len())];
        let kind = [0, 0, 0, 0, 1, 1, 2, 2, 3, 3][dice.below(10)];
        let changed = match kind {
            0 => flipped(&mut dice, bytes),
            1 => reordered(&mut dice, bytes),
            2 => truncated(&mut dice, bytes),
            _ => {
                let (other, within) = (dice.below(receipts.len()), dice.below(2) == 0);
                let splice = if within { spliced_within } else { spliced };
                splice(&mut dice, bytes, &receipts[other].1)
            }
        };
        // An order that was changed into itself changed nothing.
        if whole.contains(changed.as_slice()) {
            continue;
        }
        kinds[kind] += 1;
        let name = format!("{}-{kind}", files.len());
        assert!(verify(&changed, Some(&keys)).is_err(), "{name} is believed");
        assert!(verify(&changed, None).is_err(), "{name} agrees with itself");
        files.push(folder.write(&name, &changed));
    }
    assert!(kinds.iter().all(|count| *count > 500), "{kinds:?}");
    for (holds, line) in other(&golden().join("keys.json"), &files) {
        assert!(!holds, "{line}");
    }
}
