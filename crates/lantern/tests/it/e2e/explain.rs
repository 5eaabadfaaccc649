//! What the configuration is, and where it comes from, as the program itself says it.

use std::process::{Command, Output};

use serde_json::{Value, json};

use super::api::Api;
use super::process::{Folder, Server, lantern};

fn explain(folder: &Folder, args: &[&str]) -> Command {
    let mut command = lantern();
    command.current_dir(folder.path()).args(["config", "explain", "-o", "json"]).args(args);
    command
}

fn explained(output: Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Value, source and its name.
fn of(explained: &Value, key: &str) -> (Value, String, Value) {
    let all = explained["keys"].as_array().unwrap();
    let found =
        all.iter().find(|entry| entry["key"] == key).unwrap_or_else(|| panic!("{key} is not explained"));
    (found["value"].clone(), found["source"].as_str().unwrap().to_owned(), found["name"].clone())
}

/// What a change of it takes.
fn change<'a>(explained: &'a Value, key: &str) -> &'a str {
    let found = explained["keys"].as_array().unwrap().iter().find(|entry| entry["key"] == key);
    found.unwrap_or_else(|| panic!("{key} is not explained"))["change"].as_str().unwrap()
}

fn explained_with(folder: &Folder, args: &[&str], (name, value): (&str, &str)) -> Value {
    explained(explain(folder, args).env(name, value).output().unwrap())
}

fn from(value: Value, source: &str, name: impl Into<Value>) -> (Value, String, Value) {
    (value, source.to_owned(), name.into())
}

#[test]
fn every_value_says_where_it_comes_from() {
    let folder = Folder::new();
    let file = "[server]\ndrain_secs = 7\nlisten = \"127.0.0.1:1\"\n[limits]\nturnsPerRunMax = 3\n";
    std::fs::write(folder.path().join("l.toml"), file).unwrap();
    // `serve` does not read it.
    std::fs::write(folder.path().join(".env.local"), "LANTERN_DRAIN_TIMEOUT=99").unwrap();
    let mut command = explain(&folder, &["--config", "l.toml", "--data-dir", "mine"]);
    command.env("LANTERN_LISTEN", "127.0.0.1:2").env("LANTERN_CREDENTIAL_KEY", "07".repeat(32));
    command.env("LANTERN_DATABASE_APP_URL", "postgres://a:hidden@h/d");
    command.env("LANTERN_DATABASE_SYSTEM_URL", "postgres://s:hidden@h/d");
    let output = command.output().unwrap();
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!words.contains("hidden") && !words.contains("0707"), "{words}");
    let explained = explained(output);
    assert_eq!((&explained["command"], &explained["local"]), (&json!("serve"), &Value::Null));
    for (key, want) in [
        ("server.listen", from(json!("127.0.0.1:2"), "environment", "LANTERN_LISTEN")),
        ("server.data_dir", from(json!("mine"), "flag", "--data-dir")),
        ("server.drain_secs", from(json!(7), "file", "l.toml")),
        ("server.spawn_rate_per_min", from(json!(120), "default", Value::Null)),
        ("limits.turnsPerRunMax", from(json!(3), "file", "l.toml")),
        ("limits.bodyBytesMax", from(json!(8_388_608), "default", Value::Null)),
        ("database.app_url", from(json!("********"), "environment", "LANTERN_DATABASE_APP_URL")),
        ("LANTERN_CREDENTIAL_KEY", from(json!("********"), "environment", "LANTERN_CREDENTIAL_KEY")),
        ("OPENAI_API_KEY", from(Value::Null, "default", Value::Null)),
    ] {
        assert_eq!(of(&explained, key), want, "{key}");
    }
    for (key, want) in [
        ("server.drain_secs", "reloadable"),
        ("limits.turnsPerRunMax", "reloadable"),
        ("server.log_level", "reloadable"),
        ("limits.bodyBytesMax", "restart"),
        ("server.cors_origins", "restart"),
        ("server.trusted_proxies", "restart"),
        ("server.listen", "restart"),
        ("LANTERN_CREDENTIAL_KEY", "restart"),
    ] {
        assert_eq!(change(&explained, key), want, "{key}");
    }
    // A process keeps the environment that it has, and `dev` reads no file.
    let kept = explained_with(&folder, &["--config", "l.toml"], ("LANTERN_DRAIN_TIMEOUT", "9"));
    assert_eq!(change(&kept, "server.drain_secs"), "restart");
    assert_eq!(change(&explained_with(&folder, &[], ("A", "a")), "limits.turnsPerRunMax"), "restart");
}

