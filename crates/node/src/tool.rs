//! The tool `box.run`: a run's one step that is a box.
//!
//! Invariant: its effect is keyed. The same run asked for again is answered with what came of its box, and makes another one only
//! when the first was lost and its spec says that running it twice does no harm.

use std::sync::Arc;

use lantern_policy::workload::{AgentSpec, Image, Placed, Unfetched, place, read_text};
use lantern_policy::{Admitted, Scope};
use lantern_store::workloads::{self, LOST, WorkloadRow};
use lantern_types::edge::BoxFuture;
use lantern_types::tool::{EffectClass, ToolCall};
use lantern_types::{Acted, Dur, Failure, Finding, RunId, ToolDef, ToolName, TraceParent};
use lantern_worker::Tools;
use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};

use crate::Node;
use crate::keep::{Ended, Keeper, Leash, reckon};
use crate::secrets::{self, Vended};

const NAME: &str = "box.run";
/// When a workload that another node has is asked about again.
const ELSEWHERE: Dur = Dur::from_secs(10);

/// Other tools, and boxes.
pub struct Boxes {
    node: Arc<Node>,
    others: Arc<dyn Tools>,
    defs: Vec<ToolDef>,
}

impl Boxes {
    /// These tools, and the boxes of a node.
    pub fn beside(others: Arc<dyn Tools>, node: Arc<Node>) -> Self {
        let defs = others.defs().iter().cloned().chain(definition()).collect();
        Self { node, others, defs }
    }
}

/// Not among the tools that agents may list: only the control plane's own agent has it.
fn definition() -> Option<ToolDef> {
    Some(ToolDef {
        name: ToolName::parse(NAME).ok()?,
        description: "Runs the program of a workload in a box.".to_owned(),
        input_schema: json!({ "type": "object" }),
        effect: EffectClass::Keyed,
    })
}

impl Tools for Boxes {
    fn defs(&self) -> &[ToolDef] {
        &self.defs
    }

    fn call(
        &self,
        scope: Scope,
        call: Admitted<ToolCall>,
        timeout: Dur,
    ) -> BoxFuture<'_, Result<Value, Failure>> {
        if call.work().name.as_str() != NAME {
            return self.others.call(scope, call, timeout);
        }
        Box::pin(async move {
            let work = call.into_work();
            run(&self.node, scope, (work.key.run, work.trace), &work.arguments).await
        })
    }

    fn reconcile(
        &self,
        scope: Scope,
        call: Admitted<ToolCall>,
        timeout: Dur,
    ) -> BoxFuture<'_, Result<Option<Finding>, Failure>> {
        self.others.reconcile(scope, call, timeout)
    }
}

async fn run(
    node: &Arc<Node>,
    scope: Scope,
    (run, trace): (RunId, Option<TraceParent>),
    arguments: &Value,
) -> Result<Value, Failure> {
    let setup = &node.setup;
    let row = workloads::find(&setup.db, scope, run).await.map_err(away)?;
    // Any run of any agent may name the tool: a workload is one that was scheduled.
    let row = row.ok_or_else(|| Failure::refused("workload_unknown", "this run is no workload"))?;
    let spec = spec(arguments)?;
    if row.ended_at.is_some() {
        reckon(node, scope, run).await.map_err(away)?;
    }
    match standing(&row, &spec, &setup.name, node.with(|boxes| boxes.contains_key(&run))) {
        Standing::New => {}
        Standing::Over(outcome) => return outcome,
        Standing::Elsewhere => {
            let failure = Failure::unknown("workload_elsewhere", "another node has taken this workload");
            return Err(Failure { retry_after: Some(ELSEWHERE), ..failure });
        }
    }
    let placed = placed(node, &row, spec).await?;
    fetch(node, &placed.spec().image).await?;
    let vended = secrets::find(node, (scope, run), placed.spec()).await?;
    // From here on the box is the keeper's: whatever becomes of this future, nothing is left half made.
    let (leash, done) = start(node, (scope, run, trace), (placed, vended), arguments);
    let ended = done.await;
    drop(leash);
    match ended {
        Ok(ended) => outcome(&ended),
        // Its keeper was cut off with the process.
        Err(_) => Err(lost()),
    }
}

