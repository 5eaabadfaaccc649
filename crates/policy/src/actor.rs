//! Who is asking ([`Actor`]), what they were allowed ([`Permit`]), and which tenant's rows that opens ([`Scope`]).
//!
//! Invariant: a `Permit` and a `Scope` have private fields and few constructors, so code that holds one was given it
//! by [`authorize`](crate::authorize), or runs on behalf of a lease.

use std::marker::PhantomData;

use lantern_types::{ApiKeyId, At, RequestId, SignInId, TenantId, UserId};
use serde::{Deserialize, Serialize};

/// What a person may do in their tenant, from the least to the most. The fifth role of the contract, `service`, is that of every
/// key: it may what its scopes say, and no person has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Reads and writes: agents, runs, what people are asked.
    Member,
    /// The same, and manages keys, providers and people up to their own rank.
    Admin,
    /// Everything, including what ends the tenant.
    Owner,
}

impl Role {
    /// All of them, from the least to the most.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Member, Self::Admin, Self::Owner];

    /// The contract's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }
    /// Reads the contract's word.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "viewer" => Some(Self::Viewer),
            "member" => Some(Self::Member),
            "admin" => Some(Self::Admin),
            "owner" => Some(Self::Owner),
            _ => None,
        }
    }
}

/// A person or a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// A signed-in person.
    User {
        /// Their row.
        id: UserId,
        /// Their address.
        email: String,
        /// Their name.
        name: String,
        /// Their role.
        role: Role,
        /// By which of their sign-ins.
        sign_in: SignInId,
    },
    /// An API key with its scopes; an empty list reads only.
    Key {
        /// The key's row.
        id: ApiKeyId,
        /// `read`, `write`, `admin`.
        scopes: Vec<String>,
    },
}

/// An authenticated caller. Built in one place, `edge/src/auth.rs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The tenant the token or key belongs to; never read from a header, a path or a body.
    pub tenant: TenantId,
    /// Who.
    pub principal: Principal,
    /// When what they showed ends by itself; of a ticket, what it was asked for with.
    pub until: Option<At>,
}

/// The right to touch one tenant's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    tenant: TenantId,
}

impl Scope {
    /// The tenant whose rows this opens.
    pub const fn tenant(self) -> TenantId {
        self.tenant
    }
    /// For work that belongs to a tenant without a caller: a leased run, a verified channel, a system row.
    /// Its callers are listed in `golden/scope-callers.txt`.
    pub const fn of_lease(tenant: TenantId) -> Self {
        Self { tenant }
    }
}

/// Proof that `A` was authorized for this actor, and the only way to a [`Scope`] from a request.
#[derive(Clone, Debug)]
pub struct Permit<A> {
    actor: Actor,
    request: RequestId,
    action: PhantomData<fn() -> A>,
}

impl<A> Permit<A> {
    /// Only [`authorize`](crate::authorize) calls this.
    pub(crate) const fn grant(actor: Actor, request: RequestId) -> Self {
        Self { actor, request, action: PhantomData }
    }
    /// Opens the caller's own tenant.
    pub const fn scope(&self) -> Scope {
        Scope { tenant: self.actor.tenant }
    }
    /// The caller.
    pub const fn actor(&self) -> &Actor {
        &self.actor
    }
    /// The request this permit was made for.
    pub const fn request(&self) -> RequestId {
        self.request
    }
}
