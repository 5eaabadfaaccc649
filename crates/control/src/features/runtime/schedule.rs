//! Scheduling: from a spec to a run that a node takes up, or to everything that speaks against it.
//!
//! Invariant: nothing is written before the spec was read whole, every field of it can be honoured, the node proved the box of its
//! class, and the image is there. The run and its workload are one transaction, and so is what the quota says.

use lantern_edge::{Code, Error, FieldError, Result};
use lantern_engine::Manifest;
use lantern_policy::action::ScheduleWorkload;
use lantern_policy::workload::{
    self, AgentSpec, Image, Placed, Refusal, Unfetched, Wanted, Which, place, registry_of,
};
use lantern_policy::{Permit, Scope};
use lantern_store::journal::{self, Created};
use lantern_store::workloads::{self, NewWorkload};
use lantern_types::{At, Dur, Limits, RunId};
use serde_json::{Map, Value, json};

use super::cluster::{self, Runtime};
use super::model::{Asked, Scheduled, vm_id};
use super::quota;
use crate::App;
use crate::features::agents;
use crate::features::runs::{model, service as runs};

/// Under which agent the runs of workloads are: no name that anybody could give one.
const AGENT: &str = "(workloads)";
/// The tool that a node has, and nobody else.
const TOOL: &str = "box.run";
/// What making a box and taking it down may take, beside its program.
const AROUND: Dur = Dur::from_secs(120);
/// How long a program has to end when nobody says.
pub(super) const GRACE: Dur = Dur::from_secs(30);

/// Schedules a workload.
pub(super) async fn schedule(
    app: &App,
    permit: &Permit<ScheduleWorkload>,
    asked: Asked,
) -> Result<Scheduled> {
    let (scope, runtime) = (permit.scope(), cluster::runtime(app)?);
    let Asked { document, input } = asked;
    let asked = read(&document)?;
    let placed = placed(app, scope, asked.spec).await?;
    let now = app.clock.now();
    runs::allow(app, scope, now)?;
    let tag = asked.tag.as_ref().map(ToString::to_string);
    // Placed again, by its digest: whatever a tag means later, the run names what it ran.
    let placed = match image(runtime, &placed.spec().image, asked.tag).await? {
        None => placed,
        Some(image) => self::placed(app, scope, AgentSpec { image, ..placed.spec().clone() }).await?,
    };
    let version = agents::service::reserved(app, scope, AGENT, manifest()?).await?;
    let run = RunId::from_uuid(app.ids.uuid());
    let labels: Map<String, Value> =
        placed.spec().labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let asked = runs::Plain {
        input: told(&placed, &runtime.node, tag, input),
        labels,
        max_cost: placed.spec().limits.max_cost,
    };
    let first = runs::first_of(app, scope, (run, now), &version, asked, workloads::TRIGGER).await?;
    let cap = model::cap(&app.limits(scope), version.run_cap(None), placed.spec().limits.max_cost);
    let (backend, degraded) = (placed.backend().as_str(), placed.degraded());
    let isolation = placed.spec().isolation.as_str();
    write(app, scope, first, NewWorkload { run, isolation, backend, degraded, cap, at: now }).await?;
    tracing::info!(tenant = %scope.tenant(), %run, isolation, backend, "a workload was scheduled");
    Ok(Scheduled {
        vm_id: vm_id(run),
        run_id: run,
        node: runtime.node.clone(),
        state: "pending",
        backend,
        degraded,
        created_at: now.to_string(),
    })
}

/// What the run of a workload does.
fn manifest() -> Result<Manifest> {
    let arguments = ["spec", "input", "backend", "degraded", "node"];
    let arguments: Map<String, Value> =
        arguments.into_iter().map(|name| (name.to_owned(), json!(format!("{{{{input.{name}}}}}")))).collect();
    let step = json!({ "id": "box", "kind": "tool", "timeout": "30d", "data": { "tool": TOOL, "arguments": arguments } });
    let manifest =
        json!({ "program": "steps", "tools": [{ "name": TOOL, "effect": "keyed" }], "steps": [step] });
    Manifest::parse(&manifest).map_err(Error::internal)
}

