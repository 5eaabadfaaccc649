//! From a request's head to a permit: authenticate, then authorize.
//!
//! Invariant: there is no permit without both. A crate with a router of its own implements its extractor with
//! [`permit`] in three lines; the rules are `lantern_policy::authorize` and nowhere else.

use http::request::Parts;
use lantern_policy::action::least_role;
use lantern_policy::{Act, Permit, authorize};
use lantern_types::{Denial, RequestId};
use uuid::Uuid;

use crate::audit::{Who, Witness};
use crate::auth::Gate;
use crate::code::Code;
use crate::problem::{Error, Result};

/// The permit for `A`: 401 for nobody, 403 for somebody who may not. A ticket is used up when it leads to a permit.
pub async fn permit<A: Act>(parts: &Parts, gate: &Gate) -> Result<Permit<A>> {
    let witness = Witness::of(parts);
    witness.asked(A::NAME);
    let known = gate.known(parts).await?;
    witness.shown(known.actor.tenant, Who::of(&known.actor.principal));
    let request = parts.extensions.get::<RequestId>().copied();
    let request = request.unwrap_or_else(|| RequestId::from_uuid(Uuid::nil()));
    let permit = authorize::<A>(known.actor.clone(), request).map_err(refused::<A>)?;
    gate.admit(permit.scope(), &known).await?;
    Ok(permit)
}

/// People have roles, not scopes: the least that would do is named.
fn refused<A: Act>(denial: Denial) -> Error {
    let role = least_role(A::NAME, A::ACCESS).as_str();
    let (code, words) = match denial.code.as_str() {
        "role_missing" => (Code::RoleMissing, format!("this needs the role {role}")),
        _ => (Code::ScopeMissing, format!("API key missing required scope: {}", denial.reason)),
    };
    Error::new(code, words).with_extra("required_scope", denial.reason)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::extract::Request;
    use lantern_net::{RealClock, RealIds, TaskSet};
    use lantern_policy::action::{CreateRun, ReadRun};
    use lantern_policy::{Principal, Scope};
    use lantern_store::tickets::{self, NewTicket};
    use lantern_store::{Db, Keys};
    use lantern_types::edge::Clock;
    use lantern_types::{ApiKeyId, DEV_TENANT, Dur};
    use tokio::runtime::Handle;

    use super::*;
    use crate::{auth, ticket};

    const TENANT: &str =
        "INSERT INTO tenants (tenant_id, slug, name, tier, created_at) VALUES ($1, 'a', 'a', 'a', 1)";
    const KEY: &str = "INSERT INTO api_keys (tenant_id, id, name, prefix, key_hash, scopes, created_at)
        VALUES ($1, $2, 'k', 'k', $3, '[\"read\"]', 1)";

    #[tokio::test]
    async fn a_ticket_may_what_its_key_may_and_is_used_up_by_that_alone() {
        let db = Db::inline_sqlite().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
        let ids = RealIds::new(clock.clone());
        let tasks = Arc::new(TaskSet::new(Handle::current()));
        let gate = Gate::new(db.clone(), &Keys::from_ids(&ids), clock.clone(), tasks).unwrap();
        let (text, now, id) = (ticket::mint(&ids), clock.now(), ApiKeyId::from_uuid(Uuid::from_u128(1)));
        // What it is said to be able to does not count.
        let bearer = Principal::Key { id, scopes: vec!["admin".to_owned()] };
        let new = NewTicket {
            hash: auth::hash(&text),
            bearer,
            session_ends_at: None,
            expires_at: now + Dur::from_secs(60),
        };
        let made = db.write(Scope::of_lease(DEV_TENANT), move |tx| {
            Box::pin(async move {
                tx.exec(TENANT, &[]).await?;
                tx.exec(KEY, &[id.into(), auth::hash("key").into()]).await?;
                tickets::issue(tx, new, now, 1).await
            })
        });
        assert!(made.await.unwrap());
        let asked = http::Request::get(format!("/e?token={text}")).body(axum::body::Body::empty());
        let mut asked: Request = asked.unwrap();
        ticket::take(&mut asked);
        let (parts, _) = asked.into_parts();
        assert_eq!(permit::<CreateRun>(&parts, &gate).await.unwrap_err().code(), Code::ScopeMissing);
        let held = permit::<ReadRun>(&parts, &gate).await.unwrap();
        assert_eq!(held.actor().principal, Principal::Key { id, scopes: vec!["read".to_owned()] });
        assert_eq!((held.scope().tenant(), held.actor().until), (DEV_TENANT, None), "as the key");
        assert_eq!(permit::<ReadRun>(&parts, &gate).await.unwrap_err().code(), Code::TicketSpent);
    }
}
