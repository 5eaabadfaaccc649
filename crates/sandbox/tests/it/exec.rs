//! Another program in a box that runs: what it says and answers, its time, and that it is held as the first one is.

use lantern_policy::workload::Backend::{self, Gvisor, Oci, Process};
use lantern_sandbox::{Happened, Ran, Running, Shell, Stream};
use lantern_types::Dur;

use crate::escape::{BAD_CALL, REFUSED, REFUSED_BY_THE_SHARED};
use crate::support::{Outcome, RUNTIME, bench};

/// What gVisor's own kernel does for who has no filter: with itself, and with nothing of the host.
const BY_THE_FILTER: &[&[&str]] = &[&["peek"], &["unshare"], &["clone"], &["keyctl"], &["socket", "16", "3"]];

/// A box whose program waits, once it is there.
fn waiting(backend: Backend, more: &str) -> (Running, Shell) {
    let mut running = bench().start(backend, &["wait"], more, "");
    let up = RUNTIME.block_on(running.next());
    assert!(matches!(up, Happened::Line(Stream::Stdout, _)), "{backend:?}: {up:?}");
    let shell = running.shell().unwrap();
    (running, shell)
}

fn exec(shell: &Shell, args: &[&str], secs: u64) -> Ran {
    let argv = std::iter::once("/villain").chain(args.iter().copied()).map(str::to_owned).collect();
    RUNTIME.block_on(shell.exec(argv, Dur::from_secs(secs))).unwrap()
}

fn end(mut running: Running) {
    RUNTIME.block_on(running.stop(Dur::ZERO));
    Outcome::of(running);
}

#[test]
fn another_program_says_and_answers_for_itself() {
    for backend in [Oci, Gvisor] {
        let (running, shell) = waiting(backend, "env: {GREETING: hi}\n");
        let ran = exec(&shell, &["exit", "42"], 20);
        assert_eq!((ran.code, ran.stdout.len()), (Some(42), 0), "{backend:?} {ran:?}");
        let ran = exec(&shell, &["hello"], 20);
        assert_eq!((ran.code, ran.cut), (Some(0), false), "{backend:?} {ran:?}");
        assert!(ran.stdout.starts_with(b"hello") && ran.stderr == b"to stderr\n", "{backend:?} {ran:?}");
        let ran = exec(&shell, &["env"], 20);
        let env = String::from_utf8(ran.stdout).unwrap();
        assert!(env.contains("GREETING=hi\n") && env.contains("LANTERN_VM_ID="), "{backend:?} {env}");
        let ran = exec(&shell, &["wait"], 1);
        assert_eq!(ran.code, None, "{backend:?}: its time was over: {ran:?}");
        // It is gone: a program that lists processes sees the first one and itself.
        let ran = exec(&shell, &["processes"], 20);
        let text = String::from_utf8(ran.stdout).unwrap();
        let n: u32 = text.trim().strip_prefix("processes: ").unwrap().parse().unwrap();
        assert!(n <= 2, "{backend:?} sees {n}");
        let missing = RUNTIME.block_on(shell.exec(vec!["/nowhere".to_owned()], Dur::from_secs(20))).unwrap();
        assert!(missing.code.is_some_and(|code| code != 0) && !missing.stderr.is_empty(), "{missing:?}");
        end(running);
        let late = RUNTIME.block_on(shell.exec(vec!["/villain".to_owned()], Dur::from_secs(20)));
        assert!(late.is_err(), "{backend:?}: the box is gone: {late:?}");
    }
    let mut running = bench().start(Process, &["wait"], "", "");
    RUNTIME.block_on(running.next());
    assert!(running.shell().is_none());
    end(running);
}

#[test]
fn another_program_is_held_as_the_first_is() {
    let mut escaped = Vec::new();
    for backend in [Oci, Gvisor] {
        let (running, shell) = waiting(backend, "limits: {timeout: 120s}\n");
        assert_eq!(shell.is_filtered(), backend == Oci);
        let more = if backend == Gvisor { &[] } else { REFUSED_BY_THE_SHARED };
        for trick in REFUSED.iter().chain(more) {
            let ran = exec(&shell, trick, 20);
            let refused = ran.stdout.starts_with(b"refused: ") || ran.code == Some(BAD_CALL);
            if !refused && (backend == Oci || !BY_THE_FILTER.contains(trick)) {
                escaped.push(format!("{backend:?} {trick:?}: {ran:?}"));
            }
        }
        let status = exec(&shell, &["read", "/proc/self/status"], 20);
        let status = String::from_utf8(status.stdout).unwrap();
        assert!(status.contains("61000"), "{backend:?}: nobody's user: {status}");
        end(running);
    }
    assert!(escaped.is_empty(), "{escaped:#?}");
}
