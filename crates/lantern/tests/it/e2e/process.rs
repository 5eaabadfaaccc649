//! A `lantern` server process in a folder of its own, on a free port, stopped by its id.

use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

/// A folder that is removed when the test is over.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("lantern-e2e-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    pub(crate) api: String,
    pub(crate) ready: Value,
}

/// The binary, with an environment that holds nothing of the machine's but where its tools are.
pub(crate) fn lantern() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lantern"));
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        // Nobody listens there, whatever this machine has.
        .env("OLLAMA_HOST", "127.0.0.1:9")
        .env("LANTERN_OFFLINE_TOKENS_PER_SEC", "0");
    command
}

impl Server {
    /// `lantern dev` on this folder.
    pub(crate) fn dev(folder: &Path) -> Self {
        Self::dev_with(folder, &[])
    }

    /// The same, with more environment.
    pub(crate) fn dev_with(folder: &Path, env: &[(&str, &str)]) -> Self {
        Self::dev_at("127.0.0.1:0", folder, env)
    }

    /// The same on this address.
    pub(crate) fn dev_at(address: &str, folder: &Path, env: &[(&str, &str)]) -> Self {
        let mut command = lantern();
        command.args(["dev", "--no-open", "--output", "json", "--listen", address, "--data-dir"]).arg(folder);
        command.envs(env.iter().copied());
        Self::start(command)
    }

    /// Starts a server command and waits for its ready line.
    pub(crate) fn start(mut command: Command) -> Self {
        Self::start_deaf(&mut command, Stdio::piped())
    }

    /// The same, with its words going to `stderr`.
    pub(crate) fn start_deaf(command: &mut Command, stderr: Stdio) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).stdin(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| {
            let mut words = String::new();
            child.kill().unwrap();
            child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut words));
            panic!("not ready: {line}{words}")
        });
        drain(&mut child);
        assert_eq!(ready["ready"], true);
        Self { child, api: ready["api"].as_str().unwrap().to_owned(), ready }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// `SIGTERM`, and the exit status.
    pub(crate) fn stop(mut self) -> std::process::ExitStatus {
        self.signal("-TERM");
        self.child.wait().unwrap()
    }

    pub(crate) fn signal(&self, signal: &str) {
        self::signal(self.child.id(), signal);
    }
}

/// Sends a signal to a process that a test has started.
pub(crate) fn signal(pid: u32, signal: &str) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

/// Reads a server's words away, so that it never waits for a reader.
fn drain(child: &mut Child) {
    let Some(mut stderr) = child.stderr.take() else { return };
    std::thread::spawn(move || {
        let mut words = String::new();
        drop(stderr.read_to_string(&mut words));
        if std::env::vars().any(|(name, _)| name == "LANTERN_TEST_WORDS") {
            eprintln!("{words}");
        }
    });
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// How long anything in these tests may take before it counts as never.
pub(crate) const NEVER: Duration = Duration::from_mins(1);
