//! What an operator relies on: the doors that the file opens.

use serde_json::{Value, json};

use super::api::Api;
use super::process::{Folder, Server, lantern};

/// `lantern serve` with this file.
fn serve(folder: &Folder, config: &str) -> Server {
    let file = folder.path().join("lantern.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = lantern();
    command.args(["serve", "-o", "json", "--listen", "127.0.0.1:0", "--config"]).arg(file);
    command.arg("--data-dir").arg(folder.path().join("data"));
    command
        .env("LANTERN_ADMIN_EMAIL", "ada@example.com")
        .env("LANTERN_ADMIN_PASSWORD", "correct horse battery");
    Server::start(command)
}

/// What comes of fetching `url` in a run.
async fn fetch(api: &Api, url: &str) -> Value {
    let page = json!({"tool": "http.fetch", "arguments": {"url": url}});
    let steps = json!([{"id": "page", "kind": "tool", "data": page}]);
    api.agent("reader", json!({"program": "steps", "steps": steps})).await;
    let run = api.run("reader", json!({})).await;
    api.ended(&run).await
}

#[tokio::test]
async fn tools_reach_the_private_networks_that_the_file_lists() {
    for (config, host, open) in [
        ("", "127.0.0.1", false),
        ("[models]\nprivate_addresses = true", "127.0.0.1", false),
        ("[tools]\nprivate_addresses = [\"127.0.0.1\"]", "127.0.0.1", true),
        ("[tools]\nprivate_addresses = [\"127.0.0.1\"]", "127.0.0.2", false),
        ("[tools]\nprivate_addresses = [\"0.0.0.0/0\", \"::/0\"]", "169.254.169.254", false),
    ] {
        let folder = Folder::new();
        let server = serve(&folder, config);
        let api = Api::login(&server, "ada@example.com", "correct horse battery").await;
        let port = server.api.rsplit(':').next().unwrap();
        let run = fetch(&api, &format!("http://{host}:{port}/healthz")).await.to_string();
        assert_eq!(run.contains("\"succeeded\""), open, "{config} {host}: {run}");
        assert_eq!(run.contains("egress_denied"), !open, "{config} {host}: {run}");
    }
}