/// What the run is asked, for whoever reads its journal and for the node.
fn told(placed: &Placed, node: &str, tag: Option<String>, input: Value) -> Value {
    let mut told = json!({
        "spec": placed.spec().to_json(),
        "input": input,
        "backend": placed.backend().as_str(),
        "degraded": placed.degraded(),
        "node": node,
    });
    if let (Some(tag), Some(fields)) = (tag, told.as_object_mut()) {
        fields.insert("image".to_owned(), json!(tag));
    }
    told
}

/// The image that is to be run, when it is another than the spec names: what a tag means, or the one of a list that is for this machine.
async fn image(runtime: &Runtime, image: &Image, tag: Option<Wanted>) -> Result<Option<Image>> {
    let wanted = match tag {
        Some(tag) => tag,
        None if (runtime.has_image)(image) => return Ok(None),
        None if registry_of(&image.repository).is_none() => {
            let words = format!("the image {image} is not on this machine; make it with `lantern build`");
            return Err(Error::new(Code::ImageNotFound, words));
        }
        None => Wanted { repository: image.repository.clone(), which: Which::Digest(image.sha256.clone()) },
    };
    let named = wanted.to_string();
    (runtime.find)(wanted).await.map(Some).map_err(|why| match why {
        Unfetched::NotFound(words) => Error::new(Code::ImageNotFound, format!("the image {named}: {words}")),
        Unfetched::Refused(reason) => refused(vec![Refusal { path: "image", reason }]),
        Unfetched::Away(words) => Error::new(Code::Unavailable, format!("the image {named}: {words}")),
    })
}

/// A spec, or everything that is wrong with it.
fn read(document: &Map<String, Value>) -> Result<workload::Asked> {
    workload::read_asked(&Value::Object(document.clone()).to_string()).map_err(|problems| {
        let field = |problem: workload::Problem| FieldError { path: problem.path, message: problem.message };
        Error::about(Code::InvalidSpec, "the spec cannot be read", problems.into_iter().map(field).collect())
    })
}

/// The first gate.
async fn placed(app: &App, scope: Scope, spec: AgentSpec) -> Result<Placed> {
    let runtime = cluster::runtime(app)?;
    let late = too_long(&spec, &app.limits(scope));
    let here = (runtime.capabilities)().await;
    match (place(spec, &here, runtime.mode), late) {
        (Ok(placed), None) => Ok(placed),
        (Ok(_), Some(late)) => Err(refused(vec![late])),
        (Err(refusals), late) => Err(refused(refusals.into_iter().chain(late).collect())),
    }
}

fn too_long(spec: &AgentSpec, limits: &Limits) -> Option<Refusal> {
    let most = Dur::from_micros(limits.step_timeout_max.micros().saturating_sub(AROUND.micros()));
    let reason = format!("a workload may take {} s here; the limit is stepTimeoutMax", most.millis() / 1_000);
    (spec.limits.timeout > most).then_some(Refusal { path: "limits.timeout", reason })
}

fn refused(refusals: Vec<Refusal>) -> Error {
    let field = |refusal: Refusal| FieldError { path: refusal.path.to_owned(), message: refusal.reason };
    Error::about(
        Code::WorkloadRefused,
        "the spec asks for what there is not here",
        refusals.into_iter().map(field).collect(),
    )
}

/// Writes a run and its workload, unless the tenant has as many as it may.
async fn write(app: &App, scope: Scope, first: journal::NewRun, new: NewWorkload) -> Result<()> {
    let (body, now): (_, At) = (first.body.clone(), new.at);
    let most = app.limits(scope).concurrent_runs_per_tenant_max;
    let written = app.db.write(scope, move |tx| {
        Box::pin(async move {
            let (quota, used) = workloads::locked(tx, quota::day(now), now).await?;
            if let Err(over) = quota::admits(&quota, used) {
                return Ok(Err(over));
            }
            if journal::full(tx, most).await? {
                return Ok(Err(runs::too_many(most)));
            }
            let Created::New = journal::create(tx, first).await? else {
                return Err(lantern_store::Error::Conflict);
            };
            workloads::create(tx, new, GRACE).await?;
            Ok(Ok(()))
        })
    });
    let written = match written.await {
        Ok(written) => written,
        Err(error) => Err(error.into()),
    };
    if written.is_err() {
        runs::discard(app, scope, body).await?;
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_can_be_read_and_hands_on_what_the_run_was_asked() {
        let manifest = manifest().unwrap();
        assert_eq!(manifest.steps.len(), 1);
        assert!(manifest.canonical().contains("{{input.spec}}"));
    }
}
