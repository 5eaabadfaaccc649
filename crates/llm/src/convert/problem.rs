//! Errors of a front door, in the shape that each family's own clients raise as their own.
//!
//! Invariant: a budget that is used up looks like the quota error that the clients know, and no client tries it again.

use lantern_types::Dur;
use serde_json::{Value, json};

use crate::Family;

/// Something that a front door has to say instead of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What kind of thing it is.
    pub kind: ProblemKind,
    /// Words for the caller.
    pub message: String,
    /// A stable code of ours, where the family has room for one.
    pub code: Option<String>,
    /// The field that is wrong.
    pub param: Option<String>,
    /// How long to wait before trying again.
    pub retry_after: Option<Dur>,
    /// The id of the request, where the family has room for one.
    pub request_id: Option<String>,
}

impl Problem {
    /// A problem of this kind.
    pub fn new(kind: ProblemKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), code: None, param: None, retry_after: None, request_id: None }
    }
}

/// What kind of problem it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// The request makes no sense.
    Invalid,
    /// Nobody knows who asks.
    Unauthenticated,
    /// Who asks may not.
    Forbidden,
    /// There is no such model, or nothing at that path.
    NotFound,
    /// The request is too large.
    TooLarge,
    /// Too many requests: a little later it works.
    RateLimited,
    /// The budget is used up: waiting does not help.
    OverBudget,
    /// No provider can take it now.
    Unavailable,
    /// It took too long.
    Timeout,
    /// Something broke here or behind.
    Internal,
}

/// A problem as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The status.
    pub status: u16,
    /// Headers beside the content type, which is JSON.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Problem {
    /// The problem as clients of `family` know it.
    pub fn told(&self, family: Family) -> Told {
        let mut headers = Vec::new();
        if let Some(wait) = self.retry_after {
            headers.push(("retry-after", whole_secs(wait).to_string()));
        }
        let finally = matches!(self.kind, ProblemKind::OverBudget | ProblemKind::Invalid);
        if finally && matches!(family, Family::Chat | Family::Responses | Family::Messages) {
            headers.push(("x-should-retry", "false".to_owned()));
        }
        if family == Family::Converse {
            headers.push(("x-amzn-errortype", exception(self.kind).to_owned()));
        }
        if let (Some(id), Family::Messages) = (&self.request_id, family) {
            headers.push(("request-id", id.clone()));
        }
        Told { status: status(family, self.kind), headers, body: super::shared::bytes(&body(family, self)) }
    }
}

/// The body of a problem, and the data of the event that ends a stream with it.
pub(super) fn body(family: Family, problem: &Problem) -> Value {
    let Problem { kind, message, code, param, request_id, .. } = problem;
    match family {
        Family::Chat | Family::Responses => {
            let (name, usual) = plain(*kind);
            // The code that its clients look for comes before one of ours.
            let code = usual.or(code.as_deref());
            json!({"error": {"message": message, "type": name, "param": param, "code": code}})
        }
        Family::Messages => {
            let mut body = json!({"type": "error", "error": {"type": named(*kind), "message": message}});
            if let (Some(id), Some(fields)) = (request_id, body.as_object_mut()) {
                fields.insert("request_id".to_owned(), json!(id));
            }
            body
        }
        Family::Generate => {
            let mut error = json!({
                "code": status(family, *kind), "message": message, "status": canonical(*kind),
            });
            if let (Some(details), Some(fields)) = (details(problem), error.as_object_mut()) {
                fields.insert("details".to_owned(), details);
            }
            json!({"error": error})
        }
        Family::Converse => json!({"message": message}),
    }
}

const fn status(family: Family, kind: ProblemKind) -> u16 {
    match (kind, family) {
        (ProblemKind::OverBudget, Family::Messages) => 402,
        (ProblemKind::OverBudget, Family::Converse) => 400,
        (ProblemKind::OverBudget | ProblemKind::RateLimited, _) => 429,
        (ProblemKind::Unauthenticated, Family::Converse) => 403,
        (ProblemKind::TooLarge, Family::Generate | Family::Converse) => 400,
        (ProblemKind::Unavailable, Family::Messages) => 529,
        (ProblemKind::Timeout, Family::Converse) => 408,
        (ProblemKind::Invalid, _) => 400,
        (ProblemKind::Unauthenticated, _) => 401,
        (ProblemKind::Forbidden, _) => 403,
        (ProblemKind::NotFound, _) => 404,
        (ProblemKind::TooLarge, _) => 413,
        (ProblemKind::Unavailable, _) => 503,
        (ProblemKind::Timeout, _) => 504,
        (ProblemKind::Internal, _) => 500,
    }
}

