//! A real store that speaks S3, beside the tests: moto, from the Python environment that `.ci/install test` makes in
//! the target folder.
//!
//! Invariant: a test that asks for one gets one or fails with what to do; it never passes by skipping. The server ends
//! with the test binary, however that dies: it reads from a pipe that ends with it.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use lantern_types::Secret;

use crate::blob::{BucketOptions, Credentials};

const PROGRAM: &str = include_str!("bucket.py");
const BUCKET: &str = "bodies";
const INSTALL: &str = "a store that speaks S3 is needed for this test: `.ci/install test` installs it (with \
                       CARGO_TARGET_DIR as it is set for the tests), or says why it cannot";

/// A running server with one bucket. It stops when dropped.
#[derive(Debug)]
pub struct BucketServer {
    options: BucketOptions,
    child: Child,
}

impl BucketServer {
    /// Starts one on a free port of the loopback interface.
    pub fn start() -> Self {
        let python = python();
        assert!(python.exists(), "{INSTALL}; {} is not there", python.display());
        let mut command = Command::new(python);
        command.args(["-c", PROGRAM, BUCKET]).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
        // A group of its own: an interrupt at the terminal reaches it through the pipe.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut child = command.spawn().expect("start the S3 server");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("the server's output");
        BufReader::new(stdout).read_line(&mut line).expect("hear from the S3 server");
        let words: Vec<&str> = line.split_whitespace().collect();
        let [endpoint, id, secret] = words[..] else {
            panic!("the S3 server did not start: {line:?}; {INSTALL}");
        };
        let credentials = Credentials {
            access_key_id: id.to_owned(),
            secret_access_key: Secret::new(secret.to_owned()),
            session_token: None,
        };
        let options = BucketOptions {
            endpoint: endpoint.to_owned(),
            bucket: BUCKET.to_owned(),
            region: "us-east-1".to_owned(),
            prefix: "test".to_owned(),
            path_style: true,
            credentials,
        };
        Self { options, child }
    }

    /// How to reach its bucket.
    pub fn options(&self) -> BucketOptions {
        self.options.clone()
    }
}

impl Drop for BucketServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The target folder is three above a test binary: `target/debug/deps/it-…`.
fn python() -> PathBuf {
    let binary = std::env::current_exe().expect("our own path");
    let target = binary.ancestors().nth(3).expect("a target folder");
    target.join("python/bin/python")
}
