//! Another program in a box that runs.
//!
//! Invariant: what it runs as is read from the box's own `config.json`, so it has the user, the rights, the limits and the environment of
//! the first program. What it writes is bounded, and so is its time. In a container the same filter of system calls holds it; gVisor puts
//! its filter on the first program alone, so there its own kernel does, and [`Shell::is_filtered`] says so. A box by bubblewrap takes none:
//! nothing of it would hold who joins it from outside.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lantern_types::Dur;
use lantern_types::edge::Clock;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Child;

use crate::error::{Error, Result};
use crate::oci::Runtime;
use crate::running::{self, QUICK};

/// Bytes of each output that are kept.
const KEPT_MAX: usize = 1 << 20;
/// How long what it left behind may hold its outputs open.
const LINGER: Dur = Dur::from_millis(500);

/// How often to look whether a box is there, and how many times.
const LOOK: Dur = Dur::from_millis(10);
const LOOKS: u32 = 200;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// How a box is asked to run another program.
#[derive(Clone)]
pub struct Shell {
    pub(crate) runtime: Runtime,
    pub(crate) id: String,
    pub(crate) dir: PathBuf,
    pub(crate) pid_file: PathBuf,
    pub(crate) path: OsString,
    pub(crate) clock: Arc<dyn Clock>,
}

/// What a program did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// What it answered; 128 and the signal's number when a signal ended it. Nothing when it was ended because its time was over.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
    /// Whether it wrote more than is kept.
    pub cut: bool,
}

/// One output, as far as it is kept.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    cut: bool,
}

/// The files of one program, which go with it.
struct Files {
    process: PathBuf,
    pid: PathBuf,
    /// The number that gVisor knows it by.
    inner: PathBuf,
}

impl Drop for Files {
    fn drop(&mut self) {
        for file in [&self.process, &self.pid, &self.inner] {
            drop(fs::remove_file(file));
        }
    }
}

impl Shell {
    /// Whether the box's filter of system calls holds what is run, too.
    pub const fn is_filtered(&self) -> bool {
        !self.runtime.counts_within()
    }

    /// Runs a program to its end, or for so long. `Refused` when the box is not there yet.
    pub async fn exec(&self, argv: Vec<String>, timeout: Dur) -> Result<Ran> {
        self.there().await?;
        let files = self.files(argv)?;
        let line = self.runtime.exec(&files.process, (&files.pid, &files.inner), &self.id);
        let mut command = running::command(&self.path, &line);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command
            .spawn()
            .map_err(|source| Error::Io { what: "cannot start a runtime".to_owned(), source })?;
        Ok(self.watch(child, &files, timeout).await)
    }

    /// Waits a moment for a box that is just being made: its program may have begun before its runtime says so.
    async fn there(&self) -> Result<()> {
        for _ in 0..LOOKS {
            if self.pid_file.exists() {
                return Ok(());
            }
            self.clock.sleep(LOOK).await;
        }
        Err(Error::Refused("the box is not there".to_owned()))
    }

    fn files(&self, argv: Vec<String>) -> Result<Files> {
        let config = self.dir.join("config.json");
        let text = fs::read(&config).map_err(Error::io("read", &config))?;
        let mut config: Value = serde_json::from_slice(&text).unwrap_or_default();
        let process = config.get_mut("process").map(Value::take).filter(Value::is_object);
        let mut process = process.ok_or_else(|| Error::Refused("the box has no configuration".to_owned()))?;
        if let Some(fields) = process.as_object_mut() {
            fields.insert("args".to_owned(), json!(argv));
        }
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = |end: &str| self.dir.join(format!("exec-{n}.{end}"));
        let files = Files { process: name("json"), pid: name("pid"), inner: name("inner") };
        fs::write(&files.process, process.to_string()).map_err(Error::io("write", &files.process))?;
        Ok(files)
    }

    async fn watch(&self, mut child: Child, files: &Files, timeout: Dur) -> Ran {
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (mut out, mut err) = (Kept::default(), Kept::default());
        let mut status = None;
        {
            let reading = async { tokio::join!(keep(stdout, &mut out), keep(stderr, &mut err)) };
            let late = self.clock.sleep(timeout);
            tokio::pin!(reading, late);
            let mut read = false;
            while !read || status.is_none() {
                tokio::select! {
                    biased;
                    () = &mut late => break,
                    _ = &mut reading, if !read => read = true,
                    ended = child.wait(), if status.is_none() => {
                        status = Some(ended.ok());
                        late.set(self.clock.sleep(LINGER));
                    }
                }
            }
        }
        let code = match status {
            Some(status) => status.and_then(|status| {
                use std::os::unix::process::ExitStatusExt as _;
                status.code().or_else(|| status.signal().map(|signal| 128 + signal))
            }),
            None => {
                self.kill(&mut child, files).await;
                None
            }
        };
        let cut = out.cut || err.cut;
        Ran { code, stdout: out.bytes, stderr: err.bytes, cut }
    }

    /// Ends the program in the box, and then whoever waits for it.
    async fn kill(&self, child: &mut Child, files: &Files) {
        let pid = number(if self.runtime.counts_within() { &files.inner } else { &files.pid });
        match pid {
            Some(pid) if self.runtime.counts_within() => {
                let line = self.runtime.kill_one(&self.id, pid);
                let _ = running::quiet(&*self.clock, &self.path, line).await;
            }
            Some(pid) => running::end_now(pid),
            None => {}
        }
        tokio::select! {
            biased;
            _ = child.wait() => {}
            () = self.clock.sleep(QUICK) => {
                let _ = child.start_kill();
            }
        }
    }
}

fn number(file: &Path) -> Option<i32> {
    fs::read_to_string(file).ok()?.trim().parse().ok().filter(|pid| *pid > 1)
}

/// Reads an output to its end, and keeps the beginning.
async fn keep(from: Option<impl AsyncRead + Unpin>, kept: &mut Kept) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 16_384];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let room = KEPT_MAX.saturating_sub(kept.bytes.len());
        kept.cut |= n > room;
        kept.bytes.extend(buffer.iter().take(n.min(room)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_beginning_of_an_output_is_kept() {
        for (length, cut) in [(0, false), (KEPT_MAX, false), (KEPT_MAX + 1, true)] {
            let text = vec![b'x'; length];
            let mut kept = Kept::default();
            keep(Some(text.as_slice()), &mut kept).await;
            assert_eq!((kept.bytes.len(), kept.cut), (length.min(KEPT_MAX), cut));
        }
    }
}
