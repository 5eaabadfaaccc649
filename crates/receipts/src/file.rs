//! A receipt file: payload, signature, proof and checkpoint, and the events that they are about.
//!
//! Invariant: [`File::parse`] takes exactly the bytes that writing the same file gives: no other order, space, number or
//! digit, no member twice and none that is not signed. An event is the stored envelope itself, byte for byte.

use lantern_types::{Digest, link};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;

use crate::key::{Signature, VerifyKey};
use crate::note::Note;
use crate::payload::{Payload, VERSION};
use crate::{Invalid, entry, merkle, text};

/// The one algorithm, as the contract names it.
pub const ALGORITHM: &str = "Ed25519";
/// Hashes of a proof: more than a tree of 64-bit size asks for.
const PROOF_MAX: usize = 64;

/// A receipt that was read. Without appends it is what the API answers; with them it is a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct File<'a> {
    /// [`ALGORITHM`].
    pub algorithm: &'a str,
    /// The run's journal.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub appends: Option<Vec<Append<'a>>>,
    /// The signed head of the log, as soon as it had this leaf.
    pub checkpoint: String,
    /// Which key signed.
    pub key_id: &'a str,
    /// What was signed.
    pub payload: Payload,
    /// That the payload is in the log.
    pub proof: Vec<Node>,
    /// The key that signed. Whoever checks a receipt must have it from elsewhere.
    pub public_key: VerifyKey,
    /// Over the payload's bytes.
    pub signature: Signature,
}

/// One append of the run's journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Append<'a> {
    /// The digest of its sealed body; that of nothing when it has none.
    pub body: Digest,
    /// The envelopes of its events.
    #[serde(borrow)]
    pub events: Vec<&'a RawValue>,
}

/// A hash of a proof. Its text form is base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node(pub Digest);

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text::base64(self.0.bytes()))
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let hash = text::bytes::<32>(&text).and_then(|bytes| Digest::from_bytes(&bytes));
        hash.map(Self).ok_or_else(|| de::Error::custom("no hash"))
    }
}

impl<'a> File<'a> {
    /// Reads a receipt, with or without its events, in its one byte form.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Invalid> {
        let said = |error: serde_json::Error| {
            // Where and what kind, and not the value: it may be anything.
            Invalid(format!("no receipt of version 2: byte {} of line {}", error.column(), error.line()))
        };
        let file: Self = serde_json::from_slice(bytes).map_err(said)?;
        let written = serde_json::to_vec(&file).map_err(said)?;
        if written != bytes {
            return Err(Invalid::new("the receipt is not in its one byte form"));
        }
        Ok(file)
    }

    /// Whether it is what it claims to be, by the key inside and but for its events: signature, leaf, proof and checkpoint.
    pub fn check(&self) -> Result<Note, Invalid> {
        let payload = &self.payload;
        let demand = |holds: bool, words: &str| if holds { Ok(()) } else { Err(Invalid::new(words)) };
        demand(self.algorithm == ALGORITHM, "the algorithm is not Ed25519")?;
        demand(payload.version == VERSION, "the receipt's version is not 2")?;
        demand(self.key_id == self.public_key.id(), "the key id is not that of the key")?;
        demand(payload.cost_usd.0 == payload.cost_micro_usd, "costUsd and costMicroUsd differ")?;
        let bytes = payload.bytes()?;
        demand(self.public_key.verifies(&bytes, &self.signature), "the signature is not the key's")?;
        let note = Note::parse(&self.checkpoint)?;
        demand(note.lines.len() == 1, "the checkpoint has a signature that is not the log's")?;
        demand(note.is_signed(&payload.log, &self.public_key), "the checkpoint is not signed by the key")?;
        let checkpoint = &note.checkpoint;
        demand(checkpoint.origin == payload.log, "the checkpoint is another log's")?;
        let proof: Vec<Digest> = self.proof.iter().take(PROOF_MAX + 1).map(|node| node.0).collect();
        let leaf = merkle::leaf(entry(&bytes).bytes());
        let included = merkle::includes(leaf, payload.log_index, checkpoint.size, &proof, checkpoint.root);
        demand(included, "the payload is not in the log")?;
        Ok(note)
    }

    /// Whether the events are those that the payload names: the chain over them ends in its head, and they are as many.
    pub fn check_chain(&self) -> Result<(), Invalid> {
        let Some(appends) = &self.appends else { return Err(Invalid::new("the receipt has no events")) };
        let (mut head, mut events) = (lantern_types::ChainHead::genesis(), 0);
        let mut lines = Vec::new();
        for append in appends {
            lines.clear();
            for event in &append.events {
                // A line is one envelope: a break within would make two of it.
                if event.get().contains('\n') {
                    return Err(Invalid::new("an event is not on one line"));
                }
                lines.extend_from_slice(event.get().as_bytes());
                lines.push(b'\n');
                events += 1;
            }
            head = link(head, &lines, append.body);
        }
        if head.0 != self.payload.journal_hash {
            return Err(Invalid::new(
                "the events are not those that were signed: the hash chain ends elsewhere",
            ));
        }
        if (appends.len() as u64, events) != (self.payload.appends, self.payload.events) {
            return Err(Invalid::new("the payload counts other events"));
        }
        Ok(())
    }
}

