//! Who is asking: the one place where an [`Actor`] is made from a request.
//!
//! Invariant: the tenant comes from the token or from the key's row, never from a header, a path or a body. Every way
//! of being nobody answers the same words. What an actor may do is decided elsewhere (`permit.rs`).

use std::sync::Arc;

use http::{HeaderMap, header};
use lantern_policy::{Actor, Principal, Scope};
use lantern_store::{Db, Keys, system};
use lantern_types::edge::{Clock, Tasks};
use lantern_types::{ApiKeyId, At, Digest, Dur};

use crate::code::Code;
use crate::problem::{Error, Result};
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
    clock: Arc<dyn Clock>,
    tasks: Arc<dyn Tasks>,
}

/// An actor, and the key whose use is worth noting.
pub(crate) struct Known {
    pub(crate) actor: Actor,
    touch: Option<ApiKeyId>,
}

impl Gate {
    /// A gate for the tokens of this instance and the keys in this database.
    pub fn new(
        db: Db,
        keys: &Keys,
        clock: Arc<dyn Clock>,
        tasks: Arc<dyn Tasks>,
    ) -> lantern_store::Result<Self> {
        Ok(Self { db, tokens: Arc::new(Tokens::new(keys)?), clock, tasks })
    }

    /// The tokens that this gate reads.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Who these headers speak for. `unauthorized` when nobody.
    pub(crate) async fn known(&self, headers: &HeaderMap) -> Result<Known> {
        let credential = presented(headers).ok_or_else(nobody)?;
        let now = self.clock.now();
        if credential.starts_with(KEY_PREFIX) {
            return self.by_key(credential, now).await;
        }
        let actor = self.tokens.read(credential, now).ok_or_else(nobody)?;
        Ok(Known { actor, touch: None })
    }

    async fn by_key(&self, key: &str, now: At) -> Result<Known> {
        if key.len() != KEY_LENGTH {
            return Err(nobody());
        }
        let row = system::key_by_hash(&self.db, hash(key)).await?.ok_or_else(nobody)?;
        if row.revoked_at.is_some() || row.expires_at.is_some_and(|at| at <= now) {
            return Err(nobody());
        }
        let scopes = serde_json::from_str(&row.scopes).map_err(Error::internal)?;
        let stale = row.last_used_at.is_none_or(|at| at + TOUCH_EVERY <= now);
        let principal = Principal::Key { id: row.id, scopes };
        let actor = Actor { tenant: row.tenant, principal, until: row.expires_at };
        Ok(Known { actor, touch: stale.then_some(row.id) })
    }

    /// Notes that a key was used, without making its caller wait.
    pub(crate) fn touch(&self, scope: Scope, known: &Known) {
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

/// What is stored of a key.
pub fn hash(key: &str) -> Digest {
    Digest::of(key.as_bytes())
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