/// Type and usual code, as OpenAI's errors have them.
const fn plain(kind: ProblemKind) -> (&'static str, Option<&'static str>) {
    match kind {
        ProblemKind::Invalid => ("invalid_request_error", None),
        ProblemKind::Unauthenticated => ("invalid_request_error", Some("invalid_api_key")),
        ProblemKind::Forbidden => ("invalid_request_error", Some("forbidden")),
        ProblemKind::NotFound => ("invalid_request_error", Some("model_not_found")),
        ProblemKind::TooLarge => ("invalid_request_error", Some("request_too_large")),
        ProblemKind::RateLimited => ("requests", Some("rate_limit_exceeded")),
        ProblemKind::OverBudget => ("insufficient_quota", Some("insufficient_quota")),
        ProblemKind::Unavailable => ("server_error", Some("unavailable")),
        ProblemKind::Timeout => ("server_error", Some("timeout")),
        ProblemKind::Internal => ("server_error", None),
    }
}

/// The type, as Anthropic's errors have it.
const fn named(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::Invalid => "invalid_request_error",
        ProblemKind::Unauthenticated => "authentication_error",
        ProblemKind::Forbidden => "permission_error",
        ProblemKind::NotFound => "not_found_error",
        ProblemKind::TooLarge => "request_too_large",
        ProblemKind::RateLimited => "rate_limit_error",
        ProblemKind::OverBudget => "billing_error",
        ProblemKind::Unavailable => "overloaded_error",
        ProblemKind::Timeout => "timeout_error",
        ProblemKind::Internal => "api_error",
    }
}

/// The status, as Google's errors have it.
const fn canonical(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::Invalid | ProblemKind::TooLarge => "INVALID_ARGUMENT",
        ProblemKind::Unauthenticated => "UNAUTHENTICATED",
        ProblemKind::Forbidden => "PERMISSION_DENIED",
        ProblemKind::NotFound => "NOT_FOUND",
        ProblemKind::RateLimited | ProblemKind::OverBudget => "RESOURCE_EXHAUSTED",
        ProblemKind::Unavailable => "UNAVAILABLE",
        ProblemKind::Timeout => "DEADLINE_EXCEEDED",
        ProblemKind::Internal => "INTERNAL",
    }
}

/// The exception, as Bedrock's errors have it.
pub(super) const fn exception(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::Invalid | ProblemKind::TooLarge => "ValidationException",
        ProblemKind::Unauthenticated | ProblemKind::Forbidden => "AccessDeniedException",
        ProblemKind::NotFound => "ResourceNotFoundException",
        ProblemKind::RateLimited => "ThrottlingException",
        ProblemKind::OverBudget => "ServiceQuotaExceededException",
        ProblemKind::Unavailable => "ServiceUnavailableException",
        ProblemKind::Timeout => "ModelTimeoutException",
        ProblemKind::Internal => "InternalServerException",
    }
}

/// Rounded up: who comes back early is refused again.
fn whole_secs(wait: Dur) -> i64 {
    wait.millis().saturating_add(999) / 1_000
}

fn details(problem: &Problem) -> Option<Value> {
    const TYPE: &str = "type.googleapis.com/google.rpc.";
    let mut details = Vec::new();
    if problem.kind == ProblemKind::OverBudget {
        let violation = json!({"subject": "budget", "description": problem.message});
        details.push(json!({"@type": format!("{TYPE}QuotaFailure"), "violations": [violation]}));
    }
    if let Some(wait) = problem.retry_after {
        let delay = format!("{}s", whole_secs(wait));
        details.push(json!({"@type": format!("{TYPE}RetryInfo"), "retryDelay": delay}));
    }
    (!details.is_empty()).then_some(Value::Array(details))
}
