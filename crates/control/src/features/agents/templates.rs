//! Templates: agents to begin with, each with a cap for the day.
//!
//! Invariant: what is listed can be made here, and runs as it is made. A template of the contract whose parts are not there is not
//! listed, and is refused with what it lacks. A cap that somebody set before stays: whoever may make agents may lower what their own
//! spends, and never raise it.

use axum::extract::State;
use lantern_edge::etag::Wished;
use lantern_edge::route::{get_route, post_route, public_get};
use lantern_edge::{Body, Code, Created, Error, Fields, Json, Model, Path, Refusal, Result, Route, Witness};
use lantern_policy::action::{CreateAgent, ReadAgent};
use lantern_policy::{Permit, Scope};
use lantern_store::escrow;
use lantern_types::call::{Owner, Period};
use lantern_types::{AgentId, At, MicroUsd, nearest};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::model::NewAgent;
use super::service;
use crate::App;

const TEMPLATES: &str = include_str!("templates.json");
/// Templates of the contract, each with what it lacks.
const LACKING: [(&str, &str); 3] = [
    ("inbox-concierge", "a connector to mail, a channel to a person, and schedules"),
    ("morning-brief", "connectors to mail, calendars and trackers, a channel to a person, and schedules"),
    ("jarvis-brief", "connectors to mail and calendars, a channel to a person, and schedules"),
];
/// The label that says which template an agent was made from.
const LABEL: &str = "lantern.template";
const ID_BYTES_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 1_024;

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        public_get("/v1/agents/templates", "List agents to begin with", list),
        post_route("/v1/agents/from-template", "Make an agent from a template", make).refuses(&[
            Refusal::NotFound,
            Refusal::Conflict,
            Refusal::NotSupported,
        ]),
        get_route("/v1/agents/{name}/setup", "Read what an agent from a template still needs", setup),
    ]
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Template {
    id: String,
    description: String,
    max_cost_usd_day: Value,
    agent: Map<String, Value>,
}

impl Template {
    /// The most that its agent's runs may cost in a day.
    fn cap(&self) -> Result<MicroUsd> {
        MicroUsd::of_json(&self.max_cost_usd_day).ok_or_else(|| Error::new(Code::Internal, "internal error"))
    }
}

fn templates() -> Result<Vec<Template>> {
    serde_json::from_str(TEMPLATES).map_err(Error::internal)
}

/// An agent to begin with.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AgentTemplate)]
struct Shown {
    id: String,
    name: String,
    description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    max_cost_usd_day: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_cost_usd_per_run: Option<f64>,
    /// Connectors that it needs: none, while there are none.
    connectors: Vec<String>,
    /// Channels to people that it needs: none, while there are none.
    surfaces: Vec<String>,
}

async fn list() -> Result<Json<Vec<Shown>>> {
    let shown = |template: Template| -> Result<Shown> {
        Ok(Shown {
            max_cost_usd_day: template.cap()?.to_wire(),
            name: template.id.clone(),
            id: template.id,
            description: template.description,
            model: template.agent.get("model").and_then(Value::as_str).map(str::to_owned),
            max_cost_usd_per_run: template.agent.get("maxCostUsd").and_then(Value::as_f64),
            connectors: Vec::new(),
            surfaces: Vec::new(),
        })
    };
    Ok(Json(templates()?.into_iter().map(shown).collect::<Result<_>>()?))
}

/// Which template, and how the agent is to be called.
struct Asked {
    template: String,
    name: Option<String>,
}

impl Model for Asked {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let template = fields.required_text("templateId", ID_BYTES_MAX);
        let name = fields.text("name", NAME_BYTES_MAX);
        Some(Self { template: template?, name })
    }
}

/// An agent that was made from a template.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AgentFromTemplate)]
struct Made {
    agent: MadeAgent,
    template_id: String,
    applied_at: String,
    /// What it still needs: nothing.
    next_steps: Vec<Step>,
}

#[derive(Serialize, ToSchema)]
struct MadeAgent {
    #[schema(value_type = String, format = "uuid")]
    id: AgentId,
    name: String,
    description: String,
}

/// Something that is still to be done for an agent.
#[derive(Serialize, ToSchema)]
#[schema(as = SetupStep)]
struct Step {
    kind: &'static str,
    id: String,
    label: String,
}

