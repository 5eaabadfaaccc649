//! What a box does for an honest program: input, output, exit codes, limits, stopping, and nothing left over.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use lantern_policy::workload::{Backend, Usable};
use lantern_sandbox::{Happened, Stream, Why};
use lantern_types::Dur;

use crate::support::{BACKENDS, Bench, Outcome, RUNTIME, bench};

#[test]
fn each_tier_is_proved_from_inside() {
    let bench = bench();
    for (backend, words) in [
        (Backend::Process, "behind a filter, no network"),
        (Backend::Oci, "behind a filter, no network"),
        (Backend::Gvisor, "a kernel of its own"),
    ] {
        let Usable::Proved { seen, runtime } = &bench.capabilities.backends[&backend] else {
            panic!("{backend:?}")
        };
        assert!(seen.contains(words), "{backend:?}: {seen}");
        assert!(runtime.contains(' '), "{runtime}");
    }
}

#[test]
fn input_goes_in_and_both_outputs_and_the_exit_code_come_out() {
    for backend in BACKENDS {
        let ran = Outcome::of(bench().start(backend, &["hello"], "", r#"{"name":"world"}"#));
        assert_eq!(
            (ran.out.as_str(), ran.err.as_str()),
            ("hello {\"name\":\"world\"}\n", "to stderr\n"),
            "{backend:?}"
        );
        assert_eq!((&ran.ended.why, ran.ended.code), (&Why::Exited, Some(0)), "{backend:?}");
        let ran = bench().run(backend, &["exit", "42"], "");
        assert_eq!((&ran.ended.why, ran.ended.code), (&Why::Exited, Some(42)), "{backend:?} {ran:?}");
        let ran = bench().run(backend, &["abort"], "");
        // The first process of a container hears no SIGABRT of its own, and then dies of what abort does next.
        assert!(matches!(ran.ended.code, Some(134 | 139)), "{backend:?} {ran:?}");
    }
}

#[test]
fn the_environment_is_the_specs_and_ours() {
    for backend in BACKENDS {
        let ran = Outcome::of(bench().start(backend, &["env"], "env: {GREETING: 'a b=c'}\n", "{}"));
        let names: BTreeSet<&str> =
            ran.out.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
        let mut want = BTreeSet::from(["GREETING", "HOME", "LANTERN_INPUT", "LANTERN_VM_ID", "PATH"]);
        // bubblewrap and gVisor each tell one thing more.
        want.extend(names.intersection(&BTreeSet::from(["PWD", "HOSTNAME"])));
        assert_eq!(names, want, "{backend:?}");
        assert!(
            ran.out.contains("GREETING=a b=c\n") && ran.out.contains("LANTERN_INPUT={}\n"),
            "{}",
            ran.out
        );
    }
}

#[test]
fn what_cannot_be_run_is_said() {
    for backend in BACKENDS {
        let ran = bench().run(backend, &[], "command: [/nowhere]\n");
        let Why::NotMade(words) = &ran.ended.why else { panic!("{backend:?} {ran:?}") };
        assert!(words.contains("nowhere") && ran.ended.code.is_none(), "{backend:?} {ran:?}");
    }
}

fn until_up(running: &mut lantern_sandbox::Running) {
    assert_eq!(RUNTIME.block_on(running.next()), Happened::Line(Stream::Stdout, "up".to_owned()));
}

#[test]
fn a_box_is_asked_to_stop_and_then_made_to() {
    for backend in BACKENDS {
        let mut running = bench().start(backend, &["term"], "", "");
        until_up(&mut running);
        RUNTIME.block_on(running.stop(Dur::from_secs(20)));
        let ran = Outcome::of(running);
        assert_eq!((&ran.ended.why, ran.ended.code), (&Why::Stopped, Some(7)), "{backend:?} heard it");

        let mut running = bench().start(backend, &["wait"], "", "");
        until_up(&mut running);
        RUNTIME.block_on(running.stop(Dur::from_millis(50)));
        let ran = Outcome::of(running);
        assert_eq!(ran.ended.why, Why::Stopped, "{backend:?} did not");
    }
}

#[test]
fn a_box_that_takes_too_long_is_ended() {
    for backend in BACKENDS {
        for trick in ["spin", "wait"] {
            let ran = bench().run(backend, &[trick], "limits: {timeout: 700ms}\n");
            assert_eq!(ran.ended.why, Why::TimedOut, "{backend:?} {trick} {ran:?}");
        }
    }
}

/// What could be left over: processes, mounts, control groups, files, namespaces.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    processes: BTreeSet<String>,
    mounts: usize,
    groups: BTreeSet<String>,
    files: BTreeSet<String>,
    namespaces: BTreeSet<String>,
    descriptors: usize,
}

fn left(bench: &Bench) -> Left {
    let names = |dir: &Path| -> BTreeSet<String> {
        fs::read_dir(dir)
            .map(|dir| dir.flatten().map(|e| e.path().display().to_string()).collect())
            .unwrap_or_default()
    };
    let (mut processes, mut namespaces, mut groups) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let marks = ["vm-test-", "villain", "bwrap", "crun", "runsc"];
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let ours = line.contains(bench.data_dir.to_str().unwrap())
            || line.starts_with("/villain") && !is_of_the_others(pid);
        if ours && marks.iter().any(|mark| line.contains(mark)) {
            processes.insert(format!("{pid} {line}"));
            let pid_ns = fs::read_link(entry.path().join("ns/pid")).unwrap_or_default();
            namespaces.insert(pid_ns.display().to_string());
        }
    }
    for tree in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let mine = |name: &String| name.contains(&format!("vm-test-{}-", std::process::id()));
        groups.extend(names(&tree.path().join("lantern")).into_iter().filter(mine));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
    let mut files = names(&bench.data_dir.join("boxes"));
    for runtime in ["crun", "runc", "runsc"] {
        files.extend(names(&bench.data_dir.join("boxes/.state").join(runtime)));
    }
    files.extend(names(&bench.data_dir.join("images")));
    files.extend(names(&bench.data_dir.join("images/unpacked")));
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().count();
    Left { processes, mounts, groups, files, namespaces, descriptors }
}

