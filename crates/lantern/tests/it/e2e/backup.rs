//! A data folder as one file and back, by the real binary beside a server that works; and folders that are not ours.

use std::path::{Path, PathBuf};
use std::process::Output;

use lantern_store::testing::{Cluster, block_on, sqlite_file};
use serde_json::{Value, json};

use super::api::Api;
use super::process::{Folder, Server, lantern};

/// Tables by which the Lantern before this one is known.
const EARLIER: &str = "CREATE TABLE runs (id TEXT PRIMARY KEY, trigger_meta TEXT NOT NULL);
    CREATE TABLE agents (id TEXT PRIMARY KEY, workflow TEXT);
    CREATE TABLE run_locks (run_id TEXT PRIMARY KEY, worker_id TEXT NOT NULL);";

fn call(args: &[&str], paths: &[(&str, &Path)]) -> Output {
    let mut command = lantern();
    command.args(["-o", "json"]).args(args);
    for (flag, path) in paths {
        if !flag.is_empty() {
            command.arg(flag);
        }
        command.arg(path);
    }
    command.output().unwrap()
}

fn backup(folder: &Path, to: &Path, more: &[&str]) -> Output {
    call(&[&["backup"], more].concat(), &[("--data-dir", folder), ("--to", to)])
}

fn restore(file: &Path, folder: &Path) -> Output {
    call(&["restore"], &[("", file), ("--data-dir", folder)])
}

fn answer(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn error(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.stdout.is_empty());
    let words = String::from_utf8(output.stderr.clone()).unwrap();
    serde_json::from_str(words.lines().last().unwrap()).unwrap()
}

/// A run of one sum, whose input is too large for its row.
async fn large_run(api: &Api) -> String {
    let sum = json!({"tool": "calc", "arguments": {"expression": "1+1"}});
    api.agent("sum", json!({"program": "steps", "steps": [{"id": "sum", "kind": "tool", "data": sum}]}))
        .await;
    let run = api.run("sum", json!({"text": "x".repeat(100_000)})).await;
    assert_eq!(api.ended(&run).await["status"], "succeeded");
    run
}

/// Everything below a folder, by name.
fn names(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        found.push(entry.unwrap().path());
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_backup_beside_a_running_server_comes_back_whole() {
    let (folder, place) = (Folder::new(), Folder::new());
    let server = Server::dev(folder.path());
    let api = Api::of(&server).await;
    let run = large_run(&api).await;
    let (_, before) = api.get(&format!("/v1/runs/{run}")).await;

    let file = place.path().join("backup.tar");
    let output = backup(folder.path(), &file, &[]);
    let made = answer(&output);
    assert_eq!((&made["runs"], &made["bodies"], &made["key"]), (&json!(1), &json!(1), &json!(false)));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("NOT in this backup") && words.contains("LANTERN_CREDENTIAL_KEY"), "{words}");
    assert!(
        error(&backup(folder.path(), &file, &[]))["error"].as_str().unwrap().contains("is there already")
    );
    // What comes afterwards is not in it.
    api.run("sum", json!({})).await;
    server.kill();

    let fresh = place.path().join("fresh");
    let made = answer(&restore(&file, &fresh));
    assert_eq!((&made["runs"], &made["bodies"], &made["bodiesMissing"]), (&json!(1), &json!(1), &json!(0)));
    let kept: Vec<_> =
        names(&fresh).into_iter().map(|path| path.strip_prefix(&fresh).unwrap().to_owned()).collect();
    assert_eq!(kept, [Path::new("blobs"), Path::new("lantern.db")]);
    std::fs::copy(folder.path().join("lantern.key"), fresh.join("lantern.key")).unwrap();
    let server = Server::dev(&fresh);
    let api = Api::of(&server).await;
    assert_eq!(api.get(&format!("/v1/runs/{run}")).await, (200, before));
    let (_, runs) = api.get("/v1/runs").await;
    assert_eq!(runs.as_array().unwrap().len(), 1);

    // A folder that has something is left alone.
    let refused = error(&restore(&file, &fresh));
    assert!(refused["error"].as_str().unwrap().contains("is not empty"), "{refused}");
}

