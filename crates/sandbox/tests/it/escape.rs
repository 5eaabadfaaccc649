//! Escapes and abuse: what a program in a box tries, and what comes of it, in each kind of box.

use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use lantern_policy::workload::Backend::{Gvisor, Oci, Process};
use lantern_sandbox::{Given, Why, Wire};

use crate::support::{BACKENDS, Outcome, RUNTIME, bench};

/// Tricks that must be refused in every box, whatever the words.
pub(crate) const REFUSED: &[&[&str]] = &[
    &["read", "/etc/shadow"],
    &["read", "/etc/passwd"],
    &["read", "/etc/ssh/ssh_host_rsa_key"],
    &["read", "/proc/kcore"],
    &["read", "/proc/1/root/etc/shadow"],
    &["read", "/proc/self/root/../../etc/shadow"],
    &["list", "/var/lib"],
    &["write", "/proc/sys/kernel/core_pattern"],
    &["write", "/proc/sys/kernel/hostname"],
    &["write", "/proc/sysrq-trigger"],
    &["write", "/villain"],
    &["create", "/made"],
    &["create", "/dev/made"],
    &["mount"],
    &["remount"],
    &["umount"],
    &["chroot"],
    &["pivot"],
    &["peek"],
    &["unshare"],
    &["setns"],
    &["clone"],
    &["keyctl"],
    &["add_key"],
    &["bpf"],
    &["perf"],
    &["uring"],
    &["userfault"],
    &["reboot"],
    &["settime"],
    &["hostname"],
    &["module"],
    &["handle"],
    &["root"],
    &["x32"],
    &["socket", "17", "3"],
    &["socket", "2", "3"],
    &["socket", "16", "3"],
    &["socket", "40", "1"],
    &["socket", "38", "5"],
    &["tcp", "1.1.1.1:80"],
    &["tcp", "169.254.169.254:80"],
    &["tcp", "10.0.0.1:80"],
];

/// The same, where the kernel is the host's: gVisor has such things of its own, with nothing of the host in them.
pub(crate) const REFUSED_BY_THE_SHARED: &[&[&str]] =
    &[&["list", "/sys/class"], &["list", "/sys/fs/cgroup"], &["device"], &["ptrace"]];

/// What a box answers whose program was ended for a system call.
pub(crate) const BAD_CALL: i32 = 128 + 31;

#[test]
fn what_reaches_out_is_refused_in_every_box() {
    let mut escaped = Vec::new();
    for backend in BACKENDS {
        let more = if backend == Gvisor { &[] } else { REFUSED_BY_THE_SHARED };
        for trick in REFUSED.iter().chain(more) {
            let ran = bench().run(backend, trick, "limits: {timeout: 20s}\n");
            let refused = ran.out.starts_with("refused: ") || ran.ended.code == Some(BAD_CALL);
            if !refused || ran.ended.why != Why::Exited {
                escaped.push(format!("{backend:?} {trick:?}: {ran:?}"));
            }
        }
    }
    assert!(escaped.is_empty(), "{escaped:#?}");
}

#[test]
fn a_wire_leads_to_its_listener_and_opens_nothing_else() {
    let name = format!("lantern-wired-{}", std::process::id());
    let _abstract = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap().to_string();
    let reach = format!("127.0.0.1:{}", lantern_sandbox::PORT);
    let mut escaped = Vec::new();
    for backend in BACKENDS {
        let ran = bench().run_wired(backend, &["tcp", &reach]);
        assert_eq!(ran.out, "done: ()\n", "{backend:?}: {ran:?}");
        let ran = bench().run_wired(backend, &["read", "/proc/net/dev"]);
        let interfaces = ran.out.matches(": ").count().saturating_sub(1);
        assert!(
            ran.out.contains("lo:") && interfaces >= 1 && !ran.out.contains("eth"),
            "{backend:?}: {ran:?}"
        );
        let more = if backend == Gvisor { &[] } else { REFUSED_BY_THE_SHARED };
        let host: [&[&str]; 4] = [
            &["abstract", &name],
            &["tcp", &address],
            &["tcp", "8.8.8.8:53"],
            &["tcp", "[2001:4860:4860::8888]:443"],
        ];
        for trick in REFUSED.iter().chain(more).chain(&host) {
            let ran = bench().run_wired(backend, trick);
            let refused = ran.out.starts_with("refused: ") || ran.ended.code == Some(BAD_CALL);
            if !refused || ran.ended.why != Why::Exited {
                escaped.push(format!("{backend:?} {trick:?}: {ran:?}"));
            }
        }
    }
    assert!(escaped.is_empty(), "{escaped:#?}");
}

