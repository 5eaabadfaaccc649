//! What becomes an entry of a tenant's audit log: every request that may change something, and every denial.
//!
//! Invariant: decided here for all routes, from what [`permit`](crate::permit()) saw of the request and how it was answered; a new route
//! needs to say nothing. A public route says whom it found ([`Witness::names`]), for nobody else can know. A request that is given up
//! halfway leaves an entry too. Who was answered that something succeeded has an entry that lasts, but for what happens all the
//! time (`OFTEN`): that is written within a quarter of a second.

mod log;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::FromRequestParts;
use axum::response::Response;
use http::request::Parts;
use http::{Method, header};
use lantern_policy::Principal;
use lantern_store::audit::Entry;
use lantern_types::{ApiKeyId, At, Digest, RequestId, TenantId, UserId};

use crate::code::{Code, Kind};
use crate::idempotency::REPLAYED;

pub use log::Log;

/// What happens so often that its answer does not wait for the log.
const OFTEN: [&str; 7] = [
    "runs.create",
    "sessions.send",
    "models.call",
    "tickets.create",
    "runs.signal",
    "runs.forecast",
    "auth.refresh",
];
/// Of which calls that differ in nothing are one entry, which says how many there were.
const COUNTED: &str = "models.call";
/// The longest path that is kept, in bytes.
const RESOURCE_MAX: usize = 512;

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A person who showed that they are.
    Person(UserId),
    /// A key.
    Key(ApiKeyId),
    /// Somebody who did not show that they are this person.
    Stranger(UserId),
}

impl Who {
    pub(crate) const fn of(principal: &Principal) -> Self {
        match principal {
            Principal::User { id, .. } => Self::Person(*id),
            Principal::Key { id, .. } => Self::Key(*id),
        }
    }
}

#[derive(Debug, Default)]
struct Seen {
    who: Option<(TenantId, Who)>,
    action: Option<&'static str>,
    before: Option<Digest>,
    after: Option<Digest>,
}

/// What is seen of a request on its way. Cheap to clone; an argument of handlers that have something to add.
#[derive(Clone, Debug, Default)]
pub struct Witness(Arc<Mutex<Seen>>);

impl<S: Send + Sync> FromRequestParts<S> for Witness {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}

impl Witness {
    /// The one of a request; one that nobody asks when there is none, as in tests of single handlers.
    pub(crate) fn of(parts: &Parts) -> Self {
        parts.extensions.get::<Self>().cloned().unwrap_or_default()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose credential was shown, good or not.
    pub(crate) fn shown(&self, tenant: TenantId, who: Who) {
        self.seen().who = Some((tenant, who));
    }

    /// What the route does.
    pub(crate) fn asked(&self, action: &'static str) {
        self.seen().action = Some(action);
    }

    /// For a public route: who it was, of which tenant, and what they did.
    pub fn names(&self, tenant: TenantId, who: Who, action: &'static str) {
        self.shown(tenant, who);
        self.asked(action);
    }

    /// The digest of what was changed, as it was and as it is.
    pub fn changed(&self, before: Option<Digest>, after: Option<Digest>) {
        let mut seen = self.seen();
        (seen.before, seen.after) = (before, after);
    }
}

/// What is known of a request before it is answered.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) id: RequestId,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) source: Option<IpAddr>,
}

/// How it was answered.
#[derive(Debug)]
pub(crate) struct Answered {
    status: u16,
    outcome: &'static str,
    code: Option<Code>,
    made: Option<String>,
}

impl Answered {
    pub(crate) fn of(response: &Response, code: Option<Code>) -> Self {
        let (status, headers) = (response.status(), response.headers());
        let outcome = match code.map(Code::kind) {
            Some(Kind::Unauthenticated | Kind::Forbidden) => DENIED,
            // Nothing was tried.
            Some(Kind::NotSupported) => "refused",
            _ if headers.contains_key(&REPLAYED) => "replayed",
            _ if status.is_server_error() => FAILED,
            _ if status.is_client_error() => "refused",
            _ => "succeeded",
        };
        let made = headers.get(header::LOCATION).filter(|_| outcome == "succeeded");
        let made = made.and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self { status: status.as_u16(), outcome, code, made }
    }

    /// Nobody waited for the answer.
    fn never() -> Self {
        Self { status: 0, outcome: "abandoned", code: None, made: None }
    }
}

