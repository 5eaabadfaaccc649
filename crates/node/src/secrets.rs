//! The secrets of a workload: looked up when its box is about to be made, and told before it is.
//!
//! Invariant: a box is made with every secret that its spec lists or not at all, and not before its run's journal and the tenant's
//! audit log say which version of which secret it is handed. Neither says a value.

use lantern_policy::Scope;
use lantern_policy::workload::{AgentSpec, Deliver, SecretRef};
use lantern_sandbox::Handed;
use lantern_store::audit::{self, Entry};
use lantern_store::secrets::{self, Found};
use lantern_types::{Failure, Reference, RequestId, RunId};
use serde_json::{Value, json};

use crate::Node;
use crate::tool::away;

/// Under which name the run is told.
const TOLD: &str = "lantern:secret";
const ACTION: &str = "secrets.vend";

/// A secret that was found, and what is told of it.
pub(crate) struct Vended {
    pub(crate) handed: Handed,
    told: Value,
    resource: String,
}

impl Vended {
    /// What its log says.
    pub(crate) fn line(&self) -> String {
        let word = |name: &str| self.told.get(name).and_then(Value::as_str).unwrap_or_default();
        let version = self.told.get("version").and_then(Value::as_i64);
        let version = version.map(|version| format!(", version {version}")).unwrap_or_default();
        format!("secret handed: {}: {}{version}, as {}", word("envName"), word("secretUri"), word("deliver"))
    }
}

/// Every secret that a spec lists, or why the workload is refused.
pub(crate) async fn find(
    node: &Node,
    (scope, run): (Scope, RunId),
    spec: &AgentSpec,
) -> Result<Vec<Vended>, Failure> {
    let mut found = Vec::with_capacity(spec.secrets.len());
    for (n, asked) in spec.secrets.iter().enumerate() {
        match one(node, scope, asked).await? {
            Ok(vended) => found.push(vended),
            Err((code, words)) => {
                let resource = resource(&asked.reference, None);
                let refused = entry(node, run, resource, ("refused", Some(code)));
                log(node, scope, vec![refused]).await.map_err(away)?;
                return Err(Failure::refused(code, format!("secrets[{n}]: {}: {words}", asked.env_name)));
            }
        }
    }
    Ok(found)
}

type Refused = (&'static str, String);

async fn one(node: &Node, scope: Scope, asked: &SecretRef) -> Result<Result<Vended, Refused>, Failure> {
    let SecretRef { env_name, reference, deliver } = asked;
    let Found { value, name, version } = match secrets::resolve(&node.setup.sealer, scope, reference).await {
        Ok(Some(found)) => found,
        Ok(None) => {
            let words = format!("{reference} leads to no secret with a version that is enabled");
            return Ok(Err(("secret_not_found", words)));
        }
        Err(lantern_store::Error::Sealed(why)) => {
            return Ok(Err(("secret_unreadable", format!("{reference} cannot be opened: {why}"))));
        }
        Err(error) => return Err(away(error)),
    };
    if *deliver == Deliver::Env && value.expose().contains('\0') {
        return Ok(Err(("secret_unreadable", format!("{reference} holds a NUL, which no variable can"))));
    }
    let secret = name.as_ref().map(ToString::to_string);
    let told = json!({
        "envName": env_name, "secretUri": reference.to_string(), "secret": secret, "version": version,
        "deliver": deliver.as_str(),
    });
    let leads = name.map_or_else(|| reference.clone(), Reference::to);
    let resource = resource(&leads, version);
    Ok(Ok(Vended { handed: Handed { name: env_name.clone(), value, deliver: *deliver }, told, resource }))
}

/// The path of what a reference leads to.
fn resource(reference: &Reference, version: Option<i64>) -> String {
    let version = version.map(|version| format!("/versions/{version}")).unwrap_or_default();
    match reference {
        Reference::Secret { name, .. } => format!("/v1/secrets/{name}{version}"),
        Reference::Provider(provider) => format!("/v1/llm-providers/{provider}"),
        Reference::Connector { install, .. } => format!("/v1/connectors/{install}"),
    }
}

/// Tells the run and the audit log what its box is handed. In words why it may not be, when one of them cannot be told.
pub(crate) async fn tell(node: &Node, to: (Scope, RunId), vended: &[Vended]) -> Result<(), String> {
    let (scope, run) = to;
    let entries: Vec<Entry> =
        vended.iter().map(|vended| entry(node, run, vended.resource.clone(), ("succeeded", None))).collect();
    log(node, scope, entries).await.map_err(|error| {
        tracing::warn!(%run, %error, "that a workload is handed its secrets was not logged");
        "that it is handed its secrets could not be written into the audit log".to_owned()
    })?;
    for vended in vended {
        let told = node.setup.mail.tell(to, (TOLD, &vended.told.to_string()), vended.told.clone()).await;
        if !told.as_ref().is_ok_and(|told| *told) {
            tracing::warn!(%run, ?told, "a run was not told which secrets its box is handed");
            return Err("its run could not be told which secrets it is handed".to_owned());
        }
    }
    Ok(())
}

async fn log(node: &Node, scope: Scope, entries: Vec<Entry>) -> lantern_store::Result<()> {
    match entries.as_slice() {
        [] => Ok(()),
        entries => audit::append(&node.setup.db, scope, &node.setup.marks, entries).await,
    }
}

/// An entry for a workload: its principal is the run.
fn entry(node: &Node, run: RunId, resource: String, (outcome, code): (&str, Option<&str>)) -> Entry {
    Entry {
        at: node.setup.clock.now(),
        actor: "workload".to_owned(),
        principal: Some(run.uuid()),
        action: ACTION.to_owned(),
        resource,
        outcome: outcome.to_owned(),
        status: 0,
        code: code.map(str::to_owned),
        times: 1,
        before: None,
        after: None,
        request: RequestId::from_uuid(node.setup.ids.uuid()),
        source: None,
    }
}
