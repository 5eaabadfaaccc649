//! From a document to an [`AgentSpec`], or to everything that is wrong with it.
//!
//! Invariant: a name that is not in the tables of `schema.rs` is a problem, so nothing that somebody wrote is ignored.
//! Both `image_digest` and `imageDigest` are read, and not both at once.

use std::collections::BTreeMap;
use std::fmt;

use lantern_types::{Dur, MicroUsd, Reference, nearest};

use super::doc::{Node, What};
use super::registry::Wanted;
use super::schema::{API_VERSION, ENVELOPE, KIND, LIMITS, METADATA, RULE, SECRET, SPEC};
use super::spec::*;
use super::units;
use crate::network::Network as Block;

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1; 0 where there are none.
    pub line: usize,
    /// The field, such as `spec.limits.memory`; empty for the whole.
    pub path: String,
    /// In words that go on after the path.
    pub message: String,
}

impl Problem {
    pub(super) fn at(line: usize, path: &str, message: impl Into<String>) -> Self {
        Self { line, path: path.to_owned(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        let path = if self.path.is_empty() { "the spec" } else { &self.path };
        write!(f, "{path}: {}", self.message)
    }
}

/// Entries of a list or mapping.
const ENTRIES_MAX: usize = 64;
/// Bytes of one text.
const TEXT_MAX: usize = 4_096;
/// The longest time a workload may take.
const TIMEOUT_MAX: Dur = Dur::from_secs(24 * 3_600);
const CPU_MAX: u32 = 64_000;
const MEMORY: std::ops::RangeInclusive<u64> = 4 << 20..=256 << 30;
const PIDS: std::ops::RangeInclusive<u32> = 1..=4_096;
/// What a caller may not set, because the box or the loader of programs believes it.
const OURS: [&str; 2] = ["LANTERN_", "LD_"];
const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "all_proxy", "no_proxy", "ftp_proxy"];

const SET_BY_THE_BOX: &str =
    "is set by the box alone (LANTERN_*, LD_*, GLIBC_TUNABLES and the proxies' variables are)";

/// Whether a variable is the box's to set.
fn is_ours(name: &str) -> bool {
    OURS.iter().any(|prefix| name.starts_with(prefix))
        || PROXIES.contains(&name.to_ascii_lowercase().as_str())
        || name == "GLIBC_TUNABLES"
}

/// A spec as somebody asks for it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The spec. Where there is a tag, its image has a digest of zeros, which is no image's.
    pub spec: AgentSpec,
    /// The image, where it is named by a tag: its digest is to be found.
    pub tag: Option<Wanted>,
}

/// Reads a document, with or without its envelope. A tag names no image here.
pub fn read(node: &Node) -> Result<AgentSpec, Vec<Problem>> {
    match asked(node)? {
        Asked { spec, tag: None } => Ok(spec),
        Asked { .. } => {
            Err(vec![Problem::at(node.line, "image", "is a tag, which may change: name a digest")])
        }
    }
}

/// The same, of a spec that may name its image by a tag.
pub(super) fn asked(node: &Node) -> Result<Asked, Vec<Problem>> {
    let mut reader = Reader { problems: Vec::new(), tag: None };
    let spec = reader.document(node);
    match spec {
        Some(spec) if reader.problems.is_empty() => Ok(Asked { spec, tag: reader.tag }),
        _ => Err(reader.problems),
    }
}

struct Reader {
    problems: Vec<Problem>,
    tag: Option<Wanted>,
}

/// A mapping whose names are known.
struct Fields<'a> {
    path: String,
    line: usize,
    found: BTreeMap<&'static str, &'a Node>,
}

