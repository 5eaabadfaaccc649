//! Errors in the words of each wire, so that its official clients raise their own kind of error.

use lantern_edge::{Code, Shape, Told};
use serde_json::{Value, json};

/// The wire of chat completions, responses and embeddings. Being out of money is a rate limit there, with a name of its own.
pub(crate) const PLAIN: Shape = Shape { body: plain, quota_is_a_rate: true };
/// The wire of messages, where every error has a type.
pub(crate) const TYPED: Shape = Shape { body: typed, quota_is_a_rate: false };

fn plain(told: &Told<'_>) -> Value {
    let code = match told.code {
        Code::BudgetExceeded => "insufficient_quota",
        Code::Unauthorized => "invalid_api_key",
        code => code.as_str(),
    };
    let kind = match (told.code, told.status) {
        (Code::BudgetExceeded, _) => "insufficient_quota",
        (_, 429) => "rate_limit_error",
        (_, 500..) => "server_error",
        _ => "invalid_request_error",
    };
    json!({"error": {"message": told.words, "type": kind, "param": told.field, "code": code}})
}

fn typed(told: &Told<'_>) -> Value {
    let kind = match told.status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    let error = json!({"type": kind, "message": told.words});
    json!({"type": "error", "error": error, "request_id": told.request.to_string()})
}
