//! Another program in the box of a workload.
//!
//! Invariant: only of a workload of the tenant, and by who may administer it: what runs in a box sees all that its program does. What it
//! answers is the program's; that it was run, and by whom, is in the run's journal before.

use lantern_edge::{Code, Error, Fields, Model, Result};
use lantern_policy::Permit;
use lantern_policy::action::ExecWorkload;
use lantern_policy::workload::{Exec, Execd, Unrun};
use lantern_types::{Dur, RunId};
use serde::Serialize;
use utoipa::ToSchema;

use super::service;
use crate::App;
use crate::features::runs::steer;

/// Arguments of a program, and the bytes of all of them.
const ARGUMENTS_MAX: usize = 256;
const BYTES_MAX: usize = 32 << 10;
/// How long a program may take, and when nobody says.
const SECONDS_MAX: u64 = 600;
const SECONDS: u64 = 60;
/// When to ask again for one of the few that may run at once.
const AGAIN: Dur = Dur::from_secs(1);

/// A program that is to run in a box.
#[derive(Debug)]
pub(super) struct Asked {
    argv: Vec<String>,
    seconds: u64,
}

impl Model for Asked {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let command = fields.required_text("command", BYTES_MAX);
        let arguments = fields.texts("argv", ARGUMENTS_MAX, BYTES_MAX).unwrap_or_default();
        let seconds = fields.integer("timeoutSeconds", 1..=SECONDS_MAX).unwrap_or(SECONDS);
        let argv: Vec<String> = std::iter::once(command?).chain(arguments).collect();
        if argv.iter().map(String::len).sum::<usize>() > BYTES_MAX {
            fields.issue("argv", format!("the program and its arguments have at most {BYTES_MAX} bytes"));
        }
        if argv.iter().any(|text| text.contains('\0')) {
            fields.issue("argv", "a program and its arguments have no zero byte");
        }
        Some(Self { argv, seconds })
    }
}

/// What a program in a box did.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ExecResult)]
pub(super) struct Answer {
    stdout: String,
    stderr: String,
    /// 128 and the signal's number when a signal ended it, and -1 when its time was over.
    exit_code: i32,
    /// Whether it took longer than it may, and was ended.
    timed_out: bool,
    /// Whether it wrote more than a MiB to one of them, of which the beginning is here.
    truncated: bool,
}

/// Runs a program to its end.
pub(super) async fn exec(
    app: &App,
    permit: &Permit<ExecWorkload>,
    run: RunId,
    asked: Asked,
) -> Result<Answer> {
    let row = service::find(app, permit.scope(), run).await?;
    if row.over() {
        return Err(no_box());
    }
    let runtime = super::cluster::runtime(app)?;
    let timeout = Dur::from_secs(asked.seconds);
    let exec = Exec { argv: asked.argv, timeout, by: steer::by(permit.actor()) };
    let Execd { code, stdout, stderr, cut } =
        (runtime.exec)(permit.scope(), run, exec).await.map_err(refused)?;
    Ok(Answer { stdout, stderr, exit_code: code.unwrap_or(-1), timed_out: code.is_none(), truncated: cut })
}

fn no_box() -> Error {
    Error::new(Code::WorkloadNotRunning, "the workload has no box now, so nothing can be run in it")
}

fn refused(why: Unrun) -> Error {
    match why {
        Unrun::NoBox => no_box(),
        Unrun::Refused(words) => Error::new(Code::RuntimeUnsupported, words),
        Unrun::Busy => Error::new(Code::Unavailable, "as many programs run in this box as may; ask again")
            .retry_after(AGAIN),
        Unrun::Full => Error::new(
            Code::SignalsFull,
            "the run keeps no more, so what is run in its box could not be told",
        ),
        Unrun::Away => Error::new(Code::Unavailable, "the node cannot run it now; ask again"),
    }
}
