//! A box that runs: what it writes, line by line, and how it ends.
//!
//! Invariant: after [`Happened::Ended`] nothing is left of the box: no process, no mount, no control group, no file. A box
//! that is over its time, or that was asked to stop and did not within its grace, is killed. Lines are bounded, and are
//! read only as fast as they are taken, so that a box that writes too much waits.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use lantern_types::edge::Clock;
use lantern_types::{At, Dur};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::cgroup::{Group, Groups};
use crate::exec::Shell;
use crate::handed;
use crate::oci::{Flavour, Runtime};
use crate::process;
use crate::wire::Wire;

/// Bytes of a line; a longer one is cut into several.
const LINE_MAX: usize = 16 * 1_024;
/// Lines of a runtime's complaint that are kept.
const TAIL_MAX: usize = 4;
/// How long a runtime may take for what is done at once.
pub(crate) const QUICK: Dur = Dur::from_secs(20);
/// What gVisor answers when it could not start a program; a program may answer it too.
const NOT_STARTED: i32 = 128;
/// How often to look whether the last process is gone, and how many times.
const LOOK: Dur = Dur::from_millis(10);
const LOOKS: u32 = 500;

/// Where a line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// To standard output.
    Stdout,
    /// To standard error.
    Stderr,
}

impl Stream {
    /// The contract's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// What happens in a box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// It wrote a line.
    Line(Stream, String),
    /// It is over, and gone.
    Ended(Ended),
}

/// How a box ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Why.
    pub why: Why,
    /// What its program answered; 128 and the signal's number when a signal ended it.
    pub code: Option<i32>,
}

/// Why a box ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its program did.
    Exited,
    /// It took longer than it may.
    TimedOut,
    /// It was asked to.
    Stopped,
    /// It never began.
    NotMade(String),
}

/// How a box is spoken to and taken apart.
pub(crate) enum Hold {
    Oci { runtime: Runtime, pid_file: PathBuf },
    Process { status: PathBuf },
}

/// A box that runs. To be asked for what happens until it has ended.
pub struct Running {
    pub(crate) id: String,
    pub(crate) child: Child,
    pub(crate) hold: Hold,
    pub(crate) dir: PathBuf,
    pub(crate) groups: Groups,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) path: OsString,
    /// Keeps the box's network until the box is gone.
    _wire: Option<Wire>,
    out: Option<Lines<ChildStdout>>,
    err: Option<Lines<ChildStderr>>,
    tail: VecDeque<String>,
    over_at: At,
    killed_at: Option<At>,
    why: Why,
}

/// What a box is made of; see [`Running`].
pub(crate) struct Parts {
    pub(crate) id: String,
    pub(crate) hold: Hold,
    pub(crate) dir: PathBuf,
    pub(crate) groups: Groups,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) path: OsString,
    pub(crate) timeout: Dur,
    pub(crate) wire: Option<Wire>,
}

impl Running {
    pub(crate) fn new(mut child: Child, parts: Parts) -> Self {
        let Parts { id, hold, dir, groups, clock, path, timeout, wire } = parts;
        let (out, err) = (child.stdout.take().map(Lines::new), child.stderr.take().map(Lines::new));
        let over_at = clock.now() + timeout;
        let (tail, killed_at, why) = (VecDeque::new(), None, Why::Exited);
        Self {
            id,
            child,
            hold,
            dir,
            groups,
            clock,
            path,
            _wire: wire,
            out,
            err,
            tail,
            over_at,
            killed_at,
            why,
        }
    }

    /// How another program is run in this box. `None` for a box by bubblewrap.
    pub fn shell(&self) -> Option<Shell> {
        let Hold::Oci { runtime, pid_file } = &self.hold else { return None };
        Some(Shell {
            runtime: runtime.clone(),
            id: self.id.clone(),
            dir: self.dir.clone(),
            pid_file: pid_file.clone(),
            path: self.path.clone(),
            clock: self.clock.clone(),
        })
    }

