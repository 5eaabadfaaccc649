//! From a request's head to a permit: authenticate, then authorize.
//!
//! Invariant: there is no permit without both. A crate with a router of its own implements its extractor with
//! [`permit`] in three lines; the rules are `lantern_policy::authorize` and nowhere else.

use http::request::Parts;
use lantern_policy::{Act, Permit, authorize};
use lantern_types::{Denial, RequestId};
use uuid::Uuid;

use crate::auth::Gate;
use crate::code::Code;
use crate::problem::{Error, Result};

/// The permit for `A`: 401 for nobody, 403 for somebody who may not.
pub async fn permit<A: Act>(parts: &Parts, gate: &Gate) -> Result<Permit<A>> {
    let known = gate.known(&parts.headers).await?;
    let request = parts.extensions.get::<RequestId>().copied();
    let request = request.unwrap_or_else(|| RequestId::from_uuid(Uuid::nil()));
    let permit = authorize::<A>(known.actor.clone(), request).map_err(refused)?;
    gate.touch(permit.scope(), &known);
    Ok(permit)
}

fn refused(denial: Denial) -> Error {
    let (code, words) = match denial.code.as_str() {
        "role_missing" => (Code::RoleMissing, format!("this needs the role {}", needed(&denial.reason))),
        _ => (Code::ScopeMissing, format!("API key missing required scope: {}", denial.reason)),
    };
    Error::new(code, words).with_extra("required_scope", denial.reason)
}

/// People have roles, not scopes: the least role that reads, writes or administers.
fn needed(scope: &str) -> &'static str {
    match scope {
        "read" => "member",
        "write" | "admin" => "admin",
        _ => "owner",
    }
}
