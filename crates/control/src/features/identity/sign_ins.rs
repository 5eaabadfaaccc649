//! A person's own sign-ins: where they are signed in, and ending one of them.
//!
//! Invariant: nobody sees or ends another's here; an admin ends all of a member's in `people.rs`.

use axum::extract::State;
use lantern_edge::openapi::PAGING;
use lantern_edge::route::{delete_route, get_route};
use lantern_edge::{Code, Error, NoContent, Page, Paging, Params, Path, Refusal, Result, Route};
use lantern_policy::action::{EndSignIn, ListSignIns};
use lantern_policy::{Act, Permit, Principal};
use lantern_store::sign_ins::{self, SignInRow};
use lantern_types::{SignInId, UserId};
use serde::Serialize;
use utoipa::ToSchema;

use super::session::not_signed_in;
use crate::App;

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        get_route("/auth/sign-ins", "List one's sign-ins", list).takes(&PAGING).refuses(&[Refusal::Conflict]),
        delete_route("/auth/sign-ins/{id}", "End one of one's sign-ins", end).refuses(&[Refusal::Conflict]),
    ]
}

/// Somewhere that somebody is signed in.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SignIn {
    #[schema(value_type = String, format = "uuid")]
    id: SignInId,
    /// The one that this request was made with.
    current: bool,
    created_at: String,
    last_used_at: String,
    expires_at: String,
    /// The address that it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// What the program there called itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
}

fn shown(row: SignInRow, current: SignInId) -> SignIn {
    SignIn {
        id: row.id,
        current: row.id == current,
        created_at: row.created_at.to_string(),
        last_used_at: row.used_at.to_string(),
        expires_at: row.expires_at.to_string(),
        source: row.source,
        client: row.client,
    }
}

async fn list(permit: Permit<ListSignIns>, State(app): State<App>, params: Params) -> Result<Page<SignIn>> {
    let (user, current) = who(&permit)?;
    let paging = Paging::of(&params)?;
    let before = paging.before.map(|(at, id)| (at, SignInId::from_uuid(id)));
    let (limit, now) = (paging.fetch(), app.clock.now());
    let rows = app.db.read(permit.scope(), move |tx| {
        Box::pin(async move { sign_ins::list(tx, user, now, before, limit).await })
    });
    let page = Page::cut(rows.await?, &paging, &params, |row| (row.created_at, row.id.uuid()));
    Ok(page.map(|row| shown(row, current)))
}

async fn end(permit: Permit<EndSignIn>, State(app): State<App>, Path(id): Path<String>) -> Result<NoContent> {
    let (user, _) = who(&permit)?;
    let not_found = || Error::new(Code::SignInNotFound, "you have no such sign-in");
    let id: SignInId = id.parse().map_err(|_| not_found())?;
    let ended = app
        .db
        .write(permit.scope(), move |tx| Box::pin(async move { sign_ins::end_of(tx, user, id).await }))
        .await?;
    if !ended {
        return Err(not_found());
    }
    app.inner.gate.revoked();
    tracing::info!(tenant = %permit.scope().tenant(), %user, sign_in = %id, "ended a sign-in");
    Ok(NoContent)
}

fn who<A: Act>(permit: &Permit<A>) -> Result<(UserId, SignInId)> {
    match permit.actor().principal {
        Principal::User { id, sign_in, .. } => Ok((id, sign_in)),
        Principal::Key { .. } => Err(not_signed_in()),
    }
}
