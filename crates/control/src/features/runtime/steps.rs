//! Steps of a workload's program that are runs of their own: a tool that is called, a person who is asked.
//!
//! Invariant: the run's id comes of the workload's run and the program's key, so a step is made once, whoever asks again after
//! whichever crash. Its run is of an agent of the server's own in the tenant, under the tenant's limits, stops and caps as every run is;
//! a tool computes only, there: one that reaches out would do so past the box's egress rules.

use lantern_edge::{Code, Error, Refusal, Result};
use lantern_engine::Manifest;
use lantern_policy::Scope;
use lantern_store::journal;
use lantern_store::workloads;
use lantern_types::step::{Stepped, Wanted};
use lantern_types::{Digest, Dur, EffectClass, RunId, ToolDef, uuid8};
use serde_json::{Map, Value, json};

use super::model::vm_id;
use crate::App;
use crate::features::agents;
use crate::features::runs::{history, service as runs, steer, wait};

/// Under which agent these runs are: no name that anybody could give one.
const AGENT: &str = "(workload steps)";
/// How long to wait before it is looked again whether a run is over, where nobody tells.
const WAIT: Dur = Dur::from_secs(60);
const AGAIN: Dur = Dur::from_secs(1);

/// Does a step of a workload, or finds the run that does, and waits for its end.
pub async fn step(app: &App, scope: Scope, (workload, key): (RunId, &str), step: Wanted) -> Stepped {
    match done(app, scope, (workload, key), step).await {
        Ok(over) => over,
        Err(error) if matches!(error.code().kind(), Refusal::Internal | Refusal::Unavailable) => {
            tracing::warn!(run = %workload, %error, "a step of a workload was not done");
            Stepped::Away
        }
        Err(error) => Stepped::Refused { code: error.code().as_str().to_owned(), words: error.to_string() },
    }
}

async fn done(app: &App, scope: Scope, (workload, key): (RunId, &str), step: Wanted) -> Result<Stepped> {
    if let Wanted::Withdraw(kind) = step {
        return withdrawn(app, scope, id(workload, kind, key)).await;
    }
    let (kind, input) = match asked(app, step) {
        Ok(asked) => asked,
        Err(refused) => return Ok(refused),
    };
    let run = id(workload, kind, key);
    if journal::head(&app.db, scope, run).await?.is_none() {
        begin(app, scope, (workload, key), (run, input)).await?;
    }
    over(app, scope, run).await
}

/// Cancels the run of a step that nobody waits for any more.
async fn withdrawn(app: &App, scope: Scope, run: RunId) -> Result<Stepped> {
    let reason = Some("the box that asked for it is gone".to_owned());
    match steer::cancel(app, scope, run, "workload".to_owned(), reason).await {
        Ok(_) => Ok(Stepped::Away),
        // Over by itself, or never begun.
        Err(error) if matches!(error.code(), Code::RunFinished | Code::RunNotFound) => Ok(Stepped::Away),
        Err(error) => Err(error),
    }
}

/// The run of a step: the same after any crash.
fn id(workload: RunId, kind: &str, key: &str) -> RunId {
    let workload = workload.to_string();
    let parts = [b"workload step".as_slice(), workload.as_bytes(), kind.as_bytes(), key.as_bytes()];
    RunId::from_uuid(uuid8(Digest::of_parts(&parts)))
}

/// What its run is asked. Words of the program's are referred to, so that nothing in them is read as a reference.
fn asked(app: &App, step: Wanted) -> std::result::Result<(&'static str, Value), Stepped> {
    match step {
        Wanted::Tool { name, arguments } => {
            callable(&app.tools, &name)
                .map_err(|(code, words)| Stepped::Refused { code: code.to_owned(), words })?;
            let data = json!({ "tool": name, "arguments": "{{input.arguments}}" });
            let steps = json!([{ "id": "tool", "kind": "tool", "data": data }]);
            Ok(("tool", json!({ "steps": steps, "arguments": arguments })))
        }
        Wanted::Approval { reason, approvers, wait } => {
            let data = json!({ "reason": "{{input.reason}}", "approvers": approvers });
            let steps =
                json!([{ "id": "approval", "kind": "approval", "timeoutMs": wait.millis(), "data": data }]);
            Ok(("approval", json!({ "steps": steps, "reason": reason })))
        }
        Wanted::Withdraw(_) => Err(Stepped::Away),
    }
}

/// Whether a program in a box may call a tool: where it reaches is for its egress rules to say, so it calls what computes only.
fn within(tool: &ToolDef) -> bool {
    tool.effect == EffectClass::Pure
}