    /// Asks the program to end, and ends it after `grace`. Asking again only shortens the grace.
    pub async fn stop(&mut self, grace: Dur) {
        if self.why == Why::Exited {
            self.why = Why::Stopped;
            self.signal("TERM", Signal::TERM).await;
        }
        let until = self.clock.now() + grace;
        self.over_at = self.over_at.min(until);
    }

    /// What happens next. Asked again after the end, it tells the end again.
    pub async fn next(&mut self) -> Happened {
        loop {
            if self.out.is_none() && self.err.is_none() {
                break;
            }
            let wait = self.killed_at.unwrap_or(self.over_at).since(self.clock.now());
            tokio::select! {
                biased;
                () = self.clock.sleep(wait) => self.time_is_up().await,
                line = read(&mut self.out), if self.out.is_some() => match line {
                    Some(line) => return Happened::Line(Stream::Stdout, line),
                    None => self.out = None,
                },
                line = read(&mut self.err), if self.err.is_some() => match line {
                    Some(line) => {
                        if self.tail.len() == TAIL_MAX {
                            self.tail.pop_front();
                        }
                        self.tail.push_back(line.clone());
                        return Happened::Line(Stream::Stderr, line);
                    }
                    None => self.err = None,
                },
            }
        }
        Happened::Ended(self.end().await)
    }

    /// Over its time, or over its grace; or killed, and still something holds its pipes.
    async fn time_is_up(&mut self) {
        if self.killed_at.is_some() {
            self.out = None;
            self.err = None;
            return;
        }
        if self.why == Why::Exited {
            self.why = Why::TimedOut;
        }
        self.signal("KILL", Signal::KILL).await;
        self.killed_at = Some(self.clock.now() + QUICK);
    }

    async fn end(&mut self) -> Ended {
        let waited = tokio::select! {
            biased;
            status = self.child.wait() => status.ok(),
            () = self.clock.sleep(self.over_at.since(self.clock.now()).max(LOOK)) => None,
        };
        let status = match waited {
            Some(status) => Some(status),
            None => {
                // Its pipes are closed and it goes on: it has had its time.
                if self.why == Why::Exited {
                    self.why = Why::TimedOut;
                }
                self.signal("KILL", Signal::KILL).await;
                let killed = tokio::select! {
                    biased;
                    status = self.child.wait() => status.ok(),
                    () = self.clock.sleep(QUICK) => None,
                };
                if killed.is_none() {
                    // The box itself is taken down below; this is whoever waits for it.
                    let _ = self.child.start_kill();
                }
                killed
            }
        };
        let code = status.and_then(|status| {
            use std::os::unix::process::ExitStatusExt as _;
            status.code().or_else(|| status.signal().map(|signal| 128 + signal))
        });
        let began = self.began(code);
        self.remove().await;
        if !began && self.why == Why::Exited {
            let words: Vec<&str> = self.tail.iter().map(String::as_str).collect();
            self.why = Why::NotMade(words.join("; "));
        }
        let code = code.filter(|_| began);
        Ended { why: self.why.clone(), code }
    }

    /// Whether its program was started.
    fn began(&self, code: Option<i32>) -> bool {
        match &self.hold {
            // It says where its first process is before it knows whether there will be one.
            Hold::Oci { runtime, .. } if runtime.flavour == Flavour::Runsc && code == Some(NOT_STARTED) => {
                !self.tail.back().is_some_and(|line| line.starts_with("running container: "))
            }
            Hold::Oci { pid_file, .. } => pid_file.exists(),
            Hold::Process { status } => {
                let text = std::fs::read_to_string(status).unwrap_or_default();
                process::status(&text).ended || self.why != Why::Exited
            }
        }
    }

    async fn signal(&mut self, name: &str, signal: Signal) {
        match &self.hold {
            Hold::Oci { runtime, .. } => {
                // It may have ended meanwhile, and then there is nobody to be told.
                let _ = quiet(&*self.clock, &self.path, runtime.kill(&self.id, name)).await;
            }
            Hold::Process { status } => {
                let text = std::fs::read_to_string(status).unwrap_or_default();
                match process::status(&text).first {
                    Some(first) if signal == Signal::TERM => {
                        for pid in children(first) {
                            tell(pid, signal);
                        }
                    }
                    _ if signal == Signal::TERM => {}
                    first => {
                        first
                            .and_then(|pid| i32::try_from(pid).ok())
                            .into_iter()
                            .for_each(|pid| tell(pid, signal));
                        let _ = self.child.start_kill();
                    }
                }
            }
        }
    }

