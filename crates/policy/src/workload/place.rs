//! In which box a workload may run here: its spec and what this machine proved, to a box or to the reason there is none.
//!
//! Invariant: a workload never runs in a weaker box than its class asks for; when the right one is not usable it is
//! refused. One exception is the operator's, in `dev` alone: `standard` on a plain container, which is then said of the
//! workload. Whoever starts a box looks at a table of its own again.

use std::collections::BTreeMap;

use super::spec::{AgentSpec, Deliver, Isolation, Network};

/// What makes a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// bubblewrap: namespaces and a filter of system calls. For trusted code on a laptop.
    Process,
    /// A container on the shared kernel, by crun or runc.
    Oci,
    /// gVisor: a kernel of its own in user space.
    Gvisor,
}

impl Backend {
    /// All of them, the weakest first.
    pub const ALL: [Self; 3] = [Self::Process, Self::Oci, Self::Gvisor];

    /// A stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Oci => "oci",
            Self::Gvisor => "gvisor",
        }
    }

    /// The backend of such a word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|backend| backend.as_str() == word)
    }
}

/// What a probe of a backend came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usable {
    /// A box was made and looked at from inside: which runtime, and what was seen there.
    Proved {
        /// Such as `runc 1.1.5`.
        runtime: String,
        /// The facts, in words.
        seen: String,
    },
    /// Why not.
    No(String),
}

/// What a machine can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// What came of each probe. A backend that is not here was not probed, and is not usable.
    pub backends: BTreeMap<Backend, Usable>,
}

impl Capabilities {
    /// Nothing is usable, for one reason.
    pub fn none(reason: &str) -> Self {
        Self { backends: Backend::ALL.map(|backend| (backend, Usable::No(reason.to_owned()))).into() }
    }

    fn lacks(&self, backend: Backend) -> Option<&str> {
        match self.backends.get(&backend) {
            Some(Usable::Proved { .. }) => None,
            Some(Usable::No(why)) => Some(why),
            None => Some("it was not probed"),
        }
    }
}

/// How the server runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mode {
    /// On a laptop.
    pub dev: bool,
    /// Its operator lets `standard` run on a plain container. Means nothing outside of `dev`.
    pub allow_oci_standard: bool,
}

/// A workload and the box that it may run in. Only [`place`] makes one.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    spec: AgentSpec,
    backend: Backend,
    degraded: bool,
}

impl Placed {
    /// What it asks for.
    pub const fn spec(&self) -> &AgentSpec {
        &self.spec
    }
    /// Its box.
    pub const fn backend(&self) -> Backend {
        self.backend
    }
    /// Whether the operator lets it run in a weaker box than its class asks for.
    pub const fn degraded(&self) -> bool {
        self.degraded
    }
}

/// Why a workload may not run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The field that asks for what there is not.
    pub path: &'static str,
    /// Why, and what to do.
    pub reason: String,
}

/// The memory that gVisor's own kernel needs beside the workload's.
pub const GVISOR_MEMORY_MIN: u64 = 64 << 20;

/// Finds the box of a workload, or everything that speaks against it.
pub fn place(spec: AgentSpec, capabilities: &Capabilities, mode: Mode) -> Result<Placed, Vec<Refusal>> {
    let mut refusals = unsupported(&spec);
    let backend = backend(spec.isolation, capabilities, mode);
    if let Err(reason) = &backend {
        refusals.push(Refusal { path: "isolation", reason: reason.clone() });
    }
    if backend == Ok(Backend::Gvisor) && spec.limits.memory_bytes < GVISOR_MEMORY_MIN {
        let reason = "gVisor's own kernel needs 64Mi; ask for that much at least".to_owned();
        refusals.push(Refusal { path: "limits.memory", reason });
    }
    match backend {
        Ok(backend) if refusals.is_empty() => {
            let degraded = spec.isolation == Isolation::Standard && backend == Backend::Oci;
            Ok(Placed { spec, backend, degraded })
        }
        _ => Err(refusals),
    }
}

/// The boxes that a class may have, the best first; or why it has none in this build.
const fn candidates(isolation: Isolation, mode: Mode) -> Result<&'static [Backend], &'static str> {
    match isolation {
        Isolation::Trusted if mode.dev => Ok(&[Backend::Oci, Backend::Process]),
        Isolation::Trusted => Ok(&[Backend::Oci]),
        Isolation::Standard if mode.dev && mode.allow_oci_standard => Ok(&[Backend::Gvisor, Backend::Oci]),
        Isolation::Standard | Isolation::Untrusted => Ok(&[Backend::Gvisor]),
        Isolation::Hostile => Err("this build makes no virtual machines"),
        Isolation::Wasm => Err("this build runs no WebAssembly"),
        Isolation::Devcontainer => Err("this build keeps no long-lived boxes"),
    }
}

/// The box of a class on this machine.
pub fn backend(isolation: Isolation, capabilities: &Capabilities, mode: Mode) -> Result<Backend, String> {
    let candidates = candidates(isolation, mode).map_err(str::to_owned)?;
    let mut missing = Vec::new();
    for backend in candidates {
        match capabilities.lacks(*backend) {
            None => return Ok(*backend),
            Some(why) => missing.push(format!("{}: {why}", backend.as_str())),
        }
    }
    Err(format!("no box for {} here: {}", isolation.as_str(), missing.join("; ")))
}

