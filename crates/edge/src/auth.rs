//! Who is asking: the one place where an [`Actor`] is made from a request.
//!
//! Invariant: the tenant comes from the token or cookie or from the row of the key or ticket, never from a header, a path or a
//! body. A token or cookie counts while its sign-in lasts, and its person has the role that their row says now. Every way of being
//! nobody answers the same words, and so does every ticket that opens nothing. What an actor may do is decided elsewhere
//! (`permit.rs`).

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, header};
use lantern_net::Shutdown;
use lantern_policy::{Actor, Principal, Role, Scope};
use lantern_store::system::{self, Bearer, PresentedKey, PresentedSignIn};
use lantern_store::{Db, Keys, tickets};
use lantern_types::edge::{Clock, Tasks};
use lantern_types::secret::BOX_TOKEN_PREFIX;
use lantern_types::{ApiKeyId, At, Digest, Dur};

use crate::audit::{Who, Witness};
use crate::code::Code;
use crate::cookie::{self, Cookies};
use crate::pass::{Pass, Passes};
use crate::problem::{Error, Result};
use crate::refresh::RefreshTokens;
use crate::ticket;
use crate::token::Tokens;

/// What API keys begin with.
pub const KEY_PREFIX: &str = "hlx_live_";
/// The prefix and 32 hexadecimal digits.
const KEY_LENGTH: usize = KEY_PREFIX.len() + 32;
/// A key's `last_used_at` is exact to this.
const TOUCH_EVERY: Dur = Dur::from_secs(60);

const TOUCH: &str = "UPDATE api_keys SET last_used_at = $3 WHERE tenant_id = $1 AND id = $2";

/// Every statement of this file.
pub const STATEMENTS: &[&str] = &[TOUCH];

/// Tells who is asking. Cheap to clone.
#[derive(Clone)]
pub struct Gate {
    db: Db,
    tokens: Arc<Tokens>,
    refresh: Arc<RefreshTokens>,
    cookies: Arc<Cookies>,
    clock: Arc<dyn Clock>,
    tasks: Arc<dyn Tasks>,
    passes: Passes,
}

/// An actor, and what is to be done once they are let in.
pub(crate) struct Known {
    pub(crate) actor: Actor,
    /// The key whose use is worth noting.
    touch: Option<ApiKeyId>,
    /// The ticket that is used up by it.
    ticket: Option<Digest>,
}

impl Gate {
    /// A gate for the tokens of this instance and the keys in this database.
    pub fn new(
        db: Db,
        keys: &Keys,
        clock: Arc<dyn Clock>,
        tasks: Arc<dyn Tasks>,
    ) -> lantern_store::Result<Self> {
        let (tokens, refresh) = (Arc::new(Tokens::new(keys)?), Arc::new(RefreshTokens::new(keys)?));
        let cookies = Arc::new(Cookies::new(keys)?);
        Ok(Self { db, tokens, refresh, cookies, clock, tasks, passes: Passes::default() })
    }

    /// The tokens that this gate reads.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The refresh tokens of this instance.
    pub fn refresh_tokens(&self) -> &RefreshTokens {
        &self.refresh
    }

    /// The session cookies of this instance.
    pub fn cookies(&self) -> &Cookies {
        &self.cookies
    }

    /// Looks after the credentials of open streams until the process stops.
    pub fn keep(&self, stop: Shutdown) {
        self.passes.keep(self.db.clone(), &*self.tasks, self.clock.clone(), stop);
    }

    /// A pass for an event stream: over when what this actor showed is.
    pub fn pass(&self, actor: &Actor) -> Pass {
        self.passes.hold(actor)
    }

    /// Ends, soon, the open streams of a key that has just been revoked, or of a sign-in that has just ended.
    pub fn revoked(&self) {
        self.passes.look_soon();
    }

    /// Who this request speaks for: its headers, else the cookie of a page, else the ticket in its address. `unauthorized` when nobody.
    pub(crate) async fn known(&self, parts: &Parts) -> Result<Known> {
        let (now, witness) = (self.clock.now(), Witness::of(parts));
        let Some(credential) = presented(&parts.headers) else {
            if let Some(cookie) = cookie::presented(&parts.headers) {
                return self.by_cookie(cookie, now, &witness).await;
            }
            let ticket = ticket::presented(parts)?.ok_or_else(nobody)?;
            return self.by_ticket(ticket, now).await;
        };
        if credential.starts_with(KEY_PREFIX) {
            return self.by_key(credential, now, &witness).await;
        }
        if credential.starts_with(BOX_TOKEN_PREFIX) {
            // Whoever has it took it out of a box: the operator should hear of that.
            tracing::warn!("the token of a workload's box was shown outside of it, and refused");
            let words = "this is the token of a workload's box: it is good inside of that box alone";
            return Err(Error::new(Code::Unauthorized, words));
        }
        self.by_token(credential, now, &witness).await
    }

    /// Lets somebody in who may: uses their ticket up, or notes the use of their key. `ticket_spent` when another request
    /// with the same ticket was let in meanwhile.
    pub(crate) async fn admit(&self, scope: Scope, known: &Known) -> Result<()> {
        if let Some(ticket) = known.ticket
            && !tickets::spend(&self.db, scope, ticket).await?
        {
            return Err(ticket::spent());
        }
        self.touch(scope, known);
        Ok(())
    }