async fn make(
    permit: Permit<CreateAgent>,
    State(app): State<App>,
    witness: Witness,
    Body(asked): Body<Asked>,
) -> Result<Created<Made>> {
    let (scope, now) = (permit.scope(), app.clock.now());
    let template = find(&asked.template)?;
    let name = asked.name.unwrap_or_else(|| template.id.clone());
    let cap = template.cap()?;
    let new = described(&template, &name)?;
    let (changed, _) = service::create(&app, &permit, new, Wished::Absent).await.map_err(|error| {
        if error.code() != Code::VersionMismatch {
            return error;
        }
        let words = format!("an agent named {name} is there already: say another `name`");
        Error::new(Code::AgentExists, words).with_extra("existing", name.clone())
    })?;
    witness.changed(changed.before, Some(changed.current.digest));
    bound(&app, scope, changed.agent.id, cap, now).await?;
    tracing::info!(tenant = %scope.tenant(), agent = %changed.agent.name, template = %template.id, "an agent was made from a template");
    let location = format!("/v1/agents/{}", changed.agent.name);
    let agent =
        MadeAgent { id: changed.agent.id, name: changed.agent.name, description: template.description };
    let body = Made { agent, template_id: template.id, applied_at: now.to_string(), next_steps: Vec::new() };
    Ok(Created { body, location })
}

fn find(id: &str) -> Result<Template> {
    let all = templates()?;
    if let Some((_, lacks)) = LACKING.iter().find(|(known, _)| *known == id) {
        let words = format!("the template {id} needs {lacks}, which Lantern does not have yet");
        return Err(Error::new(Code::TemplateUnsupported, words));
    }
    let meant = nearest(id, all.iter().map(|template| template.id.as_str()));
    let meant = meant.map(|meant| format!("; did you mean {meant:?}?")).unwrap_or_default();
    let unknown = || Error::new(Code::TemplateNotFound, format!("there is no template {id:?}{meant}"));
    all.into_iter().find(|template| template.id == id).ok_or_else(unknown)
}

/// What a request would say that makes this agent.
fn described(template: &Template, name: &str) -> Result<NewAgent> {
    let mut said = template.agent.clone();
    said.insert("name".to_owned(), json!(name));
    said.insert("description".to_owned(), json!(template.description));
    said.insert("labels".to_owned(), json!({ LABEL: template.id }));
    let mut fields = Fields::of(&said);
    let new = NewAgent::read(&mut fields);
    match (fields.finish(), new) {
        (Ok(_), Some(new)) => Ok(new),
        (Err(issues), _) => Err(Error::about(Code::InvalidBody, "invalid request body", issues)),
        (Ok(_), None) => Err(Error::new(Code::Internal, "internal error")),
    }
}

/// Caps what the agent's runs may cost in a day, where nobody does yet.
async fn bound(app: &App, scope: Scope, agent: AgentId, cap: MicroUsd, now: At) -> Result<()> {
    let (owner, period) = (Owner::Agent(agent), Period::Day);
    let caps = escrow::caps(&app.db, scope).await?;
    if caps.iter().any(|known| known.owner == owner && known.period == period) {
        return Ok(());
    }
    app.db
        .write(scope, move |tx| {
            Box::pin(async move { escrow::set_cap(tx, (owner, period), Some(cap), now).await })
        })
        .await?;
    app.db.hub().caps_changed();
    Ok(())
}

/// What an agent from a template needs, and has.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AgentSetup)]
struct Setup {
    /// Absent for an agent that was made from none.
    #[serde(skip_serializing_if = "Option::is_none")]
    template_id: Option<String>,
    required: Parts,
    installed: Parts,
    missing: Parts,
    ready: bool,
    next_steps: Vec<Step>,
}

#[derive(Default, Serialize, ToSchema)]
#[schema(as = SetupParts)]
struct Parts {
    connectors: Vec<String>,
    surfaces: Vec<String>,
}

async fn setup(
    permit: Permit<ReadAgent>,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Setup>> {
    let (agent, _) = service::get(&app, permit.scope(), &name).await?;
    let template_id = agent.labels.get(LABEL).and_then(Value::as_str).map(str::to_owned);
    // No template that can be made needs any of these.
    Ok(Json(Setup {
        template_id,
        required: Parts::default(),
        installed: Parts::default(),
        missing: Parts::default(),
        ready: agent.archived_at.is_none(),
        next_steps: Vec::new(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_a_request_that_can_be_read() {
        let all = templates().unwrap();
        assert!(all.len() >= 5);
        for template in all {
            described(&template, "made").unwrap().changes.said().unwrap();
            assert!(template.cap().unwrap() > MicroUsd::ZERO, "{}", template.id);
        }
        assert_eq!(find("morning-brief").err().unwrap().code(), Code::TemplateUnsupported);
        assert_eq!(find("reserch").err().unwrap().code(), Code::TemplateNotFound);
    }
}
