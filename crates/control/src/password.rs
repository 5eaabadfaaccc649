//! Password hashes: argon2id with 7 MiB, five passes and one lane, one of the choices that OWASP holds to be equal
//! (<https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html>) and a small one in memory.
//!
//! Invariant: at most two are computed at once, so that signing in cannot take the machine's memory or all of its
//! processors; and an unknown user costs as much as a known one.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use lantern_edge::{Code, Error, Result};
use lantern_types::edge::IdGen;
use lantern_types::{Dur, Secret};
use tokio::sync::Semaphore;

const AT_ONCE: usize = 2;
/// More sign-ins than this are sent away rather than queued.
const WAITING_MAX: usize = 64;
/// Checked when there is no such user. Nothing hashes to it.
const NOBODY: &str =
    "$argon2id$v=19$m=7168,t=5,p=1$bGFudGVybi1ub2JvZHktIQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Computes and checks hashes.
pub(crate) struct Passwords {
    ids: Arc<dyn IdGen>,
    running: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Passwords {
    pub(crate) fn new(ids: Arc<dyn IdGen>) -> Self {
        Self { ids, running: Arc::new(Semaphore::new(AT_ONCE)), waiting: Semaphore::new(WAITING_MAX) }
    }

    /// What is stored of a password.
    pub(crate) async fn hash(&self, password: Secret<String>) -> Result<String> {
        let mut salt = [0; 16];
        self.ids.fill(&mut salt);
        self.compute(move || {
            let hash: PasswordHash =
                hasher()?.hash_password_with_salt(password.expose().as_bytes(), &salt)?;
            Ok(hash.to_string())
        })
        .await?
        .map_err(failed)
    }

    /// Whether `password` is the one that `stored` is the hash of; never, and no sooner, when there is no hash.
    pub(crate) async fn verify(&self, password: Secret<String>, stored: Option<String>) -> Result<bool> {
        let known = stored.is_some();
        let stored = stored.unwrap_or_else(|| NOBODY.to_owned());
        let verified = self
            .compute(move || {
                let hash = PasswordHash::new(&stored)?;
                hasher()?.verify_password(password.expose().as_bytes(), &hash)
            })
            .await?;
        match verified {
            Ok(()) => Ok(known),
            Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let busy =
            || Error::new(Code::Unavailable, "too many sign-ins at once").retry_after(Dur::from_secs(1));
        let _place = self.waiting.try_acquire().map_err(|_| busy())?;
        let running = self.running.clone().acquire_owned().await.map_err(Error::internal)?;
        // The permit goes along: a caller that leaves does not let a third computation in.
        tokio::task::spawn_blocking(move || {
            let done = work();
            drop(running);
            done
        })
        .await
        .map_err(Error::internal)
    }
}

fn hasher() -> argon2::password_hash::Result<Argon2<'static>> {
    let params = Params::new(7_168, 5, 1, None).map_err(|_| argon2::password_hash::Error::ParamsInvalid)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn failed(error: argon2::password_hash::Error) -> Error {
    Error::internal(std::io::Error::other(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lantern_net::{RealClock, RealIds};

    #[tokio::test]
    async fn a_password_is_known_again_and_nobody_is_not() {
        let passwords = Passwords::new(Arc::new(RealIds::new(Arc::new(RealClock::new()))));
        let secret = |text: &str| Secret::new(text.to_owned());
        let stored = passwords.hash(secret("correct horse")).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=7168,t=5,p=1$"), "{stored}");
        assert!(passwords.verify(secret("correct horse"), Some(stored.clone())).await.unwrap());
        assert!(!passwords.verify(secret("wrong horse"), Some(stored)).await.unwrap());
        assert!(!passwords.verify(secret("correct horse"), None).await.unwrap());
        assert!(passwords.verify(secret("x"), Some("not a hash".to_owned())).await.is_err());
    }
}
