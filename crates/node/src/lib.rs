//! A node: runs workloads in boxes on this machine, for whoever drives their runs.
//!
//! Invariant: a box is made only for a workload that this node took in the database, and only once for each time it took it. What
//! the box wrote and how it ended is stored before the run hears of it; so whoever asks again under the same key is answered with
//! what happened. A node that starts takes down what the last one of its name left behind, before it takes anything.

#![warn(missing_docs)]

mod egress;
mod exec;
mod keep;
mod registry;
mod secrets;
mod tool;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use lantern_net::Shutdown;
use lantern_policy::workload::{Capabilities, Image, Mode, Unfetched, Wanted};
use lantern_sandbox::Machine;
use lantern_store::audit::Marks;
use lantern_store::{Db, Sealer, workloads};
use lantern_types::RunId;
use lantern_types::edge::{Clock, IdGen, Tasks};
use lantern_worker::Mail;
use tokio::sync::OnceCell;

use exec::Held;

pub use egress::{Answer, Ask, Body, Models, Outside, Resolve, StepAsk, Steps};
pub use registry::{Origin, Registries};
pub use tool::Boxes;

/// What a node is made of.
pub struct Setup {
    /// The database.
    pub db: Db,
    /// Seals what boxes write, and opens the secrets that they are handed.
    pub sealer: Sealer,
    /// Marks the audit logs of tenants.
    pub marks: Marks,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where boxes are looked after.
    pub tasks: Arc<dyn Tasks>,
    /// The machine.
    pub machine: Machine,
    /// How the server runs.
    pub mode: Mode,
    /// Its name: the same after each start on the same data folder, and no other's.
    pub name: String,
    /// Ends the boxes when the process stops.
    pub stop: Shutdown,
    /// What runs are told of their boxes.
    pub mail: Mail,
    /// Where boxes may reach out to.
    pub outside: Outside,
    /// Answers the model calls of programs.
    pub models: Models,
    /// Does the steps of programs that are admitted or decided.
    pub steps: Steps,
    /// Where images come from that are not here.
    pub registries: Registries,
    /// Fresh ids, and the tokens of boxes.
    pub ids: Arc<dyn IdGen>,
}

/// What went wrong when a node was to start.
#[derive(Debug)]
pub enum Error {
    /// What is left of earlier boxes could not be taken down.
    Machine(lantern_sandbox::Error),
    /// The database did not take note of it.
    Store(lantern_store::Error),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cannot take down what an earlier server left of its boxes")
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Machine(error) => Some(error),
            Self::Store(error) => Some(error),
        }
    }
}

/// A node.
pub struct Node {
    setup: Setup,
    proved: OnceCell<Capabilities>,
    // Sections under this lock are one look-up or change.
    boxes: Mutex<HashMap<RunId, Held>>,
}

/// What of a node is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Thousandths of a processor that nobody asked for.
    pub free_cpu_millis: u64,
    /// Bytes of memory that are free.
    pub free_memory_bytes: u64,
    /// Boxes.
    pub running: u32,
}

impl Node {
    /// A node that has taken down what was left behind.
    pub async fn open(setup: Setup) -> Result<Arc<Self>, Error> {
        setup.machine.sweep().await.map_err(Error::Machine)?;
        let now = setup.clock.now();
        let lost = workloads::lose(&setup.db, setup.name.clone(), now).await.map_err(Error::Store)?;
        if lost > 0 {
            tracing::warn!(lost, "workloads whose server died were taken down");
        }
        Ok(Arc::new(Self { setup, proved: OnceCell::new(), boxes: Mutex::default() }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.setup.name
    }

    /// What this machine can do: boxes are made on the first call, and what they saw is remembered.
    pub async fn capabilities(&self) -> Capabilities {
        self.proved.get_or_init(|| self.setup.machine.probe()).await.clone()
    }

    /// Whether an image is on this machine.
    pub fn has_image(&self, image: &Image) -> bool {
        self.setup.machine.images().has(image)
    }

    /// Finds an image in its registry, and fetches what it says of itself.
    pub async fn find(&self, wanted: &Wanted) -> Result<Image, Unfetched> {
        self.setup.registries.find(self.setup.machine.images(), wanted).await
    }

    /// What is in use.
    pub fn load(&self) -> Load {
        let (running, asked) = self.with(|boxes| {
            let asked: u64 = boxes.values().map(|held| u64::from(held.limits.cpu_millis)).sum();
            (u32::try_from(boxes.len()).unwrap_or(u32::MAX), asked)
        });
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let all = u64::try_from(cpus).unwrap_or(u64::MAX).saturating_mul(1_000);
        Load { free_cpu_millis: all.saturating_sub(asked), free_memory_bytes: free_memory(), running }
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashMap<RunId, Held>) -> T) -> T {
        change(&mut self.boxes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Bytes of memory that the kernel could give.
fn free_memory() -> u64 {
    let text = fs::read_to_string(Path::new("/proc/meminfo")).unwrap_or_default();
    available(&text)
}

fn available(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or_default().saturating_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_word_is_read() {
        let text = "MemTotal:       24689764 kB\nMemFree:  1 kB\nMemAvailable:   20480000 kB\n";
        assert_eq!(available(text), 20_480_000 * 1_024);
        assert_eq!(available(""), 0);
    }
}
