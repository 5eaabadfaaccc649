//! Every error code a client can see, with its kind. A code is forever: programs switch on it.
//!
//! Invariant: one line `Variant = "snake_code",` for each code, under the kind that gives it its status, and one page
//! `docs/errors/CODE.md`. Knows no status numbers and no wording.

/// What a client can do about an error. `problem.rs` alone knows the status number of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Send something else.
    Invalid,
    /// Say who you are.
    Unauthenticated,
    /// Ask somebody who may.
    Forbidden,
    /// It is not there, or not yours to know about.
    NotFound,
    /// The path exists, the method does not.
    NotAllowed,
    /// Send it faster.
    TooSlow,
    /// Not in this state.
    Conflict,
    /// Somebody changed it first.
    Outdated,
    /// Send it in another form.
    Unsupported,
    /// Send less.
    TooLarge,
    /// Ask in a shorter address.
    AddressTooLong,
    /// Send fewer or shorter headers.
    HeadTooLarge,
    /// Send it later.
    RateLimited,
    /// Raise the cap, or wait for the next period.
    OverBudget,
    /// Try again.
    Unavailable,
    /// A fault of ours.
    Internal,
    /// Ask for something that this server can do.
    NotSupported,
    /// Somebody further on did not do their part.
    BadGateway,
}

macro_rules! codes {
    ($($kind:ident { $($variant:ident = $text:literal,)+ })+) => {
        /// A stable error code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[doc = concat!("`", $text, "`")] $variant,)+)+
        }

        impl Code {
            /// Every code, in table order.
            pub const ALL: &[Code] = &[$($(Code::$variant,)+)+];

            /// As it stands in the body.
            pub const fn as_str(self) -> &'static str {
                match self { $($(Self::$variant => $text,)+)+ }
            }

            /// What a client can do about it.
            pub const fn kind(self) -> Kind {
                match self { $($(Self::$variant => Kind::$kind,)+)+ }
            }
        }
    };
}