#[tokio::test]
async fn a_backup_with_its_key_is_said_to_be_one() {
    let (folder, place) = (Folder::new(), Folder::new());
    let server = Server::dev(folder.path());
    let api = Api::of(&server).await;
    let run = large_run(&api).await;
    // Not folded in, and nobody has it open.
    server.kill();
    let file = place.path().join("backup.tar");
    let output = backup(folder.path(), &file, &["--with-key"]);
    assert_eq!(answer(&output)["key"], true);
    assert!(String::from_utf8(output.stderr).unwrap().contains("IN this backup"));
    let fresh = place.path().join("fresh");
    std::fs::create_dir(&fresh).unwrap();
    assert_eq!(answer(&restore(&file, &fresh))["key"], true);
    let server = Server::dev(&fresh);
    let (status, read) = Api::of(&server).await.get(&format!("/v1/runs/{run}")).await;
    assert_eq!((status, read["input"]["text"].as_str().unwrap().len()), (200, 100_000));
}

#[tokio::test]
async fn a_backup_that_is_not_as_it_was_made_is_refused() {
    let (folder, place) = (Folder::new(), Folder::new());
    let server = Server::dev(folder.path());
    large_run(&Api::of(&server).await).await;
    server.kill();
    let file = place.path().join("backup.tar");
    answer(&backup(folder.path(), &file, &[]));
    let whole = std::fs::read(&file).unwrap();
    let (bad, fresh) = (place.path().join("bad.tar"), place.path().join("fresh"));
    let refuses = |bytes: &[u8], what: &str| {
        std::fs::write(&bad, bytes).unwrap();
        let error = error(&restore(&bad, &fresh));
        assert_eq!(error["code"], "backup_refused", "{what}: {error}");
        let mut left = names(place.path());
        left.retain(|path| *path != file && *path != bad);
        assert!(left.is_empty(), "{what} leaves {left:?}");
    };
    for eighths in 0..8 {
        refuses(&whole[..whole.len() * eighths / 8], "a half-written file");
    }
    let cut = whole.windows(13).rposition(|bytes| bytes == b"manifest.json").unwrap();
    refuses(&whole[..cut], "a file without its manifest");
    refuses(&whole[..cut + 600], "a file with half a manifest");
    refuses(b"SQLite format 3\0", "another file");
    // Into the middle of the database, and of a body.
    for at in [512 + 40_000, cut - 1_000] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        refuses(&changed, "a changed byte");
    }
    assert!(!error(&backup(place.path(), &bad.with_extension("new"), &[])).is_null(), "no database there");
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let deeper = |path: PathBuf| if path.is_dir() { files(&path) } else { vec![path] };
    names(folder).into_iter().flat_map(deeper).collect()
}

#[tokio::test]
async fn a_body_that_the_disk_lost_is_counted_and_keeps_no_other_from_being_backed_up() {
    let (folder, place) = (Folder::new(), Folder::new());
    let server = Server::dev(folder.path());
    let api = Api::of(&server).await;
    let lost = large_run(&api).await;
    let bodies = files(&folder.path().join("blobs"));
    let mut bytes = std::fs::read(&bodies[0]).unwrap();
    bytes[1_000] ^= 1;
    std::fs::write(&bodies[0], bytes).unwrap();
    let kept = large_run(&api).await;
    server.kill();
    let file = place.path().join("backup.tar");
    let output = backup(folder.path(), &file, &["--with-key"]);
    let made = answer(&output);
    assert_eq!((&made["runs"], &made["bodies"], &made["bodiesMissing"]), (&json!(2), &json!(1), &json!(1)));
    assert!(String::from_utf8(output.stderr).unwrap().contains("1 large bodies were not in the folder"));
    let fresh = place.path().join("fresh");
    assert_eq!(answer(&restore(&file, &fresh))["bodiesMissing"], 1);
    let server = Server::dev(&fresh);
    let api = Api::of(&server).await;
    let (_, run) = api.get(&format!("/v1/runs/{kept}")).await;
    assert_eq!(run["input"]["text"].as_str().unwrap().len(), 100_000);
    let (status, run) = api.get(&format!("/v1/runs/{lost}")).await;
    assert_eq!((status, &run["status"]), (200, &json!("succeeded")), "{run}");
}

