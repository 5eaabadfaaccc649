//! The help texts, word for word. `UPDATE=1` records those of this build, when the change to them is meant.

use std::path::Path;

use super::cli_fake::User;

const TEXTS: &[(&str, &[&str])] = &[
    ("lantern", &[]),
    ("dev", &["dev"]),
    ("serve", &["serve"]),
    ("migrate", &["migrate"]),
    ("backup", &["backup"]),
    ("restore", &["restore"]),
    ("config", &["config"]),
    ("config-explain", &["config", "explain"]),
    ("onboard", &["onboard"]),
    ("login", &["login"]),
    ("signup", &["signup"]),
    ("whoami", &["whoami"]),
    ("logout", &["logout"]),
    ("agents", &["agents"]),
    ("agents-create", &["agents", "create"]),
    ("agents-get", &["agents", "get"]),
    ("agents-list", &["agents", "list"]),
    ("agents-edit", &["agents", "edit"]),
    ("agents-archive", &["agents", "archive"]),
    ("agents-restore", &["agents", "restore"]),
    ("agents-versions", &["agents", "versions"]),
    ("agents-diff", &["agents", "diff"]),
    ("agents-promote", &["agents", "promote"]),
    ("runs", &["runs"]),
    ("runs-create", &["runs", "create"]),
    ("runs-get", &["runs", "get"]),
    ("runs-list", &["runs", "list"]),
    ("runs-watch", &["runs", "watch"]),
    ("runs-cancel", &["runs", "cancel"]),
    ("runs-fork", &["runs", "fork"]),
    ("runs-replay", &["runs", "replay"]),
    ("runs-diff", &["runs", "diff"]),
    ("runs-pause", &["runs", "pause"]),
    ("runs-resume", &["runs", "resume"]),
    ("runs-signal", &["runs", "signal"]),
    ("runs-approve", &["runs", "approve"]),
    ("runs-deny", &["runs", "deny"]),
    ("runs-resolve", &["runs", "resolve"]),
    ("runs-delete", &["runs", "delete"]),
    ("approvals", &["approvals"]),
    ("approvals-list", &["approvals", "list"]),
    ("approvals-get", &["approvals", "get"]),
    ("approvals-grant", &["approvals", "grant"]),
    ("approvals-deny", &["approvals", "deny"]),
    ("logs", &["logs"]),
    ("keys", &["keys"]),
    ("keys-list", &["keys", "list"]),
    ("keys-create", &["keys", "create"]),
    ("keys-revoke", &["keys", "revoke"]),
    ("providers", &["providers"]),
    ("providers-list", &["providers", "list"]),
    ("providers-set", &["providers", "set"]),
    ("providers-test", &["providers", "test"]),
    ("providers-delete", &["providers", "delete"]),
    ("tools", &["tools"]),
    ("limits", &["limits"]),
    ("export", &["export"]),
    ("doctor", &["doctor"]),
    ("init", &["init"]),
    ("completions", &["completions"]),
];

#[test]
fn the_help_texts_are_the_recorded_ones() {
    let user = User::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/help");
    let update = std::env::vars().any(|(name, value)| name == "UPDATE" && value == "1");
    let mut differing = Vec::new();
    for (name, args) in TEXTS {
        let help = user.run(&[args, &["--help"][..]].concat()).ok();
        let file = folder.join(format!("{name}.txt"));
        if update {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&file, &help).unwrap();
        }
        if std::fs::read_to_string(&file).unwrap_or_default() != help {
            differing.push((name, help));
        }
    }
    assert!(differing.is_empty(), "UPDATE=1 records them anew: {differing:#?}");
}

#[test]
fn completions_are_written_for_every_shell() {
    let user = User::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = user.run(&["completions", shell]).ok();
        assert!(script.contains("lantern") && script.contains("whoami"), "{shell}");
    }
}
