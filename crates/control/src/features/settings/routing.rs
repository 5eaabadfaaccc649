//! What a tenant says of the choice among models: what counts when several would do, and which models it means by an alias.
//!
//! Invariant: an entry is saved only when each of its models could be called by what the tenant has configured now. A name that is
//! saved stays when its provider goes; then it is refused when it is called.

use std::collections::BTreeMap;

use axum::extract::State;
use http::HeaderMap;
use lantern_edge::etag::{IfMatch, Live, Versioned};
use lantern_edge::route::{get_route, post_route};
use lantern_edge::{Body, Change, Code, Error, FieldError, Fields, Json, Model, Result, Route};
use lantern_policy::action::{ReadRouting, SaveRouting};
use lantern_policy::alias::{self, MODELS_MAX, Wrong};
use lantern_policy::route::Choices;
use lantern_policy::{Catalogue, Permit, Scope};
use lantern_store::routing::{self, Routing};
use lantern_types::Strategy;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::providers;
use crate::App;

const PATH: &str = "/v1/settings/routing";
const BYTES_MAX: usize = 32;
/// Aliases that one request may name.
const ALIASES_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 256;

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        get_route(PATH, "Read how models are chosen", read),
        post_route(PATH, "Say how models are chosen", save).conditional(),
    ]
}

// Model

/// What is to change: a strategy, and entries of the table. `null` leaves it to the server.
struct Wanted {
    strategy: Change<Strategy>,
    aliases: BTreeMap<String, Option<Vec<String>>>,
}

impl Model for Wanted {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.refuse_unread();
        fields.describe("aliases", schema);
        let strategy = match fields.change_text("strategy", BYTES_MAX) {
            Change::Keep => Change::Keep,
            Change::Clear => Change::Clear,
            Change::Set(word) => match word.parse() {
                Ok(strategy) => Change::Set(strategy),
                Err(unknown) => {
                    let unknown: lantern_policy::strategy::Unknown = unknown;
                    fields.issue("strategy", unknown.to_string());
                    return None;
                }
            },
        };
        let mut aliases = BTreeMap::new();
        match fields.value("aliases") {
            None => {}
            Some(Value::Object(map)) if map.len() <= ALIASES_MAX => {
                for (name, models) in map {
                    match names(models) {
                        Ok(models) if name.len() <= NAME_BYTES_MAX => {
                            aliases.insert(name.clone(), models);
                        }
                        _ => fields.issue(path(name), "expected a list of models' names, or null"),
                    }
                }
            }
            Some(_) => {
                fields
                    .issue("aliases", format!("expected an object of at most {ALIASES_MAX} lists of models"));
            }
        }
        Some(Self { strategy, aliases })
    }
}

fn schema() -> Value {
    let models = json!({ "type": "string", "minLength": 1, "maxLength": 200 });
    let list = json!({ "type": ["array", "null"], "minItems": 1, "maxItems": MODELS_MAX, "items": models });
    json!({ "type": ["object", "null"], "maxProperties": ALIASES_MAX, "additionalProperties": list })
}

/// What is said of an alias: a list of names, or nothing any more for null. An error for what is neither.
fn names(models: &Value) -> std::result::Result<Option<Vec<String>>, NotNames> {
    match models {
        Value::Null => Ok(None),
        Value::Array(models) if models.len() <= ALIASES_MAX => {
            let names = models.iter().map(|model| model.as_str().map(str::to_owned).ok_or(NotNames));
            names.collect::<std::result::Result<_, _>>().map(Some)
        }
        _ => Err(NotNames),
    }
}

/// Something that is no list of names.
struct NotNames;

/// How models are chosen for the tenant.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Routing)]
struct Shown {
    /// What counts when several models would do and neither a header nor an agent says: `balanced`, `cheap`, `best` or `fast`.
    strategy: &'static str,
    /// Who says so: `tenant` or `server`.
    source: &'static str,
    /// What it is where the tenant does not say.
    server_strategy: &'static str,
    /// Which models the tenant means by an alias, in the order in which they are tried. Others mean what the catalogue says.
    aliases: BTreeMap<String, Vec<String>>,
}

// Service

/// What holds; the tag is of what the tenant says, and not of what the server does.
type Answer = Live<Json<Shown>>;

async fn shown(app: &App, scope: Scope) -> Result<Answer> {
    let (Routing { strategy, aliases }, revision) = routing::revised(&app.db, scope).await?;
    let server = app.inner.providers.strategy;
    let shown = Shown {
        strategy: strategy.unwrap_or(server).as_str(),
        source: if strategy.is_some() { "tenant" } else { "server" },
        server_strategy: server.as_str(),
        aliases,
    };
    Ok(Live(Versioned { body: Json(shown), revision }))
}

/// What is wrong with the entries that are to be saved.
fn issues(wanted: &Wanted, choices: &Choices, catalogue: &Catalogue) -> Vec<FieldError> {
    let said = wanted.aliases.iter();
    let wrong = said.filter_map(|(name, models)| {
        let wrong = match models {
            Some(models) => alias::check(name, models, choices, catalogue).err()?,
            None => alias::known(name, catalogue).err()?,
        };
        let place = match &wrong {
            Wrong::Model(n, _) => format!("{}[{n}]", path(name)),
            Wrong::Alias(_) | Wrong::Count => path(name),
        };
        Some(FieldError { path: place, message: wrong.to_string() })
    });
    wrong.collect()
}

fn path(alias: &str) -> String {
    let name: String = alias.chars().take(64).collect();
    format!("aliases.{name}")
}

/// What the tenant says after these changes.
fn changed(said: Routing, wanted: Wanted) -> Routing {
    let Routing { strategy, mut aliases } = said;
    for (name, models) in wanted.aliases {
        match models {
            Some(models) => aliases.insert(name, models),
            None => aliases.remove(&name),
        };
    }
    Routing { strategy: wanted.strategy.apply(strategy), aliases }
}

// Routes

async fn read(permit: Permit<ReadRouting>, State(app): State<App>) -> Result<Answer> {
    shown(&app, permit.scope()).await
}

async fn save(
    permit: Permit<SaveRouting>,
    State(app): State<App>,
    headers: HeaderMap,
    Body(wanted): Body<Wanted>,
) -> Result<Answer> {
    let (scope, now) = (permit.scope(), app.clock.now());
    let asked = IfMatch::of(&headers)?;
    if wanted.strategy == Change::Keep && wanted.aliases.is_empty() {
        let words = "say a strategy, or models for an alias";
        return Err(Error::new(Code::InvalidBody, words).with_field("strategy", words));
    }
    let choices = providers::choices(&app, scope).await?;
    let wrong = issues(&wanted, &choices, &app.catalogue);
    if let Some(first) = wrong.first() {
        let error = Error::new(Code::InvalidBody, format!("{}: {}", first.path, first.message));
        return Err(wrong
            .iter()
            .fold(error, |error, wrong| error.with_field(wrong.path.clone(), wrong.message.clone())));
    }
    let said = app.db.write(scope, move |tx| {
        Box::pin(async move {
            let (said, revision) = routing::locked(tx, now).await?;
            if let Err(outdated) = asked.check(revision) {
                return Ok(Err(outdated));
            }
            routing::save(tx, &changed(said, wanted), now).await.map(Ok)
        })
    });
    said.await??;
    let shown = shown(&app, scope).await?;
    tracing::info!(tenant = %scope.tenant(), strategy = shown.0.body.0.strategy, "said how models are chosen");
    Ok(shown)
}