codes! {
    Invalid {
        InvalidRequest = "invalid_request",
        InvalidJson = "invalid_json",
        InvalidUtf8 = "invalid_utf8",
        DuplicateKey = "duplicate_key",
        NumberTooLarge = "number_too_large",
        InvalidBody = "invalid_body",
        InvalidQuery = "invalid_query",
        InvalidHeader = "invalid_header",
        InvalidManifest = "invalid_manifest",
        InvalidInput = "invalid_input",
        InputSchemaViolated = "input_schema_violated",
        WrongPassword = "wrong_password",
        PriceUnknown = "price_unknown",
        CallUnbounded = "call_unbounded",
        UnsupportedAlgorithm = "unsupported_algorithm",
        InvalidSpec = "invalid_spec",
        WorkloadRefused = "workload_refused",
        SsoNotConfigured = "sso_not_configured",
    }
    Unauthenticated {
        Unauthorized = "unauthorized",
        InvalidCredentials = "invalid_credentials",
        NotATicket = "not_a_ticket",
        TicketSpent = "ticket_spent",
        InvalidRefreshToken = "invalid_refresh_token",
        SecondFactorRequired = "second_factor_required",
        WrongCode = "wrong_code",
        InvalidInvitation = "invalid_invitation",
        InvalidResetToken = "invalid_reset_token",
        RefreshTokenReused = "refresh_token_reused",
        SsoExpired = "sso_expired",
    }
    Forbidden {
        ScopeMissing = "scope_missing",
        RoleMissing = "role_missing",
        RoleAbove = "role_above",
        ScopeEscalation = "scope_escalation",
        NotAnApprover = "not_an_approver",
        SignupClosed = "signup_closed",
        OperatorOnly = "operator_only",
        StopHolds = "stop_holds",
        SsoDenied = "sso_denied",
        SsoEmailUnverified = "sso_email_unverified",
        SsoNoAccount = "sso_no_account",
        SsoNotLinked = "sso_not_linked",
        PolicyDenied = "policy_denied",
    }
    NotFound {
        RouteNotFound = "route_not_found",
        AgentNotFound = "agent_not_found",
        AgentVersionNotFound = "agent_version_not_found",
        RunNotFound = "run_not_found",
        StepNotFound = "step_not_found",
        SessionNotFound = "session_not_found",
        ApprovalNotFound = "approval_not_found",
        ApiKeyNotFound = "api_key_not_found",
        BudgetNotFound = "budget_not_found",
        MemberNotFound = "member_not_found",
        InvitationNotFound = "invitation_not_found",
        SignInNotFound = "sign_in_not_found",
        IdentityNotFound = "identity_not_found",
        ProviderNotFound = "provider_not_found",
        SecretNotFound = "secret_not_found",
        PolicyNotFound = "policy_not_found",
        StopNotFound = "stop_not_found",
        ModelNotFound = "model_not_found",
        LogEntryNotFound = "log_entry_not_found",
        WorkloadNotFound = "workload_not_found",
        ImageNotFound = "image_not_found",
        TemplateNotFound = "template_not_found",
        TenantNotFound = "tenant_not_found",
    }
    NotAllowed {
        MethodNotAllowed = "method_not_allowed",
    }
    TooSlow {
        BodyTooSlow = "body_too_slow",
    }
    Conflict {
        Conflict = "conflict",
        EmailRegistered = "email_registered",
        FactorEnabled = "factor_enabled",
        FactorNotBegun = "factor_not_begun",
        IdentityLinked = "identity_linked",
        AlreadyMember = "already_member",
        LastOwner = "last_owner",
        OwnAccount = "own_account",
        TooManyInvitations = "too_many_invitations",
        SecretsFull = "secrets_full",
        NotSignedIn = "not_signed_in",
        AgentArchived = "agent_archived",
        AgentExists = "agent_exists",
        IdempotencyMismatch = "idempotency_mismatch",
        RunFinished = "run_finished",
        RunEnding = "run_ending",
        RunNotFinished = "run_not_finished",
        RunUnreadable = "run_unreadable",
        SessionStopped = "session_stopped",
        SessionBusy = "session_busy",
        ContentRemoved = "content_removed",
        StepNotWaiting = "step_not_waiting",
        StepNotInDoubt = "step_not_in_doubt",
        WorkloadNotRunning = "workload_not_running",
    }
    Outdated {
        VersionMismatch = "version_mismatch",
    }
    Unsupported {
        EncodingUnsupported = "encoding_unsupported",
        AttachmentUnsupported = "attachment_unsupported",
    }
    TooLarge {
        BodyTooLarge = "body_too_large",
        InputTooLarge = "input_too_large",
        SignalTooLarge = "signal_too_large",
    }
    AddressTooLong {
        AddressTooLong = "address_too_long",
    }
    HeadTooLarge {
        HeadTooLarge = "head_too_large",
    }
    RateLimited {
        LoginRateLimited = "login_rate_limited",
        SignupRateLimited = "signup_rate_limited",
        TooManyTickets = "too_many_tickets",
        RunRateLimited = "run_rate_limited",
        TooManyRuns = "too_many_runs",
        InboxFull = "inbox_full",
        SignalsFull = "signals_full",
    }
    OverBudget {
        BudgetExceeded = "budget_exceeded",
        QuotaExceeded = "quota_exceeded",
    }
    Unavailable {
        Unavailable = "unavailable",
        StorageFull = "storage_full",
        StorageReadOnly = "storage_read_only",
        StorageDamaged = "storage_damaged",
        EntryUnwritten = "entry_unwritten",
        TooManyStreams = "too_many_streams",
        ModelNotConfigured = "model_not_configured",
    }
    Internal {
        Internal = "internal",
    }
    NotSupported {
        WireUnsupported = "wire_unsupported",
        AgentIdentityUnsupported = "agent_identity_unsupported",
        RuntimeUnsupported = "runtime_unsupported",
        NotBuilt = "not_built",
        TemplateUnsupported = "template_unsupported",
    }
    BadGateway {
        EgressDenied = "egress_denied",
        SsoFailed = "sso_failed",
        SsoUnavailable = "sso_unavailable",
        ProviderAuth = "provider_auth",
        ProviderInterrupted = "provider_interrupted",
        ProviderInvalidResponse = "provider_invalid_response",
        ProviderRefused = "provider_refused",
        ProviderTimeout = "provider_timeout",
        ProviderUnreachable = "provider_unreachable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_distinct_and_in_snake_case() {
        let texts: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
        let snake =
            |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        assert!(texts.iter().all(|text| snake(text)));
    }
}
