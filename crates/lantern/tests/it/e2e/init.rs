//! `lantern init`: what it writes runs as it is, by the commands of its own README.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::process::{Folder, Server};
use crate::cli_fake::{Done, User};

/// The commands of a README, as a shell would read them.
fn commands(readme: &str) -> String {
    let lines = readme.lines().filter_map(|line| line.strip_prefix("    "));
    format!("set -eu -o pipefail\n{}\n", lines.collect::<Vec<_>>().join("\n"))
}

/// Runs a script in a folder, with the program on the path.
fn shell(user: &User, server: &Server, folder: &Path, script: &str) -> Done {
    let bin = Path::new(env!("CARGO_BIN_EXE_lantern")).parent().unwrap();
    let mut command = Command::new("bash");
    command.args(["-c", script]).current_dir(folder).env_clear().env("HOME", &user.home);
    command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()));
    command.env("LANTERN_API_URL", &server.api);
    Done::of(command.output().unwrap())
}

#[test]
fn every_template_runs_by_the_commands_of_its_readme() {
    let folder = Folder::new();
    let server = Server::dev(folder.path());
    let user = User::new().with("LANTERN_API_URL", &server.api);
    user.run(&["login", "--email", "admin@lantern.dev", "--password", "lantern"]).ok();
    for (template, said) in [
        ("basic", "offline model"),
        ("research", "research.invalid"),
        ("tool-use", "(120+33)*2 = 306"),
        ("approval", "\"approved\":true"),
    ] {
        let name = format!("my-{template}");
        let made = user.run(&["init", &name, "--template", template, "-o", "json"]).ok();
        let want = json!({ "agent_name": name, "template": template, "directory": name,
            "files": ["agent.json", "input.json", "README.md"] });
        assert_eq!(serde_json::from_str::<Value>(&made).unwrap(), want);
        let place = user.home.join(&name);
        if template == "research" {
            // The tests have no network: the page is not there, and the model is told.
            let file = place.join("input.json");
            let input = std::fs::read_to_string(&file).unwrap();
            assert!(input.contains("www.rfc-editor.org"));
            std::fs::write(&file, input.replace("www.rfc-editor.org", "research.invalid")).unwrap();
        }
        let script = commands(&std::fs::read_to_string(place.join("README.md")).unwrap());
        assert!(script.matches("lantern ").count() >= 2, "{script}");
        shell(&user, &server, &place, &script).ok();
        let runs = user.run(&["runs", "list", "--agent", &name, "-o", "json"]).ok();
        let runs: Value = serde_json::from_str(&runs).unwrap();
        assert_eq!(runs.as_array().unwrap().len(), 1, "{runs}");
        let run = user.run(&["runs", "get", runs[0]["id"].as_str().unwrap()]).ok();
        assert!(run.contains("✔ succeeded") && run.contains(said), "{run}");
        if template == "research" {
            let log = user.run(&["logs", runs[0]["id"].as_str().unwrap()]).ok();
            assert!(log.contains("http.fetch"), "{log}");
        }
    }
}

#[test]
fn nothing_is_written_over_and_what_does_not_exist_is_not_offered() {
    let user = User::new();
    let made = user.run(&["init", "first"]);
    assert_eq!(made.out, "made first/ with agent.json, input.json, README.md from the template basic\n");
    assert!(made.err.contains("cd first"), "{made:?}");
    std::fs::write(user.home.join("first/agent.json"), "mine").unwrap();
    let again = user.run(&["init", "first", "--template", "approval"]);
    assert_eq!(again.code, 2);
    assert!(again.err.contains("first is there already, and nothing is written over (exists)"), "{again:?}");
    assert_eq!(std::fs::read_to_string(user.home.join("first/agent.json")).unwrap(), "mine");
    for (template, lacks) in
        [("connector", "connectors"), ("personal", "channels to a person"), ("scheduled", "schedules")]
    {
        let refused = user.run(&["init", "second", "--template", template]);
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.err.contains(&format!("the template {template} needs {lacks}")), "{refused:?}");
        assert!(
            refused.err.contains("(template_unavailable)\nnext: Lantern does not have them yet"),
            "{refused:?}"
        );
        assert!(!user.home.join("second").exists());
    }
    for name in ["../out", "a/b", ".hidden"] {
        assert_eq!(user.run(&["init", name]).code, 2, "{name}");
    }
}
