//! Tickets: asked for with a credential, put into the address of an event stream, good for a minute and one use.
//!
//! Invariant: a ticket speaks for whoever asked for it, with no more than they may, and is over no later than their
//! session or key; nor is a stream that it opened. Its text is in one answer, which is not remembered, and in no log.

use axum::extract::State;
use lantern_edge::route::fresh_post_route;
use lantern_edge::{Code, Error, Json, Refusal, Result, Route, auth, ticket};
use lantern_policy::action::CreateTicket;
use lantern_policy::{Permit, Principal};
use lantern_store::tickets::{self, NewTicket};
use lantern_types::Dur;
use serde::Serialize;
use utoipa::ToSchema;

use crate::App;

/// How long a ticket waits to be used.
const LIFE: Dur = Dur::from_secs(60);
/// Tickets of one tenant that wait.
const WAITING_MAX: u32 = 10_000;

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        fresh_post_route("/v1/auth/sse-ticket", "Make a ticket for an event stream", create)
            .refuses(&[Refusal::RateLimited]),
    ]
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Ticket)]
struct Made {
    ticket: String,
    expires_at: String,
    /// Seconds.
    expires_in: i64,
}

async fn create(permit: Permit<CreateTicket>, State(app): State<App>) -> Result<Json<Made>> {
    let (actor, now) = (permit.actor(), app.clock.now());
    let expires_at = actor.until.map_or(now + LIFE, |until| until.min(now + LIFE));
    let ticket = ticket::mint(&*app.ids);
    let new = NewTicket {
        hash: auth::hash(&ticket),
        bearer: actor.principal.clone(),
        session_ends_at: match actor.principal {
            Principal::User { .. } => actor.until,
            Principal::Key { .. } => None,
        },
        expires_at,
    };
    let kept =
        app.db.write(permit.scope(), move |tx| Box::pin(tickets::issue(tx, new, now, WAITING_MAX))).await?;
    if !kept {
        let words = format!("{WAITING_MAX} tickets of this tenant wait to be used, and there may be no more");
        return Err(Error::new(Code::TooManyTickets, words).retry_after(LIFE));
    }
    let expires_in = expires_at.since(now).millis() / 1_000;
    Ok(Json(Made { ticket, expires_at: expires_at.to_string(), expires_in }))
}
