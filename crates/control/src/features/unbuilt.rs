//! Routes of the contract that nothing answers yet: each refuses with why, and with what does the same today.
//!
//! Invariant: whoever may not ask is told that first, and what is not there is said not to be. Nothing is read and nothing written.

use std::convert::Infallible;

use axum::extract::State;
use lantern_edge::route::{delete_route, fresh_post_route, get_route, put_route};
use lantern_edge::{Code, Error, Path, Refusal, Result, Route};
use lantern_policy::action::{CallModel, CreateAgent, DeleteTenant, ReadAgent, SteerRun, UpdateAgent};
use lantern_policy::{Act, Permit};

use crate::App;
use crate::features::{agents, runs};

type Never = Result<Infallible>;

/// Why, and what to do.
const WORKFLOW: &str = "graphs of a workflow are not run yet, so none is kept: say what an agent does as `steps` of its manifest";
const DEPLOY: &str = "nothing is deployed: the current version of an agent is what runs, from the moment it is saved or promoted";
const SOUND: &str = "sound has no price in the catalogue yet, so no cap could bound it; models that read sound are asked through the front doors";
const LOOP: &str = "no agent repeats itself yet: begin with POST /v1/agents/generate-spec or from-template, and start its runs yourself";
const SCREEN: &str = "no run has a screen that a person could take over: let a step ask a person (`approval`), or pause the run";
const TENANT: &str = "a tenant is not deleted over the API yet: its content goes by retention and redaction, its runs one by one";

pub(crate) fn routes() -> Vec<Route<App>> {
    let all = vec![
        put_route(
            "/v1/agents/{name}/workflow",
            "Not built yet: keep a workflow graph",
            agent::<UpdateAgent, 0>,
        ),
        get_route(
            "/v1/agents/{name}/workflow",
            "Not built yet: read a workflow graph",
            agent::<ReadAgent, 0>,
        ),
        fresh_post_route(
            "/v1/agents/{name}/deploy",
            "Not built yet: deploy an agent",
            agent::<UpdateAgent, 1>,
        ),
        get_route(
            "/v1/agents/{name}/deploy",
            "Not built yet: read where an agent is deployed",
            agent::<ReadAgent, 1>,
        ),
        fresh_post_route(
            "/v1/agents/{name}/deploy/stop",
            "Not built yet: end a deployment",
            agent::<UpdateAgent, 1>,
        ),
        fresh_post_route("/v1/agents/loop", "Not built yet: make an agent that repeats itself", repeat),
        fresh_post_route("/v1/audio/transcriptions", "Not built yet: write down what is said", sound),
        fresh_post_route("/v1/voice/tts", "Not built yet: speak a text", sound),
        fresh_post_route("/v1/runs/{id}/takeover/request", "Not built yet: ask for a run's screen", run),
        fresh_post_route(
            "/v1/runs/{id}/takeover/{takeoverId}/grant",
            "Not built yet: take a run's screen",
            part,
        ),
        fresh_post_route(
            "/v1/runs/{id}/takeover/{takeoverId}/answer",
            "Not built yet: answer a run's screen",
            part,
        ),
        delete_route("/v1/tenants/{id}", "Not built yet: delete a tenant with all that it has", tenant),
    ];
    all.into_iter().map(|route| route.refuses(&[Refusal::NotSupported])).collect()
}

fn refuse(why: &'static str) -> Never {
    Err(Error::new(Code::NotBuilt, why))
}

/// What is asked of an agent that is there.
async fn agent<A: Act, const WHY: usize>(
    permit: Permit<A>,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Never {
    agents::service::get(&app, permit.scope(), &name).await?;
    refuse(if WHY == 0 { WORKFLOW } else { DEPLOY })
}

async fn repeat(_: Permit<CreateAgent>) -> Never {
    refuse(LOOP)
}

async fn sound(_: Permit<CallModel>) -> Never {
    refuse(SOUND)
}

async fn run(permit: Permit<SteerRun>, State(app): State<App>, Path(id): Path<String>) -> Never {
    runs::service::there(&app, permit.scope(), &id).await?;
    refuse(SCREEN)
}

async fn part(
    permit: Permit<SteerRun>,
    State(app): State<App>,
    Path((id, _)): Path<(String, String)>,
) -> Never {
    runs::service::there(&app, permit.scope(), &id).await?;
    refuse(SCREEN)
}

/// A caller's own tenant, or there is none of that id.
async fn tenant(permit: Permit<DeleteTenant>, Path(id): Path<String>) -> Never {
    if id.parse().ok() != Some(permit.scope().tenant()) {
        return Err(Error::new(Code::TenantNotFound, "no such tenant"));
    }
    refuse(TENANT)
}
