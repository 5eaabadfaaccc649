//! The table of actions: what every route names, and who may do it.
//!
//! One line an action. `known` is for whoever is signed in, `read` for everybody in the tenant and keys with one of the API's
//! scopes, `write` for members and `write` keys, `admin` for admins and `admin` keys, `owner` for owners alone. Of what is named
//! `runtime.` members only read, as in the contract. A key never does more than its scopes say: with the contract's `runtime:`
//! scopes alone it does what is named `runtime.`, and asks who it is.

use lantern_types::{Denial, RequestId};

use crate::actor::{Actor, Permit, Principal, Role};

/// How much an action asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Asks who it is.
    Known,
    /// Looks.
    Read,
    /// Changes the tenant's agents and runs.
    Write,
    /// Changes keys, providers and people.
    Admin,
    /// Ends the tenant.
    Owner,
}

/// An action that a route may name.
pub trait Act: Send + Sync + 'static {
    /// Its stable name, `resource.verb`.
    const NAME: &'static str;
    /// What it asks for.
    const ACCESS: Access;
}

macro_rules! actions {
    ($($name:ident = $access:ident $text:literal;)+) => {
        $(
            #[doc = concat!("`", $text, "`")]
            #[derive(Clone, Copy, Debug)]
            pub struct $name;
            impl Act for $name {
                const NAME: &'static str = $text;
                const ACCESS: Access = Access::$access;
            }
        )+
        /// Every action with what it asks for, in table order.
        pub const ACTIONS: &[(&str, Access)] = &[$(($text, Access::$access)),+];
    };
}

actions! {
    ReadSelf = Known "self.read";
    SignOut = Known "self.sign_out";
    ListSignIns = Known "self.list_sign_ins";
    EndSignIn = Known "self.end_sign_in";
    ChangePassword = Known "self.change_password";
    ReadFactor = Known "self.read_factor";
    ChangeFactor = Known "self.change_factor";
    ListIdentities = Known "self.list_identities";
    LinkIdentity = Known "self.link_identity";
    UnlinkIdentity = Known "self.unlink_identity";
    CheckSso = Admin "sso.check";
    ListMembers = Read "members.list";
    ChangeRole = Admin "members.change_role";
    RemoveMember = Admin "members.remove";
    SignMemberOut = Admin "members.sign_out";
    MakeReset = Admin "members.reset_password";
    RemoveFactor = Admin "members.remove_factor";
    ListInvitations = Admin "invitations.list";
    Invite = Admin "invitations.create";
    WithdrawInvitation = Admin "invitations.withdraw";
    CreateTicket = Read "tickets.create";
    ListAgents = Read "agents.list";
    ReadAgent = Read "agents.read";
    CreateAgent = Write "agents.create";
    UpdateAgent = Write "agents.update";
    DeleteAgent = Write "agents.delete";
    PromoteAgent = Write "agents.promote";
    RestoreAgent = Write "agents.restore";
    ListRuns = Read "runs.list";
    ReadRun = Read "runs.read";
    CreateRun = Write "runs.create";
    CancelRun = Write "runs.cancel";
    SteerRun = Write "runs.steer";
    SignalRun = Write "runs.signal";
    DeleteRun = Write "runs.delete";
    ListSessions = Read "sessions.list";
    ReadSession = Read "sessions.read";
    CreateSession = Write "sessions.create";
    SendMessage = Write "sessions.send";
    StopSession = Write "sessions.stop";
    DeleteSession = Write "sessions.delete";
    RedactRun = Write "runs.redact";
    RateRun = Write "runs.rate";
    RehearseRuns = Read "runs.rehearse";
    ReadReceipts = Read "receipts.read";
    ListApprovals = Read "approvals.list";
    ReadApproval = Read "approvals.read";
    DecideApproval = Write "approvals.decide";
    ListApiKeys = Read "api_keys.list";
    CreateApiKey = Admin "api_keys.create";
    RevokeApiKey = Admin "api_keys.revoke";
    ListProviders = Read "providers.list";
    SaveProvider = Admin "providers.save";
    DeleteProvider = Admin "providers.delete";
    ListSecrets = Write "secrets.list";
    SaveSecret = Admin "secrets.save";
    DeleteSecret = Admin "secrets.delete";
    RotateSecretKey = Admin "secrets.rotate_key";
    ListTools = Read "tools.list";
    ReadLimits = Read "limits.read";
    ListStops = Read "stops.list";
    SetStop = Write "stops.set";
    LiftStop = Admin "stops.lift";
    ReadRetention = Read "retention.read";
    SaveRetention = Admin "retention.save";
    ReadRouting = Read "routing.read";
    SaveRouting = Admin "routing.save";
    ReadPolicies = Read "policies.read";
    SavePolicies = Admin "policies.save";
    TestPolicies = Read "policies.test";
    ListModels = Read "models.list";
    CallModel = Write "models.call";
    ForecastRun = Read "runs.forecast";
    ListCalls = Read "calls.list";
    ReadUsage = Read "usage.read";
    ListBudgets = Read "budgets.list";
    ReadBudget = Read "budgets.read";
    SaveBudget = Admin "budgets.save";
    DeleteBudget = Admin "budgets.delete";
    ReadCaps = Read "caps.read";
    SaveCap = Admin "caps.save";
    ScheduleWorkload = Write "runtime.schedule";
    ListWorkloads = Read "runtime.list";
    ReadWorkload = Read "runtime.read";
    StopWorkload = Write "runtime.stop";
    ExecWorkload = Admin "runtime.exec";
    ReadWorkloadAudit = Read "runtime.audit";
    ReadWorkloadMetrics = Read "runtime.metrics";
    ReadCluster = Admin "runtime.cluster";
    ReadQuota = Read "runtime.quota";
    SaveQuota = Admin "runtime.save_quota";
    ReadAudit = Admin "audit.read";
    DeleteTenant = Owner "tenants.delete";
}