/// What is to be done about a workload.
enum Standing {
    /// Its box is to be made.
    New,
    /// What came of it.
    Over(Result<Value, Failure>),
    /// Somebody has it, and it is not known here what came of it.
    Elsewhere,
}

fn standing(row: &WorkloadRow, spec: &AgentSpec, node: &str, here: bool) -> Standing {
    let reason = row.reason.as_deref().unwrap_or_default();
    match (&row.node, row.ended_at) {
        (None, None) => Standing::New,
        (_, Some(_)) if reason == LOST && spec.idempotent => Standing::New,
        (_, Some(_)) => {
            let ended = Ended {
                reason: known(reason),
                exit_code: row.exit_code,
                lines: row.lines,
                words: String::new(),
            };
            Standing::Over(outcome(&ended))
        }
        // Not looked after any more, and not ended: a look at what the database was not told in time.
        (Some(name), None) if name == node && !here => Standing::Over(Err(lost())),
        (Some(_), None) => Standing::Elsewhere,
    }
}

/// The words of a row.
fn known(reason: &str) -> &'static str {
    let words = ["exited", "timed_out", "stopped", "not_made"];
    words.into_iter().find(|word| *word == reason).unwrap_or(LOST)
}

/// What the run hears of how a box ended. Anything but a program that says that it is fine is a failure.
fn outcome(ended: &Ended) -> Result<Value, Failure> {
    let did = |code, message: String| Failure { acted: Acted::Yes, ..Failure::refused(code, message) };
    match (ended.reason, ended.exit_code) {
        ("exited", Some(0)) => {
            let text = "the program ended with exit code 0";
            Ok(json!({ "text": text, "reason": "exited", "exitCode": 0, "logLines": ended.lines }))
        }
        ("exited", code) => {
            let code = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
            Err(did("workload_failed", format!("the program ended with exit code {code}")))
        }
        ("timed_out", _) => {
            Err(did("workload_timed_out", "the program took longer than limits.timeout".to_owned()))
        }
        ("stopped", _) => Err(stopped()),
        ("not_made", _) => {
            Err(did("workload_not_made", format!("the box could not be made: {}", ended.words)))
        }
        _ => Err(lost()),
    }
}

fn stopped() -> Failure {
    let failure = Failure::refused("workload_stopped", "the program was stopped");
    Failure { acted: Acted::Yes, ..failure }
}

fn lost() -> Failure {
    let words = "the server ended while the program ran; what was left of its box was taken down";
    Failure { acted: Acted::Yes, ..Failure::refused("workload_lost", words) }
}

pub(crate) fn away(error: lantern_store::Error) -> Failure {
    let error: &dyn std::error::Error = &error;
    tracing::warn!(error, "a node could not ask the database");
    Failure::unknown("unavailable", "the database could not answer the node")
}

fn spec(arguments: &Value) -> Result<AgentSpec, Failure> {
    let text = arguments.get("spec").map(Value::to_string).unwrap_or_default();
    read_text(&text).map_err(|problems| {
        let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Failure::refused("workload_refused", words.join("; "))
    })
}

/// The second gate: placed again, on what this node proved. What was scheduled for another box is not run in this one.
async fn placed(node: &Node, row: &WorkloadRow, spec: AgentSpec) -> Result<Placed, Failure> {
    let here = node.capabilities().await;
    let placed = place(spec, &here, node.setup.mode).map_err(|refusals| {
        let words: Vec<String> =
            refusals.iter().map(|refusal| format!("{}: {}", refusal.path, refusal.reason)).collect();
        Failure::refused("workload_refused", words.join("; "))
    })?;
    let (backend, class) = (placed.backend().as_str(), placed.spec().isolation.as_str());
    if row.backend == backend && row.isolation == class && row.degraded == placed.degraded() {
        return Ok(placed);
    }
    let words =
        format!("it was scheduled as {} in {}, and is {class} in {backend} here", row.isolation, row.backend);
    Err(Failure::refused("workload_refused", words))
}