#[tokio::test]
async fn a_run_whose_chain_does_not_hold_is_found_when_it_is_backed_up() {
    let (folder, place) = (Folder::new(), Folder::new());
    let server = Server::dev(folder.path());
    let run = large_run(&Api::of(&server).await).await;
    assert!(server.stop().success());
    sqlite_file(
        folder.path(),
        0,
        "UPDATE journal SET bytes = CAST(replace(bytes, 'sum', 'mus') AS BLOB) WHERE first_seq > 1",
    );
    let error = error(&backup(folder.path(), &place.path().join("backup.tar"), &[]));
    let words = error["error"].as_str().unwrap();
    assert!(
        error["code"] == "database_damaged" && words.contains(&run) && words.contains("chain"),
        "{error}"
    );
    assert!(names(place.path()).is_empty());
}

#[test]
fn dev_keeps_copies_from_before_two_migrations_and_no_more() {
    let folder = Folder::new();
    for earlier in ["lantern-schema-3.db", "lantern-schema-4.db"] {
        std::fs::write(folder.path().join(earlier), "from before").unwrap();
    }
    sqlite_file(folder.path(), 5, "INSERT INTO settings (name, value) VALUES ('mine', x'01')");
    let server = Server::dev(folder.path());
    assert!(server.stop().success());
    let copies = || {
        let mut found = names(folder.path());
        found.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("lantern-schema-"));
        found
    };
    let kept = ["lantern-schema-4.db", "lantern-schema-5.db"].map(|name| folder.path().join(name));
    assert_eq!(copies(), kept);
    // It is the database as it was: one can go back to it.
    let back = Folder::new();
    std::fs::copy(&kept[1], back.path().join("lantern.db")).unwrap();
    sqlite_file(
        back.path(),
        0,
        "INSERT INTO settings (name, value) SELECT 'again', value FROM settings WHERE name = 'mine'",
    );
    // Nothing is copied where nothing is migrated.
    std::fs::remove_file(&kept[1]).unwrap();
    assert!(Server::dev(folder.path()).stop().success());
    assert_eq!(copies(), kept[..1]);
}

#[test]
fn a_database_of_the_earlier_lantern_is_recognised_and_left_alone() {
    let folder = Folder::new();
    sqlite_file(folder.path(), 0, EARLIER);
    let before = std::fs::read(folder.path().join("lantern.db")).unwrap();
    for command in ["dev", "serve"] {
        let refused = error(&call(&[command, "--listen", "127.0.0.1:0"], &[("--data-dir", folder.path())]));
        assert_eq!(refused["code"], "database_earlier", "{refused}");
        assert!(refused["next"].as_str().unwrap().contains("--data-dir"), "{refused}");
    }
    assert_eq!(std::fs::read(folder.path().join("lantern.db")).unwrap(), before);

    block_on(async {
        let database = Cluster::shared().empty_database().await;
        database.run(EARLIER).await;
        let url = database.owner_url();
        let migrate = |args: &[&str]| {
            let mut command = lantern();
            command.args(["migrate", "-o", "json"]).args(args);
            command.env("LANTERN_DATABASE_OWNER_URL", url.expose());
            command.env("LANTERN_DATABASE_APP_PASSWORD", "a").env("LANTERN_DATABASE_SYSTEM_PASSWORD", "b");
            command.output().unwrap()
        };
        for args in [&[][..], &["--create-roles"]] {
            let refused = error(&migrate(args));
            assert_eq!(refused["code"], "database_earlier", "{refused}");
        }
        // Another try would fail if the first had left anything: the table of our history is not there.
        database.run("CREATE TABLE migrations (mine INT)").await;
        let options = database.options();
        let mut command = lantern();
        command.args(["serve", "-o", "json", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path());
        command.env("LANTERN_DATABASE_APP_URL", options.app_url.expose());
        command.env("LANTERN_DATABASE_SYSTEM_URL", options.system_url.expose());
        let refused = error(&command.output().unwrap());
        assert_eq!(refused["code"], "database_earlier", "{refused}");
        database.discard().await;
    });
}
