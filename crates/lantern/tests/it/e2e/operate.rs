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
        ("[tools]\nprivate_addresses = [\"169.254.0.0/16\"]", "169.254.169.254", false),
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

#[tokio::test]
async fn the_log_is_fields_under_the_names_of_the_file_and_has_no_secret() {
    let folder = Folder::new();
    let (file, log) = (folder.path().join("lantern.toml"), folder.path().join("log"));
    let config = "[server]\ndrain_secs = 7\n[tools]\nprivate_addresses = [\"10.20.0.0/16\"]\n\
                  [limits]\nturnsPerRunMax = 3";
    std::fs::write(&file, config).unwrap();
    let mut command = lantern();
    command.args(["serve", "-o", "json", "--listen", "127.0.0.1:0", "--config"]).arg(file);
    command.arg("--data-dir").arg(folder.path().join("data"));
    let (email, password) = ("ada@example.com", "correct horse battery");
    command.env("LANTERN_ADMIN_EMAIL", email).env("LANTERN_ADMIN_PASSWORD", password);
    command.env("LANTERN_CREDENTIAL_KEY", "07".repeat(32)).env("LOG_LEVEL", "debug");
    let server = Server::start_deaf(&mut command, std::fs::File::create(&log).unwrap().into());
    Api::login(&server, email, password).await;
    assert!(server.stop().success());
    let words = std::fs::read_to_string(log).unwrap();
    let lines: Vec<Value> = words.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let fields = &lines[0]["fields"];
    for (name, want) in [
        ("server.listen", json!("127.0.0.1:0")),
        ("server.drain_secs", json!(7)),
        ("database", json!("sqlite")),
        ("tools.private_addresses", json!("10.20.0.0/16")),
        ("limits", json!("turnsPerRunMax=3")),
    ] {
        assert_eq!(fields[name], want, "{fields}");
    }
    assert!(lines.iter().any(|line| line.get("spans").is_some()), "{words}");
    assert!(lines.iter().all(|line| line.get("span").is_none()), "{words}");
    assert!(!words.contains(&"07".repeat(32)) && !words.contains(password), "{words}");
}

#[tokio::test]
async fn an_address_that_turns_prices_off_is_in_the_log() {
    let folder = Folder::new();
    let log = folder.path().join("log");
    let mut command = lantern();
    command.args(["serve", "-o", "json", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path());
    let (email, password) = ("ada@example.com", "correct horse battery");
    command.env("LANTERN_ADMIN_EMAIL", email).env("LANTERN_ADMIN_PASSWORD", password);
    command.env("OPENAI_BASE_URL", "http://127.0.0.1:9/v1");
    let server = Server::start_deaf(&mut command, std::fs::File::create(&log).unwrap().into());
    let api = Api::login(&server, email, password).await;
    let lab = json!({"provider": "lab", "baseUrl": "https://models.example.invalid/v1"});
    let (status, saved) = api.post("/v1/settings/llm-providers", &lab).await;
    assert!(status == 200 && saved["warning"].is_string(), "{saved}");
    assert!(server.stop().success());
    let words = std::fs::read_to_string(log).unwrap();
    let warned: Vec<&str> = words.lines().filter(|line| line.contains("count as free")).collect();
    assert!(warned.iter().all(|line| line.contains("WARN")), "{warned:?}");
    assert!(
        warned[0].contains("OPENAI_BASE_URL") && warned[1].contains("\"provider\":\"lab\""),
        "{warned:?}"
    );
    assert_eq!(warned.len(), 2, "{words}");
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

#[test]
fn servers_that_start_at_once_migrate_once_and_one_that_is_too_old_says_so() {
    block_on(async {
        let database = Cluster::shared().empty_database().await;
        let owner = database.migrator_url();
        let options = database.options();
        let folders = [Folder::new(), Folder::new()];
        let serving = |folder: &Folder| {
            let mut command = lantern();
            command.args(["serve", "-o", "json", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path());
            command
                .env("LANTERN_DATABASE_APP_URL", options.app_url.expose())
                .env("LANTERN_DATABASE_SYSTEM_URL", options.system_url.expose())
                .env("LANTERN_DATABASE_OWNER_URL", owner.expose())
                .env("LANTERN_CREDENTIAL_KEY", "07".repeat(32));
            command
        };
        let starting: Vec<_> =
            folders.iter().map(serving).map(|c| std::thread::spawn(|| Server::start(c))).collect();
        for server in starting {
            assert_eq!(server.join().unwrap().ready["database"], "postgresql");
        }
        let later = "INSERT INTO migrations (number, name, checksum, applied_at, goes_on)
            SELECT max(number) + 2, 'later', '\\x00', 1, max(number) + 1 FROM migrations";
        database.run(later).await;
        let output = serving(&folders[0]).output().unwrap();
        let error: Value = serde_json::from_slice(
            output.stderr.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).unwrap(),
        )
        .unwrap();
        assert_eq!(error["code"], "database_too_new", "{error}");
        assert!(error.to_string().contains("one release at a time"), "{error}");
        database.discard().await;
    });
}