/// Whether a process is below the one that runs the other tests meanwhile, and not below this one. One that is left over is below
/// neither.
fn is_of_the_others(mut pid: u32) -> bool {
    let (own, others) = (std::process::id(), std::os::unix::process::parent_id());
    while pid != own && pid != others && pid > 1 {
        // The name in parentheses may hold anything; the parent is the second word after it.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        // It has ended in the meantime.
        let Some(parent) = parent else { return true };
        pid = parent;
    }
    pid == others
}

/// Alone in its process: what other tests do meanwhile is not counted.
#[test]
fn nothing_is_left_after_fifty_boxes() {
    if std::env::vars().any(|(name, _)| name == "LANTERN_ALONE") {
        return fifty();
    }
    let exe = std::env::current_exe().unwrap();
    let alone = std::process::Command::new(exe)
        .args(["--exact", "boxes::nothing_is_left_after_fifty_boxes", "--nocapture"])
        .env("LANTERN_ALONE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&alone.stdout);
    assert!(
        alone.status.success() && said.contains("nothing left"),
        "{said}{}",
        String::from_utf8_lossy(&alone.stderr)
    );
}

fn fifty() {
    let bench = bench();
    // What the first box of each kind makes once: folders of state and of control groups.
    for backend in BACKENDS {
        bench.run(backend, &["exit", "0"], "");
    }
    let before = left(bench);
    assert!(before.processes.is_empty() && before.groups.is_empty(), "{before:?}");
    for n in 0..50 {
        let backend = BACKENDS[n % BACKENDS.len()];
        match n % 4 {
            0 => drop(bench.run(backend, &["daemon"], "")),
            1 => drop(bench.run(backend, &["exit", "3"], "")),
            2 => drop(bench.run(backend, &[], "command: [/nowhere]\n")),
            _ => {
                let mut running = bench.start(backend, &["wait"], "", "");
                until_up(&mut running);
                RUNTIME.block_on(running.stop(Dur::from_millis(1)));
                Outcome::of(running);
            }
        }
    }
    assert_eq!(left(bench), before);
    println!("nothing left");
}

#[test]
fn a_box_whose_server_died_is_taken_down_by_the_next() {
    let dir = crate::support::folder("orphan");
    let first = crate::support::machine(&dir);
    let plan = lantern_sandbox::image::Plan {
        name: "v".to_owned(),
        entrypoint: vec!["/villain".to_owned()],
        ..Default::default()
    };
    let built =
        lantern_sandbox::image::build(first.images().layout(), crate::support::villain(), &plan).unwrap();
    let capabilities = RUNTIME.block_on(first.probe());
    let bench = Bench { machine: first, capabilities, image: built.image.to_string(), data_dir: dir.clone() };
    for backend in BACKENDS {
        let mut running = bench.start(backend, &["wait"], "", "");
        until_up(&mut running);
        // As a process that is killed lets go of it: without taking it down.
        drop(running);
        let secrets = "secrets: [{env_name: KEY, secret_uri: lantern.secret://tenant/key}]\n";
        let mut running = bench.start_with(backend, &["wait"], secrets, &["a value"]);
        until_up(&mut running);
        drop(running);
    }
    let boxes = || -> BTreeSet<String> {
        let entries = fs::read_dir(dir.join("boxes")).unwrap().flatten();
        entries.map(|e| e.file_name().into_string().unwrap()).filter(|name| name != ".state").collect()
    };
    let left_behind = boxes();
    assert_eq!(left_behind.len(), 6);
    // A group can be removed only when nothing runs in it; so where it is gone, so are the programs of the box.
    let groups = || -> Vec<PathBuf> {
        let trees = fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
        let of = |tree: fs::DirEntry| {
            left_behind.iter().map(move |name| tree.path().join("lantern").join(name)).collect::<Vec<_>>()
        };
        trees.flat_map(of).filter(|group| group.exists()).collect()
    };
    assert!(!groups().is_empty());
    RUNTIME.block_on(crate::support::machine(&dir).sweep()).unwrap();
    assert_eq!((boxes(), groups()), (BTreeSet::new(), Vec::new()));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let ours: Vec<&str> = mounts.lines().filter(|line| line.contains(dir.to_str().unwrap())).collect();
    assert_eq!(ours, Vec::<&str>::new());
}
