//! What an open event stream was let in by, for as long as it counts.
//!
//! Invariant: a stream ends with the credential that opened it. When that ends by itself is known beforehand, and nothing is
//! sent from then on. Whether a key was revoked is looked up for the keys of all open streams at once: as soon as this process
//! revokes one, and every [`EVERY`] for what others revoke. A look that the database does not answer ends nothing: without
//! the database a stream has nothing to tell either.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lantern_net::Shutdown;
use lantern_policy::{Actor, Principal};
use lantern_store::{Db, system};
use lantern_types::edge::{Clock, Tasks};
use lantern_types::{ApiKeyId, At, Dur, TenantId};
use tokio::sync::{Notify, watch};

use crate::auth;

/// How long a key that another process revoked may still be in use here.
pub const EVERY: Dur = Dur::from_secs(5);

/// How long a pass waits before it looks at the clock again.
const STEP_MAX: Dur = Dur::from_secs(60);

type Key = (TenantId, ApiKeyId);

/// The credentials of the streams that are open in this process. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Passes {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    // Sections under this lock only look up and insert.
    keys: Mutex<BTreeMap<Key, Held>>,
    look: Notify,
}

/// A key that streams are open by.
struct Held {
    streams: usize,
    over: watch::Sender<bool>,
}

/// What one stream was let in by.
pub struct Pass {
    until: Option<At>,
    key: Option<HeldKey>,
}

struct HeldKey {
    key: Key,
    over: watch::Receiver<bool>,
    passes: Passes,
}

impl Passes {
    /// A pass for as long as what this actor showed counts.
    pub(crate) fn hold(&self, actor: &Actor) -> Pass {
        let key = match actor.principal {
            Principal::User { .. } => None,
            Principal::Key { id, .. } => Some(self.hold_key((actor.tenant, id))),
        };
        Pass { until: actor.until, key }
    }

    fn hold_key(&self, key: Key) -> HeldKey {
        let mut keys = self.keys();
        let held = keys.entry(key).or_insert_with(|| Held { streams: 0, over: watch::Sender::new(false) });
        held.streams += 1;
        HeldKey { key, over: held.over.subscribe(), passes: self.clone() }
    }

    /// Has the keys looked up now.
    pub(crate) fn look_soon(&self) {
        self.inner.look.notify_one();
    }

    /// Looks now and then, and when it is asked to, until the process stops.
    pub(crate) fn keep(&self, db: Db, tasks: &dyn Tasks, clock: Arc<dyn Clock>, stop: Shutdown) {
        let passes = self.clone();
        let keeping = async move {
            loop {
                tokio::select! {
                    biased;
                    () = stop.requested() => return,
                    () = passes.inner.look.notified() => {}
                    () = clock.sleep(EVERY) => {}
                }
                if let Err(error) = passes.look(&db, clock.now()).await {
                    tracing::debug!(%error, "the keys of open streams were not looked up; the next look does it");
                }
            }
        };
        tasks.spawn("streams.passes", Box::pin(keeping));
    }

    /// Ends the passes of keys that are no longer good.
    async fn look(&self, db: &Db, now: At) -> lantern_store::Result<()> {
        let held: Vec<Key> = self.keys().keys().copied().collect();
        if held.is_empty() {
            return Ok(());
        }
        let found = system::keys(db, held.clone()).await?;
        let good: BTreeMap<Key, bool> =
            found.iter().map(|key| ((key.tenant, key.id), auth::is_good(key, now))).collect();
        let keys = self.keys();
        for key in held.iter().filter(|key| !good.get(key).is_some_and(|good| *good)) {
            if let Some(held) = keys.get(key) {
                held.over.send_replace(true);
            }
        }
        Ok(())
    }

