//! The same said for tools that know in-toto: a statement about the run, signed in a DSSE envelope.
//!
//! Invariant: one payload has one statement. What is signed begins with `DSSEv1`, so that this signature never stands for a
//! receipt or a checkpoint, nor one of theirs for it.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::key::{Signature, Signer, VerifyKey};
use crate::payload::Payload;
use crate::{Invalid, text};

/// The type of what the envelope has.
const TYPE: &str = "application/vnd.in-toto+json";
/// The form of the statement.
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// What the predicate is: the payload of a receipt of version 2.
const PREDICATE: &str = "https://lantern.dev/receipt/v2";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Statement<'a> {
    #[serde(rename = "_type")]
    form: &'a str,
    subject: [Subject<'a>; 1],
    predicate_type: &'a str,
    predicate: &'a RawValue,
}

/// The run, named by the head of its hash chain: what a receipt's `journalHash` is.
#[derive(Serialize)]
struct Subject<'a> {
    name: String,
    digest: Named<'a>,
}

/// Not `sha256`: that would be the digest of some bytes.
#[derive(Serialize)]
struct Named<'a> {
    #[serde(rename = "lanternJournal")]
    journal: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    payload: String,
    payload_type: &'a str,
    signatures: [Signed; 1],
}

#[derive(Serialize)]
struct Signed {
    keyid: String,
    sig: String,
}

/// The statement about a run, of its receipt's payload as it was signed.
fn statement(bytes: &str) -> Result<Vec<u8>, Invalid> {
    let none = |_| Invalid::new("there is no statement of what is no payload");
    let payload: Payload = serde_json::from_str(bytes).map_err(none)?;
    let statement = Statement {
        form: STATEMENT,
        subject: [Subject {
            name: format!("lantern:run:{}", payload.run_id),
            digest: Named { journal: &payload.journal_hash.to_string() },
        }],
        predicate_type: PREDICATE,
        predicate: serde_json::from_str(bytes).map_err(none)?,
    };
    serde_json::to_vec(&statement).map_err(none)
}

/// What is signed of it: DSSE's pre-authentication encoding.
fn encoding(statement: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {TYPE} {} ", TYPE.len(), statement.len()).into_bytes();
    bytes.extend_from_slice(statement);
    bytes
}

/// Signs the statement of a payload.
pub fn sign(payload: &str, signer: &Signer) -> Result<Signature, Invalid> {
    Ok(signer.sign(&encoding(&statement(payload)?)))
}

/// The envelope of a payload's statement, with the signature that [`sign`] made. Fails when it is not this key's.
pub fn envelope(payload: &str, signature: &Signature, key: &VerifyKey) -> Result<Vec<u8>, Invalid> {
    let statement = statement(payload)?;
    if !key.verifies(&encoding(&statement), signature) {
        return Err(Invalid::new("the statement was signed with another key"));
    }
    let envelope = Envelope {
        payload: text::base64(&statement),
        payload_type: TYPE,
        signatures: [Signed { keyid: key.id(), sig: signature.to_string() }],
    };
    serde_json::to_vec(&envelope).map_err(|_| Invalid::new("the envelope cannot be written"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::tests::payload;
    use lantern_types::Secret;

    fn signer(byte: u8) -> Signer {
        Signer::new(&Secret::new([byte; 32]))
    }

    /// The example of the DSSE specification, but for its type.
    #[test]
    fn what_is_signed_has_lengths_before_it() {
        assert_eq!(encoding(b"hello"), b"DSSEv1 28 application/vnd.in-toto+json 5 hello");
    }

    #[test]
    fn a_payload_has_one_envelope() {
        let payload = String::from_utf8(payload().bytes().unwrap()).unwrap();
        let signature = sign(&payload, &signer(5)).unwrap();
        let written = envelope(&payload, &signature, &signer(5).public()).unwrap();
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/attestation.json");
        if std::env::vars().any(|(name, value)| name == "UPDATE" && value == "1") {
            std::fs::write(golden, &written).unwrap();
        }
        assert_eq!(String::from_utf8(written).unwrap(), std::fs::read_to_string(golden).unwrap().trim_end());
    }

    #[test]
    fn no_other_signature_makes_an_envelope() {
        let payload = String::from_utf8(payload().bytes().unwrap()).unwrap();
        let signature = sign(&payload, &signer(5)).unwrap();
        let receipt = signer(5).sign(payload.as_bytes());
        for (signature, key) in [(&signature, signer(6)), (&receipt, signer(5))] {
            assert!(envelope(&payload, signature, &key.public()).is_err());
        }
        assert!(!signer(5).public().verifies(payload.as_bytes(), &signature), "nor is it a receipt's");
        let other = payload.replacen("\"logIndex\":7", "\"logIndex\":8", 1);
        assert!(envelope(&other, &signature, &signer(5).public()).is_err());
        assert!(sign("{}", &signer(5)).is_err());
    }
}
