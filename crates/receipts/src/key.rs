//! Ed25519 keys and signatures.
//!
//! Invariant: a signing key cannot be printed and is wiped when dropped. A public key is one point in its one encoding and not
//! of small order; a signature passes only under the strict rules of RFC 8032, so that nobody makes a second one out of a first.

use std::fmt;

use ed25519_dalek::Signer as _;
use lantern_types::{At, Digest, Secret};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::text;

/// A key that signs. Prints as stars.
#[derive(Clone)]
pub struct Signer(ed25519_dalek::SigningKey);

impl Signer {
    /// The key of these 32 secret bytes.
    pub fn new(seed: &Secret<[u8; 32]>) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed.expose()))
    }
    /// What others check its signatures with.
    pub fn public(&self) -> VerifyKey {
        VerifyKey(self.0.verifying_key())
    }
    /// Signs. The same for the same message.
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A key that checks signatures. Its text form is base64 of the raw 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VerifyKey(ed25519_dalek::VerifyingKey);

impl VerifyKey {
    /// From its 32 bytes; `None` when they are no point, not the point's one encoding, or a point of small order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).ok()?;
        let canonical = key.to_edwards().compress().to_bytes() == *bytes;
        (canonical && !key.is_weak()).then_some(Self(key))
    }
    /// From its text form.
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_bytes(&text::bytes(text)?)
    }
    /// The 32 bytes.
    pub fn bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }
    /// Its short name: the first eight bytes of its SHA-256 in hex.
    pub fn id(&self) -> String {
        hex::encode(Digest::of(&self.bytes()).bytes().first_chunk::<8>().unwrap_or(&[0; 8]))
    }
    /// Whether this key signed this message so.
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        self.0.verify_strict(message, &signature).is_ok()
    }
}

impl fmt::Display for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::base64(&self.bytes()))
    }
}

impl fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for VerifyKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VerifyKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("no public key"))
    }
}

/// A signature. Its text form is base64 of the 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

impl Signature {
    /// From its 64 bytes. Whether it is one shows when it is checked.
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }
    /// From its text form.
    pub fn parse(text: &str) -> Option<Self> {
        text::bytes(text).map(Self)
    }
    /// The 64 bytes.
    pub const fn bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::base64(&self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("no signature"))
    }
}

/// A key that a server signs with, or signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The key.
    pub key: VerifyKey,
    /// Since when.
    pub since: At,
    /// Until when; `None` while it is in use.
    pub until: Option<At>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(byte: u8) -> Signer {
        Signer::new(&Secret::new([byte; 32]))
    }

    #[test]
    fn the_first_example_of_the_rfc() {
        let seed = hex::decode("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
        let signer = Signer::new(&Secret::new(seed.try_into().unwrap()));
        assert_eq!(
            hex::encode(signer.public().bytes()),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
        let signature = signer.sign(b"");
        assert!(
            hex::encode(signature.bytes()).starts_with("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974")
        );
        assert!(signer.public().verifies(b"", &signature));
        assert_eq!(format!("{signer:?}"), "***");
    }

    #[test]
    fn another_message_key_or_bit_does_not_pass() {
        let (one, two) = (signer(1), signer(2));
        let signature = one.sign(b"paid");
        assert!(one.public().verifies(b"paid", &signature));
        assert!(!one.public().verifies(b"owed", &signature) && !two.public().verifies(b"paid", &signature));
        for bit in 0..512 {
            let mut bytes = *signature.bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!one.public().verifies(b"paid", &Signature::from_bytes(bytes)), "bit {bit}");
        }
    }

    /// The same signature with the group's order added to its second half: equal under the equation, and not the one form.
    #[test]
    fn a_signature_is_not_malleable() {
        let order: [u8; 32] = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
            .unwrap()
            .try_into()
            .unwrap();
        let (one, message) = (signer(3), b"once".as_slice());
        let mut bytes = *one.sign(message).bytes();
        let mut carry = 0_u16;
        for (byte, add) in bytes[32..].iter_mut().zip(order) {
            carry += u16::from(*byte) + u16::from(add);
            *byte = u8::try_from(carry & 0xff).unwrap();
            carry >>= 8;
        }
        assert!(!one.public().verifies(message, &Signature::from_bytes(bytes)));
    }

    #[test]
    fn keys_of_small_order_and_in_other_encodings_are_no_keys() {
        for weak in [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            // The identity once more, with the field's order added to it, and with its sign bit set.
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "0100000000000000000000000000000000000000000000000000000000000080",
        ] {
            let bytes: [u8; 32] = hex::decode(weak).unwrap().try_into().unwrap();
            assert_eq!(VerifyKey::from_bytes(&bytes), None, "{weak}");
        }
        let key = signer(4).public();
        assert_eq!(VerifyKey::parse(&key.to_string()), Some(key));
        assert_eq!(VerifyKey::parse(key.to_string().trim_end_matches('=')), None);
    }
}