    fn keys(&self) -> MutexGuard<'_, BTreeMap<Key, Held>> {
        self.inner.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HeldKey {
    fn drop(&mut self) {
        let mut keys = self.passes.keys();
        let Some(held) = keys.get_mut(&self.key) else { return };
        held.streams = held.streams.saturating_sub(1);
        if held.streams == 0 {
            keys.remove(&self.key);
        }
    }
}

impl Pass {
    /// Completes when it is over: at once when it already is.
    pub(crate) async fn over(&mut self, clock: &dyn Clock) {
        loop {
            let now = clock.now();
            if self.is_over(now) {
                return;
            }
            let left = self.until.map_or(STEP_MAX, |until| until.since(now).min(STEP_MAX));
            tokio::select! {
                biased;
                () = ended(self.key.as_mut()) => {}
                () = clock.sleep(left) => {}
            }
        }
    }

    fn is_over(&self, now: At) -> bool {
        self.until.is_some_and(|until| until <= now)
            || self.key.as_ref().is_some_and(|key| *key.over.borrow())
    }
}

async fn ended(key: Option<&mut HeldKey>) {
    let told = match key {
        Some(key) => key.over.changed().await.is_ok(),
        None => false,
    };
    if !told {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A clock that stands while tokio's does.

    use super::*;
    use lantern_types::edge::BoxFuture;
    use tokio::time::Instant;

    pub(crate) struct PausedClock(Instant);

    impl PausedClock {
        #[expect(clippy::disallowed_methods, reason = "the test's clock is made of the runtime's")]
        pub(crate) fn new() -> Self {
            Self(Instant::now())
        }
    }

    impl Clock for PausedClock {
        fn now(&self) -> At {
            At::from_micros(i64::try_from(self.0.elapsed().as_micros()).unwrap())
        }
        fn sleep(&self, dur: Dur) -> BoxFuture<'static, ()> {
            Box::pin(tokio::time::sleep(dur.std()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::PausedClock;
    use super::*;
    use futures_util::FutureExt as _;
    use lantern_policy::Role;
    use lantern_types::{DEV_TENANT, DEV_USER};

    fn actor(key: bool, until: Option<At>) -> Actor {
        let principal = if key {
            Principal::Key { id: ApiKeyId::from_uuid(DEV_USER.uuid()), scopes: Vec::new() }
        } else {
            let (email, name) = (String::new(), String::new());
            Principal::User { id: DEV_USER, email, name, role: Role::Member }
        };
        Actor { tenant: DEV_TENANT, principal, until }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_is_over_at_its_time_and_no_earlier() {
        let clock = PausedClock::new();
        for key in [false, true] {
            let (passes, now) = (Passes::default(), clock.now());
            let mut pass = passes.hold(&actor(key, Some(now + Dur::from_secs(3_600))));
            let early = tokio::time::timeout(Dur::from_secs(3_599).std(), pass.over(&clock)).await;
            assert!(early.is_err());
            pass.over(&clock).await;
            assert_eq!(clock.now().since(now), Dur::from_secs(3_600));
            assert!(pass.over(&clock).now_or_never().is_some(), "for good");
            let mut endless = passes.hold(&actor(key, None));
            assert!(tokio::time::timeout(Dur::from_secs(86_400).std(), endless.over(&clock)).await.is_err());
        }
    }

    #[tokio::test]
    async fn the_streams_of_a_key_that_is_gone_end_together() {
        let (db, clock, passes) = (Db::inline_sqlite().unwrap(), PausedClock::new(), Passes::default());
        let hold = |key| passes.hold(&actor(key, None));
        let (mut one, mut two, mut person) = (hold(true), hold(true), hold(false));
        assert!(one.over(&clock).now_or_never().is_none());
        passes.look(&db, clock.now()).await.unwrap();
        assert!(one.over(&clock).now_or_never().is_some() && two.over(&clock).now_or_never().is_some());
        assert!(person.over(&clock).now_or_never().is_none());
        drop(one);
        assert_eq!(passes.keys().len(), 1);
        drop(two);
        assert!(passes.keys().is_empty(), "forgotten with the last stream");
    }
}