/// A receipt to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The payload's bytes, as they were signed.
    pub payload: Vec<u8>,
    /// Over them.
    pub signature: Signature,
    /// The key that signed.
    pub key: VerifyKey,
    /// That the payload is in the log.
    pub proof: Vec<Digest>,
    /// Whose head that is.
    pub checkpoint: String,
}

impl Written {
    /// The receipt's bytes. `appends` are stored envelopes, one JSON object a line, each with the digest of its body.
    pub fn bytes(&self, appends: Option<&[(Vec<u8>, Digest)]>) -> Result<Vec<u8>, Invalid> {
        let cannot = |_| Invalid::new("the receipt cannot be written");
        let mut out = format!("{{\"algorithm\":\"{ALGORITHM}\",").into_bytes();
        if let Some(appends) = appends {
            out.reserve(appends.iter().map(|(lines, _)| lines.len() + 96).sum());
            out.extend_from_slice(b"\"appends\":[");
            for (n, (lines, body)) in appends.iter().enumerate() {
                let comma = if n == 0 { "" } else { "," };
                out.extend_from_slice(format!("{comma}{{\"body\":\"{body}\",\"events\":[").as_bytes());
                let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
                out.extend(lines.iter().map(|byte| if *byte == b'\n' { b',' } else { *byte }));
                out.extend_from_slice(b"]}");
            }
            out.extend_from_slice(b"],");
        }
        let proof: Vec<Node> = self.proof.iter().copied().map(Node).collect();
        for (name, value) in [
            ("checkpoint", serde_json::to_vec(&self.checkpoint).map_err(cannot)?),
            ("keyId", serde_json::to_vec(&self.key.id()).map_err(cannot)?),
            ("payload", self.payload.clone()),
            ("proof", serde_json::to_vec(&proof).map_err(cannot)?),
            ("publicKey", serde_json::to_vec(&self.key).map_err(cannot)?),
            ("signature", serde_json::to_vec(&self.signature).map_err(cannot)?),
        ] {
            out.extend_from_slice(format!("\"{name}\":").as_bytes());
            out.extend_from_slice(&value);
            out.push(if name == "signature" { b'}' } else { b',' });
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::tests::payload;
    use crate::{Checkpoint, Signer, tile};
    use lantern_types::{ChainHead, Secret};

    fn lines() -> Vec<(Vec<u8>, Digest)> {
        vec![(
            b"{\"seq\":1,\"at\":7,\"type\":\"A\"}\n{\"seq\":2,\"at\":8,\"type\":\"B\"}\n".to_vec(),
            Digest::of(b"sealed"),
        )]
    }

    fn written() -> Written {
        let signer = Signer::new(&Secret::new([5; 32]));
        let head = lines().iter().fold(ChainHead::genesis(), |head, (lines, body)| link(head, lines, *body));
        let payload = Payload { journal_hash: head.0, log_index: 2, ..payload() }.bytes().unwrap();
        let entries = [Digest::of(b"a"), Digest::of(b"b"), entry(&payload), Digest::of(b"c")];
        let grown = tile::append(0, tile::Tiles::new(), &entries).unwrap();
        let proof = merkle::inclusion(2, 4, &mut |level, n| tile::find(&grown.tiles, level, n)).unwrap();
        let checkpoint = Checkpoint { origin: "lantern/x".into(), size: 4, root: grown.root }.sign(&signer);
        Written { signature: signer.sign(&payload), key: signer.public(), payload, proof, checkpoint }
    }

    #[test]
    fn what_is_written_reads_back_and_holds() {
        for appends in [None, Some(lines())] {
            let bytes = written().bytes(appends.as_deref()).unwrap();
            let file = File::parse(&bytes).unwrap();
            assert_eq!(file.check().unwrap().checkpoint.size, 4);
            assert_eq!(file.check_chain().is_ok(), appends.is_some());
        }
    }

    #[test]
    fn other_forms_of_the_same_receipt_are_refused() {
        let bytes = written().bytes(Some(&lines())).unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        for (from, to) in [
            ("{\"algorithm\"", "{ \"algorithm\""),
            ("\"algorithm\":\"Ed25519\",", ""),
            ("\"algorithm\":\"Ed25519\",", "\"algorithm\":\"Ed25519\",\"algorithm\":\"Ed25519\","),
            ("\"algorithm\":\"Ed25519\",", "\"algorithm\":\"Ed25519\",\"approved\":true,"),
            ("\"algorithm\":\"Ed25519\",", "\"algorithm\":\"Ed\\u0032\\u0035519\","),
            ("\"logIndex\":2", "\"logIndex\":2.0"),
            ("\"logIndex\":2", "\"logIndex\":02"),
            ("\"version\":2", "\"version\":2,\"note\":\"x\""),
            ("=\"}", "\"}"),
        ] {
            assert!(text.contains(from), "{from}");
            assert!(File::parse(text.replacen(from, to, 1).as_bytes()).is_err(), "{from} as {to}");
        }
        let digest = Digest::of(b"sealed").to_string();
        assert!(File::parse(text.replacen(&digest, &digest.to_uppercase(), 1).as_bytes()).is_err());
        assert!(File::parse(format!("{text}\n").as_bytes()).is_err());
        assert!(File::parse(&bytes[..bytes.len() - 1]).is_err());
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(File::parse(deep.as_bytes()).is_err());
        let nested = text.replacen("\"proof\":[", &format!("\"proof\":[{deep},"), 1);
        assert!(File::parse(nested.as_bytes()).is_err());
    }

    #[test]
    fn no_bit_can_be_changed() {
        let bytes = written().bytes(Some(&lines())).unwrap();
        for at in 0..bytes.len() {
            for bit in [0, 5] {
                let mut other = bytes.clone();
                other[at] ^= 1 << bit;
                let holds =
                    File::parse(&other).is_ok_and(|file| file.check().is_ok() && file.check_chain().is_ok());
                assert!(!holds, "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn an_envelope_is_one_line() {
        let bytes = written().bytes(Some(&lines())).unwrap();
        let text = String::from_utf8(bytes).unwrap().replacen("\"at\":7,", "\"at\":7,\n", 1);
        let error = File::parse(text.as_bytes()).unwrap().check_chain().unwrap_err();
        assert!(error.0.contains("one line"), "{error}");
    }
}