#[test]
fn a_box_has_the_network_that_its_spec_says_or_is_not_made() {
    for backend in BACKENDS {
        let wire = RUNTIME.block_on(Wire::lay()).unwrap().0;
        for (more, wire) in [("", Some(wire)), ("network: allowlist\n", None)] {
            let placed = bench().placed(backend, &["hello"], more);
            let start = bench().machine.start(&placed, "vm-test-refused", Given { wire, ..Given::default() });
            let refused = RUNTIME.block_on(start).err().unwrap();
            assert!(matches!(refused, lantern_sandbox::Error::Refused(_)), "{backend:?} {more}: {refused}");
        }
    }
}

#[test]
fn a_box_sees_its_own_processes_and_descriptors_alone() {
    for backend in BACKENDS {
        let ran = bench().run(backend, &["processes"], "");
        let n: u32 = ran.out.trim().strip_prefix("processes: ").unwrap().parse().unwrap();
        assert!(n <= 2, "{backend:?} sees {n}");
        let ran = bench().run(backend, &["fds"], "");
        for line in ran.out.lines() {
            let n: u32 = line.split(' ').nth(1).unwrap().parse().unwrap();
            // The fourth is the folder that it lists.
            assert!(n <= 3, "{backend:?} has {line}");
        }
    }
}

#[test]
fn the_hosts_sockets_cannot_be_reached() {
    let name = format!("lantern-escape-{}", std::process::id());
    let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap().to_string();
    for backend in BACKENDS {
        for trick in [["abstract", &name], ["tcp", &address]] {
            let ran = bench().run(backend, &trick, "");
            assert!(ran.out.starts_with("refused: "), "{backend:?} {trick:?}: {ran:?}");
        }
    }
}

#[test]
fn the_hosts_name_and_environment_stay_outside() {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for backend in BACKENDS {
        let ran = bench().run(backend, &["read", "/proc/sys/kernel/hostname"], "");
        assert!(!ran.out.contains(host.trim()) || host.trim() == "box", "{backend:?}: {ran:?}");
        let ran = bench().run(backend, &["read", "/proc/1/environ"], "");
        assert!(!ran.out.contains("CARGO"), "{backend:?}: {ran:?}");
        let ran = bench().run(backend, &["read", "/proc/self/mountinfo"], "");
        assert!(backend != Gvisor || !ran.out.contains("sandbox-bench"), "{backend:?}: {ran:?}");
    }
}

#[test]
fn a_fork_bomb_stays_within_its_number() {
    for backend in BACKENDS {
        let ran = bench().run(backend, &["forks"], "limits: {pids: 20, timeout: 20s}\n");
        let forked =
            ran.out.split_whitespace().nth(1).and_then(|n| n.trim_end_matches(',').parse::<u32>().ok());
        match (backend, forked) {
            (Process | Oci, Some(n)) => assert!(n <= 20, "{backend:?}: {ran:?}"),
            // gVisor's own threads are counted too, and it may go down with the bomb.
            (Gvisor, Some(n)) => assert!(n <= 20 + 128, "{backend:?}: {ran:?}"),
            (Gvisor, None) => assert_ne!(ran.ended.code, Some(0), "{ran:?}"),
            (_, None) => panic!("{backend:?}: {ran:?}"),
        }
    }
}

