//! What an open event stream was let in by, for as long as it counts.
//!
//! Invariant: a stream ends with the credential that opened it. When that ends by itself is known beforehand, and nothing is
//! sent from then on. Whether a key was revoked, or somebody signed out, is looked up for all open streams at once: as soon as
//! this process ends one, and every [`EVERY`] for what others end. A look that the database does not answer ends nothing:
//! without the database a stream has nothing to tell either.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lantern_net::Shutdown;
use lantern_policy::{Actor, Principal};
use lantern_store::{Db, system};
use lantern_types::edge::{Clock, Tasks};
use lantern_types::{ApiKeyId, At, Dur, SignInId, TenantId};
use tokio::sync::{Notify, watch};

use crate::auth;

/// How long what another process revoked or signed out may still be in use here.
pub const EVERY: Dur = Dur::from_secs(5);

/// What whoever may follow a stream no longer is told in its last frame.
pub const NO_LONGER: &str = "the key or sign-in that opened this stream has ended or was revoked";

/// How long a pass waits before it looks at the clock again.
const STEP_MAX: Dur = Dur::from_secs(60);

/// What a stream was opened by, as its row is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Opener {
    Key(TenantId, ApiKeyId),
    SignIn(TenantId, SignInId),
}

/// The credentials of the streams that are open in this process. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Passes {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    // Sections under this lock only look up and insert.
    openers: Mutex<BTreeMap<Opener, Held>>,
    look: Notify,
}

/// What streams are open by.
struct Held {
    streams: usize,
    over: watch::Sender<bool>,
}

/// What one stream was let in by.
pub struct Pass {
    until: Option<At>,
    opener: HeldOpener,
}

struct HeldOpener {
    opener: Opener,
    over: watch::Receiver<bool>,
    passes: Passes,
}

impl Passes {
    /// A pass for as long as what this actor showed counts.
    pub(crate) fn hold(&self, actor: &Actor) -> Pass {
        let opener = match actor.principal {
            Principal::User { sign_in, .. } => Opener::SignIn(actor.tenant, sign_in),
            Principal::Key { id, .. } => Opener::Key(actor.tenant, id),
        };
        let mut openers = self.openers();
        let held =
            openers.entry(opener).or_insert_with(|| Held { streams: 0, over: watch::Sender::new(false) });
        held.streams += 1;
        let opener = HeldOpener { opener, over: held.over.subscribe(), passes: self.clone() };
        Pass { until: actor.until, opener }
    }

    /// Has them looked up now.
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
                    tracing::debug!(%error, "what open streams were opened by was not looked up; the next look does it");
                }
            }
        };
        tasks.spawn("streams.passes", Box::pin(keeping));
    }

    /// Ends the passes of what is no longer good.
    async fn look(&self, db: &Db, now: At) -> lantern_store::Result<()> {
        let held: Vec<Opener> = self.openers().keys().copied().collect();
        let (mut keys, mut sign_ins) = (Vec::new(), Vec::new());
        for opener in &held {
            match *opener {
                Opener::Key(tenant, id) => keys.push((tenant, id)),
                Opener::SignIn(tenant, id) => sign_ins.push((tenant, id)),
            }
        }
        let mut good = BTreeSet::new();
        if !keys.is_empty() {
            let found = system::keys(db, keys).await?;
            let found = found.iter().filter(|key| auth::is_good(key, now));
            good.extend(found.map(|key| Opener::Key(key.tenant, key.id)));
        }
        if !sign_ins.is_empty() {
            let found = system::sign_ins(db, sign_ins).await?;
            let found = found.into_iter().filter(|(_, expires_at)| now < *expires_at);
            good.extend(found.map(|((tenant, id), _)| Opener::SignIn(tenant, id)));
        }
        let openers = self.openers();
        for opener in held.iter().filter(|opener| !good.contains(opener)) {
            if let Some(held) = openers.get(opener) {
                held.over.send_replace(true);
            }
        }
        Ok(())
    }

    fn openers(&self) -> MutexGuard<'_, BTreeMap<Opener, Held>> {
        self.inner.openers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HeldOpener {
    fn drop(&mut self) {
        let mut openers = self.passes.openers();
        let Some(held) = openers.get_mut(&self.opener) else { return };
        held.streams = held.streams.saturating_sub(1);
        if held.streams == 0 {
            openers.remove(&self.opener);
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
                () = ended(&mut self.opener) => {}
                () = clock.sleep(left) => {}
            }
        }
    }

    fn is_over(&self, now: At) -> bool {
        self.until.is_some_and(|until| until <= now) || *self.opener.over.borrow()
    }
}

async fn ended(opener: &mut HeldOpener) {
    if opener.over.changed().await.is_err() {
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
            let sign_in = SignInId::from_uuid(DEV_USER.uuid());
            Principal::User { id: DEV_USER, email, name, role: Role::Member, sign_in }
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
    async fn the_streams_of_what_is_gone_end_together() {
        let (db, clock, passes) = (Db::inline_sqlite().unwrap(), PausedClock::new(), Passes::default());
        let hold = |key| passes.hold(&actor(key, None));
        let (mut one, mut two, mut person) = (hold(true), hold(true), hold(false));
        assert!(one.over(&clock).now_or_never().is_none());
        passes.look(&db, clock.now()).await.unwrap();
        for pass in [&mut one, &mut two, &mut person] {
            assert!(pass.over(&clock).now_or_never().is_some());
        }
        drop((one, person));
        assert_eq!(passes.openers().len(), 1);
        drop(two);
        assert!(passes.openers().is_empty(), "forgotten with the last stream");
    }
}
