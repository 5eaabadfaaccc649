//! Renewing a saved login whose access token is over.
//!
//! Invariant: one command at a time renews, under the lock of the file, and one that waited for another takes what that one got.
//! The new tokens are saved before they are used. What the server refuses to renew stays as it is.

use std::sync::PoisonError;

use lantern_types::Secret;

use crate::cli::api::{Api, Auth, CALL, Call, refusal};
use crate::cli::failure::{Exit, Failure};
use crate::cli::format::text;
use crate::credentials::{Credentials, Place};

impl Api {
    /// What to authorize with in place of `over`, which the server does not take any more; `None` when there is nothing.
    pub(crate) async fn renew(&self, over: &Secret<String>) -> Result<Option<Auth>, Failure> {
        let Some(place) = Place::find() else { return Ok(None) };
        let failed = |error: std::io::Error| {
            let words = format!("the saved login in {} cannot be renewed: {error}", place.file().display());
            Failure::new(Exit::Failed, words).hint("run `lantern login`")
        };
        let lock = place.lock().map_err(failed)?;
        let saved = place.load().map_err(|error| super::unusable(&error, place.file()))?;
        let saved = saved.filter(|saved| saved.api_url == self.base.as_str());
        let Some(saved) = saved else { return Ok(None) };
        if saved.token.expose() != over.expose() {
            return Ok(Some(self.take(saved.token)));
        }
        let Some(refresh_token) = &saved.refresh_token else { return Ok(None) };
        let response = self.ask(Call::refresh(refresh_token), &Auth::None(None), CALL).await?;
        if !response.status().is_success() {
            let failure = refusal::read(response, &Auth::None(None)).await;
            // Refused for good: the caller tells of the refusal that brought us here.
            return if failure.exit == Exit::Forbidden { Ok(None) } else { Err(failure) };
        }
        let body = response.bytes(super::ANSWER_BYTES_MAX).await.map_err(|error| self.unreached(&error))?;
        let reply = self.json(&body)?;
        let (token, next) = (text(&reply, "token"), text(&reply, "refreshToken"));
        if token.is_empty() || next.is_empty() {
            return Err(self.stranger());
        }
        let secret = |text: &str| Secret::new(text.to_owned());
        let renewed = Credentials { token: secret(token), refresh_token: Some(secret(next)), ..saved };
        place.save(&renewed).map_err(failed)?;
        drop(lock);
        Ok(Some(self.take(renewed.token)))
    }

    /// Authorizes with this from now on.
    fn take(&self, token: Secret<String>) -> Auth {
        let auth = Auth::Login(token);
        self.auth.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&auth);
        auth
    }
}
