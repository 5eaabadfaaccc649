//! The runtimes: where they are, and the command lines by which they make, signal and remove a box.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::config::Facts;

/// Which runtime, and how it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// crun as it is.
    Crun,
    /// crun in a mount namespace without the second tree of control groups, which it does not stand beside the first.
    CrunHybrid,
    /// runc.
    Runc,
    /// gVisor.
    Runsc,
}

/// A runtime that was found.
#[derive(Clone, Debug)]
pub(crate) struct Runtime {
    pub(crate) flavour: Flavour,
    pub(crate) program: PathBuf,
    /// Where it keeps what it knows of its boxes.
    pub(crate) state: PathBuf,
    /// Whether the box joins a network that is there already, and has nothing in it but its own loopback.
    pub(crate) wired: bool,
}

/// The tree of control groups that a hybrid machine has beside the first.
const UNIFIED: &str = "/sys/fs/cgroup/unified";
/// Threads of gVisor's own kernel, beside those that stand for the workload's.
const SENTRY_PIDS: u32 = 128;

/// The file of a program, looked for where a shell would.
pub(crate) fn found(program: &str, path: &OsStr) -> Option<PathBuf> {
    let extra = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(path).chain(extra).map(|dir| dir.join(program)).find(|file| file.is_file())
}

impl Flavour {
    /// Those that share the host's kernel, the quickest first.
    pub(crate) fn shared() -> [Self; 2] {
        let crun = if Path::new(UNIFIED).join("cgroup.controllers").exists() {
            Self::CrunHybrid
        } else {
            Self::Crun
        };
        [crun, Self::Runc]
    }

    pub(crate) const fn program(self) -> &'static str {
        match self {
            Self::Crun | Self::CrunHybrid => "crun",
            Self::Runc => "runc",
            Self::Runsc => "runsc",
        }
    }
}

impl Runtime {
    /// What differs in the `config.json` of its boxes.
    pub(crate) const fn facts(&self, swap: bool) -> Facts {
        let runtime_pids = if matches!(self.flavour, Flavour::Runsc) { SENTRY_PIDS } else { 0 };
        Facts { swap, runtime_pids }
    }

    /// A command line: what comes before the verb, then the verb.
    pub(crate) fn command(&self, verb: &[&OsStr]) -> Vec<OsString> {
        let mut line: Vec<OsString> = match self.flavour {
            Flavour::CrunHybrid => {
                let script = format!("umount {UNIFIED} && exec \"$@\"");
                ["unshare", "-m", "--propagation", "slave", "sh", "-c", &script, "sh"]
                    .map(OsString::from)
                    .into()
            }
            _ => Vec::new(),
        };
        line.push(self.program.clone().into());
        line.extend([OsString::from("--root"), self.state.clone().into()]);
        if self.flavour == Flavour::Runsc {
            // "host" means the namespace of the bundle, of which gVisor's own stack would see no listener.
            let network = if self.wired { "--network=host" } else { "--network=none" };
            let flags = ["--platform=systrap", network, "--oci-seccomp", "--overlay2=none"];
            line.extend(flags.map(OsString::from));
        }
        line.extend(verb.iter().map(OsString::from));
        line
    }

    /// Makes a box and waits for it.
    pub(crate) fn run(&self, bundle: &Path, pid_file: &Path, id: &str) -> Vec<OsString> {
        let (pid, bundle_flag) = match self.flavour {
            Flavour::Runsc => ("-pid-file", "-bundle"),
            _ => ("--pid-file", "--bundle"),
        };
        let flags = [pid.as_ref(), pid_file.as_os_str(), bundle_flag.as_ref(), bundle.as_os_str()];
        let verb: Vec<&OsStr> =
            std::iter::once(OsStr::new("run")).chain(flags).chain([id.as_ref()]).collect();
        self.command(&verb)
    }

    pub(crate) fn kill(&self, id: &str, signal: &str) -> Vec<OsString> {
        self.command(&["kill".as_ref(), id.as_ref(), signal.as_ref()])
    }

    /// Whether it numbers the processes of a box by itself.
    pub(crate) const fn counts_within(&self) -> bool {
        matches!(self.flavour, Flavour::Runsc)
    }

    /// Runs another program in a box, and waits for it.
    pub(crate) fn exec(&self, process: &Path, (pid, inner): (&Path, &Path), id: &str) -> Vec<OsString> {
        let mut verb: Vec<&OsStr> = vec![OsStr::new("exec")];
        if self.counts_within() {
            let flags = ["-process".as_ref(), process.as_os_str(), "-pid-file".as_ref(), pid.as_os_str()];
            verb.extend(flags.into_iter().chain([OsStr::new("-internal-pid-file"), inner.as_os_str()]));
        } else {
            verb.extend([
                OsStr::new("--process"),
                process.as_os_str(),
                "--pid-file".as_ref(),
                pid.as_os_str(),
            ]);
        }
        verb.push(id.as_ref());
        self.command(&verb)
    }

    /// Ends one program of a box that numbers them by itself.
    pub(crate) fn kill_one(&self, id: &str, pid: i32) -> Vec<OsString> {
        self.command(&[
            "kill".as_ref(),
            "-pid".as_ref(),
            pid.to_string().as_ref(),
            id.as_ref(),
            "KILL".as_ref(),
        ])
    }

    pub(crate) fn delete(&self, id: &str) -> Vec<OsString> {
        let force = if self.flavour == Flavour::Runsc { "-force" } else { "--force" };
        self.command(&["delete".as_ref(), force.as_ref(), id.as_ref()])
    }
}
