//! The node of this process: boxes for other people's programs, where the configuration wants them.
//!
//! Invariant: what an earlier process left of its boxes is taken down before any run is taken up. Which boxes this machine can make is
//! found out when somebody first asks: a server whose tenants run no workloads makes none.

use std::path::{Path, absolute};
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue};
use lantern_control::{App, Load, Runtime};
use lantern_gateway::{Answered, Doors, Inside};
use lantern_net::{Client, Network, Reach};
use lantern_node::{Answer, Ask, Models, Node, Origin, Outside, Registries, Setup, StepAsk, Steps};
use lantern_policy::egress::Rule;
use lantern_policy::workload::Mode;
use lantern_sandbox::Machine;
use lantern_store::audit::Marks;
use lantern_store::{Db, InForce, Vault};
use lantern_types::edge::{Clock, IdGen, Tasks};
use lantern_types::step::Stepped;
use lantern_worker::Mail;

use super::advice::Advice;
use crate::env;

/// The file in the data folder that names the node.
const NAME: &str = "node";

/// What a node stands on.
pub(super) struct Ground<'a> {
    pub(super) db: &'a Db,
    pub(super) vault: &'a Vault,
    pub(super) marks: Marks,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) ids: &'a Arc<dyn IdGen>,
    pub(super) tasks: Arc<dyn Tasks>,
    pub(super) stop: lantern_net::Shutdown,
    pub(super) limits: &'a InForce,
    /// Networks that the operator opened.
    pub(super) opened: Arc<[Network]>,
    /// Registries that may be at private addresses.
    pub(super) registries: Vec<Origin>,
    /// The doors to models, once they are open.
    pub(super) doors: LateDoors,
    /// The API, once there is one.
    pub(super) app: LateApp,
}

/// Doors that open after the node did: no box is made before that.
pub(super) type LateDoors = Arc<OnceLock<Doors>>;
/// The same for the API.
pub(super) type LateApp = Arc<OnceLock<App>>;

/// The node on this data folder.
pub(super) async fn open(ground: Ground<'_>, dir: &Path, mode: Mode) -> Result<Arc<Node>> {
    let name = name(dir, &**ground.ids)?;
    let machine = Machine::new(lantern_sandbox::Setup {
        data_dir: absolute(dir).context("the data folder")?,
        mode,
        path: env::get(env::PATH).unwrap_or_default().into(),
        clock: ground.clock.clone(),
    });
    let setup = Setup {
        db: ground.db.clone(),
        sealer: ground.vault.sealer().clone(),
        marks: ground.marks,
        clock: ground.clock.clone(),
        tasks: ground.tasks,
        machine,
        mode,
        name,
        stop: ground.stop,
        mail: Mail {
            db: ground.db.clone(),
            vault: ground.vault.clone(),
            clock: ground.clock.clone(),
            ids: ground.ids.clone(),
            limits: ground.limits.clone(),
        },
        registries: Registries::new(
            Client::new().context("cannot ask registries for images")?,
            ground.registries,
        ),
        models: models(ground.doors),
        steps: steps(ground.app),
        ids: ground.ids.clone(),
        outside: Outside {
            reach: Rule { reach: Reach::Public, opened: ground.opened },
            resolve: Arc::new(|name| Box::pin(async move { lantern_net::dial::addresses(&name).await })),
        },
    };
    Node::open(setup).await.context("cannot set up the node of this server")
}

/// Model calls of programs, by the front doors.
fn models(doors: LateDoors) -> Models {
    Arc::new(move |ask: Ask| {
        let doors = doors.clone();
        Box::pin(async move {
            let Some(doors) = doors.get() else { return unopened() };
            let Ask { scope, agent, meter, method, path, headers, body, denied } = ask;
            let headers = headers.iter().filter_map(|(name, value)| {
                let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
                Some((name, HeaderValue::from_str(value).ok()?))
            });
            let headers: HeaderMap = headers.collect();
            let inside = Inside { scope, agent, meter, method, path, headers, body: body.into(), denied };
            answer(doors.inside(inside).await)
        })
    })
}

/// Steps of programs that are runs of their own.
fn steps(app: LateApp) -> Steps {
    Arc::new(move |ask: StepAsk| {
        let app = app.clone();
        Box::pin(async move {
            let Some(app) = app.get() else { return Stepped::Away };
            let StepAsk { scope, run, key, wanted } = ask;
            lantern_control::step(app, scope, (run, &key), wanted).await
        })
    })
}

fn answer(answered: Answered) -> Answer {
    let Answered { response, refused } = answered;
    let (parts, body) = response.into_parts();
    let reason = parts.status.canonical_reason().unwrap_or("Answered");
    let headers = parts
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())));
    Answer {
        status: format!("{} {reason}", parts.status.as_u16()),
        headers: headers.collect(),
        body: Box::pin(
            body.into_data_stream()
                .map(|piece| piece.map(|piece| piece.to_vec()).map_err(std::io::Error::other)),
        ),
        refused,
    }
}

fn unopened() -> Answer {
    let words = "the server is starting; ask again".to_owned();
    Answer {
        status: "503 Service Unavailable".to_owned(),
        headers: Vec::new(),
        body: Box::pin(futures_util::stream::empty()),
        refused: Some(words),
    }
}

/// What the API knows of it.
pub(super) fn runtime(node: &Arc<Node>, mode: Mode) -> Runtime {
    let (proved, images, used) = (node.clone(), node.clone(), node.clone());
    let (finds, runs) = (node.clone(), node.clone());
    Runtime {
        node: node.name().to_owned(),
        mode,
        capabilities: Arc::new(move || {
            let node = proved.clone();
            Box::pin(async move { node.capabilities().await })
        }),
        has_image: Arc::new(move |image| images.has_image(image)),
        find: Arc::new(move |wanted| {
            let node = finds.clone();
            Box::pin(async move { node.find(&wanted).await })
        }),
        exec: Arc::new(move |scope, run, exec| {
            let node = runs.clone();
            Box::pin(async move { node.exec(scope, run, exec).await })
        }),
        load: Arc::new(move || {
            let lantern_node::Load { free_cpu_millis, free_memory_bytes, running } = used.load();
            Load { free_cpu_millis, free_memory_bytes, running, pending: 0 }
        }),
    }
}

/// The name of the node on this folder, given to it once.
fn name(dir: &Path, ids: &dyn IdGen) -> Result<String> {
    let path = dir.join(NAME);
    let unusable = |error| {
        let what = format!("cannot use {}", path.display());
        anyhow::Error::new(error).context(Advice::new(
            "data_dir_unusable",
            what,
            "let the server read and write it",
        ))
    };
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(unusable(error)),
    }
    let mut bytes = [0; 8];
    ids.fill(&mut bytes);
    let name = format!("node-{:012x}", u64::from_be_bytes(bytes) >> 16);
    std::fs::write(&path, format!("{name}\n")).map_err(unusable)?;
    Ok(name)
}
