//! Starting: the ready line, a folder that is taken, files that are damaged.

use std::process::Stdio;

use serde_json::json;

use super::api::Api;
use super::process::{Folder, Server, lantern};

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
    let api = Api::of(&server).await;
    let (status, me) = api.get("/auth/me").await;
    assert_eq!((status, &me["email"]), (200, &json!("admin@lantern.dev")));
    let (status, health) = api.get("/healthz").await;
    assert_eq!((status, &health["status"]), (200, &json!("ok")));
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

#[test]
fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = Folder::new();
    let output =
        lantern().args(["dev", "--listen", &address, "--data-dir"]).arg(folder.path()).output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && words.contains(&address), "{words}");
}
