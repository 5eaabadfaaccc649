//! Workloads over HTTP.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;
use lantern_edge::openapi::{Kind, PAGING, Param};
use lantern_edge::route::{delete_route, fresh_post_route, get_route, post_route, put_route, stream_route};
use lantern_edge::sse::{self, After, Leave};
use lantern_edge::{Body, Created, Json, Page, Params, Path, Refusal, Result, Route};
use lantern_policy::Permit;
use lantern_policy::action::{
    ExecWorkload, ListWorkloads, ReadCluster, ReadQuota, ReadWorkload, ReadWorkloadAudit,
    ReadWorkloadMetrics, SaveQuota, ScheduleWorkload, StopWorkload,
};

use super::audit::{self, Audit};
use super::cluster::{self, Cluster};
use super::exec;
use super::metrics::{self, Metrics};
use super::model::{Asked, STATES, Scheduled, Stopped, Told, Workload};
use super::quota::{self, NewQuota, Quota, Saved};
use super::{logs, schedule, service};
use crate::App;

const FILTERS: &[Param] =
    &[Param { name: "state", about: "Workloads that stand so.", kind: Kind::Word(&STATES) }];
const STOP: &[Param] = &[
    Param { name: "reason", about: "Why, for the run's journal.", kind: Kind::Text },
    Param {
        name: "grace",
        about: "How long the program may take to end, such as `10s`; 30 s when it is left out, 5 minutes at most.",
        kind: Kind::Text,
    },
];
const AUDIT: &[Param] = &[
    Param {
        name: "limit",
        about: "The most events of a page: 100 when it is left out, and 200 at most.",
        kind: Kind::From(1),
    },
    Param {
        name: "before",
        about: "Only events before this one: `nextBefore` of the page before.",
        kind: Kind::From(1),
    },
];
const FRAMES: &str = "What the program wrote, a line each: `{vmId, stream, text, at}` without an `event:` line. First what is \
                      stored, then what comes; then one frame `end` with `{vmId, state, reason, exitCode}`.";

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        post_route("/v1/runtime/schedule", "Run a program in a box", start).refuses(&[
            Refusal::NotFound,
            Refusal::OverBudget,
            Refusal::RateLimited,
            Refusal::NotSupported,
        ]),
        get_route("/v1/runtime/vms", "List workloads, the newest first", list).takes(&PAGING).takes(FILTERS),
        get_route("/v1/runtime/vms/{id}", "Read a workload, and what happened to it", get),
        stream_route("/v1/runtime/vms/{id}/logs", "Follow what a workload writes", follow)
            .takes(&sse::AFTER)
            .streams(FRAMES),
        delete_route("/v1/runtime/vms/{id}", "Stop a workload", stop)
            .takes(STOP)
            .refuses(&[Refusal::RateLimited]),
        fresh_post_route("/v1/runtime/vms/{id}/exec", "Run another program in the box of a workload", run_in)
            .refuses(&[Refusal::Conflict, Refusal::RateLimited, Refusal::NotSupported]),
        get_route(
            "/v1/runtime/audit",
            "List what happened to workloads, those of the newest workload first",
            list_audit,
        )
        .takes(AUDIT),
        get_route("/v1/runtime/metrics", "Count workloads, and what they spent and used", show_metrics)
            .takes(&PAGING)
            .takes(FILTERS)
            .answers::<Json<Metrics>>(),
        get_route("/v1/runtime/cluster", "See the node, and which classes have a box on it", show_cluster)
            .refuses(&[Refusal::NotSupported]),
        get_route("/v1/runtime/quota", "See what the tenant may run", show_quota),
        put_route("/v1/runtime/quota", "Set what the tenant may run", save_quota),
    ]
}

/// Run a program in a box. The spec is refused when this server has no box for its class, or a field asks for what is not there;
/// it is never run in a weaker one. The answer's run tells what happens to it, and ends with a receipt.
async fn start(
    permit: Permit<ScheduleWorkload>,
    State(app): State<App>,
    Body(asked): Body<Asked>,
) -> Result<Created<Scheduled>> {
    let body = schedule::schedule(&app, &permit, asked).await?;
    Ok(Created { location: format!("/v1/runtime/vms/{}", body.vm_id), body })
}

async fn list(
    permit: Permit<ListWorkloads>,
    State(app): State<App>,
    params: Params,
) -> Result<Page<Workload>> {
    service::list(&app, permit.scope(), &params).await
}

async fn get(
    permit: Permit<ReadWorkload>,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Told>> {
    service::told(&app, permit.scope(), service::named(&id)?).await.map(Json)
}

async fn follow(
    permit: Permit<ReadWorkload>,
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response> {
    let after = After::of(&headers, &params)?;
    let frames = logs::follow(&app, permit.scope(), service::named(&id)?, after).await?;
    let leave = Leave { pass: app.inner.gate.pass(permit.actor()), last: logs::no_longer() };
    Ok(sse::events(frames, leave, app.clock.clone(), app.stop.clone()))
}

/// Stop a workload: its program is asked to end, and ended after its grace. One that has ended stays as it ended.
async fn stop(
    permit: Permit<StopWorkload>,
    State(app): State<App>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Stopped>> {
    service::stop(&app, &permit, service::named(&id)?, &params).await.map(Json)
}

/// What happened to the tenant's workloads: the newest workload first, and of each the last event first. An event's `id` is its own for
/// ever. Who asked for a workload and who set quotas is in `/v1/audit`.
async fn list_audit(
    permit: Permit<ReadWorkloadAudit>,
    State(app): State<App>,
    params: Params,
) -> Result<Json<Audit>> {
    audit::list(&app, permit.scope(), &params).await.map(Json)
}

/// What all of the tenant's workloads come to, and a page of them one by one.
async fn show_metrics(
    permit: Permit<ReadWorkloadMetrics>,
    State(app): State<App>,
    params: Params,
) -> Result<Response> {
    let (metrics, page) = metrics::show(&app, permit.scope(), &params).await?;
    Ok(page.leads(Json(metrics).into_response()))
}

/// Run another program in a box that runs, with the rights of the box's own, and wait for its end. Who did and what is in the run's
/// journal before it is run. Whoever does not wait does not end it: its time does.
async fn run_in(
    permit: Permit<ExecWorkload>,
    State(app): State<App>,
    Path(id): Path<String>,
    Body(asked): Body<exec::Asked>,
) -> Result<Json<exec::Answer>> {
    exec::exec(&app, &permit, service::named(&id)?, asked).await.map(Json)
}

async fn show_cluster(_: Permit<ReadCluster>, State(app): State<App>) -> Result<Json<Cluster>> {
    cluster::show(&app).await.map(Json)
}

async fn show_quota(permit: Permit<ReadQuota>, State(app): State<App>) -> Result<Json<Quota>> {
    quota::show(&app, permit.scope()).await.map(Json)
}

async fn save_quota(
    permit: Permit<SaveQuota>,
    State(app): State<App>,
    Body(new): Body<NewQuota>,
) -> Result<Json<Saved>> {
    quota::save(&app, permit.scope(), &new).await.map(Json)
}
