//! The main job on real input: this repository's own history, by the commands of the README.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::process::{Folder, Server, lantern};

struct Shell<'a> {
    server: &'a Server,
    home: &'a Folder,
}

impl Shell<'_> {
    fn run(&self, args: &[&str]) -> Output {
        let credentials = self.home.path().join("credentials.json");
        lantern()
            .args(args)
            .env("LANTERN_API_URL", &self.server.api)
            .env("LANTERN_CREDENTIALS", credentials)
            .env("HOME", self.home.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {words}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// So many areas the offline model digests, the biggest first.
const AREAS_MAX: usize = 64;
/// In so many turns at most.
const TURNS_MAX: usize = 10;

/// The changed lines of each area of a history, as Git itself counts them in it.
fn areas(history: &[u8]) -> BTreeMap<String, u64> {
    let mut git = Command::new("git");
    git.args(["apply", "--numstat", "-z"]).current_dir(root()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = git.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(history).unwrap());
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{output:?}");
    let mut areas = BTreeMap::new();
    for file in String::from_utf8(output.stdout).unwrap().split_terminator('\0') {
        let [added, removed, path] = file.splitn(3, '\t').collect::<Vec<_>>()[..] else { panic!("{file:?}") };
        let folders: Vec<&str> = path.split('/').collect();
        let area = match folders[..] {
            ["crates", name, _, ..] => format!("crates/{name}"),
            [first, _, ..] => first.to_owned(),
            _ => ".".to_owned(),
        };
        // Of a file that is no text it counts nothing.
        let lines = |n: &str| n.parse::<u64>().unwrap_or_default();
        *areas.entry(area).or_default() += lines(added) + lines(removed);
    }
    areas
}

/// The newest commits, as many of at most twenty as change no more areas than are digested; of one that is too long or
/// changes more, its beginning.
fn history() -> Vec<u8> {
    let newest = |n: usize| {
        let mut git = Command::new("git");
        git.args(["log", "-p", "--no-merges", "--no-color", "-n", &n.to_string()]);
        let output = git.current_dir(root()).output().unwrap();
        assert!(output.status.success() && output.stdout.len() > 1_000, "a checkout with its history");
        output.stdout
    };
    let fits = |text: &Vec<u8>| text.len() <= 1 << 20 && areas(text).len() <= AREAS_MAX;
    (1..=20).rev().map(newest).find(fits).unwrap_or_else(|| {
        let mut text = newest(1);
        text.truncate(1 << 20);
        // Whole files.
        let end = text.windows(12).rposition(|bytes| bytes == b"\ndiff --git ").unwrap();
        text.truncate(end + 1);
        text
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_digest_of_this_repositorys_own_history() {
    let (folder, home) = (Folder::new(), Folder::new());
    let input = home.path().join("history.txt");
    let text = history();
    std::fs::write(&input, &text).unwrap();
    let server = Server::dev(folder.path());
    let shell = Shell { server: &server, home: &home };
    shell.ok(&["login", "--email", "admin@lantern.dev", "--password", "lantern"]);
    let file = root().join("examples/digest/agent.json");
    shell.ok(&["agents", "create", "--file", file.to_str().unwrap()]);
    let asked = format!("@{}", input.display());
    let followed = shell.ok(&["runs", "create", "--agent", "digest", "--input", &asked, "--follow"]);
    assert!(followed.contains("calc") && followed.contains("offline model"), "{followed}");
    let list = shell.ok(&["runs", "list", "--output", "json"]);
    let runs: Value = serde_json::from_str(&list).unwrap();
    let id = runs[0]["id"].as_str().unwrap();
    assert_eq!(runs[0]["status"], "succeeded");

    let mut wanted: Vec<(String, u64)> = areas(&text).into_iter().collect();
    wanted.sort_by_key(|(_, lines)| std::cmp::Reverse(*lines));
    wanted.truncate(AREAS_MAX);
    let logs = shell.ok(&["logs", id, "-o", "json"]);
    let frames: Vec<Value> = logs.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let done = |field: &'static str, value: &'static str| {
        let done = frames.iter().filter(|frame| frame["kind"] == "step_completed");
        done.filter(move |frame| frame["data"][field] == value)
    };
    let answers: Vec<u64> =
        done("name", "calc").map(|frame| frame["data"]["output"]["value"].as_u64().unwrap()).collect();
    let mut lines: Vec<u64> = wanted.iter().map(|(_, lines)| *lines).collect();
    let mut sums = answers;
    // What is asked at once is answered in any order.
    lines.sort_unstable();
    sums.sort_unstable();
    assert_eq!(sums, lines, "a tool call for each changed area, and none besides: {wanted:?}");
    let turns = lines.len().div_ceil(lines.len().div_ceil(TURNS_MAX));
    assert_eq!(done("type", "llm").count(), turns + 1, "turns that ask, and one that writes");
    let run: Value = serde_json::from_str(&shell.ok(&["runs", "get", id, "-o", "json"])).unwrap();
    let digest = run["output"]["result"].as_str().unwrap();
    for (area, lines) in &wanted {
        let title = if area == "." { "top level" } else { area };
        assert!(digest.contains(&format!("\n## {title}: {lines} lines changed\n")), "{area}: {digest}");
    }
}