    /// Takes down what is left.
    async fn remove(&mut self) {
        if let Hold::Oci { runtime, .. } = &self.hold {
            let _ = quiet(&*self.clock, &self.path, runtime.delete(&self.id)).await;
        }
        clear(&*self.clock, &self.groups.of(&self.id)).await;
        if let Err(error) = handed::remove(&self.dir) {
            tracing::warn!(workload = self.id, %error, "the files of a box could not be removed");
        }
    }
}

/// Kills whoever is in control groups until nobody is, and removes them.
pub(crate) async fn clear(clock: &dyn Clock, group: &Group) {
    for _ in 0..LOOKS {
        group.members().into_iter().for_each(|pid| tell(pid, Signal::KILL));
        if group.remove() {
            return;
        }
        clock.sleep(LOOK).await;
    }
    tracing::warn!(groups = ?group.dirs, "control groups of a box could not be removed");
}

/// Ends a process, if it is there.
pub(crate) fn end_now(pid: i32) {
    tell(pid, Signal::KILL);
}

fn tell(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may be gone already.
        let _ = kill_process(pid, signal);
    }
}

/// The children of a process.
fn children(pid: u32) -> Vec<i32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Runs a command of a runtime that answers at once, within its time.
pub(crate) async fn quiet(
    clock: &dyn Clock,
    path: &OsString,
    line: Vec<OsString>,
) -> std::io::Result<std::process::Output> {
    let mut command = command(path, &line);
    let output = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    tokio::select! {
        biased;
        output = output => output,
        () = clock.sleep(QUICK) => Err(std::io::ErrorKind::TimedOut.into()),
    }
}

/// A command with an environment of its own, apart from the terminal's signals. Killed with whoever waits for it.
pub(crate) fn command(path: &OsString, line: &[OsString]) -> Command {
    let mut words = line.iter();
    let mut command = Command::new(words.next().cloned().unwrap_or_default());
    command.args(words).env_clear().env("PATH", path).process_group(0).kill_on_drop(true);
    command
}

async fn read<R: AsyncRead + Unpin>(lines: &mut Option<Lines<R>>) -> Option<String> {
    lines.as_mut()?.next().await
}

/// Lines of a stream, none longer than its bound.
struct Lines<R> {
    from: BufReader<R>,
    line: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(from: R) -> Self {
        Self { from: BufReader::with_capacity(LINE_MAX, from), line: Vec::new() }
    }

    /// The next line; `None` at the end. Nothing is lost when the future is dropped.
    async fn next(&mut self) -> Option<String> {
        loop {
            let ready = self.from.fill_buf().await.unwrap_or_default();
            if ready.is_empty() {
                return (!self.line.is_empty()).then(|| self.take());
            }
            let room = LINE_MAX.saturating_sub(self.line.len());
            let end = ready.iter().take(room).position(|byte| *byte == b'\n');
            let (taken, whole) = match end {
                Some(end) => (end + 1, true),
                None => (ready.len().min(room), room <= ready.len()),
            };
            self.line.extend(ready.iter().take(end.unwrap_or(taken)));
            self.from.consume(taken);
            if whole {
                return Some(self.take());
            }
        }
    }

    fn take(&mut self) -> String {
        let line = std::mem::take(&mut self.line);
        String::from_utf8_lossy(&line).trim_end_matches('\r').replace('\0', "\u{fffd}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_bounded_and_complete() {
        let long = "x".repeat(LINE_MAX + 3);
        let text = format!("a\r\n\n{long}\nlast");
        let mut lines = Lines::new(text.as_bytes());
        let mut read = Vec::new();
        while let Some(line) = lines.next().await {
            read.push(line);
        }
        assert_eq!(read, ["a", "", &"x".repeat(LINE_MAX), "xxx", "last"]);
    }
}
