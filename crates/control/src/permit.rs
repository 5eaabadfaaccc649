//! The extractor that stands first in every handler that is not public.

use axum::extract::FromRequestParts;
use http::request::Parts;
use lantern_edge::{Code, Error, permit};
use lantern_policy::action::ReadSelf;
use lantern_policy::{Act, Permit};

use crate::App;

impl<A: Act> FromRequestParts<App> for Permit<A> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Error> {
        permit::<A>(parts, &app.inner.gate).await.map_err(|error| {
            // The contract words this one case of being nobody differently.
            let asks_for_self = A::NAME == ReadSelf::NAME && error.code() == Code::Unauthorized;
            if asks_for_self { Error::new(Code::Unauthorized, "invalid or missing token") } else { error }
        })
    }
}
