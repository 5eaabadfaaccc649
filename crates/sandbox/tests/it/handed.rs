//! Secrets in boxes: who can read them there, and that they are nowhere else.

use std::fs;
use std::path::{Path, PathBuf};

use lantern_policy::workload::Backend::{Oci, Process};
use lantern_sandbox::{Given, Happened, Stream};
use lantern_types::Dur;

use crate::support::{BACKENDS, Outcome, RUNTIME, bench};

const CANARY: &str = "canary-8c2f41d7a0e94b35";
const FILE: &str = "secrets: [{env_name: KEY, secret_uri: lantern.secret://tenant/key}]\n";
const BOTH: &str = "secrets:\n  - {env_name: KEY, secret_uri: lantern.secret://tenant/key, deliver: env}\n  - {env_name: OTHER, secret_uri: lantern.secret://tenant/other}\n";
const MEMORY: i64 = 0x0102_1994;

/// Nobody else's, for tests that run at the same time have boxes beside this one's.
const HIDDEN: &str = "canary-51b9e07c6d3f4a28";

/// Files below a folder, or command lines, that have the hidden canary in them.
fn found(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            all.extend(found(&entry.path()));
        } else if kind.is_file() && has(&entry.path()) {
            all.push(entry.path());
        }
    }
    all
}

fn has(path: &Path) -> bool {
    let bytes = fs::read(path).unwrap_or_default();
    bytes.windows(HIDDEN.len()).any(|window| window == HIDDEN.as_bytes())
}

fn command_lines() -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.map(|entry| entry.path().join("cmdline")).filter(|path| has(path)).collect()
}

#[test]
fn a_program_reads_its_secrets_and_changes_none() {
    for backend in BACKENDS {
        let ran = |args: &[&str]| Outcome::of(bench().start_with(backend, args, FILE, &[CANARY]));
        let read = ran(&["read", "/run/lantern/secrets/KEY"]);
        assert_eq!(read.out, format!("done: {CANARY:?}\n"), "{backend:?} {read:?}");
        for trick in [["write", "/run/lantern/secrets/KEY"], ["create", "/run/lantern/secrets/MORE"]] {
            let refused = ran(&trick);
            assert!(refused.out.starts_with("refused: "), "{backend:?} {trick:?} {refused:?}");
        }
        let seen = ran(&["env"]);
        assert!(seen.out.contains("LANTERN_SECRETS_DIR=/run/lantern/secrets\n"), "{backend:?} {seen:?}");
        assert!(!seen.out.contains(CANARY), "{backend:?} {seen:?}");
        // A box without secrets has no such folder.
        let none = bench().run(backend, &["list", "/run/lantern"], "");
        assert!(none.out.starts_with("refused: "), "{backend:?} {none:?}");
    }
    for backend in [Oci, Process] {
        let seen = Outcome::of(bench().start_with(backend, &["env"], BOTH, &[CANARY, "other"]));
        assert!(seen.out.contains(&format!("KEY={CANARY}\n")), "{backend:?} {seen:?}");
        assert!(!seen.out.contains("OTHER="), "{backend:?} {seen:?}");
    }
}

#[test]
fn a_secret_is_on_no_disk_and_in_no_command_line_and_goes_with_its_box() {
    for (backend, more, values) in [
        (Process, BOTH, vec![HIDDEN, HIDDEN]),
        (Oci, BOTH, vec![HIDDEN, HIDDEN]),
        (BACKENDS[2], FILE, vec![HIDDEN]),
    ] {
        let mut running = bench().start_with(backend, &["wait"], more, &values);
        let up = RUNTIME.block_on(running.next());
        assert_eq!(up, Happened::Line(Stream::Stdout, "up".to_owned()), "{backend:?}");
        let files = found(&bench().data_dir);
        assert!(!files.is_empty(), "{backend:?}: the box's own folder has it");
        for file in files {
            let kind = rustix::fs::statfs(&file).unwrap().f_type;
            assert_eq!(kind, MEMORY, "{backend:?}: {} is on a disk", file.display());
        }
        assert_eq!(command_lines(), Vec::<PathBuf>::new(), "{backend:?}");
        RUNTIME.block_on(running.stop(Dur::from_millis(1)));
        Outcome::of(running);
        assert_eq!(found(&bench().data_dir), Vec::<PathBuf>::new(), "{backend:?}");
    }
}

#[test]
fn a_box_is_handed_what_its_spec_lists_or_is_not_made() {
    for backend in BACKENDS {
        let placed = bench().placed(backend, &["hello"], FILE);
        let start = bench().machine.start(&placed, "vm-test-refused-secrets", Given::default());
        let refused = RUNTIME.block_on(start).err().unwrap();
        assert!(matches!(refused, lantern_sandbox::Error::Refused(_)), "{backend:?}: {refused}");
    }
}
