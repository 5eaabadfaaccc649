//! Control groups of our own, for boxes whose maker has none: memory, processes and processor, in both of the kernel's forms.
//!
//! Runtimes by the OCI make theirs themselves, below the same `lantern`.

use std::path::{Path, PathBuf};
use std::{fs, io};

use lantern_policy::workload::Limits;

/// Where the kernel shows them.
pub(crate) const ROOT: &str = "/sys/fs/cgroup";
const OURS: &str = "lantern";
const PERIOD: u64 = 100_000;

/// How this machine has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Groups {
    /// A tree for each controller.
    First(PathBuf),
    /// One tree.
    Second(PathBuf),
}

/// The groups of one box.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// Folders; who writes 0 to `cgroup.procs` of each is in the box's groups.
    pub(crate) dirs: Vec<PathBuf>,
}

impl Groups {
    /// Finds out, below `root`.
    pub(crate) fn find(root: &Path) -> Result<Self, String> {
        if root.join("memory").is_dir() && root.join("pids").is_dir() {
            return Ok(Self::First(root.to_owned()));
        }
        let listed = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        let has = |name: &str| listed.split_whitespace().any(|listed| listed == name);
        if has("memory") && has("pids") {
            return Ok(Self::Second(root.to_owned()));
        }
        Err("no control groups for memory and processes".to_owned())
    }

    /// Whether swap is counted.
    pub(crate) fn counts_swap(&self) -> bool {
        match self {
            Self::First(root) => root.join("memory/memory.memsw.limit_in_bytes").exists(),
            Self::Second(_) => true,
        }
    }

    /// Makes the groups of a box.
    pub(crate) fn make(&self, id: &str, limits: &Limits, more_pids: u32) -> io::Result<Group> {
        let (memory, pids) =
            (limits.memory_bytes.to_string(), limits.pids.saturating_add(more_pids).to_string());
        let quota = u64::from(limits.cpu_millis) * PERIOD / 1_000;
        let mut group = Group::default();
        match self {
            Self::First(root) => {
                let dir = group.add(root.join("memory"), id)?;
                fs::write(dir.join("memory.limit_in_bytes"), &memory)?;
                if self.counts_swap() {
                    fs::write(dir.join("memory.memsw.limit_in_bytes"), &memory)?;
                }
                let dir = group.add(root.join("pids"), id)?;
                fs::write(dir.join("pids.max"), &pids)?;
                if root.join("cpu/cpu.cfs_quota_us").exists() {
                    let dir = group.add(root.join("cpu"), id)?;
                    fs::write(dir.join("cpu.cfs_period_us"), PERIOD.to_string())?;
                    fs::write(dir.join("cpu.cfs_quota_us"), quota.to_string())?;
                }
            }
            Self::Second(root) => {
                let ours = root.join(OURS);
                fs::create_dir_all(&ours)?;
                for parent in [root, &ours] {
                    fs::write(parent.join("cgroup.subtree_control"), "+memory +pids +cpu")?;
                }
                let dir = group.add(root.clone(), id)?;
                fs::write(dir.join("memory.max"), &memory)?;
                fs::write(dir.join("memory.swap.max"), "0")?;
                fs::write(dir.join("pids.max"), &pids)?;
                fs::write(dir.join("cpu.max"), format!("{quota} {PERIOD}"))?;
            }
        }
        Ok(group)
    }

    /// The groups that a box of this name would have, whoever made them.
    pub(crate) fn of(&self, id: &str) -> Group {
        let dirs = match self {
            Self::First(root) => fs::read_dir(root)
                .map(|trees| trees.flatten().map(|tree| tree.path().join(OURS).join(id)).collect())
                .unwrap_or_default(),
            Self::Second(root) => vec![root.join(OURS).join(id)],
        };
        Group { dirs: dirs.into_iter().filter(|dir: &PathBuf| dir.is_dir()).collect() }
    }
}

impl Group {
    fn add(&mut self, tree: PathBuf, id: &str) -> io::Result<PathBuf> {
        let dir = tree.join(OURS).join(id);
        fs::create_dir_all(&dir)?;
        self.dirs.push(dir.clone());
        Ok(dir)
    }

    /// Who is in them.
    pub(crate) fn members(&self) -> Vec<i32> {
        let read = |dir: &PathBuf| fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        let mut pids: Vec<i32> = self
            .dirs
            .iter()
            .flat_map(|dir| read(dir).lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>())
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Removes them; `false` when somebody is still there.
    pub(crate) fn remove(&self) -> bool {
        self.dirs.iter().fold(true, |gone, dir| {
            let removed = fs::remove_dir(dir);
            gone & removed.as_ref().map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |()| true)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let root = std::env::temp_dir().join(format!("lantern-cgroup-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for (file, text) in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const LIMITS: Limits = Limits {
        cpu_millis: 500,
        memory_bytes: 1 << 20,
        pids: 7,
        scratch_bytes: 0,
        timeout: lantern_types::Dur::from_micros(0),
        gpus: 0,
        max_steps: None,
        max_tokens: None,
        max_cost: None,
    };

    #[test]
    fn one_tree_has_all_limits_in_one_group() {
        let root = tree("second", &[("cgroup.controllers", "cpuset cpu io memory hugetlb pids\n")]);
        let groups = Groups::find(&root).unwrap();
        let group = groups.make("vm-1", &LIMITS, 3).unwrap();
        let dir = root.join("lantern/vm-1");
        assert_eq!(group.dirs, std::slice::from_ref(&dir));
        for (file, want) in [
            ("memory.max", "1048576"),
            ("memory.swap.max", "0"),
            ("pids.max", "10"),
            ("cpu.max", "50000 100000"),
        ] {
            assert_eq!(fs::read_to_string(dir.join(file)).unwrap(), want, "{file}");
        }
        assert_eq!(fs::read_to_string(root.join("cgroup.subtree_control")).unwrap(), "+memory +pids +cpu");
        assert_eq!(groups.of("vm-1"), group);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_tree_for_each_controller_has_a_group_in_each() {
        let files =
            [("memory/memory.memsw.limit_in_bytes", ""), ("pids/x", ""), ("cpu/cpu.cfs_quota_us", "")];
        let root = tree("first", &files);
        let group = Groups::find(&root).unwrap().make("vm-1", &LIMITS, 0).unwrap();
        assert_eq!(group.dirs.len(), 3);
        for (file, want) in [
            ("memory/lantern/vm-1/memory.memsw.limit_in_bytes", "1048576"),
            ("pids/lantern/vm-1/pids.max", "7"),
            ("cpu/lantern/vm-1/cpu.cfs_quota_us", "50000"),
        ] {
            assert_eq!(fs::read_to_string(root.join(file)).unwrap(), want, "{file}");
        }
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_machine_without_them_says_so() {
        let root = tree("none", &[("cgroup.controllers", "hugetlb\n")]);
        assert!(Groups::find(&root).is_err());
        fs::remove_dir_all(root).unwrap();
    }
}