/// What a spec asks for that no box of this build gives.
fn unsupported(spec: &AgentSpec) -> Vec<Refusal> {
    let network =
        "a box reaches what its rules list and nothing else; say allowlist and list egress_rules, or none";
    let listed = matches!(spec.network, Network::None | Network::Allowlist);
    let asked = [
        (!listed, "network", network),
        (spec.limits.gpus > 0, "limits.gpu", "no box of this build has a graphics processor"),
        (
            exposes(spec),
            "secrets",
            "only trusted and standard code has secrets in its environment; leave out deliver: env and read the file",
        ),
        (spec.restore_snapshot_id.is_some(), "restore_snapshot_id", "no box of this build has snapshots"),
        (spec.agent_version_id.is_some(), "agent_version_id", "a workload belongs to no agent version yet"),
        (spec.run_id.is_some(), "run_id", "a workload belongs to no run yet"),
    ];
    let refusal =
        |(_, path, reason): &(bool, &'static str, &str)| Refusal { path, reason: (*reason).to_owned() };
    asked.iter().filter(|(asked, ..)| *asked).map(refusal).collect()
}

/// Whether a secret is to be in an environment that it must not be in.
fn exposes(spec: &AgentSpec) -> bool {
    let known = matches!(spec.isolation, Isolation::Trusted | Isolation::Standard);
    !known && spec.secrets.iter().any(|secret| secret.deliver == Deliver::Env)
}

#[cfg(test)]
mod tests {
    use super::super::read_text;
    use super::*;

    const DEV: Mode = Mode { dev: true, allow_oci_standard: false };
    const LAX: Mode = Mode { dev: true, allow_oci_standard: true };
    const SERVE: Mode = Mode { dev: false, allow_oci_standard: true };

    fn spec(rest: &str) -> AgentSpec {
        let digest = "0".repeat(64);
        read_text(&format!("image_digest: a@sha256:{digest}\n{rest}")).unwrap()
    }

    fn with(usable: &[Backend]) -> Capabilities {
        let mut capabilities = Capabilities::none("not installed");
        for backend in usable {
            let proved = Usable::Proved { runtime: "x 1".to_owned(), seen: String::new() };
            capabilities.backends.insert(*backend, proved);
        }
        capabilities
    }

    #[test]
    fn no_workload_gets_a_weaker_box_than_its_class() {
        use Backend::{Gvisor, Oci, Process};
        let all = [Process, Oci, Gvisor];
        for (class, usable, mode, want) in [
            ("trusted", &all[..], DEV, Some(Oci)),
            ("trusted", &[Process], DEV, Some(Process)),
            ("trusted", &[Process], SERVE, None),
            ("trusted", &[Gvisor], DEV, None),
            ("standard", &all, DEV, Some(Gvisor)),
            ("standard", &[Process, Oci], DEV, None),
            ("standard", &[Process, Oci], LAX, Some(Oci)),
            ("standard", &all, LAX, Some(Gvisor)),
            ("standard", &[Process], LAX, None),
            ("standard", &[Process, Oci], SERVE, None),
            ("untrusted", &all, DEV, Some(Gvisor)),
            ("untrusted", &[Process, Oci], LAX, None),
            ("hostile", &all, LAX, None),
            ("wasm", &all, LAX, None),
            ("devcontainer", &all, LAX, None),
        ] {
            let placed = place(spec(&format!("isolation: {class}\n")), &with(usable), mode);
            assert_eq!(placed.as_ref().ok().map(Placed::backend), want, "{class} {usable:?} {mode:?}");
            let degraded = class == "standard" && want == Some(Oci);
            assert_eq!(placed.is_ok_and(|placed| placed.degraded()), degraded, "{class} {mode:?}");
        }
    }

    #[test]
    fn a_refusal_says_what_is_missing() {
        let mut here = with(&[]);
        here.backends.remove(&Backend::Gvisor);
        let refused = place(spec("isolation: trusted\n"), &here, DEV).unwrap_err();
        assert_eq!(refused[0].reason, "no box for trusted here: oci: not installed; process: not installed");
        let refused = place(spec("isolation: untrusted\n"), &here, DEV).unwrap_err();
        assert_eq!(refused[0].reason, "no box for untrusted here: gvisor: it was not probed");
    }

    #[test]
    fn what_no_box_gives_is_refused_by_name() {
        for (rest, path) in [
            ("network: open\n", "network"),
            ("network: tenant_vpc\n", "network"),
            ("limits: {gpu: 1}\n", "limits.gpu"),
            ("limits: {memory: 32Mi}\n", "limits.memory"),
            (
                "isolation: untrusted\nsecrets: [{env_name: A, secret_uri: lantern.secret/llm/x, deliver: env}]\n",
                "secrets",
            ),
            ("restore_snapshot_id: x\n", "restore_snapshot_id"),
            ("agent_version_id: x\n", "agent_version_id"),
            ("run_id: x\n", "run_id"),
        ] {
            let refused = place(spec(rest), &with(&Backend::ALL), DEV).unwrap_err();
            assert!(refused.iter().any(|refusal| refusal.path == path), "{rest}: {refused:?}");
        }
        for rest in [
            "isolation: untrusted\nsecrets: [{env_name: A, secret_uri: lantern.secret/llm/x}]\n",
            "isolation: trusted\nsecrets: [{env_name: A, secret_uri: lantern.secret/llm/x, deliver: env}]\n",
            "isolation: standard\nsecrets: [{env_name: A, secret_uri: lantern.secret/llm/x, deliver: env}]\n",
        ] {
            assert!(place(spec(rest), &with(&Backend::ALL), DEV).is_ok(), "{rest}");
        }
        let rest = "limits: {max_steps: 1, max_tokens: 1, max_cost_usd: 1}\nidempotent: true\nlabels: {a: b}\npreferred_regions: [eu]\nnetwork: allowlist\negress_rules: [{host: a.b}]\n";
        assert!(place(spec(rest), &with(&Backend::ALL), DEV).is_ok());
    }
}