/// Whether this actor may do `A`: the sole maker of a [`Permit`].
pub fn authorize<A: Act>(actor: Actor, request: RequestId) -> Result<Permit<A>, Denial> {
    if allows_to(&actor.principal, A::NAME, A::ACCESS) {
        return Ok(Permit::grant(actor, request));
    }
    let code = match actor.principal {
        Principal::Key { .. } => "scope_missing",
        Principal::User { .. } => "role_missing",
    };
    Err(Denial::new(code, required(A::ACCESS)))
}

/// The same for an action by its name: the contract's `runtime:` scopes count for those of the runtime.
pub fn allows_to(principal: &Principal, name: &str, access: Access) -> bool {
    let narrow = |scope: &String| scope.strip_prefix("runtime:").and_then(scope_access);
    match principal {
        Principal::User { role, .. } => access <= reach(*role, name),
        Principal::Key { scopes, .. } => {
            allows(principal, access)
                || name.starts_with(RUNTIME) && scopes.iter().filter_map(narrow).any(|given| access <= given)
        }
    }
}

/// The most that a role may do of what is named so.
fn reach(role: Role, name: &str) -> Access {
    match role {
        Role::Owner => Access::Owner,
        Role::Admin => Access::Admin,
        Role::Member if name.starts_with(RUNTIME) => Access::Read,
        Role::Member => Access::Write,
        Role::Viewer => Access::Read,
    }
}

/// The least role of a person who may do this.
pub fn least_role(name: &str, access: Access) -> Role {
    Role::ALL.into_iter().find(|role| access <= reach(*role, name)).unwrap_or(Role::Owner)
}

/// What the names of the runtime's actions begin with.
const RUNTIME: &str = "runtime.";

/// The scope or role that an access asks for, as errors name it.
pub const fn required(access: Access) -> &'static str {
    match access {
        Access::Known | Access::Read => "read",
        Access::Write => "write",
        Access::Admin => "admin",
        Access::Owner => "owner",
    }
}

/// The table itself: who has which access.
pub fn allows(principal: &Principal, access: Access) -> bool {
    match principal {
        Principal::User { role, .. } => access <= reach(*role, ""),
        Principal::Key { scopes, .. } => {
            let unsaid = if scopes.is_empty() { Access::Read } else { Access::Known };
            let highest = scopes.iter().filter_map(|scope| scope_access(scope)).max();
            access <= highest.unwrap_or(unsaid) && access <= Access::Admin
        }
    }
}