impl<'a> Fields<'a> {
    fn get(&self, name: &str) -> Option<(String, &'a Node)> {
        let node = self.found.get(name).filter(|node| node.what != What::Null)?;
        Some((join(&self.path, name), node))
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

impl Reader {
    fn problem(&mut self, node: &Node, path: &str, message: impl Into<String>) {
        self.problems.push(Problem::at(node.line, path, message));
    }

    fn document(&mut self, node: &Node) -> Option<AgentSpec> {
        let What::Map(map) = &node.what else {
            self.problem(node, "", format!("expected a mapping, got {}", node.kind()));
            return None;
        };
        if !map.iter().any(|(name, _)| name == "spec") {
            let fields = self.fields(node, "", SPEC)?;
            return self.spec(&fields, None, BTreeMap::new());
        }
        let envelope = self.fields(node, "", ENVELOPE)?;
        for (name, want) in [("apiVersion", API_VERSION), ("kind", KIND)] {
            match self.text(&envelope, name) {
                Some(text) if text != want => {
                    let (path, node) = envelope.get(name)?;
                    self.problem(node, &path, format!("is {text:?}; this reads {want:?}"));
                }
                _ => {}
            }
        }
        let (mut name, mut labels) = (None, BTreeMap::new());
        if let Some((path, node)) = envelope.get("metadata")
            && let Some(metadata) = self.fields(node, &path, METADATA)
        {
            name = self.text(&metadata, "name");
            labels = self.texts_by_name(&metadata, "labels");
        }
        let (path, node) = envelope.get("spec").or_else(|| {
            self.problem(node, "spec", "is required");
            None
        })?;
        let fields = self.fields(node, &path, SPEC)?;
        self.spec(&fields, name, labels)
    }

    fn spec(
        &mut self,
        fields: &Fields<'_>,
        name: Option<String>,
        mut labels: BTreeMap<String, String>,
    ) -> Option<AgentSpec> {
        let image = self.image(fields);
        for (label, value) in self.texts_by_name(fields, "labels") {
            if labels.get(&label).is_some_and(|other| *other != value)
                && let Some((path, node)) = fields.get("labels")
            {
                self.problem(node, &join(&path, &label), "is another in metadata.labels");
            }
            labels.insert(label, value);
        }
        let network = self.network(fields);
        let egress = self.egress(fields);
        if !egress.is_empty()
            && network != Network::Allowlist
            && let Some((path, node)) = fields.get("egress_rules")
        {
            let words = format!("only network: allowlist has rules, and this one's is {}", network.as_str());
            self.problem(node, &path, words);
        }
        let env = self.env(fields);
        Some(AgentSpec {
            name,
            isolation: self.isolation(fields),
            limits: self.limits(fields),
            network,
            egress,
            secrets: self.secrets(fields, &env),
            labels,
            preferred_regions: self.texts(fields, "preferred_regions"),
            idempotent: self.boolean(fields, "idempotent").unwrap_or(false),
            restore_snapshot_id: self.text(fields, "restore_snapshot_id").filter(|id| !id.is_empty()),
            agent_version_id: self.text(fields, "agent_version_id").filter(|id| !id.is_empty()),
            run_id: self.text(fields, "run_id").filter(|id| !id.is_empty()),
            command: self.texts(fields, "command"),
            args: self.texts(fields, "args"),
            env,
            image: image?,
        })
    }

    /// The names of a mapping, in either spelling; unknown and doubled ones are problems.
    fn fields<'a>(&mut self, node: &'a Node, path: &str, known: &[&'static str]) -> Option<Fields<'a>> {
        let What::Map(map) = &node.what else {
            self.problem(node, path, format!("expected a mapping, got {}", node.kind()));
            return None;
        };
        let mut found: BTreeMap<&'static str, &Node> = BTreeMap::new();
        for (name, value) in map {
            let here = join(path, name);
            let canonical = alias(known, name);
            let known_as =
                known.iter().copied().find(|known| *known == canonical || camel(known) == canonical);
            match known_as {
                None => {
                    let meant = nearest(name, known.iter().copied());
                    let hint = meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
                    let words = format!("is not known here{hint} (known: {})", known.join(", "));
                    self.problem(value, &here, words);
                }
                Some(known) if found.contains_key(known) => {
                    self.problem(value, &here, format!("is the same as {known}, which is there already"));
                }
                Some(known) => {
                    found.insert(known, value);
                }
            }
        }
        Some(Fields { path: path.to_owned(), line: node.line, found })
    }

    fn image(&mut self, fields: &Fields<'_>) -> Option<Image> {
        let expected = "expected a repository and a digest, such as hello@sha256: and 64 hex digits";
        let (path, node) = match (fields.get("image_digest"), fields.get("image")) {
            (Some(digest), None) => digest,
            (None, Some(image)) => return self.named_image(image, expected),
            (Some(_), Some((path, node))) => {
                self.problem(node, &path, "names the image, as image_digest does already");
                return None;
            }
            (None, None) => {
                let path = join(&fields.path, "image_digest");
                self.problems.push(Problem::at(fields.line, &path, "is required"));
                return None;
            }
        };
        self.digest(&path, node, expected)
    }

    /// An image by its digest, or by a tag of a registry.
    fn named_image(&mut self, (path, node): (String, &Node), expected: &str) -> Option<Image> {
        let text = self.text_of(node, &path)?;
        if text.contains("sha256:") {
            return self.digest(&path, node, expected);
        }
        let Some(wanted) = Wanted::tagged(&text) else {
            let words = "expected a registry, a repository and a tag, such as registry.example/team/hello:1.2; an image of this machine is \
                         named by its digest";
            self.problem(node, &path, words);
            return None;
        };
        let repository = wanted.repository.clone();
        self.tag = Some(wanted);
        Some(Image { repository, sha256: "0".repeat(64) })
    }

    fn digest(&mut self, path: &str, node: &Node, expected: &str) -> Option<Image> {
        let text = self.text_of(node, path)?;
        let parts = text.rsplit_once("sha256:").filter(|(repository, _)| {
            repository.is_empty() || (repository.len() > 1 && repository.ends_with('@'))
        });
        let hex = |sha: &str| sha.len() == 64 && sha.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let Some((repository, sha256)) = parts.filter(|(_, sha256)| hex(sha256)) else {
            let hint =
                if text.contains("sha256:") { "" } else { "; a tag may change, so it stands in `image`" };
            self.problem(node, path, format!("{expected}{hint}"));
            return None;
        };
        let repository = repository.trim_end_matches('@');
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"./_-:".contains(&byte);
        if repository.len() > 255 || !repository.bytes().all(plain) {
            self.problem(node, path, expected);
            return None;
        }
        Some(Image { repository: repository.to_owned(), sha256: sha256.to_owned() })
    }

    fn isolation(&mut self, fields: &Fields<'_>) -> Isolation {
        let words = Isolation::ALL.map(|class| (class.as_str(), class));
        self.word(fields, "isolation", &words).unwrap_or(Isolation::Standard)
    }

    fn network(&mut self, fields: &Fields<'_>) -> Network {
        let words = [
            ("none", Network::None),
            ("allowlist", Network::Allowlist),
            ("allowlist_domain", Network::Allowlist),
            ("tenant_vpc", Network::TenantVpc),
            ("open", Network::Open),
        ];
        self.word(fields, "network", &words).unwrap_or(Network::None)
    }

    fn word<T: Copy>(&mut self, fields: &Fields<'_>, name: &str, words: &[(&'static str, T)]) -> Option<T> {
        let (path, node) = fields.get(name)?;
        let text = self.text_of(node, &path)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.problem(node, &path, format!("is {text:?}; expected one of {}", known.join(", ")));
        }
        found
    }

