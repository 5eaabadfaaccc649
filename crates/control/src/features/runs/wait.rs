//! Waiting for a run to be over, for a client that would rather have its end.
//!
//! Invariant: nobody who waits holds a connection to the database; hints wake them, and the look at all runs that are watched
//! (the store's `watched.rs`) when a hint was lost. Each takes one of the places that event streams have, and gives it back
//! when the client leaves. It waits for at most the edge's `WAIT_MAX`, so it need not end with its credential as streams do.

use axum::response::{IntoResponse as _, Response};
use lantern_edge::Result;
use lantern_edge::prefer::Held;
use lantern_policy::Scope;
use lantern_store::journal;
use lantern_types::{Dur, RunId};

use super::routes;
use crate::App;

/// Waits until a run is over, for at most so long, and says whether it is. Nothing when it is not there, or when the
/// process has as many who wait as it takes.
pub(crate) async fn over(app: &App, scope: Scope, run: RunId, most: Dur) -> Result<Option<bool>> {
    let Ok(_place) = app.inner.streams.clone().try_acquire_owned() else { return Ok(None) };
    let mut watch = app.db.hub().subscribe(scope, run);
    let mut late = app.clock.sleep(most);
    loop {
        let Some(row) = journal::head(&app.db, scope, run).await? else { return Ok(None) };
        if row.finished_at.is_some() {
            return Ok(Some(true));
        }
        tokio::select! {
            biased;
            () = watch.changed() => {}
            () = &mut late => return Ok(Some(false)),
            () = app.stop.requested() => return Ok(Some(false)),
        }
    }
}

/// The same for a run that was started, with how it is shown then.
pub(crate) async fn held(app: &App, Held(scope, run): Held, most: Dur) -> Result<Option<(bool, Response)>> {
    let run = RunId::from_uuid(run);
    let Some(over) = over(app, scope, run, most).await? else { return Ok(None) };
    Ok(Some((over, routes::shown(app, scope, run).await?.into_response())))
}