/// The scopes a key may be given; `None` for anything else, which is refused when the key is made.
pub fn scope_access(scope: &str) -> Option<Access> {
    match scope {
        "read" => Some(Access::Read),
        "write" => Some(Access::Write),
        "admin" => Some(Access::Admin),
        _ => None,
    }
}

/// What handing on a scope asks for: that of [`scope_access`], and the same for the contract's `runtime:` scopes, which open
/// nothing but the runtime's own routes.
pub fn handed_on(scope: &str) -> Option<Access> {
    scope_access(scope.strip_prefix("runtime:").unwrap_or(scope))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lantern_types::{ApiKeyId, DEV_TENANT, DEV_USER, SignInId};

    fn user(role: Role) -> Principal {
        let sign_in = SignInId::from_uuid(DEV_USER.uuid());
        Principal::User { id: DEV_USER, email: String::new(), name: String::new(), role, sign_in }
    }

    fn key(scopes: &[&str]) -> Principal {
        Principal::Key {
            id: ApiKeyId::from_uuid(DEV_USER.uuid()),
            scopes: scopes.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn nobody_has_more_than_the_table_says() {
        let rows: &[(Principal, [bool; 4])] = &[
            (user(Role::Owner), [true, true, true, true]),
            (user(Role::Admin), [true, true, true, false]),
            (user(Role::Member), [true, true, false, false]),
            (user(Role::Viewer), [true, false, false, false]),
            (key(&[]), [true, false, false, false]),
            (key(&["read"]), [true, false, false, false]),
            (key(&["write"]), [true, true, false, false]),
            (key(&["admin"]), [true, true, true, false]),
            (key(&["owner", "root"]), [false; 4]),
            (key(&["runtime:admin"]), [false; 4]),
            (key(&["runtime:admin", "read"]), [true, false, false, false]),
        ];
        for (principal, want) in rows {
            let got =
                [Access::Read, Access::Write, Access::Admin, Access::Owner].map(|a| allows(principal, a));
            assert_eq!(&got, want, "{principal:?}");
            assert!(allows(principal, Access::Known), "whoever is known may ask who they are");
        }
    }

    #[test]
    fn a_runtime_scope_opens_the_runtime_alone() {
        for (scopes, name, access, want) in [
            (&["runtime:write"][..], "runtime.schedule", Access::Write, true),
            (&["runtime:write"], "runtime.list", Access::Read, true),
            (&["runtime:write"], "runtime.cluster", Access::Admin, false),
            (&["runtime:write"], "runs.create", Access::Write, false),
            (&["runtime:admin"], "runtime.cluster", Access::Admin, true),
            (&["runtime:owner"], "runtime.list", Access::Read, false),
            (&["read"], "runtime.schedule", Access::Write, false),
            (&["write"], "runtime.schedule", Access::Write, true),
            (&[], "runtime.list", Access::Read, true),
        ] {
            assert_eq!(allows_to(&key(scopes), name, access), want, "{scopes:?} {name}");
        }
    }

    #[test]
    fn a_refusal_names_the_least_role_that_would_do() {
        for (name, access, want) in [
            ("agents.list", Access::Read, Role::Viewer),
            ("agents.create", Access::Write, Role::Member),
            ("runtime.list", Access::Read, Role::Viewer),
            ("runtime.schedule", Access::Write, Role::Admin),
            ("members.remove", Access::Admin, Role::Admin),
            ("tenant.delete", Access::Owner, Role::Owner),
        ] {
            assert_eq!(least_role(name, access), want, "{name}");
            for role in Role::ALL {
                assert_eq!(allows_to(&user(role), name, access), role >= want, "{role:?} {name}");
            }
        }
    }

    #[test]
    fn a_permit_opens_only_the_actors_tenant() {
        let actor = Actor { tenant: DEV_TENANT, principal: user(Role::Viewer), until: None };
        let request = RequestId::from_uuid(DEV_USER.uuid());
        let permit = authorize::<ListAgents>(actor.clone(), request).unwrap();
        assert_eq!(permit.scope().tenant(), DEV_TENANT);
        assert_eq!(authorize::<CreateAgent>(actor, request).unwrap_err().code, "role_missing");
    }
}
