//! The node of this process, as far as the API knows it: what it proved, and how much of it is free.

use std::sync::Arc;

use lantern_edge::{Code, Error, Result};
use lantern_policy::Scope;
use lantern_policy::workload::place::backend;
use lantern_policy::workload::{
    Capabilities, Exec, Execd, Image, Isolation, Mode, Unfetched, Unrun, Usable, Wanted,
};
use lantern_types::RunId;
use lantern_types::edge::BoxFuture;
use serde::Serialize;
use utoipa::ToSchema;

use crate::App;

/// A node that runs workloads.
#[derive(Clone)]
pub struct Runtime {
    /// Its name.
    pub node: String,
    /// How the server runs.
    pub mode: Mode,
    /// What it proved; made on the first call.
    pub capabilities: Arc<dyn Fn() -> BoxFuture<'static, Capabilities> + Send + Sync>,
    /// Whether an image is there.
    pub has_image: Arc<dyn Fn(&Image) -> bool + Send + Sync>,
    /// Finds an image in its registry.
    pub find: Find,
    /// Runs another program in a box.
    pub exec: Run,
    /// What is in use.
    pub load: Arc<dyn Fn() -> Load + Send + Sync>,
}

/// Finds an image in its registry: which digest a tag means, and what speaks against it.
type Find = Arc<dyn Fn(Wanted) -> BoxFuture<'static, std::result::Result<Image, Unfetched>> + Send + Sync>;

/// Runs another program in the box of a workload, whose tenant and whose run are known to have it.
type Run =
    Arc<dyn Fn(Scope, RunId, Exec) -> BoxFuture<'static, std::result::Result<Execd, Unrun>> + Send + Sync>;

/// What of a node is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Thousandths of a processor that nobody asked for.
    pub free_cpu_millis: u64,
    /// Bytes of memory that are free.
    pub free_memory_bytes: u64,
    /// Boxes.
    pub running: u32,
    /// Boxes that are being made.
    pub pending: u32,
}

/// The node, or why there is none.
pub(super) fn runtime(app: &App) -> Result<&Runtime> {
    app.inner.runtime.as_ref().ok_or_else(|| {
        let words =
            "this server runs no workloads; `lantern dev` does, and `lantern serve` with server.workloads";
        Error::new(Code::RuntimeUnsupported, words)
    })
}

/// The nodes of a cluster.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cluster {
    nodes: Vec<Node>,
    total_vms_running: u32,
    total_vms_pending: u32,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RuntimeNode)]
struct Node {
    name: String,
    free_vcpu_millis: u64,
    free_memory_bytes: u64,
    running_vms: u32,
    draining: bool,
    tiers: Vec<Tier>,
}

/// A class of isolation on a node.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Tier {
    isolation: &'static str,
    usable: bool,
    /// The box it has: `process`, `oci` or `gvisor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<String>,
    /// What a probe saw from inside of such a box.
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<String>,
    /// Why it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// What the node proved and has free.
pub(super) async fn show(app: &App) -> Result<Cluster> {
    let runtime = runtime(app)?;
    let (here, load) = ((runtime.capabilities)().await, (runtime.load)());
    let node = Node {
        name: runtime.node.clone(),
        free_vcpu_millis: load.free_cpu_millis,
        free_memory_bytes: load.free_memory_bytes,
        running_vms: load.running,
        draining: app.stop.is_requested(),
        tiers: Isolation::ALL.into_iter().map(|class| tier(class, &here, runtime.mode)).collect(),
    };
    Ok(Cluster { nodes: vec![node], total_vms_running: load.running, total_vms_pending: load.pending })
}

fn tier(class: Isolation, here: &Capabilities, mode: Mode) -> Tier {
    let isolation = class.as_str();
    let none = Tier { isolation, usable: false, backend: None, runtime: None, proof: None, reason: None };
    let found = match backend(class, here, mode) {
        Ok(found) => found,
        Err(why) => return Tier { reason: Some(why), ..none },
    };
    let (runtime, proof) = match here.backends.get(&found) {
        Some(Usable::Proved { runtime, seen }) => (Some(runtime.clone()), Some(seen.clone())),
        _ => (None, None),
    };
    Tier { usable: true, backend: Some(found.as_str()), runtime, proof, ..none }
}