/// Why a program in a box may not call a tool of that name: a code, and why.
fn callable(tools: &[ToolDef], name: &str) -> std::result::Result<(), (&'static str, String)> {
    let Some(tool) = tools.iter().find(|tool| tool.name.as_str() == name) else {
        let known: Vec<&str> =
            tools.iter().filter(|tool| within(tool)).map(|tool| tool.name.as_str()).collect();
        let words = format!("there is no tool of that name; a box may call {}", known.join(", "));
        return Err(("tool_unknown", words));
    };
    if within(tool) {
        return Ok(());
    }
    let words = format!(
        "a box may not call {name}, which does more than compute; reach out from the program itself, by the box's own \
        listener (HTTP_PROXY names it), where network: allowlist and its egress rules let it"
    );
    Err(("tool_not_allowed", words))
}

async fn begin(
    app: &App,
    scope: Scope,
    (workload, key): (RunId, &str),
    (run, input): (RunId, Value),
) -> Result<()> {
    let now = app.clock.now();
    runs::allow(app, scope, now)?;
    let version = agents::service::reserved(app, scope, AGENT, manifest(app)?).await?;
    let labels = [("workload", json!(vm_id(workload))), ("step", json!(key))];
    let labels: Map<String, Value> =
        labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let asked = runs::Plain { input, labels, max_cost: None };
    let first = runs::first_of(app, scope, (run, now), &version, asked, workloads::TRIGGER).await?;
    match runs::write(app, scope, first).await {
        Ok(_) => {
            tracing::info!(tenant = %scope.tenant(), %workload, %run, "a workload asked for a step");
            Ok(())
        }
        // Asked for twice at once: the other one is the same.
        Err(_) if journal::head(&app.db, scope, run).await?.is_some() => Ok(()),
        Err(error) => Err(error),
    }
}

/// What these runs do is in what they are asked; which tools there are is not.
fn manifest(app: &App) -> Result<Manifest> {
    let tools: Vec<&str> =
        app.tools.iter().filter(|tool| within(tool)).map(|tool| tool.name.as_str()).collect();
    Manifest::parse(&json!({ "program": "steps", "tools": tools, "steps": [] })).map_err(Error::internal)
}

/// Waits for the end of a run, and says what came of it.
async fn over(app: &App, scope: Scope, run: RunId) -> Result<Stepped> {
    loop {
        match wait::over(app, scope, run, WAIT).await? {
            Some(true) => break,
            Some(false) if app.stop.is_requested() => return Ok(Stepped::Away),
            Some(false) => {}
            // As many wait as may, or it was removed.
            None if journal::head(&app.db, scope, run).await?.is_none() => return Ok(Stepped::Away),
            None => app.clock.sleep(AGAIN).await,
        }
    }
    let said = history::said(app, scope, run).await?;
    let outcome = match said.error {
        Some(error) => Err((error.code, error.message)),
        None => {
            let steps = said.output.as_ref().and_then(|output| output.get("steps")?.as_object());
            match steps.and_then(|steps| steps.values().next()) {
                Some(output) => Ok(output.clone()),
                None => Err(("run_cancelled".to_owned(), "the run of this step was cancelled".to_owned())),
            }
        }
    };
    Ok(Stepped::Over { run, outcome })
}

#[cfg(test)]
mod tests {
    use lantern_types::ToolName;

    use super::*;

    #[test]
    fn a_box_calls_only_tools_that_compute() {
        let tool = |name: &str, effect| ToolDef {
            name: ToolName::parse(name).unwrap(),
            description: String::new(),
            input_schema: json!({}),
            effect,
        };
        let tools = [
            tool("calc", EffectClass::Pure),
            tool("http.fetch", EffectClass::Idempotent),
            tool("box.run", EffectClass::Keyed),
            tool("mail.ask", EffectClass::Reconcilable),
            tool("mail.send", EffectClass::Irreversible),
        ];
        for (name, want) in [
            ("calc", None),
            ("http.fetch", Some("tool_not_allowed")),
            ("box.run", Some("tool_not_allowed")),
            ("mail.ask", Some("tool_not_allowed")),
            ("mail.send", Some("tool_not_allowed")),
            ("http.fecth", Some("tool_unknown")),
            ("http__fetch", Some("tool_unknown")),
            ("", Some("tool_unknown")),
        ] {
            assert_eq!(callable(&tools, name).err().map(|(code, _)| code), want, "{name}");
        }
        let (_, words) = callable(&tools, "http.fetch").unwrap_err();
        assert!(words.contains("the box's own listener"), "{words}");
    }

    #[test]
    fn the_run_of_a_step_is_told_by_its_workload_its_kind_and_its_key() {
        let one: RunId = "018f0000-0000-7000-8000-000000000001".parse().unwrap();
        let two: RunId = "018f0000-0000-7000-8000-000000000002".parse().unwrap();
        let all =
            [id(one, "tool", "a"), id(one, "tool", "b"), id(one, "approval", "a"), id(two, "tool", "a")];
        let apart: std::collections::BTreeSet<String> = all.iter().map(ToString::to_string).collect();
        assert_eq!(apart.len(), all.len());
        assert_eq!(id(one, "tool", "a"), all[0]);
    }
}