/// Fetches what is not here of an image. Cut off, it leaves nothing half there.
async fn fetch(node: &Node, image: &Image) -> Result<(), Failure> {
    let images = node.setup.machine.images();
    node.setup.registries.layers(images, image).await.map_err(|why| match why {
        Unfetched::NotFound(words) | Unfetched::Refused(words) => {
            Failure::refused("image_refused", format!("the image {image} was not fetched: {words}"))
        }
        Unfetched::Away(words) => {
            let failure = Failure::unknown(
                "image_unavailable",
                format!("the image {image} was not fetched yet: {words}"),
            );
            Failure { acted: Acted::No, retry_after: Some(ELSEWHERE), ..failure }
        }
    })
}

/// Has a box made and looked after.
fn start(
    node: &Arc<Node>,
    to: (Scope, RunId, Option<TraceParent>),
    (placed, vended): (Placed, Vec<Vended>),
    arguments: &Value,
) -> (Leash, oneshot::Receiver<Ended>) {
    let input = arguments.get("input").unwrap_or(&Value::Null).to_string();
    let (stop, (done, ended)) = (Arc::new(Notify::new()), oneshot::channel());
    let keeper = Keeper::new(node.clone(), to, stop.clone(), done);
    node.setup.tasks.spawn("node.box", Box::pin(keeper.keep(placed, vended, input)));
    (Leash(stop), ended)
}

#[cfg(test)]
mod tests {
    use lantern_types::At;

    use super::*;

    fn row(node: Option<&str>, reason: Option<&str>, exit_code: Option<i64>) -> WorkloadRow {
        WorkloadRow {
            run: "018f0000-0000-7000-8000-000000000001".parse().unwrap(),
            isolation: "trusted".to_owned(),
            backend: "oci".to_owned(),
            degraded: false,
            state: "running".to_owned(),
            node: node.map(str::to_owned),
            grace: Dur::ZERO,
            lines: 0,
            dropped: 0,
            reason: reason.map(str::to_owned),
            exit_code,
            created_at: At::from_micros(0),
            started_at: None,
            ended_at: reason.map(|_| At::from_micros(1)),
            run_status: None,
            run_ended_at: None,
            metered: lantern_store::metered::Stands::default(),
        }
    }

    #[test]
    fn a_box_is_made_once_unless_it_was_lost_and_may_run_again() {
        let spec = |idempotent: bool| {
            let digest = "0".repeat(64);
            read_text(&format!("image_digest: a@sha256:{digest}\nidempotent: {idempotent}\n")).unwrap()
        };
        let said = |row: WorkloadRow, idempotent, here| match standing(&row, &spec(idempotent), "me", here) {
            Standing::New => "new",
            Standing::Elsewhere => "elsewhere",
            Standing::Over(Ok(_)) => "fine",
            Standing::Over(Err(failure)) => failure.code,
        };
        for (node, reason, code, idempotent, here, want) in [
            (None, None, None, false, false, "new"),
            (Some("me"), None, None, false, true, "elsewhere"),
            (Some("me"), None, None, true, false, "workload_lost"),
            (Some("other"), None, None, true, false, "elsewhere"),
            (Some("me"), Some("exited"), Some(0), true, false, "fine"),
            (Some("me"), Some("exited"), Some(3), true, false, "workload_failed"),
            (Some("me"), Some("timed_out"), None, true, false, "workload_timed_out"),
            (Some("me"), Some("lost"), None, false, false, "workload_lost"),
            (Some("other"), Some("lost"), None, true, false, "new"),
            (None, Some("stopped"), None, true, false, "workload_stopped"),
            (Some("me"), Some("nonsense"), None, false, false, "workload_lost"),
        ] {
            assert_eq!(said(row(node, reason, code), idempotent, here), want, "{node:?} {reason:?} {code:?}");
        }
    }
}
