//! What was said in a run is removed on demand, by the command line and on both databases, and the journal still proves itself.

use lantern_store::testing::{Cluster, block_on};
use serde_json::{Value, json};

use super::api::Api;
use super::process::{Folder, Server, lantern};

const LOGIN: (&str, &str) = ("ada@example.com", "correct horse battery");
const SECRET: &str = "the eagle lands at noon";

fn asked(server: &Server, token: &str, args: &[&str]) -> Value {
    let mut command = lantern();
    command.args(["-o", "json"]).args(args);
    command.env("LANTERN_API_URL", &server.api).env("LANTERN_API_TOKEN", token);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Starts a run with a secret in it, small and large, removes what was said, and looks for it everywhere.
async fn redacted(server: &Server, api: &Api) -> String {
    let sum = json!({"tool": "calc", "arguments": {"expression": "1+1"}});
    api.agent("sum", json!({"program": "steps", "steps": [{"id": "sum", "kind": "tool", "data": sum}]}))
        .await;
    let run = api.run("sum", json!({"text": SECRET, "more": "x".repeat(100_000)})).await;
    assert_eq!(api.ended(&run).await["input"]["text"], SECRET);
    let kept = asked(server, &api.token, &["retention"]);
    assert_eq!(kept, json!({"content": "90d", "source": "server", "serverContent": "90d"}));
    let found = asked(server, &api.token, &["retention", "--dry-run"]);
    assert_eq!((&found["content"], &found["runs"]), (&json!("90d"), &json!(0)));
    let mine = asked(server, &api.token, &["retention", "--content", "30d"]);
    assert_eq!((&mine["content"], &mine["source"]), (&json!("30d"), &json!("tenant")));

    let shown = asked(server, &api.token, &["runs", "redact", &run, "--force"]);
    assert!(shown["contentRemovedAt"].is_string() && shown.get("input").is_none(), "{shown}");
    assert_eq!(shown["status"], "succeeded");
    let (_, events) = api.events(&run, None).await;
    assert!(events.len() > 3 && events.iter().all(|event| !event.data.contains(SECRET)));
    let (status, refused) = api.post(&format!("/v1/runs/{run}/replay"), &json!({})).await;
    assert_eq!((status, &refused["code"]), (409, &json!("content_removed")));
    run
}

fn file(folder: &Folder) -> std::path::PathBuf {
    let file = folder.path().join("lantern.toml");
    std::fs::write(&file, "[retention]\ncontent = \"90d\"").unwrap();
    file
}

fn blobs(folder: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.flatten().map(|entry| if entry.path().is_dir() { blobs(&entry.path()) } else { 1 }).sum()
}

#[test]
fn what_was_said_goes_from_both_databases() {
    block_on(async {
        let folder = Folder::new();
        let data = folder.path().join("data");
        let mut command = lantern();
        command.args(["serve", "-o", "json", "--listen", "127.0.0.1:0", "--config"]).arg(file(&folder));
        command.arg("--data-dir").arg(&data);
        command.env("LANTERN_ADMIN_EMAIL", LOGIN.0).env("LANTERN_ADMIN_PASSWORD", LOGIN.1);
        let server = Server::start(command);
        let api = Api::login(&server, LOGIN.0, LOGIN.1).await;
        redacted(&server, &api).await;
        assert_eq!(blobs(&data.join("blobs")), 0, "large bodies are gone");
        // Follows the chain of every run to the end that its row has.
        let backup = folder.path().join("whole.tar");
        let made = lantern()
            .args(["backup", "-o", "json", "--data-dir"])
            .arg(&data)
            .arg("--to")
            .arg(&backup)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        drop(server);

        let database = Cluster::shared().database().await;
        let options = database.options();
        let other = Folder::new();
        let mut command = lantern();
        command.args(["serve", "-o", "json", "--listen", "127.0.0.1:0", "--config"]).arg(file(&other));
        command.arg("--data-dir").arg(other.path().join("data"));
        command.env("LANTERN_ADMIN_EMAIL", LOGIN.0).env("LANTERN_ADMIN_PASSWORD", LOGIN.1);
        command.env("LANTERN_CREDENTIAL_KEY", "07".repeat(32));
        command
            .env("LANTERN_DATABASE_APP_URL", options.app_url.expose())
            .env("LANTERN_DATABASE_SYSTEM_URL", options.system_url.expose());
        let server = Server::start(command);
        let api = Api::login(&server, LOGIN.0, LOGIN.1).await;
        let run = redacted(&server, &api).await;
        let (status, _) = api.get(&format!("/v1/runs/{run}")).await;
        assert_eq!(status, 200);
        drop(server);
        database.discard().await;
    });
}
