//! Boxes by bubblewrap: namespaces of their own and the filter of system calls, on the shared kernel.
//!
//! For trusted code on a laptop that has no container runtime. Bounded by control groups of ours.

use std::ffi::OsString;
use std::path::Path;

use crate::handed;
use crate::launch::{BOX_ID, Inside};

/// Processes of bubblewrap beside the workload's.
pub(crate) const OWN_PIDS: u32 = 3;
/// Where a box's files are for the moment in which it is made.
const STAGE: &str = "/mnt";

/// Enters the control groups, shows the image's files where an ordinary user can see them, becomes such a user, and then
/// bubblewrap: so root's number has no part in the box. What the server was started with open is closed first, which
/// takes bash where the numbers have two digits. Arguments: the status file, the filter, the variables, the image,
/// what it sees as /run or nothing, how many groups, the groups, and the command line.
const SCRIPT: &str =
    "for fd in /proc/self/fd/*; do fd=${fd##*/}; if [ \"$fd\" -gt 2 ]; then eval \"exec $fd>&-\"; fi; done
set -e; status=$1 filter=$2 variables=$3 root=$4 run=$5 n=$6; shift 6
while [ \"$n\" -gt 0 ]; do echo 0 >\"$1/cgroup.procs\"; shift; n=$((n - 1)); done
ulimit -c 0; ulimit -n 1024
mount --bind \"$root\" /mnt
if [ -n \"$run\" ]; then mount --bind \"$run\" /mnt/run; fi
exec \"$@\" 7<\"$variables\" 8>\"$status\" 9<\"$filter\"";

/// The files that a box is made with.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// What bubblewrap says of it.
    pub status: &'a Path,
    /// The filter of system calls.
    pub filter: &'a Path,
    /// Its environment; see [`variables`].
    pub variables: &'a Path,
}

/// The environment of a box as arguments in a file, because a command line can be read by everybody.
pub(crate) fn variables(inside: &Inside) -> Vec<u8> {
    let plain = inside.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut words = Vec::new();
    for (name, value) in plain.chain(handed::variables(&inside.secrets)) {
        for word in ["--setenv", name, value] {
            words.extend(word.as_bytes());
            words.push(0);
        }
    }
    words
}

/// The command line of a box.
pub fn args(
    inside: &Inside,
    bwrap: &Path,
    Files { status, filter, variables }: Files<'_>,
    groups: &[impl AsRef<Path>],
) -> Vec<OsString> {
    let mut line: Vec<OsString> = Vec::new();
    if let Some(wire) = &inside.wire {
        let mut net = OsString::from("--net=");
        net.push(wire);
        line.extend(["nsenter".into(), net]);
    }
    let words = ["unshare", "-m", "--propagation", "private", "bash", "-c", SCRIPT, "bash"];
    line.extend(words.map(OsString::from));
    line.extend([status, filter, variables, &inside.rootfs].map(OsString::from));
    line.push(inside.run.as_deref().unwrap_or_else(|| Path::new("")).into());
    line.push(groups.len().to_string().into());
    line.extend(groups.iter().map(|group| group.as_ref().into()));
    let id = BOX_ID.to_string();
    let user = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--no-new-privs"];
    line.extend(user.map(OsString::from));
    line.push(bwrap.into());
    line.push("--unshare-all".into());
    if inside.wire.is_some() {
        // The network that it was put into above, which belongs to nobody in the box.
        line.push("--share-net".into());
    }
    let flags = [
        "--unshare-user",
        "--disable-userns",
        "--uid",
        &id,
        "--gid",
        &id,
        "--hostname",
        "box",
        "--die-with-parent",
        "--new-session",
        "--cap-drop",
        "ALL",
        "--clearenv",
        "--args",
        "7",
        "--ro-bind",
        STAGE,
        "/",
    ];
    line.extend(flags.map(OsString::from));
    for (from, to) in &inside.shown {
        line.extend(["--ro-bind", from, to].map(OsString::from));
    }
    let scratch = inside.limits.scratch_bytes.to_string();
    let flags = [
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--size",
        &scratch,
        "--tmpfs",
        "/dev/shm",
        "--remount-ro",
        "/dev",
        "--perms",
        "1777",
        "--size",
        &scratch,
        "--tmpfs",
        "/tmp",
        "--chdir",
        &inside.cwd,
        "--json-status-fd",
        "8",
        "--seccomp",
        "9",
    ];
    line.extend(flags.map(OsString::from));
    line.push("--".into());
    line.extend(inside.argv.iter().map(OsString::from));
    line
}

/// What bubblewrap said of its box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// The first process of the box, as the host counts.
    pub(crate) first: Option<u32>,
    /// Whether the workload was started and has ended.
    pub(crate) ended: bool,
}

/// Reads its status file: one JSON object a line.
pub(crate) fn status(text: &str) -> Status {
    let mut status = Status::default();
    for line in text.lines() {
        let Ok(value) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let number = |name: &str| value.get(name).and_then(serde_json::Value::as_u64);
        status.first = number("child-pid").and_then(|pid| u32::try_from(pid).ok()).or(status.first);
        status.ended |= number("exit-code").is_some();
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_status_is_read() {
        let text = "{ \"child-pid\": 42, \"net-namespace\": 7 }\n{ \"exit-code\": 3 }\n";
        assert_eq!(status(text), Status { first: Some(42), ended: true });
        assert_eq!(status("{ \"child-pid\": 42"), Status::default());
    }
}
