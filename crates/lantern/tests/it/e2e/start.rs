//! Starting: the ready line, a folder that is taken, files that are damaged.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use lantern_store::testing::{Cluster, block_on};
use serde_json::{Value, json};

use super::api::{Api, tick};
use super::process::{Folder, NEVER, Server, lantern};
use super::provider::{Answer, Provider};

fn fails(folder: &Folder) -> String {
    let mut command = lantern();
    command
        .args(["dev", "--no-open", "--output", "json", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder.path());
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn the_ready_line_says_what_a_newcomer_needs() {
    let folder = Folder::new();
    let server = Server::dev(folder.path());
    assert_eq!(server.ready["login"], json!({"email": "admin@lantern.dev", "password": "lantern"}));
    assert!(server.ready["model"].is_string(), "the offline model or a local one: {}", server.ready);
    let api = Api::of(&server).await;
    let (status, me) = api.get("/auth/me").await;
    assert_eq!((status, &me["email"]), (200, &json!("admin@lantern.dev")));
    let (status, health) = api.get("/healthz").await;
    assert_eq!((status, &health["status"]), (200, &json!("ok")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_model_server_is_found_and_used_and_without_one_the_offline_model_says_what_it_is() {
    let local =
        Provider::with_models(&["nomic-embed-text:latest", "llama3.2:1b"], vec![Answer::Say("hello")]).await;
    let address =
        local.url.strip_prefix("http://").and_then(|url| url.strip_suffix("/v1")).unwrap().to_owned();
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    for (host, model) in [(&address, "ollama/llama3.2:1b"), (&nobody, "offline")] {
        let folder = Folder::new();
        let server = Server::dev_with(folder.path(), &[("OLLAMA_HOST", host)]);
        assert_eq!(server.ready["model"], model);
        let api = Api::of(&server).await;
        api.agent("a", json!({})).await;
        let run = api.run("a", json!({"prompt": "Say hello."})).await;
        let ended = api.ended(&run).await;
        assert_eq!(ended["status"], "succeeded", "{ended}");
        let said = ended["output"]["result"].as_str().unwrap();
        let offline = said.starts_with("[offline model: extractive, no language model was called]");
        assert_eq!((said == "hello", offline), (model != "offline", model == "offline"), "{said}");
    }
    let calls = local.calls();
    assert_eq!((calls.len(), &calls[0].1["model"]), (1, &json!("llama3.2:1b")));
    // What somebody has configured goes before what is merely there.
    let own = Provider::start(vec![Answer::Say("mine")]).await;
    let folder = Folder::new();
    let env = [&own.env()[..], &[("OLLAMA_HOST", address.as_str())]].concat();
    let server = Server::dev_with(folder.path(), &env);
    assert!(server.ready["model"].as_str().unwrap().starts_with("openai/"), "{}", server.ready);
}

#[test]
fn a_local_model_server_that_is_named_and_not_there_is_warned_of() {
    let folder = Folder::new();
    let mut command = lantern();
    command.args(["dev", "--no-open", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    super::process::signal(child.id(), "-TERM");
    let said = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    assert!(ready.contains("model: offline (built in)"), "{ready}");
    assert!(said.contains("OLLAMA_HOST is set") && said.contains("http://127.0.0.1:9/v1"), "{said}");
}

#[tokio::test]
async fn at_a_desktops_terminal_the_dashboard_is_opened() {
    let folder = Folder::new();
    let opened = folder.path().join("opened");
    let opener = folder.path().join("xdg-open");
    std::fs::write(
        &opener,
        format!("#!/bin/sh\necho \"$1\" >'{0}.new' && mv '{0}.new' '{0}'\n", opened.display()),
    )
    .unwrap();
    std::fs::set_permissions(&opener, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/e2e/terminal.py"));
    command.args([env!("CARGO_BIN_EXE_lantern"), "dev", "--listen", "127.0.0.1:0", "--data-dir"]);
    command.arg(folder.path().join("data")).env_clear().env("TERM", "xterm").env("DISPLAY", ":9");
    command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", folder.path().display()));
    command.env("OLLAMA_HOST", "http://127.0.0.1:9").env("HOME", folder.path());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let steps = json!([["see", "Lantern is ready: http://127.0.0.1:"], ["signal", "SIGTERM"]]);
    child.stdin.take().unwrap().write_all(steps.to_string().as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    let look = async {
        while !opened.exists() {
            tick().await;
        }
    };
    tokio::time::timeout(NEVER, look).await.expect("no browser was opened");
    let url = std::fs::read_to_string(&opened).unwrap();
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
}

#[tokio::test]
async fn a_folder_serves_one_process_and_the_second_is_told_who_has_it() {
    let folder = Folder::new();
    let server = Server::dev(folder.path());
    let words = fails(&folder);
    assert!(words.contains(&server.pid().to_string()) && words.contains("--data-dir"), "{words}");
}

#[tokio::test]
async fn a_damaged_database_is_named_and_left_alone() {
    let folder = Folder::new();
    let server = Server::dev(folder.path());
    assert!(server.stop().success());
    let file = folder.path().join("lantern.db");
    for suffix in ["-wal", "-shm"] {
        drop(std::fs::remove_file(folder.path().join(format!("lantern.db{suffix}"))));
    }
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[..64].fill(0x5a);
    std::fs::write(&file, &bytes).unwrap();
    let words = fails(&folder);
    assert!(words.contains("damaged") || words.contains("another program"), "{words}");
    assert_eq!(std::fs::read(&file).unwrap(), bytes, "nothing was written to it");
}

/// What is in a log that a kill has left is only there: SQLite would leave out all of it from the damage on, without a word.
#[tokio::test]
async fn a_log_that_is_damaged_in_its_middle_is_refused_and_left_alone() {
    let folder = Folder::new();
    let server = Server::dev(folder.path());
    let api = Api::of(&server).await;
    api.agent(
        "a",
        json!({"program": "steps", "steps": [{"id": "one", "kind": "tool",
        "data": {"tool": "calc", "arguments": {"expression": "1 + 1"}}}]}),
    )
    .await;
    for _ in 0..4 {
        let id = api.run("a", json!({})).await;
        assert_eq!(api.ended(&id).await["status"], "succeeded");
    }
    server.kill();
    let file = folder.path().join("lantern.db-wal");
    let whole = std::fs::read(&file).unwrap();
    let frame = 24 + 4_096;
    for at in [0, 32 + 100, 32 + 9 * frame + 2_000] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x40;
        std::fs::write(&file, &damaged).unwrap();
        let words = fails(&folder);
        assert!(words.contains("damaged") && words.contains("lantern.db-wal"), "byte {at}: {words}");
        assert!(std::fs::read(&file).unwrap() == damaged, "byte {at}: nothing was written to it");
    }
    std::fs::write(&file, &whole).unwrap();
    let server = Server::dev(folder.path());
    let runs = Api::of(&server).await.get("/v1/runs").await.1;
    assert_eq!(runs.as_array().unwrap().len(), 4, "{runs}");
}

#[tokio::test]
async fn a_database_that_is_gone_from_beside_its_key_is_not_begun_anew() {
    let folder = Folder::new();
    drop(Server::dev(folder.path()));
    let database = || ["", "-wal", "-shm"].map(|end| folder.path().join(format!("lantern.db{end}")));
    for file in database() {
        drop(std::fs::remove_file(file));
    }
    for _ in 0..2 {
        let words = fails(&folder);
        assert!(words.contains("key file") && words.contains("remove lantern.key"), "{words}");
    }
    std::fs::remove_file(folder.path().join("lantern.key")).unwrap();
    assert!(Server::dev(folder.path()).stop().success());
}

/// A kill between the moment when the database has begun and the one when its key file has its name.
#[tokio::test]
async fn a_key_that_was_prepared_when_its_database_began_is_found() {
    let folder = Folder::new();
    drop(Server::dev(folder.path()));
    let [key, prepared] = ["lantern.key", "lantern.key.new"].map(|name| folder.path().join(name));
    std::fs::rename(&key, &prepared).unwrap();
    assert!(Server::dev(folder.path()).stop().success());
    assert!(key.exists() && !prepared.exists());
}

#[test]
fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = Folder::new();
    let output =
        lantern().args(["dev", "--listen", &address, "--data-dir"]).arg(folder.path()).output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && words.contains(&address), "{words}");
    let holder = std::process::id();
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    assert!(words.contains(&format!("{} (pid {holder}) listens there", name.trim_end())), "{words}");
    assert!(words.contains(&format!("kill {holder}")) && words.contains("--listen"), "{words}");
}

/// A file on a full disk.
fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

#[tokio::test]
async fn a_server_whose_log_cannot_be_written_answers_all_the_same() {
    let folder = Folder::new();
    let mut command = lantern();
    command.env("LOG_LEVEL", "debug").args(["dev", "--no-open", "-o", "json", "--listen", "127.0.0.1:0"]);
    let server = Server::start_deaf(command.arg("--data-dir").arg(folder.path()), full().into());
    let api = Api::of(&server).await;
    assert_eq!(api.get("/v1/runs/none").await.0, 404);
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn a_server_whose_ready_line_cannot_be_written_says_so_in_its_log() {
    for format in ["text", "json"] {
        let folder = Folder::new();
        let mut command = lantern();
        command.args(["dev", "--no-open", "-o", format, "--listen", "127.0.0.1:0", "--data-dir"]);
        let mut child = command.arg(folder.path()).stdout(full()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let told = lines.find(|line| line.contains("ready, but nobody could be told")).unwrap();
        assert!(told.contains("http://127.0.0.1:"), "{told}");
        super::process::signal(child.id(), "-TERM");
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert!(lines.all(|line| !line.contains("panicked")));
    }
}

#[test]
fn a_failure_that_nobody_can_be_told_is_an_exit_code() {
    let folder = Folder::new();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let mut command = lantern();
    command.args(["dev", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path().join("file/below"));
    assert_eq!(command.stdout(full()).stderr(full()).status().unwrap().code(), Some(1));
}

#[test]
fn the_next_command_logs_in_to_this_server() {
    let folder = Folder::new();
    let server = Server::dev(folder.path());
    let next = server.ready["next"].as_str().unwrap();
    let login =
        format!("HOME={} {next} --email admin@lantern.dev --password lantern", folder.path().display());
    let output = Command::new("sh").args(["-c", &login]).env_clear().output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{login}: {said}");
    assert_eq!(said, format!("for the next commands: export LANTERN_API_URL={}\n", server.api));
}

/// `lantern serve` on this folder.
fn serve(folder: &Folder) -> Command {
    let mut command = lantern();
    command.args(["serve", "-o", "json", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path());
    command
}

#[tokio::test]
async fn a_server_without_an_account_says_how_to_make_the_first() {
    let folder = Folder::new();
    let server = Server::start(serve(&folder));
    let next = server.ready["next"].as_str().unwrap();
    assert!(next.starts_with("there is no account yet") && next.contains("LANTERN_ADMIN_EMAIL="), "{next}");
    assert_eq!(server.ready["model"], Value::Null);
    server.kill();
    let account = [("LANTERN_ADMIN_EMAIL", "ada@example.com"), ("LANTERN_ADMIN_PASSWORD", "twelve letters")];
    let mut command = serve(&folder);
    command.envs(account);
    let server = Server::start(command);
    Api::login(&server, "ada@example.com", "twelve letters").await;
    server.kill();
    let server = Server::start(serve(&folder));
    assert!(server.ready["next"].as_str().unwrap().contains(" login --api-url http://127.0.0.1:"));
}

#[test]
fn what_keeps_a_server_from_starting_is_named_with_the_next_step() {
    const APP: &str = "LANTERN_DATABASE_APP_URL";
    const SYSTEM: &str = "LANTERN_DATABASE_SYSTEM_URL";
    let (nowhere, nonsense) = ("postgres://a:b@127.0.0.1:1/c", "postgres://[");
    for (env, exit, code, next) in [
        (vec![("LANTERN_CREDENTIAL_KEY", "short")], 2, "invalid_key", "openssl rand -hex 32"),
        (vec![(APP, nonsense), (SYSTEM, nonsense)], 2, "invalid_config", APP),
        (vec![(APP, nowhere), (SYSTEM, nowhere)], 1, "database_unavailable", "database runs"),
        (vec![(APP, nowhere)], 2, "invalid_config", SYSTEM),
        (
            vec![("LANTERN_ADMIN_EMAIL", "ab"), ("LANTERN_ADMIN_PASSWORD", "twelve letters")],
            2,
            "invalid_config",
            "you@example.com",
        ),
        (vec![("LANTERN_ADMIN_EMAIL", "a@b.c")], 2, "invalid_config", "LANTERN_ADMIN_EMAIL"),
        (vec![("LANTERN_DRAIN_TIMEOUT", "soon")], 2, "invalid_config", "LANTERN_DRAIN_TIMEOUT"),
        (vec![("LOG_LEVEL", "info=debug=x")], 2, "invalid_config", "LOG_LEVEL"),
    ] {
        let folder = Folder::new();
        let output = serve(&folder).envs(env.clone()).output().unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        let error: Value = serde_json::from_str(words.lines().last().unwrap()).unwrap();
        assert_eq!(
            (output.status.code(), error["code"].as_str()),
            (Some(exit), Some(code)),
            "{env:?}: {words}"
        );
        assert!(error["next"].as_str().unwrap().contains(next), "{env:?}: {error}");
        assert!(!words.contains("permissions") && !words.contains("[1m"), "{env:?}: {words}");
    }
}

/// The error of a server that does not start, and its exit code.
fn refused(command: &mut Command) -> (Option<i32>, Value) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), serde_json::from_str(words.lines().last().unwrap()).unwrap())
}

#[test]
fn a_database_whose_key_is_not_given_gets_no_other() {
    block_on(async {
        let database = Cluster::shared().database().await;
        let options = database.options();
        let urls = [
            ("LANTERN_DATABASE_APP_URL", options.app_url.expose().as_str()),
            ("LANTERN_DATABASE_SYSTEM_URL", options.system_url.expose().as_str()),
        ];
        for urls in [&[][..], &urls] {
            let folder = Folder::new();
            let started = |key: Option<&str>| {
                let mut command = serve(&folder);
                command.envs(urls.iter().copied()).envs(key.map(|key| ("LANTERN_CREDENTIAL_KEY", key)));
                command
            };
            let (right, wrong) = ("07".repeat(32), "08".repeat(32));
            Server::start(started(Some(&right))).kill();
            let (exit, error) = refused(&mut started(None));
            assert_eq!((exit, &error["code"]), (Some(2), &json!("invalid_key")), "{error}");
            let what = error["error"].as_str().unwrap();
            assert!(what.contains("LANTERN_CREDENTIAL_KEY is not set"), "{error}");
            assert!(what.contains("there is no key file"), "{error}");
            assert!(
                error["next"].as_str().unwrap().contains("the key that this database began with"),
                "{error}"
            );
            assert!(!folder.path().join("lantern.key").exists());
            let (exit, error) = refused(&mut started(Some(&wrong)));
            assert_eq!((exit, &error["code"]), (Some(2), &json!("invalid_key")), "a restart would not help");
            assert!(error["error"].as_str().unwrap().contains("not the one that sealed"), "{error}");
            Server::start(started(Some(&right))).kill();
        }
        database.discard().await;
    });
}

#[test]
fn a_database_url_that_nobody_reads_is_not_ignored() {
    let folder = Folder::new();
    let mut command = serve(&folder);
    command.env("DATABASE_URL", "postgres://me:secret@127.0.0.1/lantern");
    let (exit, error) = refused(&mut command);
    assert_eq!((exit, &error["code"]), (Some(2), &json!("invalid_config")), "{error}");
    assert!(error["error"].as_str().unwrap().starts_with("DATABASE_URL is set"), "{error}");
    assert!(error["next"].as_str().unwrap().contains("LANTERN_DATABASE_APP_URL"), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
    // Set to nothing, it is nobody's: then it is the other half that is missing.
    let mut command = serve(&folder);
    command.env("DATABASE_URL", "").env("LANTERN_DATABASE_APP_URL", "postgres://app@127.0.0.1/lantern");
    let (_, error) = refused(&mut command);
    assert_eq!(error["error"], "PostgreSQL is configured by half", "{error}");
}

#[test]
fn database_urls_that_were_swapped_are_named() {
    block_on(async {
        let database = Cluster::shared().database().await;
        let (options, owner) = (database.options(), database.owner_url());
        let (app, system) = (&options.app_url, &options.system_url);
        let folder = Folder::new();
        let swapped = "swap LANTERN_DATABASE_APP_URL and LANTERN_DATABASE_SYSTEM_URL";
        for (urls, what, next) in [
            (
                [system, app],
                "LANTERN_DATABASE_APP_URL connects as lantern_system, not as lantern_app",
                swapped,
            ),
            (
                [&owner, system],
                "LANTERN_DATABASE_APP_URL connects as postgres, not as lantern_app",
                "lantern_app",
            ),
            ([app, &owner], "LANTERN_DATABASE_SYSTEM_URL connects as postgres", "lantern_system"),
            ([app, app], "LANTERN_DATABASE_SYSTEM_URL connects as lantern_app, not as", "lantern_system"),
        ] {
            let mut command = serve(&folder);
            command.env("LANTERN_DATABASE_APP_URL", urls[0].expose());
            command.env("LANTERN_DATABASE_SYSTEM_URL", urls[1].expose());
            let (exit, error) = refused(&mut command);
            assert_eq!((exit, &error["code"]), (Some(2), &json!("invalid_config")), "{error}");
            assert!(error["error"].as_str().unwrap().contains(what), "{error}");
            assert!(error["next"].as_str().unwrap().contains(next), "{error}");
        }
        for url in [app, system] {
            for args in [&["migrate", "-o", "json"][..], &["migrate", "-o", "json", "--create-roles"]] {
                let mut command = lantern();
                command.args(args).env("LANTERN_DATABASE_OWNER_URL", url.expose());
                command
                    .env("LANTERN_DATABASE_APP_PASSWORD", "a")
                    .env("LANTERN_DATABASE_SYSTEM_PASSWORD", "b");
                let (exit, error) = refused(&mut command);
                assert_eq!((exit, &error["code"]), (Some(2), &json!("invalid_config")), "{error}");
                let what = error["error"].as_str().unwrap();
                assert!(what.contains("LANTERN_DATABASE_OWNER_URL connects as lantern_"), "{error}");
            }
        }
        database.discard().await;
    });
}

#[test]
fn of_two_new_servers_on_a_new_database_one_makes_the_key() {
    block_on(async {
        let database = Cluster::shared().database().await;
        let options = database.options();
        let folders = [Folder::new(), Folder::new()];
        let children = folders.each_ref().map(|folder| {
            let mut command = serve(folder);
            command.env("LANTERN_DATABASE_APP_URL", options.app_url.expose());
            command.env("LANTERN_DATABASE_SYSTEM_URL", options.system_url.expose());
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
        });
        let mut ready = Vec::new();
        for mut child in children {
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            ready.push(!line.is_empty());
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let made = folders.each_ref().map(|folder| folder.path().join("lantern.key").exists());
        assert_eq!(ready, made);
        assert_ne!(made[0], made[1]);
        database.discard().await;
    });
}

#[test]
fn a_misspelt_variable_is_refused_before_anything_is_made() {
    for command in ["dev", "serve"] {
        let folder = Folder::new();
        let data = folder.path().join("data");
        let mut lantern = lantern();
        lantern.args([command, "--output", "json", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&data);
        lantern.env("LANTERN_DATABSE_APP_URL", "postgres://secret").env("LANTERN_USE_REST", "1");
        let output = lantern.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{said}");
        assert!(said.contains("nothing reads LANTERN_DATABSE_APP_URL, which the environment sets"), "{said}");
        assert!(
            said.contains("did you mean LANTERN_DATABASE_APP_URL?") && !said.contains("secret"),
            "{said}"
        );
        assert!(!data.exists(), "{said}");
    }
}
