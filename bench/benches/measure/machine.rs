//! What this machine is, from `/proc`; the commit, from git; and how fast its disk syncs.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use lantern_bench::Machine;
use lantern_store::testing::Folder;

use crate::{Bench, disk};

/// Appends by which the disk is judged.
const SYNCS: u32 = 1_000;

/// Looks at the machine. Call it first: the load is that of the minute before.
pub(crate) fn look(bench: &Bench) -> Result<Machine> {
    let load_before =
        proc("loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default();
    let folder = Folder::new("bench-disk");
    let start = bench.clock.now();
    disk::sync_appends(folder.path(), SYNCS)?;
    let fsyncs_per_s = f64::from(SYNCS) * 1_000.0 / bench.millis_since(start);
    Ok(Machine {
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        processor: field(&proc("cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
        memory_mib: kib(&proc("meminfo"), "MemTotal") / 1_024,
        file_system: file_system(folder.path()),
        fsyncs_per_s,
        load_before,
    })
}

/// The commit that this is, with `+` when the checkout has changes.
pub(crate) fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return "an unknown commit".to_owned() };
    match git(&["status", "--porcelain"]) {
        Some(changes) if changes.is_empty() => commit,
        _ => format!("{commit}+"),
    }
}

/// Resident memory of a process in MiB; `None` when it is gone.
pub(crate) fn resident_mib(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    u32::try_from(kib(&status, "VmRSS")).ok().map(|kib| f64::from(kib) / 1_024.0)
}

/// Open file descriptors of a process; `None` when it is gone.
pub(crate) fn open_files(pid: u32) -> Option<f64> {
    let count = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    u32::try_from(count).ok().map(f64::from)
}

/// Processor time of this process so far, in microseconds. The kernel counts in hundredths of a second.
pub(crate) fn processor_micros() -> f64 {
    let stat = proc("self/stat");
    // The name in brackets may hold spaces; the times are the 14th and 15th field, counted from before it.
    let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
    let ticks: u32 = after.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u32>().ok()).sum();
    f64::from(ticks) * 10_000.0
}

fn proc(name: &str) -> String {
    fs::read_to_string(Path::new("/proc").join(name)).unwrap_or_default()
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.split(':').next().is_some_and(|field| field.trim() == name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

fn kib(text: &str, name: &str) -> u64 {
    let value = field(text, name).unwrap_or_default();
    value.trim_end_matches(" kB").parse().unwrap_or_default()
}

/// The type of the file system that holds `path`: that of the longest mount point above it.
fn file_system(path: &Path) -> String {
    let mounts = proc("mounts");
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let above = fields.filter_map(|fields| match fields.as_slice() {
        [_, point, kind, ..] if path.starts_with(point) => Some((point.len(), (*kind).to_owned())),
        _ => None,
    });
    above.max().map_or_else(|| "unknown".to_owned(), |(_, kind)| kind)
}
