//! Who may do what to the people of their tenant.
//!
//! Invariant: nobody makes anybody more than they are themselves, nor touches somebody who is more; a tenant that has an owner
//! keeps one. Knows no rows: what is found is brought along.

use crate::action::{Access, allows};
use crate::actor::{Principal, Role};

/// How somebody who changes people stands among them. A key stands where its scopes reach.
pub fn standing(principal: &Principal) -> Role {
    match principal {
        Principal::User { role, .. } => *role,
        Principal::Key { .. } if allows(principal, Access::Admin) => Role::Admin,
        Principal::Key { .. } if allows(principal, Access::Write) => Role::Member,
        Principal::Key { .. } => Role::Viewer,
    }
}

/// What is to become of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// They get this role.
    Role(Role),
    /// They are a member no longer.
    Removal,
    /// They are signed out everywhere.
    SignOut,
    /// Somebody else chooses their next password.
    Reset,
}

/// Why a change is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The role is above that of whoever would change it, or give it.
    Above,
    /// The tenant would have no owner.
    LastOwner,
}

/// Whether somebody may give a role to somebody new.
pub fn may_give(by: Role, role: Role) -> Result<(), Refused> {
    if role <= by { Ok(()) } else { Err(Refused::Above) }
}

/// Whether somebody who stands at `by` may do this to a person of the role `of`, where the tenant has so many owners.
pub fn decide(by: Role, of: Role, owners: u64, change: Change) -> Result<(), Refused> {
    // A password is who somebody is, in the log too: equals do not choose each other's. Owners have nobody above who could.
    let within = match change {
        Change::Reset => of < by || by == Role::Owner,
        Change::Role(_) | Change::Removal | Change::SignOut => of <= by,
    };
    if !within {
        return Err(Refused::Above);
    }
    if let Change::Role(role) = change {
        may_give(by, role)?;
    }
    let leaves = match change {
        Change::Role(role) => role != Role::Owner,
        Change::Removal => true,
        Change::SignOut | Change::Reset => false,
    };
    if of == Role::Owner && leaves && owners <= 1 { Err(Refused::LastOwner) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lantern_types::{ApiKeyId, DEV_USER};

    #[test]
    fn nobody_raises_anybody_above_themselves() {
        for by in Role::ALL {
            for role in Role::ALL {
                assert_eq!(may_give(by, role).is_ok(), role <= by, "{by:?} gives {role:?}");
                for of in Role::ALL {
                    let changed = decide(by, of, 2, Change::Role(role));
                    assert_eq!(changed.is_ok(), of <= by && role <= by, "{by:?} makes {of:?} {role:?}");
                }
            }
        }
    }

    #[test]
    fn nobody_touches_somebody_above_and_equals_keep_their_passwords() {
        use Role::{Admin, Member, Owner};
        for (by, of, change, want) in [
            (Admin, Owner, Change::Removal, Err(Refused::Above)),
            (Admin, Owner, Change::SignOut, Err(Refused::Above)),
            (Admin, Owner, Change::Reset, Err(Refused::Above)),
            (Admin, Admin, Change::Removal, Ok(())),
            (Admin, Admin, Change::SignOut, Ok(())),
            (Admin, Admin, Change::Reset, Err(Refused::Above)),
            (Admin, Member, Change::Reset, Ok(())),
            (Owner, Owner, Change::Reset, Ok(())),
            (Owner, Owner, Change::SignOut, Ok(())),
        ] {
            assert_eq!(decide(by, of, 1, change), want, "{by:?} {change:?} {of:?}");
        }
    }

    #[test]
    fn the_last_owner_stays() {
        use Role::{Admin, Owner};
        for (owners, change, want) in [
            (1, Change::Removal, Err(Refused::LastOwner)),
            (1, Change::Role(Admin), Err(Refused::LastOwner)),
            (1, Change::Role(Owner), Ok(())),
            (2, Change::Removal, Ok(())),
            (2, Change::Role(Admin), Ok(())),
        ] {
            assert_eq!(decide(Owner, Owner, owners, change), want, "{owners} {change:?}");
        }
        assert_eq!(decide(Owner, Admin, 1, Change::Removal), Ok(()), "an owner stays");
    }

    #[test]
    fn a_key_stands_where_its_scopes_reach_and_never_as_an_owner() {
        for (scopes, want) in [
            (&["admin"][..], Role::Admin),
            (&["write"], Role::Member),
            (&["read"], Role::Viewer),
            (&["runtime:admin"], Role::Viewer),
            (&[], Role::Viewer),
        ] {
            let scopes = scopes.iter().map(ToString::to_string).collect();
            let key = Principal::Key { id: ApiKeyId::from_uuid(DEV_USER.uuid()), scopes };
            assert_eq!(standing(&key), want, "{key:?}");
        }
    }
}
