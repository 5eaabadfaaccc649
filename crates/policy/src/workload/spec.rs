//! What a workload asks for. Made by [`read`](super::read) alone, so every value here is within its bounds.

use std::collections::BTreeMap;
use std::fmt;

use lantern_types::{Dur, MicroUsd, Reference};
use serde_json::{Value, json};

/// The contract's `AgentSpec`.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentSpec {
    /// `metadata.name`.
    pub name: Option<String>,
    /// Which image, by digest.
    pub image: Image,
    /// How far the code is trusted.
    pub isolation: Isolation,
    /// How much it may use.
    pub limits: Limits,
    /// Whom it may talk to.
    pub network: Network,
    /// Where to, when it may talk to some.
    pub egress: Vec<EgressRule>,
    /// What it may know.
    pub secrets: Vec<SecretRef>,
    /// `metadata.labels` and `spec.labels`.
    pub labels: BTreeMap<String, String>,
    /// Where it would rather run.
    pub preferred_regions: Vec<String>,
    /// Whether running it twice does no harm.
    pub idempotent: bool,
    /// A snapshot to go on from.
    pub restore_snapshot_id: Option<String>,
    /// The agent version that it is part of.
    pub agent_version_id: Option<String>,
    /// The run that it is part of.
    pub run_id: Option<String>,
    /// What to run, in place of the image's entry point.
    pub command: Vec<String>,
    /// Its arguments, in place of the image's.
    pub args: Vec<String>,
    /// Its environment, beside the image's.
    pub env: BTreeMap<String, String>,
}

/// An image by digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Where it comes from; may be empty.
    pub repository: String,
    /// The SHA-256 of its manifest, in lower-case hex.
    pub sha256: String,
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = if self.repository.is_empty() { "" } else { "@" };
        write!(f, "{}{at}sha256:{}", self.repository, self.sha256)
    }
}

/// How far the code is trusted, and so how strong its box must be. The numbers are the contract's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isolation {
    /// Our own code: a container on the shared kernel.
    Trusted = 1,
    /// The usual: a kernel of its own in user space.
    Standard = 2,
    /// Written by a model or a stranger: the same, single use, no secrets in its environment, no network unless listed.
    Untrusted = 3,
    /// Meant to do harm: a virtual machine that it shares with nobody.
    Hostile = 4,
    /// A WebAssembly component.
    Wasm = 5,
    /// A long-lived workplace.
    Devcontainer = 6,
}

impl Isolation {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Trusted, Self::Standard, Self::Untrusted, Self::Hostile, Self::Wasm, Self::Devcontainer];

    /// The contract's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::Standard => "standard",
            Self::Untrusted => "untrusted",
            Self::Hostile => "hostile",
            Self::Wasm => "wasm",
            Self::Devcontainer => "devcontainer",
        }
    }
}

/// How much a workload may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Thousandths of a processor.
    pub cpu_millis: u32,
    /// Bytes.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids: u32,
    /// Bytes that can be written, all in memory.
    pub scratch_bytes: u64,
    /// How long it may take.
    pub timeout: Dur,
    /// Graphics processors; 0 for none.
    pub gpus: u32,
    /// Durable steps.
    pub max_steps: Option<u64>,
    /// Tokens of models.
    pub max_tokens: Option<u64>,
    /// What models may cost.
    pub max_cost: Option<MicroUsd>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpu_millis: 1_000,
            memory_bytes: 512 << 20,
            pids: 128,
            scratch_bytes: 64 << 20,
            timeout: Dur::from_secs(300),
            gpus: 0,
            max_steps: None,
            max_tokens: None,
            max_cost: None,
        }
    }
}

/// Whom a workload may talk to. The numbers are the contract's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Nobody.
    None = 1,
    /// Whom its egress rules list.
    Allowlist = 2,
    /// The tenant's own network.
    TenantVpc = 3,
    /// Everybody.
    Open = 4,
}

impl Network {
    /// The contract's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Allowlist => "allowlist_domain",
            Self::TenantVpc => "tenant_vpc",
            Self::Open => "open",
        }
    }
}

/// Somewhere a workload may connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressRule {
    /// A name, `*.` and a name, or a block of addresses.
    pub pattern: String,
    /// Only these methods; any when empty.
    pub http_methods: Vec<String>,
    /// Only these ports; 80 and 443 when empty.
    pub ports: Vec<u16>,
    /// Bytes a second.
    pub rate_bps: Option<u64>,
}

/// A secret by reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRef {
    /// The name by which the workload asks for it: of its file, or of its variable.
    pub env_name: String,
    /// Where it is kept.
    pub reference: Reference,
    /// How the workload gets it.
    pub deliver: Deliver,
}

/// How a workload gets a secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deliver {
    /// As a file in memory, which its user alone can read.
    #[default]
    File,
    /// As a variable of its environment, which every program that it starts has too.
    Env,
}

impl Deliver {
    /// The word of a spec.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Env => "env",
        }
    }
}

impl AgentSpec {
    /// Whether a variable of its environment is a secret.
    pub fn keeps_secret(&self, variable: &str) -> bool {
        self.secrets.iter().any(|secret| secret.deliver == Deliver::Env && secret.env_name == variable)
    }

    /// The same as the contract's JSON, which reads back as the same spec.
    pub fn to_json(&self) -> Value {
        let limits = &self.limits;
        let rules = |rule: &EgressRule| {
            let (pattern, methods) = (&rule.pattern, &rule.http_methods);
            json!({ "pattern": pattern, "http_methods": methods, "ports": rule.ports, "rate_bps": rule.rate_bps })
        };
        let secret = |secret: &SecretRef| {
            let (name, uri) = (&secret.env_name, secret.reference.to_string());
            json!({ "env_name": name, "secret_uri": uri, "deliver": secret.deliver.as_str() })
        };
        let spec = json!({
            "image_digest": self.image.to_string(),
            "isolation": self.isolation.as_str(),
            "limits": {
                "vcpu": format!("{}m", limits.cpu_millis),
                "memory": limits.memory_bytes.to_string(),
                "pids": limits.pids,
                "scratch_size": limits.scratch_bytes.to_string(),
                "timeout": format!("{}ms", limits.timeout.millis()),
                "gpu": limits.gpus.to_string(),
                "max_steps": limits.max_steps,
                "max_tokens": limits.max_tokens,
                "max_cost_usd": limits.max_cost.map(|cost| cost.to_string().trim_start_matches('$').to_owned()),
            },
            "network": self.network.as_str(),
            "egress_rules": self.egress.iter().map(rules).collect::<Vec<_>>(),
            "secrets": self.secrets.iter().map(secret).collect::<Vec<_>>(),
            "preferred_regions": self.preferred_regions,
            "idempotent": self.idempotent,
            "restore_snapshot_id": self.restore_snapshot_id,
            "agent_version_id": self.agent_version_id,
            "run_id": self.run_id,
            "command": self.command,
            "args": self.args,
            "env": self.env,
        });
        let metadata = json!({ "name": self.name, "labels": self.labels });
        json!({ "apiVersion": super::schema::API_VERSION, "kind": super::schema::KIND, "metadata": metadata, "spec": spec })
    }
}