const DENIED: &str = "denied";
const FAILED: &str = "failed";

/// An entry that is due.
#[derive(Debug)]
struct Due {
    tenant: TenantId,
    entry: Entry,
    /// The answer waits until it is written.
    waits: bool,
    /// It may be one with others like it.
    counted: bool,
}

/// The entry that a request leaves, if any: pure.
fn due(asked: &Asked, witness: &Witness, answered: Answered, at: At) -> Option<Due> {
    let seen = witness.seen();
    let ((tenant, who), action) = seen.who.zip(seen.action)?;
    let denied = answered.outcome == DENIED;
    if asked.method.is_safe() && !denied {
        return None;
    }
    let (actor, principal) = match who {
        Who::Person(id) => ("user", id.uuid()),
        Who::Key(id) => ("api_key", id.uuid()),
        Who::Stranger(id) => ("nobody", id.uuid()),
    };
    let entry = Entry {
        at,
        actor: actor.to_owned(),
        principal: Some(principal),
        action: action.to_owned(),
        resource: cut(answered.made.as_deref().unwrap_or(&asked.path)),
        outcome: answered.outcome.to_owned(),
        status: answered.status,
        code: answered.code.map(|code| code.as_str().to_owned()),
        times: 1,
        before: seen.before,
        after: seen.after,
        request: asked.id,
        source: asked.source.map(|address| address.to_string()),
    };
    // A denial changes nothing; and how long one takes must not tell whether there is such an account. What failed has words of its
    // own, which are not to be taken for those of something done.
    let failed = answered.outcome == FAILED;
    let waits = !denied && !failed && !OFTEN.contains(&action);
    Some(Due { tenant, entry, waits, counted: denied || action == COUNTED })
}

fn cut(path: &str) -> String {
    let mut end = path.len().min(RESOURCE_MAX);
    while !path.is_char_boundary(end) {
        end -= 1;
    }
    path.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse as _;
    use http::StatusCode;
    use lantern_types::{DEV_TENANT, DEV_USER};
    use uuid::Uuid;

    fn answered(status: u16, code: Option<Code>) -> Answered {
        Answered::of(&StatusCode::from_u16(status).unwrap().into_response(), code)
    }

    #[test]
    fn what_changes_something_and_what_is_denied_leaves_an_entry() {
        let rows = [
            ("POST", "agents.create", 201, None, Some(("succeeded", true, false))),
            ("POST", "runs.create", 201, None, Some(("succeeded", false, false))),
            ("POST", "models.call", 200, None, Some(("succeeded", false, true))),
            ("DELETE", "agents.delete", 404, Some(Code::AgentNotFound), Some(("refused", true, false))),
            ("PUT", "agents.update", 501, Some(Code::NotBuilt), Some(("refused", true, false))),
            ("PATCH", "agents.update", 500, Some(Code::Internal), Some(("failed", false, false))),
            ("POST", "agents.create", 403, Some(Code::RoleMissing), Some(("denied", false, true))),
            ("GET", "audit.read", 403, Some(Code::RoleMissing), Some(("denied", false, true))),
            ("GET", "runs.list", 401, Some(Code::Unauthorized), Some(("denied", false, true))),
            ("GET", "runs.list", 200, None, None),
            ("GET", "runs.read", 404, Some(Code::RunNotFound), None),
            ("HEAD", "runs.list", 500, Some(Code::Internal), None),
        ];
        for (method, action, status, code, want) in rows {
            let witness = Witness::default();
            witness.names(DEV_TENANT, Who::Person(DEV_USER), action);
            let asked = Asked {
                id: RequestId::from_uuid(Uuid::nil()),
                method: method.parse().unwrap(),
                path: "/v1/x".to_owned(),
                source: None,
            };
            let due = due(&asked, &witness, answered(status, code), At::from_micros(1));
            let got = due.as_ref().map(|due| (due.entry.outcome.as_str(), due.waits, due.counted));
            assert_eq!(got, want, "{method} {action} {status}");
            assert!(
                super::due(&asked, &Witness::default(), answered(status, code), At::from_micros(1)).is_none()
            );
        }
    }

    #[test]
    fn a_long_path_is_cut_between_letters() {
        assert_eq!(cut(&"ä".repeat(400)).len(), 512);
        assert_eq!(cut(&format!("/{}", "ä".repeat(400))).len(), 511);
        assert_eq!(cut("/v1"), "/v1");
    }
}
