//! Runs that start runs, on a data folder with the writer that servers have: what is a commit there may be answered
//! from another commit's task, which no database in memory shows.

use std::path::Path;
use std::time::Duration;

use lantern_types::Failure;
use serde_json::json;

use crate::bench::{Act, Bench};

/// How long this may take before it counts as never.
const NEVER: Duration = Duration::from_mins(1);
const RUNS: usize = 10;
const CHILDREN: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn maps_over_children_end_on_the_writer_of_a_data_folder() {
    let folder = std::env::temp_dir().join(format!("lantern-tree-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    tokio::time::timeout(NEVER, maps_over_children(&folder)).await.expect("some run never ended");
    std::fs::remove_dir_all(folder).unwrap();
}

async fn maps_over_children(folder: &Path) {
    let bench = Bench::on_disk(folder).await;
    let sum = json!({"id": "sum", "kind": "tool", "data": {"tool": "calc", "arguments": {}}});
    bench.agent("child", json!({"program": "steps", "steps": [sum]})).await;
    let items: Vec<usize> = (0..CHILDREN).collect();
    let map = json!({"id": "each", "kind": "map", "concurrency": CHILDREN, "items": items,
        "steps": [{"id": "sub", "kind": "child", "data": {"agent": "child"}}]});
    bench.agent("parent", json!({"program": "steps", "steps": [map]})).await;
    bench.script.on("sum", (0..RUNS * CHILDREN).map(|n| Act::Return(json!(n))).collect());
    bench.start_worker();
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        runs.push(bench.start_run("parent", json!({})).await);
    }
    for run in &runs {
        bench.until(*run, "succeeded").await;
    }
    for run in runs {
        bench.folded(run).await;
        let children = bench.children_of(run).await;
        assert_eq!(children.len(), CHILDREN);
        assert!(children.iter().all(|child| child.status == "succeeded"), "{children:?}");
    }
    assert_eq!(bench.script.calls().len(), RUNS * CHILDREN);
    bench.stop().await;
}

/// Each try of a child is a run of its own, under a key of its own, and the parent pays for both.
#[tokio::test(start_paused = true)]
async fn a_child_that_failed_is_started_again_where_its_step_says_so() {
    let bench = Bench::new().await;
    let once = json!({"maxAttempts": 1});
    let sum = json!({"id": "sum", "kind": "tool", "retry": once, "data": {"tool": "calc", "arguments": {}}});
    bench.agent("child", json!({"program": "steps", "steps": [sum]})).await;
    let sub = json!({"id": "sub", "kind": "child", "retries": 1, "data": {"agent": "child"}});
    bench.agent("parent", json!({"program": "steps", "steps": [sub]})).await;
    let broken = || Act::Fail(Failure::unknown("tool_failed", "no luck"));
    bench.script.on("sum", vec![broken(), Act::Return(json!("at last"))]);
    bench.start_worker();
    let run = bench.start_run("parent", json!({})).await;
    bench.until(run, "succeeded").await;
    let mut ends: Vec<String> = bench.children_of(run).await.into_iter().map(|child| child.status).collect();
    ends.sort();
    assert_eq!(ends, ["failed", "succeeded"]);
    let (folded, _) = bench.folded(run).await;
    assert_eq!(folded.output.unwrap()["steps"]["sub"]["result"], "at last");
    bench.script.on("sum", vec![broken(), broken()]);
    let run = bench.start_run("parent", json!({})).await;
    let row = bench.until(run, "failed").await;
    assert_eq!(row.error_code.as_deref(), Some("tool_failed"));
    assert_eq!(bench.children_of(run).await.len(), 2, "no third one");
    bench.stop().await;
}
