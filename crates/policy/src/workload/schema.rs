//! The names of a spec, and the JSON Schema that editors check one with.
//!
//! Invariant: the reader and the schema know the same names; a test compares them. The schema's file is
//! `docs/agent-spec.schema.json`.

/// The one version there is.
pub const API_VERSION: &str = "lantern.dev/v1";
/// The one kind there is.
pub const KIND: &str = "AgentSpec";

pub(super) const ENVELOPE: &[&str] = &["apiVersion", "kind", "metadata", "spec"];
pub(super) const METADATA: &[&str] = &["name", "labels"];
pub(super) const SPEC: &[&str] = &[
    "image_digest",
    "image",
    "isolation",
    "limits",
    "network",
    "egress_rules",
    "secrets",
    "labels",
    "preferred_regions",
    "idempotent",
    "restore_snapshot_id",
    "agent_version_id",
    "run_id",
    "command",
    "args",
    "env",
];
pub(super) const LIMITS: &[&str] =
    &["vcpu", "memory", "pids", "scratch_size", "timeout", "gpu", "max_steps", "max_tokens", "max_cost_usd"];
pub(super) const RULE: &[&str] = &["pattern", "http_methods", "ports", "rate_bps"];
pub(super) const SECRET: &[&str] = &["env_name", "secret_uri", "deliver"];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::super::read::camel;
    use super::super::{Isolation, Network};
    use super::*;

    fn published() -> Value {
        serde_json::from_str(include_str!("../../../../docs/agent-spec.schema.json")).unwrap()
    }

    #[test]
    fn the_published_schema_knows_the_same_names() {
        let schema = published();
        let spec = &schema["$defs"]["spec"];
        for (about, object, names) in [
            ("envelope", &schema, ENVELOPE),
            ("metadata", &schema["properties"]["metadata"], METADATA),
            ("spec", spec, SPEC),
            ("limits", &spec["properties"]["limits"], LIMITS),
            ("secret", &spec["properties"]["secrets"]["items"], SECRET),
            ("rule", &spec["properties"]["egress_rules"]["items"], RULE),
        ] {
            let known: BTreeSet<String> = object["properties"].as_object().unwrap().keys().cloned().collect();
            let mut want: BTreeSet<String> = names.iter().map(ToString::to_string).collect();
            want.extend(names.iter().map(|name| camel(name)));
            if about == "rule" {
                want.insert("host".to_owned());
            }
            assert_eq!(known, want, "{about}");
            assert_eq!(object["additionalProperties"], false, "{about}");
        }
    }

    #[test]
    fn the_published_schema_knows_the_same_words() {
        let schema = published();
        let words = |name: &str| -> Vec<String> {
            let words = schema["$defs"]["spec"]["properties"][name]["enum"].as_array().unwrap();
            words.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(words("isolation"), Isolation::ALL.map(Isolation::as_str));
        let networks =
            [Network::None, Network::Allowlist, Network::TenantVpc, Network::Open].map(Network::as_str);
        assert!(networks.iter().all(|word| words("network").contains(&(*word).to_owned())));
        assert_eq!(words("network").len(), networks.len() + 1, "and `allowlist`");
    }
}