    async fn by_token(&self, token: &str, now: At, witness: &Witness) -> Result<Known> {
        let access = self.tokens.read(token, now).ok_or_else(nobody)?;
        witness.shown(access.tenant, Who::Person(access.user));
        let found = system::sign_in(&self.db, access.tenant, access.sign_in).await?;
        let principal =
            found.filter(|found| found.user == access.user).and_then(|found| signed_in(found, now));
        let principal = principal.ok_or_else(nobody)?;
        let actor = Actor { tenant: access.tenant, principal, until: Some(access.until) };
        Ok(Known { actor, touch: None, ticket: None })
    }

    async fn by_cookie(&self, cookie: &str, now: At, witness: &Witness) -> Result<Known> {
        let (tenant, sign_in) = self.cookies.read(cookie).ok_or_else(nobody)?;
        let row = system::sign_in(&self.db, tenant, sign_in).await?.ok_or_else(nobody)?;
        witness.shown(tenant, Who::Person(row.user));
        let until = Some(row.expires_at);
        let principal = signed_in(row, now).ok_or_else(nobody)?;
        Ok(Known { actor: Actor { tenant, principal, until }, touch: None, ticket: None })
    }

    async fn by_key(&self, key: &str, now: At, witness: &Witness) -> Result<Known> {
        if key.len() != KEY_LENGTH {
            return Err(nobody());
        }
        let row = system::key_by_hash(&self.db, hash(key)).await?.ok_or_else(nobody)?;
        witness.shown(row.tenant, Who::Key(row.id));
        let principal = valid(&row, now)?.ok_or_else(nobody)?;
        let stale = row.last_used_at.is_none_or(|at| at + TOUCH_EVERY <= now);
        let actor = Actor { tenant: row.tenant, principal, until: row.expires_at };
        Ok(Known { actor, touch: stale.then_some(row.id), ticket: None })
    }

    async fn by_ticket(&self, hash: Digest, now: At) -> Result<Known> {
        let row = system::ticket_by_hash(&self.db, hash).await?.ok_or_else(ticket::spent)?;
        let (principal, until) = match row.bearer {
            Bearer::Key(key) => (valid(&key, now)?, key.expires_at),
            Bearer::Person(sign_in, until) => (signed_in(sign_in, now), Some(until)),
        };
        let principal = principal.filter(|_| now < row.expires_at).ok_or_else(ticket::spent)?;
        let actor = Actor { tenant: row.tenant, principal, until };
        Ok(Known { actor, touch: None, ticket: Some(hash) })
    }

    /// Notes that a key was used, without making its caller wait.
    fn touch(&self, scope: Scope, known: &Known) {
        let Some(key) = known.touch else { return };
        let (db, now) = (self.db.clone(), self.clock.now());
        let note = async move {
            let params = [key.into(), now.into()];
            let noted = db.write(scope, |tx| Box::pin(async move { tx.exec(TOUCH, &params).await })).await;
            if let Err(error) = noted {
                // Losing it costs a minute's exactness of one column.
                tracing::debug!(%error, "the use of a key was not noted");
            }
        };
        self.tasks.spawn("api_key.touch", Box::pin(note));
    }
}

/// What is stored of a key, and of a ticket.
pub fn hash(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

/// Who is signed in; `None` once the sign-in is over.
fn signed_in(row: PresentedSignIn, now: At) -> Option<Principal> {
    let PresentedSignIn { id: sign_in, user: id, email, name, role, expires_at, .. } = row;
    let role = Role::parse(&role)?;
    (now < expires_at).then_some(Principal::User { id, email, name, role, sign_in })
}

/// What a key is good for; `None` when it was revoked or has ended.
fn valid(key: &PresentedKey, now: At) -> Result<Option<Principal>> {
    if !is_good(key, now) {
        return Ok(None);
    }
    let scopes = serde_json::from_str(&key.scopes).map_err(Error::internal)?;
    Ok(Some(Principal::Key { id: key.id, scopes }))
}

/// Whether a key was not revoked and has not ended.
pub(crate) fn is_good(key: &PresentedKey, now: At) -> bool {
    key.revoked_at.is_none() && key.expires_at.is_none_or(|at| now < at)
}

/// The bearer token, else the key header.
fn presented(headers: &HeaderMap) -> Option<&str> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(value) = text(header::AUTHORIZATION.as_str()) {
        let (scheme, token) = value.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| token.trim());
    }
    text("x-api-key").map(str::trim).filter(|key| key.starts_with(KEY_PREFIX))
}

fn nobody() -> Error {
    Error::new(Code::Unauthorized, "unauthorized")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn credentials_are_found_where_the_contract_puts_them() {
        let key = "hlx_live_00000000000000000000000000000000";
        for (name, value, want) in [
            ("authorization", "Bearer abc", Some("abc")),
            ("authorization", "bearer  abc ", Some("abc")),
            ("authorization", "Basic abc", None),
            ("authorization", "Bearer", None),
            ("authorization", "abc", None),
            ("x-api-key", key, Some(key)),
            ("x-api-key", "abc.def.ghi", None),
            ("cookie", "token=abc", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            assert_eq!(presented(&headers), want, "{name}: {value}");
        }
    }
}
