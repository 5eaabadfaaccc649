//! Runs as files, through the API and page by page.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use super::api::Api;
use super::process::{Folder, Server, lantern};

fn export(server: &Server, token: &str, args: &[&str], to: &Path) -> Output {
    let mut command = lantern();
    command.args(["-o", "json", "export"]).args(args).arg("--to").arg(to);
    command.env("LANTERN_API_URL", &server.api).env("LANTERN_API_TOKEN", token);
    command.output().unwrap()
}

fn answer(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[tokio::test]
async fn a_run_is_exported_as_its_events_its_row_and_its_manifest() {
    let folder = Folder::new();
    let server = Server::dev(&folder.path().join("data"));
    let api = Api::of(&server).await;
    let sum = json!({"tool": "calc", "arguments": {"expression": "1+1"}});
    let steps = json!([{"id": "sum", "kind": "tool", "data": sum},
        {"id": "go", "kind": "signal", "data": {"name": "go"}}]);
    api.agent("sum", json!({"program": "steps", "steps": steps})).await;
    let run = api.run("sum", json!({"text": "x".repeat(100_000)})).await;
    api.listen(&run, |event| event.event == "signal_waiting").await;

    // What there is of a run that is not over.
    let early = folder.path().join("early");
    let made = answer(&export(&server, &api.token, &[&run], &early));
    assert_eq!((&made["runs"], &made["open"]), (&json!(1), &json!(1)));
    let (status, _) = api.post(&format!("/v1/runs/{run}/signals/go"), &json!({"value": 1})).await;
    assert!(status < 300, "{status}");
    let row = api.ended(&run).await;
    let (_, frames) = api.events(&run, None).await;

    let to = folder.path().join("out");
    let made = answer(&export(&server, &api.token, &[&run], &to));
    assert_eq!((&made["runs"], &made["open"]), (&json!(1), &json!(0)));
    let place = to.join(&run);
    assert_eq!(read(&place.join("run.json")), row);
    assert_eq!(read(&place.join("manifest.json"))["steps"][0]["id"], "sum");
    let lines = |folder: &Path| -> Vec<Value> {
        let text = std::fs::read_to_string(folder.join(&run).join("journal.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let want: Vec<Value> = frames
        .iter()
        .filter(|frame| frame.event != "end" && frame.event != "llm_delta")
        .map(|frame| serde_json::from_str(&frame.data).unwrap())
        .collect();
    let all = lines(&to);
    assert_eq!(all, want);
    let before = lines(&early);
    assert!(before.len() < all.len() && before[..] == all[..before.len()]);
    assert_eq!(made["events"], all.len());
    // What was exported too early is exported again, and then left alone.
    let again = answer(&export(&server, &api.token, &[&run], &early));
    assert_eq!((&again["runs"], &again["renewed"], &again["kept"]), (&json!(1), &json!(1), &json!(0)));
    assert_eq!((lines(&early), read(&early.join(&run).join("run.json"))), (all.clone(), row));
    assert_eq!(answer(&export(&server, &api.token, &[&run], &early))["kept"], 1);
    let names: Vec<_> = std::fs::read_dir(&early).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [run.as_str()], "nothing else is left there");

    assert_eq!(answer(&export(&server, &api.token, &[&run], &to))["kept"], 1);
    let mut archive = lantern();
    archive.args(["agents", "archive", "sum", "--force"]).env("LANTERN_API_URL", &server.api);
    assert!(archive.env("LANTERN_API_TOKEN", &api.token).output().unwrap().status.success());
    let later = folder.path().join("later");
    assert_eq!(answer(&export(&server, &api.token, &[&run], &later))["runs"], 1);
    assert_eq!(lines(&later), all);
    let nobody = export(&server, "nobody", &[&run], &folder.path().join("nobody"));
    assert_eq!(nobody.status.code(), Some(3));
    let missing = "018f0000-0000-7000-8000-000000000001";
    assert_eq!(export(&server, &api.token, &[missing], &to).status.code(), Some(4));
}

#[tokio::test]
async fn all_runs_of_an_agent_are_exported_over_several_pages() {
    let folder = Folder::new();
    let server = Server::dev(&folder.path().join("data"));
    let api = Api::of(&server).await;
    let sum = json!({"tool": "calc", "arguments": {"expression": "1+1"}});
    let steps = json!([{"id": "sum", "kind": "tool", "data": sum}]);
    for agent in ["many", "other"] {
        api.agent(agent, json!({"program": "steps", "steps": steps})).await;
    }
    api.run("other", json!({})).await;
    let mut runs = Vec::new();
    for _ in 0..103 {
        runs.push(api.run("many", json!({})).await);
    }
    for run in &runs {
        api.until(run, |run| run["status"] == "succeeded").await;
    }
    let to = folder.path().join("out");
    let made = answer(&export(&server, &api.token, &["--agent", "many"], &to));
    assert_eq!((&made["runs"], &made["kept"], &made["open"]), (&json!(103), &json!(0), &json!(0)));
    let mut found: Vec<String> = std::fs::read_dir(&to)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort_unstable();
    runs.sort_unstable();
    assert_eq!(found, runs);
    std::fs::remove_dir_all(to.join(&runs[7])).unwrap();
    let made = answer(&export(&server, &api.token, &["--agent", "many"], &to));
    assert_eq!((&made["runs"], &made["kept"]), (&json!(1), &json!(102)));
    let nobodys = export(&server, &api.token, &["--agent", "nope"], &folder.path().join("nope"));
    assert_eq!(nobodys.status.code(), Some(4), "an agent that is not there");
    assert!(String::from_utf8_lossy(&nobodys.stderr).contains("agent_not_found"));
}
