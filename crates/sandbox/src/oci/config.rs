//! The `config.json` of a box: everything that hardens it, in one pure function.
//!
//! Invariant: whatever a spec says, a box has no capabilities, gains no privileges, writes to nothing but memory, sees no
//! device but the harmless ones, shares no namespace with the host, and is bounded in memory, processes and processor.

use serde_json::{Value, json};

use crate::handed;
use crate::launch::{BOX_ID, Inside};
use crate::seccomp;

/// Files of `/proc` that say too much.
const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kallsyms",
    "/proc/kpagecount",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
const NAMESPACES: [&str; 6] = ["pid", "network", "ipc", "uts", "mount", "cgroup"];
/// Processor time is handed out in slices of so many microseconds.
const CPU_PERIOD: u64 = 100_000;
/// Bytes of shared memory.
const SHM: u64 = 64 << 20;
const FILES: u64 = 1_024;

/// What differs between machines and runtimes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// Whether the kernel counts swap.
    pub swap: bool,
    /// Processes that the runtime has beside the workload's.
    pub runtime_pids: u32,
}

/// The `config.json` of a box.
pub fn config(inside: &Inside, facts: Facts) -> Value {
    let limits = &inside.limits;
    let plain = inside.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let all = plain.chain(handed::variables(&inside.secrets));
    let env: Vec<String> = all.map(|(name, value)| format!("{name}={value}")).collect();
    let none: [&str; 0] = [];
    let namespaces = NAMESPACES.map(|kind| match &inside.wire {
        Some(wire) if kind == "network" => json!({ "type": kind, "path": wire }),
        _ => json!({ "type": kind }),
    });
    let swap = facts.swap.then_some(limits.memory_bytes);
    let mut memory = json!({ "limit": limits.memory_bytes });
    if let (Some(memory), Some(swap)) = (memory.as_object_mut(), swap) {
        memory.insert("swap".to_owned(), json!(swap));
    }
    json!({
        "ociVersion": "1.0.2",
        "hostname": "box",
        "root": { "path": inside.rootfs, "readonly": true },
        "process": {
            "terminal": false,
            "user": { "uid": BOX_ID, "gid": BOX_ID, "umask": 0o022 },
            "args": inside.argv,
            "env": env,
            "cwd": inside.cwd,
            "noNewPrivileges": true,
            "capabilities": {
                "bounding": none, "effective": none, "inheritable": none, "permitted": none, "ambient": none,
            },
            "rlimits": [rlimit("RLIMIT_CORE", 0), rlimit("RLIMIT_NOFILE", FILES)],
            "oomScoreAdj": 500,
        },
        "mounts": mounts(inside),
        "linux": {
            "namespaces": namespaces,
            "cgroupsPath": format!("/lantern/{}", inside.id),
            "resources": {
                "devices": [{ "allow": false, "access": "rwm" }],
                "memory": memory,
                "pids": { "limit": limits.pids.saturating_add(facts.runtime_pids) },
                "cpu": { "period": CPU_PERIOD, "quota": u64::from(limits.cpu_millis) * CPU_PERIOD / 1_000 },
            },
            "rootfsPropagation": "private",
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            "seccomp": seccomp::oci(),
        },
    })
}

fn rlimit(kind: &str, most: u64) -> Value {
    json!({ "type": kind, "hard": most, "soft": most })
}

fn mounts(inside: &Inside) -> Vec<Value> {
    let scratch = format!("size={}", inside.limits.scratch_bytes);
    let shm = format!("size={}", SHM.min(inside.limits.scratch_bytes));
    let quiet = ["nosuid", "noexec", "nodev"];
    let mut mounts = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc", "options": quiet }),
        json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "noexec", "strictatime", "mode=755", "size=64k"] }),
        json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", shm] }),
        json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "nodev", "mode=1777", scratch] }),
    ];
    let shown = |(from, to): &(String, String)| json!({ "destination": to, "type": "bind", "source": from, "options": ["rbind", "ro", "nosuid", "nodev"] });
    mounts.extend(inside.shown.iter().map(shown));
    mounts.extend(inside.run.as_ref().map(|run| {
        json!({ "destination": "/run", "type": "bind", "source": run,
            "options": ["bind", "ro", "nosuid", "noexec", "nodev"] })
    }));
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;
    use lantern_policy::workload::Limits;

    #[test]
    fn the_golden_config() {
        let inside = Inside {
            id: "vm-1".to_owned(),
            rootfs: "/data/images/unpacked/ab/rootfs".into(),
            shown: Vec::new(),
            argv: vec!["/hello".to_owned(), "world".to_owned()],
            env: [("A".to_owned(), "b c".to_owned())].into(),
            cwd: "/".to_owned(),
            limits: Limits { cpu_millis: 500, pids: 10, memory_bytes: 64 << 20, ..Limits::default() },
            wire: None,
            secrets: Vec::new(),
            run: None,
        };
        let wired = Inside { wire: Some("/proc/7/fd/9".into()), ..inside.clone() };
        let (alone, wired) = (config(&inside, Facts::default()), config(&wired, Facts::default()));
        let joined = json!({ "type": "network", "path": "/proc/7/fd/9" });
        assert_eq!(wired.pointer("/linux/namespaces/1"), Some(&joined));
        assert_eq!(alone.pointer("/linux/namespaces/1"), Some(&json!({ "type": "network" })));
        let text = format!("{:#}\n", config(&inside, Facts { swap: true, runtime_pids: 3 }));
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/config.json");
        if std::env::vars().any(|(name, _)| name == "UPDATE") {
            std::fs::write(path, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(path).unwrap(), "UPDATE=1 rewrites it");
    }
}