    fn limits(&mut self, fields: &Fields<'_>) -> Limits {
        let mut limits = Limits::default();
        let Some((path, node)) = fields.get("limits") else { return limits };
        let Some(fields) = self.fields(node, &path, LIMITS) else { return limits };
        let cpu = |text: &str| units::millis_of_cpu(text).filter(|millis| *millis <= CPU_MAX);
        let amount = "expected a part of a processor up to 64, such as 500m or 2";
        limits.cpu_millis = self.amount(&fields, "vcpu", amount, cpu).unwrap_or(limits.cpu_millis);
        let memory = |text: &str| units::bytes(text).filter(|bytes| MEMORY.contains(bytes));
        let amount = "expected an amount from 4Mi to 256Gi, such as 256Mi";
        limits.memory_bytes = self.amount(&fields, "memory", amount, memory).unwrap_or(limits.memory_bytes);
        limits.scratch_bytes =
            self.amount(&fields, "scratch_size", amount, memory).unwrap_or(limits.scratch_bytes);
        let timeout = |text: &str| units::time(text).filter(|time| *time <= TIMEOUT_MAX);
        let amount = "expected a time up to 24h, such as 30s or 5m";
        limits.timeout = self.amount(&fields, "timeout", amount, timeout).unwrap_or(limits.timeout);
        let count = |most: u64| move |text: &str| text.parse::<u64>().ok().filter(|count| *count <= most);
        let pids = |text: &str| text.parse().ok().filter(|pids| PIDS.contains(pids));
        limits.pids = self
            .amount(&fields, "pids", "expected a whole number from 1 to 4096", pids)
            .unwrap_or(limits.pids);
        let gpus = self.amount(&fields, "gpu", "expected a whole number up to 64", count(64));
        limits.gpus = gpus.and_then(|gpus| u32::try_from(gpus).ok()).unwrap_or(0);
        let most = i64::MAX.unsigned_abs();
        limits.max_steps = self.amount(&fields, "max_steps", "expected a whole number", count(most));
        limits.max_tokens = self.amount(&fields, "max_tokens", "expected a whole number", count(most));
        let amount = "expected dollars with at most 6 decimals, such as 0.25";
        limits.max_cost = self.amount(&fields, "max_cost_usd", amount, MicroUsd::parse_usd);
        limits
    }

