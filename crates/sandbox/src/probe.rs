//! What a probe saw from inside of a box, and whether that proves the box.
//!
//! Pure: the probe is a script whose output is read here. A fact that is missing proves nothing.

use lantern_policy::workload::Backend;

/// Run by `/bin/sh` in the box, from the host's programs.
pub const SCRIPT: &str = r#"
while read -r name value; do case $name in Seccomp:|NoNewPrivs:|CapEff:) echo "$name $value";; esac; done </proc/self/status
read -r version </proc/version; echo "kernel: $version"
while read -r name rest; do case $name in *:*) echo "interface: ${name%%:*}";; esac; done </proc/net/dev
echo "uid: $(id -u)"
(: >/made) 2>/dev/null && echo 'root: written' || echo 'root: refused'
mount -t tmpfs none /tmp 2>/dev/null && echo 'mount: done' || echo 'mount: refused'
unshare -U true 2>/dev/null && echo 'unshare: done' || echo 'unshare: refused'
n=0; for p in /proc/[0-9]*; do n=$((n + 1)); done; echo "processes: $n"
echo 'end: here'
"#;

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    facts: Vec<(String, String)>,
}

impl Findings {
    /// Reads the script's output.
    pub fn read(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        Self { facts: pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect() }
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.facts.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn one<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// Whether this proves such a box on a machine of this kernel: the facts in words, or what is wrong.
    pub fn judge(&self, backend: Backend, host: &str) -> Result<String, String> {
        let kernel = self.one("kernel").ok_or("the probe saw no kernel")?;
        let want = |name: &str, value: &str| match self.one(name) {
            Some(seen) if seen == value => Ok(()),
            Some(seen) => Err(format!("the probe saw {name} {seen}, not {value}")),
            None => Err(format!("the probe did not see {name}")),
        };
        want("end", "here")?;
        want("CapEff", "0000000000000000")?;
        want("root", "refused")?;
        want("mount", "refused")?;
        if self.one("uid").is_none_or(|uid| uid == "0") {
            return Err("the probe was root".to_owned());
        }
        if let Some(other) = self.all("interface").find(|name| *name != "lo") {
            return Err(format!("the probe saw the network interface {other}"));
        }
        if self.one("processes").and_then(|n| n.parse::<u32>().ok()).is_none_or(|n| n > 8) {
            return Err("the probe saw processes that are not its own".to_owned());
        }
        match backend {
            Backend::Gvisor if kernel == host.trim() => Err("the probe saw the host's kernel".to_owned()),
            Backend::Gvisor => Ok(format!("a kernel of its own ({}), no network", short(kernel))),
            Backend::Oci | Backend::Process => {
                want("Seccomp", "2")?;
                want("NoNewPrivs", "1")?;
                want("unshare", "refused")?;
                Ok(format!("the host's kernel ({}) behind a filter, no network", short(kernel)))
            }
        }
    }
}

/// `Linux version 6.1.0 (…)` as `6.1.0`.
fn short(kernel: &str) -> &str {
    kernel.split_whitespace().nth(2).unwrap_or(kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "Seccomp: 2\nNoNewPrivs: 1\nCapEff: 0000000000000000\nkernel: Linux version 6.1.0 (x)\ninterface: lo\nuid: 61000\nroot: refused\nmount: refused\nunshare: refused\nprocesses: 3\nend: here\n";

    #[test]
    fn every_fact_that_is_wrong_or_missing_disproves_a_box() {
        let host = "Linux version 6.1.0 (x)\n";
        let judge = |text: &str, backend| Findings::read(text).judge(backend, host);
        assert_eq!(
            judge(GOOD, Backend::Oci).unwrap(),
            "the host's kernel (6.1.0) behind a filter, no network"
        );
        assert!(judge(GOOD, Backend::Process).is_ok());
        assert_eq!(judge(GOOD, Backend::Gvisor).unwrap_err(), "the probe saw the host's kernel");
        let own = GOOD.replace("6.1.0", "4.4.0");
        assert_eq!(judge(&own, Backend::Gvisor).unwrap(), "a kernel of its own (4.4.0), no network");
        for line in GOOD.lines().filter(|line| !line.starts_with("interface")) {
            let less = GOOD.replace(&format!("{line}\n"), "");
            assert!(judge(&less, Backend::Oci).is_err(), "without {line}");
        }
        for (good, bad) in [
            ("Seccomp: 2", "Seccomp: 0"),
            ("NoNewPrivs: 1", "NoNewPrivs: 0"),
            ("CapEff: 0000000000000000", "CapEff: 00000000a80425fb"),
            ("interface: lo", "interface: lo\ninterface: eth0"),
            ("uid: 61000", "uid: 0"),
            ("root: refused", "root: written"),
            ("mount: refused", "mount: done"),
            ("unshare: refused", "unshare: done"),
            ("processes: 3", "processes: 90"),
        ] {
            assert!(judge(&GOOD.replace(good, bad), Backend::Oci).is_err(), "{bad}");
        }
    }
}
