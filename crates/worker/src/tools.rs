//! The registry of tools. One source for now: the built-in ones.

mod calc;
mod http_fetch;

use std::sync::Arc;

use lantern_net::Client;
use lantern_policy::{Admitted, Scope};
use lantern_store::{InForce, Standing};
use lantern_types::edge::{BoxFuture, Clock};
use lantern_types::tool::ToolCall;
use lantern_types::{Dur, Failure, ToolDef};
use serde_json::Value;

use crate::edge::Tools;
use crate::ruling;

pub(crate) use http_fetch::NAME as FETCH;

/// The tools that need nothing but this process: `calc` and `http.fetch`.
pub struct Builtin {
    client: Client,
    defs: Vec<ToolDef>,
    limits: InForce,
    standing: Standing,
    clock: Arc<dyn Clock>,
}

impl Builtin {
    /// The built-in tools. `http.fetch` goes where the client's public reach does, and cuts what it brings back so that it
    /// has at most as many bytes of JSON as an output of its tenant may. Where it is sent on to, the policies in force are asked.
    pub fn new(client: Client, limits: InForce, standing: Standing, clock: Arc<dyn Clock>) -> Self {
        Self { client, defs: definitions(), limits, standing, clock }
    }
}

/// The definitions of the built-in tools.
pub fn definitions() -> Vec<ToolDef> {
    [calc::def(), http_fetch::def()].into_iter().flatten().collect()
}

impl Tools for Builtin {
    fn defs(&self) -> &[ToolDef] {
        &self.defs
    }

    fn call(
        &self,
        scope: Scope,
        call: Admitted<ToolCall>,
        timeout: Dur,
    ) -> BoxFuture<'_, Result<Value, Failure>> {
        Box::pin(async move {
            let work = call.into_work();
            match work.name.as_str() {
                calc::NAME => calc::call(&work.arguments),
                http_fetch::NAME => {
                    let most = self.limits.of(scope.tenant()).output_bytes_max;
                    let set = self.standing.of(scope.tenant());
                    let set = set.map_err(|error| Failure::refused("unavailable", error.to_string()))?;
                    let may = |host: &str| ruling::refused(set.as_deref(), &work, host, self.clock.now());
                    http_fetch::call(&self.client, &work, (timeout, most), &may).await
                }
                other => Err(Failure::refused("tool_unknown", format!("there is no tool {other}"))),
            }
        })
    }
}
