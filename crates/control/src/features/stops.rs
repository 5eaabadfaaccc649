//! Emergency stops: set, listed and lifted.
//!
//! Invariant: who is answered that a stop holds may rely on it: nothing that it halts is admitted from then on. A stop of the
//! whole server belongs to no tenant: it is shown here, and set and lifted on the operator's command line.

use axum::extract::State;
use lantern_edge::openapi::{Kind, PAGING, Param};
use lantern_edge::route::{delete_route, get_route, post_route};
use lantern_edge::{
    Body, Code, Created, Error, Fields, Json, Model, NoContent, Page, Paging, Params, Path, Refusal, Result,
    Route,
};
use lantern_policy::Permit;
use lantern_policy::action::{LiftStop, ListStops, SetStop};
use lantern_store::stops::{self, NewStop, StopFilter, StopRow};
use lantern_types::{StopId, StopScope};
use serde::Serialize;
use utoipa::ToSchema;

use super::runs::by;
use crate::App;

const REASON_BYTES_MAX: usize = 1_000;
const NAME_BYTES_MAX: usize = 200;
const STATUSES: [&str; 2] = ["holding", "lifted"];

/// What a list takes besides its page.
const FILTERS: &[Param] = &[Param {
    name: "status",
    about: "Stops that hold, or that were lifted. Both when it is left out.",
    kind: Kind::Words(&STATUSES),
}];

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        get_route("/v1/stops", "List emergency stops, those that hold and those that were lifted", list)
            .takes(&PAGING)
            .takes(FILTERS),
        post_route("/v1/stops", "Halt all spending of an agent or of the tenant", set)
            .refuses(&[Refusal::NotFound]),
        get_route("/v1/stops/{id}", "Read an emergency stop", get),
        delete_route("/v1/stops/{id}", "Lift an emergency stop", lift),
    ]
}

/// What is asked for.
struct Asked {
    scope: StopScope,
    agent_name: Option<String>,
    reason: String,
}

impl Model for Asked {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let scope = fields.required_text("scope", 20);
        let agent_name = fields.text("agentName", NAME_BYTES_MAX);
        let reason = fields.required_text("reason", REASON_BYTES_MAX);
        let scope = scope.and_then(|word| {
            let scope = StopScope::named(&word);
            if scope.is_none() {
                fields.issue("scope", "expected one of agent, tenant, server");
            }
            scope
        });
        match (scope, &agent_name) {
            (Some(StopScope::Agent), None) => fields.issue("agentName", "say which agent is to be halted"),
            (Some(StopScope::Tenant | StopScope::Server), Some(_)) => {
                fields.issue("agentName", "only a stop of scope agent names one");
            }
            _ => {}
        }
        Some(Self { scope: scope?, agent_name, reason: reason? })
    }
}

/// An emergency stop.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EmergencyStop)]
struct Stop {
    #[schema(value_type = String, format = "uuid")]
    id: StopId,
    /// `agent`, `tenant` or `server`.
    scope: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_name: Option<String>,
    reason: String,
    /// `holding` or `lifted`.
    status: &'static str,
    set_by: String,
    set_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    lifted_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lifted_at: Option<String>,
}

fn shown(row: StopRow) -> Stop {
    Stop {
        id: row.id,
        scope: row.scope.as_str(),
        agent_name: row.agent_name,
        reason: row.reason,
        status: if row.lifted_at.is_none() { "holding" } else { "lifted" },
        set_by: row.set_by,
        set_at: row.set_at.to_string(),
        lifted_by: row.lifted_by,
        lifted_at: row.lifted_at.map(|at| at.to_string()),
    }
}

async fn list(permit: Permit<ListStops>, State(app): State<App>, params: Params) -> Result<Page<Stop>> {
    let paging = Paging::of(&params)?;
    let filter = StopFilter {
        holding: params.word("status", &STATUSES)?.map(|word| word == "holding"),
        before: paging.before.map(|(at, id)| (at, StopId::from_uuid(id))),
        limit: paging.fetch(),
    };
    let rows = stops::list(&app.db, permit.scope(), filter).await?;
    let (rows, page) = Page::cut(rows, &paging, &params, |row| (row.set_at, row.id.uuid())).split();
    Ok(page.with(rows.into_iter().map(shown).collect()))
}

async fn get(
    permit: Permit<ListStops>,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Stop>> {
    let row = stops::find(&app.db, permit.scope(), named(&id)?).await?;
    row.map(|row| Json(shown(row))).ok_or_else(not_found)
}

/// Halt all spending of an agent or of the tenant. From the answer on no model is called, no tool that acts on something and no
/// run is started by a run, in any process; what was admitted before ends as it ends. Runs that are halted say so, wait, and go
/// on when the stop is lifted; new runs are taken, and wait too.
async fn set(
    permit: Permit<SetStop>,
    State(app): State<App>,
    Body(asked): Body<Asked>,
) -> Result<Created<Stop>> {
    if asked.scope == StopScope::Server {
        return Err(operator_only());
    }
    let (scope, id) = (permit.scope(), StopId::from_uuid(app.ids.uuid()));
    let Asked { agent_name, reason, .. } = asked;
    let new = NewStop { id, agent_name, reason, by: by(permit.actor()), at: app.clock.now() };
    if !stops::set(&app.db, scope, new.clone()).await? {
        return Err(Error::new(Code::AgentNotFound, "no such agent, so there is nothing to halt"));
    }
    tracing::warn!(tenant = %scope.tenant(), stop = %id, "an emergency stop was set");
    let row = stops::find(&app.db, scope, id).await?.ok_or_else(not_found)?;
    Ok(Created { location: format!("/v1/stops/{id}"), body: shown(row) })
}

/// Lift an emergency stop: the runs that it halted go on. Its row is kept, with who lifted it and when.
async fn lift(permit: Permit<LiftStop>, State(app): State<App>, Path(id): Path<String>) -> Result<NoContent> {
    let (scope, id) = (permit.scope(), named(&id)?);
    if stops::lift(&app.db, scope, id, by(permit.actor()), app.clock.now()).await? {
        tracing::warn!(tenant = %scope.tenant(), stop = %id, "an emergency stop was lifted");
        return Ok(NoContent);
    }
    // One that was lifted already is lifted, by whoever was first.
    match stops::find(&app.db, scope, id).await? {
        Some(_) => Ok(NoContent),
        None if stops::is_of_the_server(&app.db, scope, id).await? => Err(operator_only()),
        None => Err(not_found()),
    }
}

/// What is no id names no stop.
fn named(id: &str) -> Result<StopId> {
    id.parse().map_err(|_| not_found())
}

fn not_found() -> Error {
    Error::new(Code::StopNotFound, "no such emergency stop")
}

fn operator_only() -> Error {
    let words = "a stop of the whole server is set with `lantern stop --server`, and lifted with `lantern stop --lift`, \
                 by whoever operates the server";
    Error::new(Code::OperatorOnly, words)
}