#[test]
fn the_local_file_counts_in_dev_behind_the_environment() {
    let folder = Folder::new();
    let local =
        "# mine\nLANTERN_LISTEN=127.0.0.1:1\nexport LANTERN_DRAIN_TIMEOUT='9'\nOPENAI_API_KEY=sk-hidden\n";
    std::fs::write(folder.path().join(".env.local"), local).unwrap();
    let mut command = explain(&folder, &[]);
    let output = command.env("LANTERN_LISTEN", "127.0.0.1:2").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains(".env.local"), "it is named");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("hidden"));
    let explained = explained(output);
    assert_eq!((&explained["command"], &explained["local"]), (&json!("dev"), &json!(".env.local")));
    for (key, want) in [
        ("server.listen", from(json!("127.0.0.1:2"), "environment", "LANTERN_LISTEN")),
        ("server.drain_secs", from(json!(9), ".env.local", "LANTERN_DRAIN_TIMEOUT")),
        ("OPENAI_API_KEY", from(json!("********"), ".env.local", "OPENAI_API_KEY")),
        ("models.private_addresses", from(json!(true), "command", "dev")),
        ("server.spawn_rate_per_min", from(json!(0), "command", "dev")),
    ] {
        assert_eq!(of(&explained, key), want, "{key}");
    }
}

#[tokio::test]
async fn dev_does_as_the_local_file_says_and_serve_does_not() {
    let folder = Folder::new();
    let data = folder.path().join("data");
    std::fs::write(folder.path().join(".env.local"), format!("LANTERN_DATA_DIR={}\n", data.display()))
        .unwrap();
    let start = |command: &str| {
        let mut process = lantern();
        process.current_dir(folder.path()).args([command, "-o", "json", "--listen", "127.0.0.1:0"]);
        Server::start(process)
    };
    let server = start("dev");
    assert_eq!(server.ready["dataDir"], data.display().to_string());
    Api::of(&server).await;
    server.kill();
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::write(folder.path().join(".env.local"), "LANTERN_DATA_DIR=elsewhere").unwrap();
    assert_eq!(start("serve").ready["dataDir"], "data");
}

#[test]
fn what_nobody_reads_is_refused_with_what_was_meant() {
    let folder = Folder::new();
    std::fs::write(folder.path().join("l.toml"), "[limits]\nturnsPerRun = 3").unwrap();
    std::fs::write(folder.path().join(".env.local"), "LANTERN_LISTN=127.0.0.1:1").unwrap();
    for (args, wrong, meant) in [
        (&["--config", "l.toml"][..], "turnsPerRun", "`turnsPerRunMax`"),
        (&[], "LANTERN_LISTN", "LANTERN_LISTEN?"),
        (&["--config", "l.toml", "--for", "dev"], "`dev` reads no file", "--for serve"),
    ] {
        let output = explain(&folder, args).output().unwrap();
        let error: Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!((output.status.code(), &error["code"]), (Some(2), &json!("invalid_config")), "{error}");
        assert!(error["error"].as_str().unwrap().contains(wrong), "{error}");
        assert!(error["next"].as_str().unwrap().contains(meant), "{error}");
    }
}

#[tokio::test]
async fn the_doctor_tells_the_limits_that_are_not_the_usual() {
    let folder = Folder::new();
    let file = folder.path().join("l.toml");
    std::fs::write(&file, "[limits]\nturnsPerRunMax = 3").unwrap();
    let mut command = lantern();
    command.args(["serve", "-o", "json", "--listen", "127.0.0.1:0", "--config"]).arg(&file);
    command.arg("--data-dir").arg(folder.path().join("data"));
    let (email, password) = ("ada@example.com", "correct horse battery");
    command.env("LANTERN_ADMIN_EMAIL", email).env("LANTERN_ADMIN_PASSWORD", password);
    let server = Server::start(command);
    let token = Api::login(&server, email, password).await.token;
    let mut doctor = lantern();
    doctor.arg("doctor").env("LANTERN_API_URL", &server.api).env("LANTERN_API_TOKEN", &token);
    let output = doctor.env("HOME", folder.path()).output().unwrap();
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(words.contains("limits  turnsPerRunMax 3 (usually 40)"), "{words}");
}
