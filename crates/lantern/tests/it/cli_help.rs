//! The help texts, word for word. `UPDATE=1` records those of this build, when the change to them is meant.

use std::path::Path;
use std::process::Command;

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
    ("agents-generate", &["agents", "generate"]),
    ("agents-promote", &["agents", "promote"]),
    ("models", &["models"]),
    ("ask", &["ask"]),
    ("runs", &["runs"]),
    ("runs-create", &["runs", "create"]),
    ("runs-get", &["runs", "get"]),
    ("runs-list", &["runs", "list"]),
    ("runs-watch", &["runs", "watch"]),
    ("runs-cancel", &["runs", "cancel"]),
    ("runs-fork", &["runs", "fork"]),
    ("runs-replay", &["runs", "replay"]),
    ("runs-diff", &["runs", "diff"]),
    ("runs-explain", &["runs", "explain"]),
    ("runs-pause", &["runs", "pause"]),
    ("runs-resume", &["runs", "resume"]),
    ("runs-signal", &["runs", "signal"]),
    ("runs-approve", &["runs", "approve"]),
    ("runs-deny", &["runs", "deny"]),
    ("runs-resolve", &["runs", "resolve"]),
    ("runs-redact", &["runs", "redact"]),
    ("runs-delete", &["runs", "delete"]),
    ("sessions", &["sessions"]),
    ("sessions-create", &["sessions", "create"]),
    ("sessions-list", &["sessions", "list"]),
    ("sessions-get", &["sessions", "get"]),
    ("sessions-send", &["sessions", "send"]),
    ("sessions-events", &["sessions", "events"]),
    ("sessions-stop", &["sessions", "stop"]),
    ("sessions-delete", &["sessions", "delete"]),
    ("chat", &["chat"]),
    ("costs", &["costs"]),
    ("budgets", &["budgets"]),
    ("budgets-list", &["budgets", "list"]),
    ("budgets-get", &["budgets", "get"]),
    ("budgets-set", &["budgets", "set"]),
    ("budgets-delete", &["budgets", "delete"]),
    ("approvals", &["approvals"]),
    ("approvals-list", &["approvals", "list"]),
    ("approvals-get", &["approvals", "get"]),
    ("approvals-grant", &["approvals", "grant"]),
    ("approvals-deny", &["approvals", "deny"]),
    ("approvals-answer", &["approvals", "answer"]),
    ("stop", &["stop"]),
    ("stops", &["stops"]),
    ("stops-list", &["stops", "list"]),
    ("stops-get", &["stops", "get"]),
    ("stops-lift", &["stops", "lift"]),
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
    ("retention", &["retention"]),
    ("routing", &["routing"]),
    ("routing-alias", &["routing", "alias"]),
    ("routing-set", &["routing", "set"]),
    ("routing-show", &["routing", "show"]),
    ("calls", &["calls"]),
    ("caps", &["caps"]),
    ("receipts", &["receipts"]),
    ("receipts-export", &["receipts", "export"]),
    ("receipts-rotate-key", &["receipts", "rotate-key"]),
    ("verify", &["verify"]),
    ("export", &["export"]),
    ("doctor", &["doctor"]),
    ("init", &["init"]),
    ("completions", &["completions"]),
    ("man", &["man"]),
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

/// What a shell that is there answers; `None` where there is none, as on a machine without it.
fn shell(program: &str, args: &[&str], user: &User) -> Option<String> {
    let mut command = Command::new(program);
    command.args(args).env("HOME", &user.home).current_dir(&user.home);
    let output = command.output().ok()?;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program}: {words}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn completions_complete() {
    let user = User::new();
    for (name, program) in [("bash", "bash"), ("zsh", "zsh"), ("fish", "fish")] {
        let script = user.run(&["completions", name]).ok();
        user.file(&format!("lantern.{program}"), script);
    }
    let asked = "source lantern.bash; COMP_WORDS=(lantern runs w); COMP_CWORD=2; _lantern lantern w runs; \
                 echo \"${COMPREPLY[@]}\"; COMP_WORDS=(lantern init --template ''); COMP_CWORD=3; \
                 _lantern lantern '' --template; echo \"${COMPREPLY[@]}\"";
    let bash = shell("bash", &["-c", asked], &user).expect("every machine that builds this has bash");
    let lines: Vec<&str> = bash.lines().collect();
    assert_eq!(lines[0], "watch", "{bash}");
    assert!(lines[1].contains("basic") && lines[1].contains("approval"), "{bash}");
    shell("zsh", &["-n", "lantern.zsh"], &user);
    if let Some(fish) = shell("fish", &["-c", "source lantern.fish; complete -C 'lantern runs wa'"], &user) {
        assert!(fish.starts_with("watch"), "{fish}");
    }
}

#[test]
fn manual_pages_are_made_of_the_command_line() {
    let user = User::new();
    let page = user.run(&["man", "runs", "watch"]).ok();
    assert!(page.contains(".TH lantern-runs-watch 1"), "{page}");
    assert!(page.contains("Watch runs live on the whole screen") && page.contains("\\-\\-agent"), "{page}");
    assert!(user.run(&["man"]).ok().contains(".TH lantern 1"));
    let refused = user.run(&["man", "runs", "wach"]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("there is no command runs wach"), "{refused:?}");

    let answer = user.run(&["man", "--dir", "man1", "-o", "json"]).ok();
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let pages: Vec<&str> =
        answer["pages"].as_array().unwrap().iter().map(|page| page.as_str().unwrap()).collect();
    for (name, args) in TEXTS {
        let page = [&["lantern"], *args].concat().join("-") + ".1";
        assert!(pages.contains(&page.as_str()), "{name} has no page");
        assert!(user.home.join("man1").join(page).exists());
    }
    // Where there is a formatter, it finds nothing odd.
    let dir = user.home.join("man1");
    for page in &pages {
        let file = dir.join(page);
        let mut command = Command::new("groff");
        command.args(["-Kutf8", "-man", "-Tutf8", "-ww", "-z"]).arg(&file);
        if let Ok(output) = command.output() {
            assert!(output.status.success() && output.stderr.is_empty(), "{page}: {output:?}");
        }
    }
}
