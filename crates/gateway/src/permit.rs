//! The extractor that stands first in every handler.

use axum::extract::FromRequestParts;
use http::request::Parts;
use lantern_edge::{Error, permit};
use lantern_policy::{Act, Permit};

use crate::Doors;

impl<A: Act> FromRequestParts<Doors> for Permit<A> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, doors: &Doors) -> Result<Self, Error> {
        permit::<A>(parts, &doors.inner.gate).await
    }
}
