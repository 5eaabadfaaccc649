//! `lantern agents edit`, with scripts as editors.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::process::{Folder, Server};
use crate::cli_fake::{Done, User};

/// A person with an agent, and a folder for what they edit.
struct Author {
    user: User,
    _server: Server,
    _folder: Folder,
}

impl Author {
    fn new() -> Self {
        let folder = Folder::new();
        let server = Server::dev(folder.path());
        let user =
            User::new().with("LANTERN_API_URL", &server.api).with("PATH", "/usr/local/bin:/usr/bin:/bin");
        user.run(&["login", "--email", "admin@lantern.dev", "--password", "lantern"]).ok();
        std::fs::create_dir(user.home.join("drafts")).unwrap();
        let drafts = user.home.join("drafts").to_str().unwrap().to_owned();
        let user = user.with("TMPDIR", &drafts);
        let file = user
            .file("a.json", json!({ "name": "a", "systemPrompt": "Be brief.", "maxTurns": 3 }).to_string());
        user.run(&["agents", "create", "--file", &file]).ok();
        Self { user, _server: server, _folder: folder }
    }

    /// Edits the agent with this script, whose `$1` is the file.
    fn edit(&self, script: &str, args: &[&str]) -> Done {
        let editor = self.user.file("editor", format!("#!/bin/sh\nset -eu\n{script}\n"));
        std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755)).unwrap();
        let more = [("VISUAL", editor.as_str()), ("LANTERN", env!("CARGO_BIN_EXE_lantern"))];
        self.user.run_with(&more, &[&["agents", "edit", "a"], args].concat())
    }

    fn agent(&self) -> Value {
        serde_json::from_str(&self.user.run(&["agents", "get", "a", "-o", "json"]).ok()).unwrap()
    }

    fn drafts(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.user.home.join("drafts")).unwrap();
        files.map(|file| file.unwrap().path()).collect()
    }
}

#[test]
fn an_agent_is_changed_in_an_editor() {
    let author = Author::new();
    let before = author.agent();
    let done = author.edit("cp \"$1\" ../seen; sed -i 's/Be brief/Be kind/; /maxTurns/d' \"$1\"", &[]);
    assert_eq!((done.code, done.out.as_str()), (0, "saved the agent a, version 2\n"), "{done:?}");
    assert!(done.err.contains("-  \"maxTurns\": 3,\n"), "{done:?}");
    assert!(done.err.contains("-  \"systemPrompt\": \"Be brief.\""), "{done:?}");
    assert!(done.err.contains("+  \"systemPrompt\": \"Be kind.\""), "{done:?}");
    let after = author.agent();
    assert_eq!((&after["systemPrompt"], &after["maxTurns"]), (&json!("Be kind."), &json!(12)), "the default");
    assert_eq!(after["id"], before["id"]);
    assert!(author.drafts().is_empty(), "what is saved is not kept");

    let done = author.edit("true", &[]);
    assert_eq!((done.code, done.out.as_str()), (0, "nothing changed in the agent a\n"), "{done:?}");
    let done = author.edit("touch \"$1\"", &["-o", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&done.ok()).unwrap(), json!({ "name": "a", "changed": false }));
    assert_eq!(author.agent()["version"], 2, "nothing was saved");
    assert!(author.drafts().is_empty());
}

#[test]
fn what_cannot_be_saved_is_kept_and_named() {
    let author = Author::new();
    for (script, exit, words) in [
        ("echo '{' > \"$1\"", 2, "the text is not JSON"),
        ("echo '{\"name\": \"b\"}' > \"$1\"", 2, "the name of the agent a cannot be changed"),
        ("sed -i 's/\"maxTurns\": 3/\"maxTurns\": 4000/' \"$1\"", 2, "maxTurns"),
        ("exit 3", 1, "ended with exit status: 3 (editor_failed)"),
    ] {
        let done = author.edit(script, &[]);
        assert_eq!(done.code, exit, "{script}: {done:?}");
        assert!(done.err.contains(words), "{script}: {done:?}");
        let drafts = author.drafts();
        assert_eq!(drafts.len(), 1, "{drafts:?}");
        assert!(done.err.contains(drafts[0].to_str().unwrap()), "{done:?}");
        assert_eq!(std::fs::metadata(&drafts[0]).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::remove_file(&drafts[0]).unwrap();
    }
    assert_eq!(author.agent()["version"], 1, "nothing was saved");
}

#[test]
fn an_agent_that_somebody_else_changed_meanwhile_is_not_overwritten() {
    let author = Author::new();
    let done = author.edit(
        "\"$LANTERN\" agents create --name a --description theirs; sed -i 's/Be brief/Be mine/' \"$1\"",
        &[],
    );
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.err.contains("(version_mismatch)\nnext: the text is kept in "), "{done:?}");
    let agent = author.agent();
    assert_eq!((&agent["description"], &agent["systemPrompt"]), (&json!("theirs"), &json!("Be brief.")));
    // The text that was kept goes on from where it was.
    let kept = author.drafts().remove(0);
    let from = kept.to_str().unwrap();
    assert!(done.err.contains(&format!("`lantern agents edit a --from {from}`")), "{done:?}");
    let done = author.edit("sed -i 's/{/{ \"description\": \"both\",/' \"$1\"", &["--from", from]);
    assert_eq!(done.code, 0, "{done:?}");
    let agent = author.agent();
    assert_eq!((&agent["description"], &agent["systemPrompt"]), (&json!("both"), &json!("Be mine.")));
}

#[test]
fn an_agent_that_is_not_there_is_not_edited() {
    let author = Author::new();
    let done = author.user.run(&["agents", "edit", "nobody"]);
    assert_eq!(done.code, 4, "{done:?}");
    assert!(author.drafts().is_empty());
}
