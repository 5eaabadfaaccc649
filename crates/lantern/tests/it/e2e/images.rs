//! Images from a registry, by the real binary and in a real box: by tag and by digest, and what becomes of one that lies.
//!
//! Needs root and a runtime: compiled with the feature `boxes` alone.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::process::{Folder, Server, lantern};
use super::workloads::{left, odd_image};
use crate::cli_fake::{Answer, Done, Fake, User};

const LOGIN: (&str, &str) = ("ada@example.com", "correct horse battery");

/// A registry that has the odd program as `team/odd:1`, and a server that never saw it.
struct House {
    folder: Folder,
    server: Server,
    user: User,
    registry: Fake,
    /// The digest of its manifest.
    sha256: String,
    /// Whether the registry lies about layers.
    lies: Arc<AtomicBool>,
}

fn house() -> House {
    let folder = Folder::new();
    let theirs = folder.path().join("theirs");
    let image = odd_image(&theirs);
    let sha256 = image.split_once("sha256:").unwrap().1.to_owned();
    let (blobs, manifest) = (theirs.join("images/blobs/sha256"), sha256.clone());
    let lies = Arc::new(AtomicBool::new(false));
    let liar = lies.clone();
    let registry = Fake::start(move |seen| {
        let path = seen.line.strip_prefix("GET /v2/team/odd/").unwrap_or_default();
        let file: Option<PathBuf> = match path.split_once('/') {
            Some(("manifests", "1")) => Some(blobs.join(&manifest)),
            Some((_, digest)) => digest.strip_prefix("sha256:").map(|digest| blobs.join(digest)),
            None => None,
        };
        let Some(mut bytes) = file.and_then(|file| std::fs::read(file).ok()) else {
            return Answer::Json(404, json!({}));
        };
        if liar.load(Ordering::SeqCst) && bytes.len() > 10_000 {
            bytes[9_000] ^= 1;
        }
        Answer::Bytes(bytes)
    });
    let file = folder.path().join("lantern.toml");
    let config = format!(
        "[server]\nworkloads = true\nprivate_registries = [\"http://127.0.0.1:{}\"]\n",
        registry.port
    );
    std::fs::write(&file, config).unwrap();
    let mut command = lantern();
    command.args(["serve", "-o", "json", "--listen", "127.0.0.1:0", "--config"]).arg(file);
    command.arg("--data-dir").arg(folder.path().join("data"));
    command.env("LANTERN_ADMIN_EMAIL", LOGIN.0).env("LANTERN_ADMIN_PASSWORD", LOGIN.1);
    let server = Server::start(command);
    let user = User::new().with("LANTERN_API_URL", &server.api);
    user.run(&["login", "--email", LOGIN.0, "--password", LOGIN.1]).ok();
    House { folder, server, user, registry, sha256, lies }
}

impl House {
    fn run(&self, image: &str, isolation: &str) -> Done {
        let text = format!("spec:\n  {image}\n  isolation: {isolation}\n  args: [exit, \"7\"]\n");
        let spec = self.user.file("spec.yaml", text);
        self.user.run(&["run", &spec])
    }

    fn repository(&self) -> String {
        format!("127.0.0.1:{}/team/odd", self.registry.port)
    }

    /// How often the registry was asked for blobs.
    fn blobs(&self) -> usize {
        self.registry.lines().iter().filter(|line| line.contains("/blobs/")).count()
    }
}

#[test]
fn an_image_of_a_registry_runs_by_its_tag_and_by_its_digest() {
    let house = house();
    let tag = format!("image: {}:1", house.repository());
    let done = house.run(&tag, "trusted");
    assert_eq!(done.code, 7, "{done:?}");
    let fetched = house.blobs();
    assert_eq!(fetched, 2, "its configuration and its layer");
    let listed: Value = serde_json::from_str(&house.user.run(&["vm", "list", "-o", "json"]).ok()).unwrap();
    let digest = format!("{}@sha256:{}", house.repository(), house.sha256);
    assert_eq!(listed[0]["spec"]["spec"]["image_digest"], digest, "the run names what it ran");
    // In another box, and without a word to the registry about what is here.
    let done = house.run(&format!("image_digest: {digest}"), "untrusted");
    assert_eq!(done.code, 7, "{done:?}");
    assert_eq!(house.blobs(), fetched);
    let missing = house.run(&format!("image: {}:2", house.repository()), "trusted");
    assert!(missing.code != 0 && missing.err.contains("no such image"), "{missing:?}");
    assert!(house.server.stop().success());
    assert_eq!(left(&house.folder.path().join("data")), BTreeSet::new());
}

#[test]
fn an_image_that_is_not_what_its_digest_says_gets_no_box() {
    let house = house();
    house.lies.store(true, Ordering::SeqCst);
    let tag = format!("image: {}:1", house.repository());
    let done = house.run(&tag, "trusted");
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.err.contains("not what its digest says"), "{done:?}");
    let incoming = house.folder.path().join("data/images/incoming");
    assert_eq!(std::fs::read_dir(incoming).map_or(0, Iterator::count), 0);
    // Once it keeps to the truth, the same image runs.
    house.lies.store(false, Ordering::SeqCst);
    assert_eq!(house.run(&tag, "trusted").code, 7);
    // A registry on this machine that nobody listed is not asked.
    let other = Fake::start(|_| Answer::Json(200, json!({})));
    let refused = house.run(&format!("image: 127.0.0.1:{}/team/odd:1", other.port), "trusted");
    assert!(refused.code != 0 && refused.err.contains("127.0.0.1"), "{refused:?}");
    assert!(other.lines().is_empty());
}
