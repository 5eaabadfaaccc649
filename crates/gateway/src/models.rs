//! The list of models, in the form of whichever official client asks.

use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;
use lantern_edge::{Json, Result};
use lantern_llm::Offer;
use lantern_policy::Scope;
use serde_json::{Value, json};

use crate::Doors;
use crate::resolve::known;

/// The models that this tenant can call. One that several providers have is named with its provider too.
pub(crate) async fn list(doors: Doors, scope: Scope, headers: &HeaderMap) -> Result<Response> {
    let facts = doors.inner.facts.of(scope).await?;
    let offers: Vec<&Offer> = facts.reach.offers.iter().collect();
    let known = known(&offers, &doors.inner.catalogue);
    let typed = headers.keys().any(|name| name.as_str().ends_with("-version"));
    let entry = |(provider, model): &(String, String)| {
        let alone = known.iter().filter(|(_, other)| other == model).count() == 1;
        let id = if alone { model.clone() } else { format!("{provider}/{model}") };
        if typed {
            json!({"type": "model", "id": id, "display_name": id, "created_at": "1970-01-01T00:00:00Z"})
        } else {
            json!({"id": id, "object": "model", "created": 0, "owned_by": provider})
        }
    };
    let data: Vec<Value> = known.iter().map(entry).collect();
    let body = if typed {
        let id = |entry: Option<&Value>| entry.and_then(|entry| entry.get("id")).cloned();
        json!({"first_id": id(data.first()), "last_id": id(data.last()), "has_more": false, "data": data})
    } else {
        json!({"object": "list", "data": data})
    };
    Ok(Json(body).into_response())
}
