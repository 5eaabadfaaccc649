//! One event of a workload's run, in the contract's words. Pure.

use lantern_engine::{Content, Event, Fact, wire};
use lantern_types::{RunId, TenantId};
use serde_json::{Value, json};

use super::model::{self, Happening, vm_id};

/// What happened, under this number.
pub(super) fn happening(tenant: TenantId, run: RunId, id: u64, event: &Event) -> Happening {
    let kind = wire::kind(&event.fact);
    let told = by_node(event);
    Happening {
        id,
        tenant_id: tenant,
        vm_id: vm_id(run),
        action: told.as_ref().map_or_else(|| model::action(kind), |(action, _)| action),
        attrs: told.map_or_else(|| attrs(kind, &event.fact), |(_, attrs)| attrs),
        at: event.at.to_string(),
    }
}

/// What a node told the run of its box: the contract's word for it, and what was told; nothing of it once that was removed.
fn by_node(event: &Event) -> Option<(&'static str, Value)> {
    let Fact::SignalReceived { name, .. } = &event.fact else { return None };
    let action = match name.as_str() {
        "lantern:egress" => "egress",
        "lantern:exec" => "exec",
        "lantern:secret" => "secret_vend",
        "lantern:step" => "step",
        "lantern:llm" => "llm",
        "lantern:tool" => "tool",
        "lantern:approval" => "approval",
        "lantern:signal" => "signal",
        "lantern:model" => "model_refused",
        _ => return None,
    };
    let value = match &event.content {
        Some(Content::Signal(value)) => Value::clone(value),
        _ => Value::Null,
    };
    // A decision is told whole, and of a step only which it was: its result is the program's.
    let attrs = match action {
        "egress" | "exec" | "model_refused" | "secret_vend" => {
            value.get("value").cloned().unwrap_or(Value::Null)
        }
        "tool" | "approval" => {
            json!({ "key": value.get("key"), "runId": value.pointer("/value/runId"), "ok": value.pointer("/value/ok") })
        }
        _ => json!({ "key": value.get("key") }),
    };
    Some((action, attrs))
}

fn attrs(kind: &str, fact: &Fact) -> Value {
    match fact {
        Fact::StepFailed { code, .. }
        | Fact::StepAbandoned { code, .. }
        | Fact::StepRetrying { code, .. } => {
            json!({ "event": kind, "code": code })
        }
        Fact::StepDenied { code, reason, .. } => json!({ "event": kind, "code": code, "reason": reason }),
        Fact::CallMetered { provider, model, cost, tokens_in, tokens_out, lost, .. } => json!({
            "event": kind, "provider": provider, "model": model, "costUsd": cost.to_wire(),
            "tokensIn": tokens_in, "tokensOut": tokens_out, "lost": lost,
        }),
        Fact::CancelRequested { by } => json!({ "event": kind, "by": by }),
        _ => json!({ "event": kind }),
    }
}
