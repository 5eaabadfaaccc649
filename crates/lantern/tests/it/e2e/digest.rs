//! The main job on real input: this repository's own history, by the commands of the README.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::process::{Folder, Server, lantern};

struct Shell<'a> {
    server: &'a Server,
    home: &'a Folder,
}

impl Shell<'_> {
    fn run(&self, args: &[&str]) -> Output {
        let credentials = self.home.path().join("credentials.json");
        lantern()
            .args(args)
            .env("LANTERN_API_URL", &self.server.api)
            .env("LANTERN_CREDENTIALS", credentials)
            .env("HOME", self.home.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {words}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_digest_of_this_repositorys_own_history() {
    let history = Command::new("git")
        .args(["log", "-p", "-n", "8", "--no-merges", "--no-color"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(history.status.success() && history.stdout.len() > 1_000, "a checkout with its history");
    let (folder, home) = (Folder::new(), Folder::new());
    let input = home.path().join("history.txt");
    // The newest part, within the limit of one input.
    let text = &history.stdout[..history.stdout.len().min(1 << 20)];
    std::fs::write(&input, text).unwrap();
    let server = Server::dev(folder.path());
    let shell = Shell { server: &server, home: &home };
    shell.ok(&["login", "--email", "admin@lantern.dev", "--password", "lantern"]);
    let file = root().join("examples/digest/agent.json");
    shell.ok(&["agents", "create", "--file", file.to_str().unwrap()]);
    let asked = format!("@{}", input.display());
    let followed = shell.ok(&["runs", "create", "--agent", "digest", "--input", &asked, "--follow"]);
    assert!(followed.contains("calc") && followed.contains("offline model"), "{followed}");
    let list = shell.ok(&["runs", "list", "--output", "json"]);
    let runs: serde_json::Value = serde_json::from_str(&list).unwrap();
    let id = runs[0]["id"].as_str().unwrap();
    assert_eq!(runs[0]["status"], "succeeded");
    let logs = shell.ok(&["logs", id]);
    let calls = logs.matches("step_completed").count();
    assert!(calls >= 3, "a tool call for each changed area and a model turn around each: {logs}");
}