    /// A value that is written as text or as a number.
    fn amount<T>(
        &mut self,
        fields: &Fields<'_>,
        name: &str,
        expected: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let (path, node) = fields.get(name)?;
        let value = match &node.what {
            What::Text(text) | What::Number(text) => read(text),
            _ => None,
        };
        if value.is_none() {
            self.problem(node, &path, expected);
        }
        value
    }

    fn egress(&mut self, fields: &Fields<'_>) -> Vec<EgressRule> {
        let mut rules = Vec::new();
        for (path, node) in self.list(fields, "egress_rules") {
            let Some(fields) = self.fields(node, &path, RULE) else { continue };
            let pattern = self.pattern(&fields);
            let http_methods = self.texts(&fields, "http_methods");
            let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
            for wrong in http_methods.iter().filter(|method| !methods.contains(&method.as_str())) {
                let words = format!("is {wrong:?}; expected some of {}", methods.join(", "));
                self.problem(node, &join(&path, "http_methods"), words);
            }
            let ports = self.ports(&fields);
            let rate = |text: &str| text.parse::<u64>().ok().filter(|rate| *rate > 0);
            let rate_bps = self.amount(&fields, "rate_bps", "expected bytes a second, more than 0", rate);
            rules.extend(pattern.map(|pattern| EgressRule { pattern, http_methods, ports, rate_bps }));
        }
        rules
    }

    fn ports(&mut self, fields: &Fields<'_>) -> Vec<u16> {
        let mut ports = Vec::new();
        for (path, node) in self.list(fields, "ports") {
            let port = match &node.what {
                What::Number(text) | What::Text(text) => text.parse().ok().filter(|port| *port > 0),
                _ => None,
            };
            match port {
                Some(port) => ports.push(port),
                None => self.problem(node, &path, "expected a port, from 1 to 65535"),
            }
        }
        ports
    }

    fn pattern(&mut self, fields: &Fields<'_>) -> Option<String> {
        let Some((path, node)) = fields.get("pattern") else {
            self.problems.push(Problem::at(fields.line, &join(&fields.path, "pattern"), "is required"));
            return None;
        };
        let text = self.text_of(node, &path)?.to_ascii_lowercase();
        let name = text.strip_prefix("*.").unwrap_or(&text);
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        // Addresses look like names of digits, and only whole blocks are taken.
        let numeric =
            name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        let is_name = name.len() <= 253 && !numeric && name.split('.').all(label);
        if is_name || text.parse::<Block>().is_ok() {
            return Some(text);
        }
        self.problem(
            node,
            &path,
            "expected a name, such as api.example.com or *.example.com, or a block of addresses, such as 203.0.113.0/24",
        );
        None
    }

    fn secrets(&mut self, fields: &Fields<'_>, env: &BTreeMap<String, String>) -> Vec<SecretRef> {
        let mut secrets: Vec<SecretRef> = Vec::new();
        for (path, node) in self.list(fields, "secrets") {
            let Some(fields) = self.fields(node, &path, SECRET) else { continue };
            let (Some(env_name), Some(secret_uri)) =
                (self.text(&fields, "env_name"), self.text(&fields, "secret_uri"))
            else {
                self.problem(node, &path, "expected env_name and secret_uri");
                continue;
            };
            let words = [("file", Deliver::File), ("env", Deliver::Env)];
            let deliver = self.word(&fields, "deliver", &words).unwrap_or_default();
            if !is_variable(&env_name) {
                self.problem(
                    node,
                    &join(&path, "env_name"),
                    "is no name of a variable: letters, digits and _",
                );
            } else if is_ours(&env_name) {
                self.problem(node, &join(&path, "env_name"), SET_BY_THE_BOX);
            } else if secrets.iter().any(|secret| secret.env_name == env_name) {
                self.problem(node, &path, format!("{env_name} is there already"));
            } else if deliver == Deliver::Env && env.contains_key(&env_name) {
                self.problem(node, &path, format!("{env_name} is in env already"));
            }
            match Reference::parse(&secret_uri) {
                Ok(reference) => secrets.push(SecretRef { env_name, reference, deliver }),
                Err(invalid) => self.problem(node, &join(&path, "secret_uri"), invalid.to_string()),
            }
        }
        secrets
    }