#[test]
fn a_memory_bomb_ends_its_box() {
    for backend in BACKENDS {
        let ran = bench().run(backend, &["memory"], "limits: {memory: 96Mi, timeout: 60s}\n");
        assert!(!ran.out.contains("took"), "{backend:?}: {ran:?}");
        assert_ne!(ran.ended.code, Some(0), "{backend:?}: {ran:?}");
        assert_eq!(ran.ended.why, Why::Exited, "{backend:?}: {ran:?}");
    }
}

#[test]
fn a_disk_bomb_fills_its_scratch_and_no_more() {
    for backend in BACKENDS {
        let ran = bench().run(backend, &["disk"], "limits: {scratch_size: 8Mi, timeout: 60s}\n");
        let n: Option<u32> = ran.out.split_whitespace().nth(1).and_then(|n| n.parse().ok());
        assert!(n.is_some_and(|n| n <= 8), "{backend:?}: {ran:?}");
    }
}

#[test]
fn descriptors_are_bounded() {
    for backend in BACKENDS {
        let ran = bench().run(backend, &["files"], "");
        let n: Option<u32> = ran.out.split_whitespace().nth(1).and_then(|n| n.parse().ok());
        assert!(n.is_some_and(|n| n < 1_024), "{backend:?}: {ran:?}");
    }
}

#[test]
fn a_flood_without_a_line_end_is_read_in_pieces() {
    for backend in BACKENDS {
        let ran = bench().run(backend, &["flood", "4"], "");
        assert_eq!(ran.out.bytes().filter(|byte| *byte == b'x').count(), 4 << 20, "{backend:?}");
        assert!(ran.out.lines().all(|line| line.len() <= 16 * 1_024), "{backend:?}");
    }
}

#[test]
fn who_kills_everybody_kills_its_box_alone() {
    for backend in BACKENDS {
        let ran = bench().run(backend, &["kill-all"], "");
        assert_eq!(ran.ended.why, Why::Exited, "{backend:?}: {ran:?}");
    }
}

#[test]
fn a_core_is_dumped_nowhere() {
    for backend in BACKENDS {
        let ran = bench().run(backend, &["abort"], "");
        assert!(matches!(ran.ended.code, Some(134 | 139)), "{backend:?}: {ran:?}");
        assert!(!ran.err.contains("core dumped"), "{ran:?}");
    }
}

/// The next tenant's box sees nothing of this one's.
#[test]
fn two_boxes_share_no_scratch() {
    for backend in BACKENDS {
        let mut first = bench().start(backend, &["term"], "", "");
        lantern_up(&mut first);
        let ran = bench().run(backend, &["list", "/tmp"], "");
        assert_eq!(ran.out, "done: []\n", "{backend:?}");
        let ran = bench().run(backend, &["kill-all"], "");
        assert_eq!(ran.ended.why, Why::Exited);
        RUNTIME.block_on(first.stop(lantern_types::Dur::from_secs(20)));
        let first = Outcome::of(first);
        assert_eq!(first.ended.code, Some(7), "{backend:?}: the first lived until it was stopped");
    }
}

fn lantern_up(running: &mut lantern_sandbox::Running) {
    let up = lantern_sandbox::Happened::Line(lantern_sandbox::Stream::Stdout, "up".to_owned());
    assert_eq!(RUNTIME.block_on(running.next()), up);
}

#[test]
fn a_box_is_not_made_for_a_class_that_it_does_not_hold() {
    let placed = bench().placed(Gvisor, &["exit", "0"], "");
    let dir = crate::support::folder("unproved");
    let unproved = crate::support::machine(&dir);
    let error = RUNTIME.block_on(unproved.start(&placed, "vm-x", Given::default())).err().unwrap();
    assert_eq!(error.to_string(), "gvisor is not proved on this machine");
}
