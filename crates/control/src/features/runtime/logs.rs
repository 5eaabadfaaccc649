//! What a workload writes: what is stored, then what comes, then the end.
//!
//! Invariant: every line that is kept is sent once and in order, with its number as the frame's id. The stream ends when the box is
//! gone; the node has written everything before it says so.

use std::collections::VecDeque;

use futures_util::{Stream, stream};
use lantern_edge::sse::{After, Frame};
use lantern_edge::{Code, Error, Result, pass};
use lantern_policy::Scope;
use lantern_store::notify::RunWatch;
use lantern_store::workloads::{self, Lines, WorkloadRow};
use lantern_types::{Dur, RunId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use super::model::vm_id;
use super::service;
use crate::App;

/// Rows that are read at once.
const ROWS: u32 = 16;
/// How often it looks without being told.
const LOOK: Dur = Dur::from_millis(500);

/// A line as the node keeps it.
#[derive(Debug, Deserialize)]
struct Line {
    stream: String,
    text: String,
    at: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Said<'a> {
    vm_id: &'a str,
    stream: &'a str,
    text: &'a str,
    at: &'a str,
}

/// The lines of a workload from after `after` on. `workload_not_found` when it is not there, `too_many_streams` when the process
/// has enough.
pub(super) async fn follow(
    app: &App,
    scope: Scope,
    run: RunId,
    after: After,
) -> Result<impl Stream<Item = Frame> + Send + 'static> {
    service::find(app, scope, run).await?;
    let place = app.stream_place()?;
    let tail = Tail {
        watch: app.db.hub().subscribe(scope, run),
        app: app.clone(),
        scope,
        run,
        id: vm_id(run),
        next: after.id.saturating_add(1),
        live: after.live,
        ready: VecDeque::new(),
        over: false,
        _place: place,
    };
    Ok(stream::unfold(tail, |mut tail| async move { tail.frame().await.map(|frame| (frame, tail)) }))
}

/// The last frame for a client who may no longer follow.
pub(super) fn no_longer() -> Frame {
    let data = json!({ "code": Code::Unauthorized.as_str(), "error": pass::NO_LONGER });
    Frame { id: None, event: "error".into(), data: data.to_string() }
}

struct Tail {
    app: App,
    scope: Scope,
    run: RunId,
    id: String,
    /// The number of the next line to send.
    next: u64,
    live: bool,
    ready: VecDeque<Frame>,
    watch: RunWatch,
    over: bool,
    _place: OwnedSemaphorePermit,
}

impl Tail {
    async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            if self.over {
                return None;
            }
            if let Err(error) = self.read_on().await {
                tracing::warn!(run = %self.run, %error, "a stream of logs broke off");
                return None;
            }
        }
    }

    async fn read_on(&mut self) -> Result<()> {
        // Looked at first: what was written before the end is there when the end is.
        let row = workloads::find(&self.app.db, self.scope, self.run).await?;
        if self.read().await? {
            return Ok(());
        }
        let Some(row) = row else {
            self.over = true;
            return Ok(());
        };
        if row.over() {
            self.end(&row);
        } else if self.live {
            tokio::select! {
                biased;
                () = self.watch.changed() => {}
                () = self.app.clock.sleep(LOOK) => {}
            }
        } else {
            self.over = true;
        }
        Ok(())
    }

    /// Reads the next lines; whether there were any.
    async fn read(&mut self) -> Result<bool> {
        let sealer = self.app.vault.sealer();
        let rows = workloads::lines(&self.app.db, sealer, self.scope, self.run, (self.next, ROWS)).await?;
        let some = !rows.is_empty();
        for Lines { first, n, plain } in rows {
            let lines: Vec<Line> = serde_json::from_slice(&plain).map_err(Error::internal)?;
            for (number, line) in (first..).zip(&lines) {
                if number >= self.next {
                    self.push(number, line)?;
                }
            }
            self.next = self.next.max(first.saturating_add(n));
        }
        Ok(some)
    }

    fn push(&mut self, number: u64, line: &Line) -> Result<()> {
        let said = Said { vm_id: &self.id, stream: &line.stream, text: &line.text, at: &line.at };
        let data = serde_json::to_string(&said).map_err(Error::internal)?;
        self.ready.push_back(Frame { id: Some(number), event: "".into(), data });
        Ok(())
    }

    fn end(&mut self, row: &WorkloadRow) {
        let data = json!({ "vmId": self.id, "state": row.shown_state(), "reason": row.reason, "exitCode": row.exit_code });
        self.ready.push_back(Frame { id: None, event: "end".into(), data: data.to_string() });
        self.over = true;
    }
}