    fn env(&mut self, fields: &Fields<'_>) -> BTreeMap<String, String> {
        let env = self.texts_by_name(fields, "env");
        let Some((path, node)) = fields.get("env") else { return env };
        for (name, value) in &env {
            let here = join(&path, name);
            if !is_variable(name) {
                self.problem(node, &here, "is no name of a variable: letters, digits and _");
            } else if is_ours(name) {
                self.problem(node, &here, SET_BY_THE_BOX);
            } else if Reference::is_meant(value) {
                self.problem(
                    node,
                    &here,
                    "is a reference to a secret, which belongs in secrets, with deliver: env",
                );
            }
        }
        env
    }

    fn text(&mut self, fields: &Fields<'_>, name: &str) -> Option<String> {
        let (path, node) = fields.get(name)?;
        self.text_of(node, &path)
    }

    fn text_of(&mut self, node: &Node, path: &str) -> Option<String> {
        let What::Text(text) = &node.what else {
            self.problem(node, path, format!("expected text, got {}; put it in quotes", node.kind()));
            return None;
        };
        if text.len() > TEXT_MAX || text.contains('\0') {
            self.problem(node, path, format!("expected at most {TEXT_MAX} bytes without NUL"));
            return None;
        }
        Some(text.clone())
    }

    fn boolean(&mut self, fields: &Fields<'_>, name: &str) -> Option<bool> {
        let (path, node) = fields.get(name)?;
        let What::Bool(value) = node.what else {
            self.problem(node, &path, format!("expected true or false, got {}", node.kind()));
            return None;
        };
        Some(value)
    }

    fn list<'a>(&mut self, fields: &Fields<'a>, name: &str) -> Vec<(String, &'a Node)> {
        let Some((path, node)) = fields.get(name) else { return Vec::new() };
        match &node.what {
            What::List(list) if list.len() <= ENTRIES_MAX => {
                list.iter().enumerate().map(|(n, node)| (format!("{path}[{n}]"), node)).collect()
            }
            _ => {
                let words = format!("expected a list of at most {ENTRIES_MAX}, got {}", node.kind());
                self.problem(node, &path, words);
                Vec::new()
            }
        }
    }

    fn texts(&mut self, fields: &Fields<'_>, name: &str) -> Vec<String> {
        let list = self.list(fields, name);
        list.into_iter().filter_map(|(path, node)| self.text_of(node, &path)).collect()
    }

    fn texts_by_name(&mut self, fields: &Fields<'_>, name: &str) -> BTreeMap<String, String> {
        let Some((path, node)) = fields.get(name) else { return BTreeMap::new() };
        match &node.what {
            What::Map(map) if map.len() <= ENTRIES_MAX => {
                let mut texts = BTreeMap::new();
                for (name, node) in map {
                    let here = join(&path, name);
                    if name.is_empty() || name.len() > 128 || name.contains('\0') {
                        self.problem(node, &here, "has a name that is empty or longer than 128 bytes");
                    }
                    texts.extend(self.text_of(node, &here).map(|text| (name.clone(), text)));
                }
                texts
            }
            _ => {
                let words = format!("expected a mapping of at most {ENTRIES_MAX}, got {}", node.kind());
                self.problem(node, &path, words);
                BTreeMap::new()
            }
        }
    }
}

/// Other names that the contract's examples use.
fn alias<'a>(known: &[&'static str], name: &'a str) -> &'a str {
    if name == "host" && known.contains(&"pattern") { "pattern" } else { name }
}

fn is_variable(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
}

/// `image_digest` as `imageDigest`.
pub(super) fn camel(snake: &str) -> String {
    let mut parts = snake.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut name, part| {
        let mut letters = part.chars();
        name.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        name.push_str(letters.as_str());
        name
    })
}

#[cfg(test)]
mod tests {
    use super::super::read_text;
    use super::*;

    const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

    fn flat(rest: &str) -> Result<AgentSpec, Vec<Problem>> {
        read_text(&format!("image_digest: a@{DIGEST}\n{rest}"))
    }

