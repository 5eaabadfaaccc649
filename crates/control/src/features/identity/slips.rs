//! Slips: what somebody hands to somebody else, outside of this server, to come in or back in with.
//!
//! Invariant: a slip is good once and for a while; its text is in one answer, which is not remembered, and in no log. What is
//! stored is its digest, in a row of the tenant and id that the text names, so that reading the database makes nobody a slip.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as TEXT;
use lantern_policy::Scope;
use lantern_types::edge::IdGen;
use lantern_types::{Digest, TenantId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What invitations begin with.
pub(super) const INVITATION: &str = "hlx_inv_";
/// What password resets begin with.
pub(super) const RESET: &str = "hlx_rst_";
/// More than any slip has.
pub(super) const BYTES_MAX: usize = 128;
/// Random bytes after tenant and row.
const SECRET: usize = 24;

/// A slip that was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Slip {
    tenant: TenantId,
    /// The row that it names, which need not be there.
    pub(super) row: Uuid,
    /// What its row must have.
    pub(super) hash: Digest,
}

impl Slip {
    /// The tenant that it names. Its rows say nothing to whoever does not know a digest of theirs.
    pub(super) const fn scope(&self) -> Scope {
        Scope::of_lease(self.tenant)
    }
}

/// A new slip for a row: its text, and what is stored of it.
pub(super) fn mint(ids: &dyn IdGen, kind: &str, tenant: TenantId, row: Uuid) -> (String, Digest) {
    let mut secret = [0; SECRET];
    ids.fill(&mut secret);
    let said = [tenant.uuid().as_bytes().as_slice(), row.as_bytes(), &secret].concat();
    let text = format!("{kind}{}", TEXT.encode(said));
    let hash = Digest::of(text.as_bytes());
    (text, hash)
}

/// What a slip names; `None` for what is none of this kind.
pub(super) fn read(kind: &str, text: &str) -> Option<Slip> {
    let text = text.trim();
    let bytes = TEXT.decode(text.strip_prefix(kind)?).ok()?;
    let bytes: [u8; 32 + SECRET] = bytes.try_into().ok()?;
    let (tenant, rest) = bytes.split_first_chunk::<16>()?;
    let (row, _) = rest.split_first_chunk::<16>()?;
    let tenant = TenantId::from_uuid(Uuid::from_bytes(*tenant));
    Some(Slip { tenant, row: Uuid::from_bytes(*row), hash: Digest::of(text.as_bytes()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lantern_net::{RealClock, RealIds};
    use lantern_types::DEV_TENANT;
    use std::sync::Arc;

    #[test]
    fn a_slip_names_its_row_and_is_like_no_other() {
        let ids = RealIds::new(Arc::new(RealClock::new()));
        let row = Uuid::from_u128(7);
        let (text, hash) = mint(&ids, INVITATION, DEV_TENANT, row);
        let (other, _) = mint(&ids, INVITATION, DEV_TENANT, row);
        assert!(text != other && text.len() < BYTES_MAX, "{text}");
        assert_eq!(read(INVITATION, &format!(" {text}\n")), Some(Slip { tenant: DEV_TENANT, row, hash }));
        assert_eq!(read(RESET, &text), None, "of another kind");
        for bad in ["", INVITATION, &text[..text.len() - 1], &format!("{text}A"), &text.replace('_', "-")] {
            assert_eq!(read(INVITATION, bad), None, "{bad}");
        }
    }
}
