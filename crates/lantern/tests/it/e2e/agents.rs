//! Agents by the command line and the real server: what is warned of, put away and found again.

use serde_json::{Value, json};

use super::process::{Folder, Server};
use crate::cli_fake::User;

#[test]
fn an_approver_who_is_no_member_is_warned_of_and_saved() {
    let folder = Folder::new();
    let server = Server::dev(folder.path());
    let user = User::new().with("LANTERN_API_URL", &server.api);
    user.run(&["login", "--email", "admin@lantern.dev", "--password", "lantern"]).ok();
    let approvers = json!(["eve@example.com", "Admin@Lantern.dev"]);
    let steps = json!([{"id": "ship", "kind": "approval", "data": {"approvers": approvers}}]);
    let file = user.file("agent.json", json!({"name": "a", "steps": steps}).to_string());
    // Made, then changed.
    for _ in 0..2 {
        let done = user.run(&["agents", "create", "--file", &file]);
        let want = "warning: step ship names the approver eve@example.com, who is no member of this tenant";
        assert!(done.code == 0 && done.err.starts_with(want), "{done:?}");
        assert!(done.out.starts_with("saved the agent a, version 1"), "{done:?}");
        assert!(!done.err.contains("Admin@Lantern.dev"), "{done:?}");
    }
    let done = user.run(&["agents", "create", "--file", &file, "-o", "json"]);
    let saved: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(saved["warnings"].as_array().unwrap().len(), 1, "{done:?}");
}

#[test]
fn archived_agents_are_found_and_lists_go_on() {
    let folder = Folder::new();
    let server = Server::dev(folder.path());
    let user = User::new().with("LANTERN_API_URL", &server.api);
    user.run(&["login", "--email", "admin@lantern.dev", "--password", "lantern"]).ok();
    assert!(user.run(&["agents", "list", "--archived"]).err.starts_with("no archived agents"));
    for name in ["a", "b", "c", "d"] {
        user.run(&["agents", "create", "--name", name]).ok();
    }
    for name in ["a", "d"] {
        user.run(&["agents", "archive", name, "--force"]).ok();
    }
    let names = |args: &[&str]| {
        let done = user.run(&[&["agents", "list"][..], args].concat());
        let names: Vec<String> = done.out.lines().skip(1).map(|row| row[..1].to_owned()).collect();
        let cursor = done.err.split("--cursor ").nth(1).map(|text| text.trim().to_owned());
        (names.concat(), cursor)
    };
    assert_eq!(names(&[]), ("cb".to_owned(), None));
    assert_eq!(names(&["--archived"]), ("da".to_owned(), None));
    assert!(user.run(&["agents", "list", "--archived"]).ok().lines().next().unwrap().ends_with("ARCHIVED"));
    for (flag, first, second) in [(&[][..], "c", "b"), (&["--archived"], "d", "a")] {
        let (name, cursor) = names(&[flag, &["--limit", "1"]].concat());
        assert_eq!(name, first);
        let cursor = cursor.unwrap();
        let rest = [flag, &["--limit", "1", "--cursor", &cursor]].concat();
        assert_eq!(names(&rest), (second.to_owned(), None));
    }
    user.run(&["agents", "restore", "a"]).ok();
    assert_eq!(names(&["--archived"]).0, "d");
}
