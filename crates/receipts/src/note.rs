//! Checkpoints: heads of a log, signed in the text forms of C2SP (tlog-checkpoint in a signed-note).
//!
//! Invariant: a note has one text. What is read is written again and compared, and lines that nobody signed are refused.

use lantern_types::Digest;

use crate::key::{Signature, Signer, VerifyKey};
use crate::{Invalid, text};

/// The byte that says Ed25519 in a note's signatures.
const ED25519: u8 = 1;
/// Signatures of one note: the log's and those of witnesses.
const SIGNATURES_MAX: usize = 16;
/// Bytes of a note.
const BYTES_MAX: usize = 16 * 1_024;

/// How far a log has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// How many leaves it has.
    pub size: u64,
    /// The head of their tree.
    pub root: Digest,
}

/// One signature below a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Whose it claims to be.
    pub name: String,
    /// Four bytes that tell that name's keys apart.
    pub key: [u8; 4],
    /// The signature.
    pub signature: Signature,
}

/// A note that was read. Says nothing of who signed it until that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// Below it.
    pub lines: Vec<Line>,
}

/// What tells a name's keys apart: four bytes of the digest of both.
fn key_hash(name: &str, key: &VerifyKey) -> [u8; 4] {
    let bytes = [name.as_bytes(), b"\n", &[ED25519], &key.bytes()].concat();
    Digest::of(&bytes).bytes().first_chunk().copied().unwrap_or_default()
}

/// A key in the text form that note verifiers take: `NAME+HASH+KEY`.
pub fn verifier(name: &str, key: &VerifyKey) -> String {
    let typed = [&[ED25519][..], &key.bytes()].concat();
    format!("{name}+{}+{}", hex::encode(key_hash(name, key)), text::base64(&typed))
}

impl Checkpoint {
    /// The text that is signed.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, text::base64(self.root.bytes()))
    }

    /// The note of it, signed in the log's name.
    pub fn sign(&self, signer: &Signer) -> String {
        let text = self.text();
        let line = Line {
            name: self.origin.clone(),
            key: key_hash(&self.origin, &signer.public()),
            signature: signer.sign(text.as_bytes()),
        };
        Note { checkpoint: self.clone(), lines: vec![line] }.text()
    }
}

impl Note {
    /// Reads a note in its one text.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::new("the checkpoint has no known form");
        if text.len() > BYTES_MAX {
            return Err(invalid());
        }
        let (said, signed) = text.split_once("\n\n").ok_or_else(invalid)?;
        let mut said = said.split('\n');
        let (origin, size, root) = (said.next(), said.next(), said.next());
        let (Some(origin), Some(size), Some(root), None) = (origin, size, root, said.next()) else {
            return Err(invalid());
        };
        let size = text::number(size).ok_or_else(invalid)?;
        let root = text::bytes::<32>(root).and_then(|root| Digest::from_bytes(&root));
        let root = root.ok_or_else(invalid)?;
        let checkpoint = Checkpoint { origin: origin.to_owned(), size, root };
        let lines = signed.split_terminator('\n').map(Line::parse);
        let note = Self { checkpoint, lines: lines.collect::<Option<_>>().ok_or_else(invalid)? };
        let known = (1..=SIGNATURES_MAX).contains(&note.lines.len()) && is_name(origin);
        if known && note.text() == text { Ok(note) } else { Err(invalid()) }
    }

    /// The note's text.
    pub fn text(&self) -> String {
        let lines = self.lines.iter().map(|line| {
            let bytes = [&line.key[..], line.signature.bytes()].concat();
            format!("\u{2014} {} {}\n", line.name, text::base64(&bytes))
        });
        format!("{}\n{}", self.checkpoint.text(), lines.collect::<String>())
    }

    /// Whether `name` signed it with this key.
    pub fn is_signed(&self, name: &str, key: &VerifyKey) -> bool {
        let (hash, said) = (key_hash(name, key), self.checkpoint.text());
        let own = |line: &&Line| line.name == name && line.key == hash;
        self.lines.iter().find(own).is_some_and(|line| key.verifies(said.as_bytes(), &line.signature))
    }
}

impl Line {
    fn parse(text: &str) -> Option<Self> {
        let (name, bytes) = text.strip_prefix("\u{2014} ")?.split_once(' ')?;
        let bytes = text::bytes::<68>(bytes)?;
        let (key, signature) = (bytes.first_chunk()?, bytes.last_chunk()?);
        is_name(name).then(|| Self {
            name: name.to_owned(),
            key: *key,
            signature: Signature::from_bytes(*signature),
        })
    }
}

/// Names have no spaces and no plus sign.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

#[cfg(test)]
mod tests {
    use super::*;
    use lantern_types::Secret;

    fn signer() -> Signer {
        Signer::new(&Secret::new([9; 32]))
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint { origin: "lantern/log".into(), size: 3, root: Digest::of(b"tree") }
    }

    /// The example in the documentation of Go's `note` package: other people's program made this signature.
    #[test]
    fn the_signature_of_another_program_passes() {
        let bytes = text::bytes::<33>("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").unwrap();
        let key = VerifyKey::from_bytes(bytes.last_chunk().unwrap()).unwrap();
        assert_eq!(hex::encode(key_hash("PeterNeumann", &key)), "c74f20a3");
        let line = "\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";
        let line = Line::parse(line).unwrap();
        let said = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
        assert!(key.verifies(said.as_bytes(), &line.signature));
    }

    #[test]
    fn a_note_reads_back_and_names_its_signer() {
        let (signer, text) = (signer(), checkpoint().sign(&signer()));
        let note = Note::parse(&text).unwrap();
        assert_eq!(note.checkpoint, checkpoint());
        assert!(note.is_signed("lantern/log", &signer.public()));
        assert!(!note.is_signed("another/log", &signer.public()));
        assert!(!note.is_signed("lantern/log", &Signer::new(&Secret::new([8; 32])).public()));
        assert!(verifier("lantern/log", &signer.public()).starts_with("lantern/log+"));
    }

    #[test]
    fn no_other_text_is_a_note() {
        let text = checkpoint().sign(&signer());
        for other in [
            text.replace("\n3\n", "\n03\n"),
            text.replace("\n3\n", "\n3\n\n"),
            text.replace("lantern/log\n3", "lantern log\n3"),
            text.trim_end().to_owned(),
            format!("{text}\n"),
            format!("{text}unsigned\n"),
            text.replace('\u{2014}', "-"),
            text.split_inclusive("\n\n").next().unwrap().to_owned(),
            text.replace('\n', "\r\n"),
            String::new(),
        ] {
            assert!(Note::parse(&other).is_err(), "{other:?}");
        }
        // One that reads, and says something else.
        let larger = Note::parse(&text.replace("\n3\n", "\n4\n")).unwrap();
        assert!(!larger.is_signed("lantern/log", &signer().public()));
    }
}
