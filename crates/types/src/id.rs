//! Typed identifiers: one `Copy` newtype over a UUID for each kind of thing.
//!
//! Minted only by an [`IdGen`](crate::edge::IdGen) (UUIDv7, so they sort by creation time); parsing accepts any
//! UUID version, because callers may bring their own. The type, not a prefix, tells kinds apart.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The text was not a UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID: {0:?}")]
pub struct InvalidId(pub String);

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID that was minted or parsed elsewhere.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }
            /// The wrapped UUID.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
            /// The 16 bytes that are stored.
            pub const fn bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
            /// Reads the 16 stored bytes; `None` for any other length.
            pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
                Uuid::from_slice(bytes).ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::try_parse(text).map(Self).map_err(|_| InvalidId(text.chars().take(64).collect()))
            }
        }
    )+};
}

id! {
    /// A workspace: the unit of ownership and isolation.
    TenantId,
    /// A person who signs in.
    UserId,
    /// An agent's head row.
    AgentId,
    /// One immutable version of an agent.
    VersionId,
    /// One execution of one agent version.
    RunId,
    /// A conversation made of runs.
    SessionId,
    /// One time that somebody signed in.
    SignInId,
    /// One invitation into a tenant.
    InvitationId,
    /// Who somebody is to an issuer of single sign-on.
    IdentityId,
    /// An `hlx_live_…` key's row (never the key itself).
    ApiKeyId,
    /// One running `lantern` process.
    ProcessId,
    /// One HTTP request.
    RequestId,
    /// One row of a run's inbox.
    InboxId,
    /// One question of a run to a person.
    ApprovalId,
    /// One emergency stop.
    StopId,
    /// What somebody thought of a run.
    FeedbackId,
    /// One attempt of a model call that a workload made.
    CallId,
    /// One secret, with all of its versions.
    SecretId,
}

/// The tenant that `lantern dev` seeds.
pub const DEV_TENANT: TenantId = TenantId(Uuid::from_u128(1));
/// The user that `lantern dev` seeds (`admin@lantern.dev`).
pub const DEV_USER: UserId = UserId(Uuid::from_u128(2));

/// Builds a UUIDv7 (RFC 9562, section 5.7) from a time and 74 bits of randomness taken from `random`.
pub fn uuid7(at: crate::At, random: u128) -> Uuid {
    let millis = u128::from(at.micros().unsigned_abs() / 1_000) & 0xFFFF_FFFF_FFFF;
    let rand_a = (random >> 64) & 0xFFF;
    let rand_b = random & 0x3FFF_FFFF_FFFF_FFFF;
    Uuid::from_u128(millis << 80 | 0x7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b)
}

/// Builds a UUIDv8 (RFC 9562, section 5.8) that a digest names: the same for the same digest.
pub fn uuid8(digest: crate::Digest) -> Uuid {
    let mut bytes = [0_u8; 16];
    for (to, from) in bytes.iter_mut().zip(digest.bytes()) {
        *to = *from;
    }
    let raw = u128::from_be_bytes(bytes);
    Uuid::from_u128(raw & !(0xF << 76) & !(0b11 << 62) | 0x8 << 76 | 0b10 << 62)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::At;

    #[test]
    fn uuid7_has_version_variant_and_sorts_by_time() {
        let earlier = uuid7(At::from_micros(1_700_000_000_000_000), u128::MAX);
        let later = uuid7(At::from_micros(1_700_000_000_001_000), 0);
        assert_eq!(earlier.get_version_num(), 7);
        assert_eq!(earlier.get_variant(), uuid::Variant::RFC4122);
        assert!(earlier < later);
    }

    #[test]
    fn ids_round_trip_as_text_and_bytes() {
        let id = RunId::from_uuid(uuid7(At::from_micros(5), 9));
        assert_eq!(id.to_string().parse::<RunId>(), Ok(id));
        assert_eq!(RunId::from_bytes(id.bytes()), Some(id));
        assert!("nope".parse::<RunId>().is_err());
        assert_eq!(DEV_TENANT.to_string(), "00000000-0000-0000-0000-000000000001");
    }
}
