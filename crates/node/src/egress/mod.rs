//! The one way out of a box: connections to a listener in its network, decided one by one and passed on.
//!
//! Invariant: nothing is sent to anybody before the decision that lets it was told, and a decision that cannot be told is a no. A name
//! that no rule lists is not resolved. The addresses that were judged are the ones that are dialled, and a name keeps them for a
//! while, so it cannot come to mean another between two looks. Every connection ends with the box.

mod head;
mod local;
mod models;
mod pass;
mod proxy;
mod said;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use lantern_policy::egress::Rule;
use lantern_policy::workload::EgressRule;
use lantern_policy::workload::egress::{Allowed, Asked, Host, Reason, listed, reachable};
use lantern_types::edge::{BoxFuture, Clock};
use lantern_types::{At, Dur};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot};

pub(crate) use local::Local;
pub(crate) use models::Door;
pub use models::{Answer, Ask, Body, Models};
use pass::Pace;
pub(crate) use said::Said;
pub use steps::{StepAsk, Steps};

/// Connections of one box at once; who makes more waits.
pub(crate) const OPEN_MAX: usize = 64;
/// Decisions that wait to be told.
const WAITING_MAX: usize = 64;
/// KiB of bodies that are read for one box, or wait for what was asked with them: two of the largest, and many of the usual.
const BODIES_KIB_MAX: u32 = 16 << 10;
/// For how long a name keeps its addresses, and how many names are remembered.
const PINNED: Dur = Dur::from_secs(300);
const PINS_MAX: usize = 1_024;

/// Finds the addresses of a name.
pub type Resolve = Arc<dyn Fn(String) -> BoxFuture<'static, Vec<IpAddr>> + Send + Sync>;

/// What every box's way out is made of.
#[derive(Clone)]
pub struct Outside {
    /// Which addresses may be reached, whatever a spec lists.
    pub reach: Rule,
    /// Finds the addresses of a name.
    pub resolve: Resolve,
}

/// The addresses that names keep, and until when.
#[derive(Default)]
struct Pins {
    // A section under this lock is one look-up or insert.
    names: Mutex<HashMap<String, Pinned>>,
}

type Pinned = (At, Vec<IpAddr>);

impl Pins {
    fn find(&self, name: &str, now: At) -> Option<Vec<IpAddr>> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(name).filter(|(until, _)| *until > now).map(|(_, addresses)| addresses.clone())
    }

    fn keep(&self, name: &str, pinned: Pinned) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= PINS_MAX {
            names.clear();
        }
        names.insert(name.to_owned(), pinned);
    }
}

/// What is told of a box.
#[derive(Debug)]
pub(crate) enum Told {
    /// A decision about a connection.
    Decided(Said),
    /// A line that the program wants in its log.
    Logged(String),
    /// A model call that was refused: at which door, and why.
    Refused(String, String),
}

/// The way out of one box.
pub(crate) struct Egress {
    rules: Vec<EgressRule>,
    paces: Vec<Pace>,
    outside: Outside,
    clock: Arc<dyn Clock>,
    told: mpsc::Sender<Told>,
    local: Option<Local>,
    bodies: Semaphore,
    pins: Pins,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Egress {
    pub(crate) fn new(
        rules: Vec<EgressRule>,
        outside: Outside,
        clock: Arc<dyn Clock>,
        local: Option<Local>,
    ) -> (Arc<Self>, mpsc::Receiver<Told>) {
        let (told, waiting) = mpsc::channel(WAITING_MAX);
        let paces = rules.iter().map(|rule| Pace::new(rule.rate_bps)).collect();
        let (sent, received) = (AtomicU64::new(0), AtomicU64::new(0));
        let (pins, bodies) = (Pins::default(), Semaphore::new(BODIES_KIB_MAX as usize));
        let egress = Self { rules, paces, outside, clock, told, local, bodies, pins, sent, received };
        (Arc::new(egress), waiting)
    }

    /// Bytes that were sent and received.
    pub(crate) fn counted(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed))
    }

    /// Lets go of what the program of a box that is gone asked for.
    pub(crate) async fn withdraw(&self) {
        if let Some(local) = &self.local {
            local.withdraw().await;
        }
    }

    /// Serves a box until `gone` is.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener, mut gone: oneshot::Receiver<()>) {
        let mut open = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                _ = &mut gone => return,
                Some(()) = open.next(), if !open.is_empty() => {}
                came = listener.accept(), if open.len() < OPEN_MAX => match came {
                    Ok((stream, _)) => open.push(Box::pin(proxy::connection(&self, stream))),
                    // Descriptors are scarce, perhaps: whoever has some lets go of them.
                    Err(_) => self.clock.sleep(Dur::from_millis(50)).await,
                },
            }
        }
    }

    /// Room for a body of this length, for as long as it is held. `None` when the bodies of this box take as much as they may.
    fn room(&self, length: u64) -> Option<SemaphorePermit<'_>> {
        let kib = u32::try_from(length.div_ceil(1 << 10)).ok()?;
        self.bodies.try_acquire_many(kib).ok()
    }

    /// Whether it may, and at which addresses.
    async fn decide(&self, asked: Asked<'_>) -> Result<(Allowed, Vec<IpAddr>), Reason> {
        let allowed = listed(&self.rules, asked)?;
        let addresses = match &allowed.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => self.addresses(name).await,
        };
        reachable(&self.outside.reach, &addresses)?;
        Ok((allowed, addresses))
    }

    async fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let now = self.clock.now();
        if let Some(pinned) = self.pins.find(name, now) {
            return pinned;
        }
        let found = (self.outside.resolve)(name.to_owned()).await;
        if !found.is_empty() {
            self.pins.keep(name, (now + PINNED, found.clone()));
        }
        found
    }

    /// Tells a decision. `false` when nobody takes it, and then it must not be acted on.
    async fn tell(&self, said: Said) -> bool {
        self.told.send(Told::Decided(said)).await.is_ok()
    }
}
