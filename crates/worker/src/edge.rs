//! What the worker asks of the outside: models and tools. Real bodies beside the traits' users, fakes in `sim`.

use lantern_policy::route::Choices;
use lantern_policy::{Admitted, Scope};
use lantern_types::edge::BoxFuture;
use lantern_types::llm::{LlmCall, LlmReply};
use lantern_types::tool::ToolCall;
use lantern_types::{Dur, Failure, Finding, Route, ToolDef};
use serde_json::Value;

/// Receives text as a model says it: best effort, never stored.
pub type Say = Box<dyn FnMut(&str) + Send>;

/// Models.
pub trait Llm: Send + Sync + 'static {
    /// The providers that a tenant could use now.
    fn choices(&self, scope: Scope) -> BoxFuture<'_, Result<Choices, Failure>>;

    /// Makes the call and waits for the whole reply. Dropping the future stops the call.
    fn call(
        &self,
        scope: Scope,
        route: Route,
        call: Admitted<LlmCall>,
        timeout: Dur,
        say: Say,
    ) -> BoxFuture<'_, Result<LlmReply, Failure>>;
}

/// Tools.
pub trait Tools: Send + Sync + 'static {
    /// Every tool there is.
    fn defs(&self) -> &[ToolDef];

    /// Makes the call. Dropping the future stops it.
    fn call(
        &self,
        scope: Scope,
        call: Admitted<ToolCall>,
        timeout: Dur,
    ) -> BoxFuture<'_, Result<Value, Failure>>;

    /// Asks whether what was sent with this call's key happened; does nothing outside. `None` when nobody can say, which
    /// is all that a source without an answer need say. [`Finding::DidNotHappen`] promises that it never will: what may
    /// still be on its way is not known.
    fn reconcile(
        &self,
        _scope: Scope,
        _call: Admitted<ToolCall>,
        _timeout: Dur,
    ) -> BoxFuture<'_, Result<Option<Finding>, Failure>> {
        Box::pin(async { Ok(None) })
    }
}
