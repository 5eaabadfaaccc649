//! What an operator relies on: the doors that the file opens, and what `migrate` answers.

use lantern_store::testing::{Cluster, block_on};
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

#[test]
fn migrate_answers_programs_with_one_object() {
    block_on(async {
        let database = Cluster::shared().empty_database().await;
        let url = database.owner_url();
        let migrate = |args: &[&str], env: &[(&str, &str)]| {
            let mut command = lantern();
            command.args(["migrate", "-o", "json"]).args(args).envs(env.iter().copied());
            command.output().unwrap()
        };
        let owner = ("LANTERN_DATABASE_OWNER_URL", url.expose().as_str());
        let passwords = ["LANTERN_DATABASE_APP_PASSWORD", "LANTERN_DATABASE_SYSTEM_PASSWORD"];
        let [app, system] = passwords.map(|name| (name, "it's a 'test'"));
        for (args, made) in [(&["--create-roles"][..], true), (&[], false)] {
            let output = migrate(args, &[owner, app, system]);
            let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(answer, json!({"migrated": true, "rolesCreated": made}));
            assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        }
        // The embedded database migrates itself: there is nothing to do, and this says so.
        let output = migrate(&[], &[]);
        let error: Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!((error["code"].as_str(), output.status.code()), (Some("invalid_config"), Some(2)));
        assert!(output.stdout.is_empty());
        database.discard().await;
    });
}
