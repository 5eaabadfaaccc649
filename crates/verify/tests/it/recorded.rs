//! Receipts that earlier builds issued hold for ever. A file in `golden` is never written again.

use lantern_types::Digest;
use lantern_verify::{Trust, verify};

use crate::{golden, keys, other, receipts};

/// The digest over the digests of all of them, in the order of their names.
const RECORDED: &str = "c6976053bfb52af2ae924eca05e0a708359a1c42f95ca3a970c39ae0699f7585";

#[test]
fn the_recorded_receipts_hold_for_both_verifiers() {
    let (keys, receipts) = (keys(), receipts());
    let digests: Vec<Digest> = receipts.iter().map(|(_, bytes)| Digest::of(bytes)).collect();
    let bytes: Vec<&[u8]> = digests.iter().map(|digest| digest.bytes().as_slice()).collect();
    assert_eq!(Digest::of_parts(&bytes).to_string(), RECORDED, "recorded receipts are never written again");
    for (name, bytes) in &receipts {
        let report = verify(bytes, Some(&keys)).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert_eq!(report.trust, Trust::Key, "{name}");
        assert_eq!(report.derived.events, report.payload.events, "{name}");
        assert_eq!(verify(bytes, None).unwrap().trust, Trust::None, "{name}");
        assert_eq!(verify(bytes, Some(&[])).unwrap_err().rule, "key", "{name}");
    }
    let files: Vec<_> = receipts.iter().map(|(name, _)| golden().join(name)).collect();
    for (holds, line) in other(&golden().join("keys.json"), &files) {
        assert!(holds, "{line}");
    }
}
