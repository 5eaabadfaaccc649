//! Adds up what runs used and no slice was taken for.
//!
//! Invariant: nothing is decided by when it does: whoever reads or bounds what was spent adds up first. It is a task of its own, because it may
//! wait for others who do the same for a tenant, and slices must be kept alive meanwhile.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use lantern_net::Shutdown;
use lantern_policy::Scope;
use lantern_store::Db;
use lantern_store::usage::pending;
use lantern_types::Dur;
use lantern_types::edge::Clock;

use crate::purse::Purse;

/// How often what this process's runs used is added up.
const OWN: Dur = Dur::from_secs(1);
/// How often what others have left is looked for, where there may be others.
const ALL: Dur = Dur::from_secs(10);
/// Tenants that are added up at once.
const AT_ONCE: usize = 4;

pub(crate) struct Adder {
    db: Db,
    clock: Arc<dyn Clock>,
    purse: Arc<Purse>,
    sole: bool,
}

impl Adder {
    pub(crate) fn new(db: Db, clock: Arc<dyn Clock>, purse: Arc<Purse>, sole: bool) -> Self {
        Self { db, clock, purse, sole }
    }

    pub(crate) async fn run(self, stop: Shutdown) {
        self.all().await;
        let mut all_at = self.clock.now() + ALL;
        while !stop.is_requested() {
            let others = async {
                if self.sole {
                    std::future::pending::<()>().await;
                } else {
                    self.clock.sleep(all_at.since(self.clock.now())).await;
                }
            };
            tokio::select! {
                biased;
                () = stop.requested() => break,
                () = self.purse.uses() => {
                    tokio::select! {
                        biased;
                        () = stop.requested() => break,
                        () = self.clock.sleep(OWN) => {}
                    }
                }
                () = others => {}
            }
            self.own().await;
            if !self.sole && self.clock.now() >= all_at {
                self.all().await;
                all_at = self.clock.now() + ALL;
            }
        }
        self.own().await;
    }

    /// What this process's runs have used.
    pub(crate) async fn own(&self) {
        self.each(self.purse.take_used()).await;
    }

    /// What any process has left.
    pub(crate) async fn all(&self) {
        match pending::waiting(&self.db).await {
            Ok(scopes) => self.each(scopes).await,
            Err(error) => tracing::warn!(%error, "what runs used could not be looked for yet"),
        }
    }

    async fn each(&self, scopes: Vec<Scope>) {
        let add_up = |scope: Scope| async move {
            if let Err(error) = pending::add_up(&self.db, scope).await {
                tracing::warn!(tenant = %scope.tenant(), %error, "what runs used is not added up yet");
                self.purse.used(scope);
            }
        };
        stream::iter(scopes).for_each_concurrent(AT_ONCE, add_up).await;
    }
}