    #[test]
    fn the_contracts_spec_reads_as_it_is_and_reads_back() {
        let text = include_str!("../../tests/golden/workload/my-agent.yaml");
        let spec = read_text(text).unwrap();
        assert_eq!(spec.name.as_deref(), Some("my-agent"));
        assert_eq!(spec.isolation, Isolation::Untrusted);
        assert_eq!(spec.limits.cpu_millis, 500);
        assert_eq!(spec.limits.max_cost, MicroUsd::parse_usd("0.25"));
        assert_eq!(spec.egress[0].pattern, "*.wikipedia.org");
        assert_eq!(spec.egress[1].pattern, "api.example.com");
        let json = spec.to_json();
        assert_eq!(read(&Node::of_json(&json)), Ok(spec), "{json:#}");
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/golden/workload/my-agent.json")).unwrap();
        assert_eq!(json, golden);
    }

    #[test]
    fn both_spellings_and_both_forms_read_the_same() {
        let flat_snake = flat("network: none\nlimits: {scratch_size: 8Mi, max_cost_usd: 1}\n").unwrap();
        let camel = format!(
            r#"{{"imageDigest": "a@{DIGEST}", "network": "none", "limits": {{"scratchSize": "8Mi", "maxCostUsd": 1}}}}"#
        );
        assert_eq!(read_text(&camel), Ok(flat_snake.clone()));
        let whole = format!(
            "apiVersion: lantern.dev/v1\nkind: AgentSpec\nspec:\n  image_digest: a@{DIGEST}\n  limits: {{scratch_size: 8Mi, max_cost_usd: '1.00'}}\n"
        );
        assert_eq!(read_text(&whole), Ok(flat_snake));
    }

    #[test]
    fn the_defaults_are_the_strict_ones() {
        let spec = flat("").unwrap();
        assert_eq!(
            (spec.isolation, spec.network, spec.limits),
            (Isolation::Standard, Network::None, Limits::default())
        );
    }

