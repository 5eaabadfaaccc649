//! What holds is believed and what was touched is not, by this crate and by the program in `docs/verify` alike.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what tests share is a test too"
)]

mod forged;
mod hostile;
mod policies;
mod recorded;
mod tampered;

use std::path::{Path, PathBuf};

use lantern_receipts::VerifyKey;
use serde_json::Value;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The recorded receipts, by name.
fn receipts() -> Vec<(String, Vec<u8>)> {
    let names =
        std::fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name != "keys.json").collect();
    names.sort();
    names.into_iter().map(|name| (name.clone(), std::fs::read(golden().join(name)).unwrap())).collect()
}

fn keys() -> Vec<VerifyKey> {
    let document: Value =
        serde_json::from_slice(&std::fs::read(golden().join("keys.json")).unwrap()).unwrap();
    let key = |key: &Value| VerifyKey::parse(key["publicKey"].as_str().unwrap()).unwrap();
    document["keys"].as_array().unwrap().iter().map(key).collect()
}

/// Runs the other verifier over files, in one process: for each file in turn, whether it holds, and its whole line.
fn other(keys: &Path, files: &[PathBuf]) -> Vec<(bool, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("python").join("bin/python");
    assert!(python.exists(), "run `.ci/install test`; {} is not there", python.display());
    let mut command = std::process::Command::new(python);
    command.arg(root.join("docs/verify/verify.py")).arg("--key").arg(keys).args(files);
    let output = command.env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<(bool, String)> =
        text.lines().map(|line| (line.starts_with("ok "), line.to_owned())).collect();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(lines.len(), files.len(), "a line for each file: {error}");
    assert_eq!(output.status.success(), lines.iter().all(|(holds, _)| *holds), "{error}");
    lines
}

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lantern-verify-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