    #[test]
    fn every_problem_says_where_it_is_and_what_is_allowed() {
        for (rest, line, path, words) in [
            (
                "isolation: harmless\n",
                2,
                "isolation",
                "expected one of trusted, standard, untrusted, hostile, wasm, devcontainer",
            ),
            ("isolation: Trusted\n", 2, "isolation", "expected one of"),
            (
                "network: internet\n",
                2,
                "network",
                "expected one of none, allowlist, allowlist_domain, tenant_vpc, open",
            ),
            ("\nlimits:\n  memory: 1.5Gi\n", 4, "limits.memory", "from 4Mi to 256Gi"),
            ("limits: {vcpu: 0}\n", 2, "limits.vcpu", "such as 500m"),
            ("limits: {timeout: 48h}\n", 2, "limits.timeout", "up to 24h"),
            ("limits: {pids: 5000}\n", 2, "limits.pids", "from 1 to 4096"),
            ("limits: {max_cost_usd: 0.1234567}\n", 2, "limits.max_cost_usd", "6 decimals"),
            ("limits: {memoy: 1Gi}\n", 2, "limits.memoy", "did you mean memory?"),
            ("privileged: true\n", 2, "privileged", "is not known here"),
            ("imageDigest: b\n", 2, "imageDigest", "is the same as image_digest"),
            ("network: open\negress_rules: [{pattern: a.b}]\n", 3, "egress_rules", "only network: allowlist"),
            (
                "network: allowlist\negress_rules: [{pattern: 'http://a'}]\n",
                3,
                "egress_rules[0].pattern",
                "expected a name",
            ),
            (
                "network: allowlist\negress_rules: [{pattern: 10.1.2.3/8}]\n",
                3,
                "egress_rules[0].pattern",
                "block of addresses",
            ),
            (
                "network: allowlist\negress_rules: [{pattern: 0x7f.1}]\n",
                3,
                "egress_rules[0].pattern",
                "expected a name",
            ),
            (
                "network: allowlist\negress_rules: [{pattern: '*'}]\n",
                3,
                "egress_rules[0].pattern",
                "expected a name",
            ),
            (
                "network: allowlist\negress_rules: [{host: a.b, http_methods: [get]}]\n",
                3,
                "egress_rules[0].http_methods",
                "expected some of GET",
            ),
            ("env: {LD_PRELOAD: /x}\n", 2, "env.LD_PRELOAD", "set by the box alone"),
            ("env: {LANTERN_VM_ID: x}\n", 2, "env.LANTERN_VM_ID", "set by the box alone"),
            ("env: {https_proxy: x}\n", 2, "env.https_proxy", "set by the box alone"),
            ("env: {GLIBC_TUNABLES: x}\n", 2, "env.GLIBC_TUNABLES", "set by the box alone"),
            ("env: {'A=B': x}\n", 2, "env.A=B", "no name of a variable"),
            ("env: {A: 1}\n", 2, "env.A", "expected text, got a number"),
            (
                "secrets: [{env_name: A, secret_uri: file:///etc/shadow}]\n",
                2,
                "secrets[0].secret_uri",
                "expected a reference such as lantern.secret://tenant/NAME",
            ),
            (
                "secrets: [{env_name: A, secret_uri: lantern.secret/}]\n",
                2,
                "secrets[0].secret_uri",
                "a reference",
            ),
            (
                "secrets: [{env_name: A/B, secret_uri: lantern.secret/llm/x}]\n",
                2,
                "secrets[0].env_name",
                "no name",
            ),
            (
                "secrets: [{env_name: LD_PRELOAD, secret_uri: lantern.secret/llm/x}]\n",
                2,
                "secrets[0].env_name",
                "set by the box alone",
            ),
            (
                "secrets: [{env_name: A, secret_uri: lantern.secret/llm/x, deliver: disk}]\n",
                2,
                "secrets[0].deliver",
                "expected one of file, env",
            ),
            ("env: {A: 'lantern.secret://tenant/x'}\n", 2, "env.A", "belongs in secrets"),
            (
                "env: {A: x}\nsecrets: [{env_name: A, secret_uri: lantern.secret/llm/x, deliver: env}]\n",
                3,
                "secrets[0]",
                "A is in env already",
            ),
            ("command: run\n", 2, "command", "expected a list"),
            ("idempotent: maybe\n", 2, "idempotent", "true or false"),
            ("labels: [a]\n", 2, "labels", "expected a mapping"),
        ] {
            let problems = flat(rest).unwrap_err();
            let found =
                problems.iter().any(|p| p.line == line && p.path == path && p.message.contains(words));
            assert!(found, "{rest}: {problems:?}");
        }
        for (text, words) in [
            ("network: none\n", "image_digest: is required"),
            ("image_digest: a:latest\n", "a tag may change"),
            ("image: registry.example/a:1\n", "is a tag, which may change"),
            ("image: a:1\n", "expected a registry"),
            ("image: registry.example/a@sha256:abc\n", "64 hex digits"),
            ("image: registry.example/a:1\nimage_digest: a:1\n", "as image_digest does already"),
            ("image_digest: a@sha256:abc\n", "64 hex digits"),
            (
                "image_digest: 'a b@sha256:0000000000000000000000000000000000000000000000000000000000000000'\n",
                "expected a repository",
            ),
            ("apiVersion: lantern.dev/v2\nkind: AgentSpec\nspec: {}\n", "this reads \"lantern.dev/v1\""),
            ("apiVersion: lantern.dev/v1\nkind: Job\nspec: {}\n", "this reads \"AgentSpec\""),
            ("- a\n", "expected a mapping, got a list"),
            ("spec: 3\n", "spec: expected a mapping"),
        ] {
            let problems = read_text(text).unwrap_err();
            let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
            assert!(said.iter().any(|said| said.contains(words)), "{text}: {said:?}");
        }
    }

    #[test]
    fn a_tag_is_kept_apart_until_its_digest_is_known() {
        let asked = crate::workload::read_asked("image: registry.example/a:1\n").unwrap();
        assert_eq!(asked.tag.map(|tag| tag.to_string()).as_deref(), Some("registry.example/a:1"));
        assert_eq!(asked.spec.image.repository, "registry.example/a");
        let digest = format!("registry.example/a@sha256:{}", "a".repeat(64));
        for name in ["image", "image_digest", "imageDigest"] {
            let asked = crate::workload::read_asked(&format!("{name}: {digest}\n")).unwrap();
            assert!(asked.tag.is_none() && asked.spec.image.to_string() == digest, "{name}");
        }
    }

    #[test]
    fn a_pid_limit_of_nothing_is_refused() {
        assert!(flat("limits: {pids: 0}\n").is_err());
    }
}
