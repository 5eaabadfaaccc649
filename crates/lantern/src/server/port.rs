//! Who listens on an address that is taken, as far as the kernel tells this user.
//!
//! Reads `/proc` and nothing else; where there is none, or the process is somebody else's, nobody is found.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// A process that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) pid: u32,
    /// The name of its program, as the kernel has it: no arguments, which may hold secrets.
    pub(super) name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// The process that listens where nobody else can.
pub(super) fn holder(wanted: SocketAddr) -> Option<Holder> {
    let proc = Path::new("/proc");
    let tables = ["net/tcp", "net/tcp6"].map(|name| fs::read_to_string(proc.join(name)).unwrap_or_default());
    let sockets: Vec<String> = tables
        .iter()
        .flat_map(|table| listening(table, wanted))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if sockets.is_empty() {
        return None;
    }
    let pids = fs::read_dir(proc).ok()?.flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find_map(|pid: u32| {
        let process = proc.join(pid.to_string());
        let mut files = fs::read_dir(process.join("fd")).ok()?.flatten();
        let has = |link: &Path| sockets.iter().any(|socket| Path::new(socket) == link);
        files.find(|file| fs::read_link(file.path()).is_ok_and(|link| has(&link)))?;
        let name = fs::read_to_string(process.join("comm")).ok()?.trim_end().to_owned();
        Some(Holder { pid, name })
    })
}

/// The inodes of the sockets in a table of the kernel's that keep others from `wanted`.
fn listening(table: &str, wanted: SocketAddr) -> Vec<u64> {
    let row = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (columns.get(1)?, columns.get(3)?, columns.get(9)?);
        let (ip, port) = local.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        // 0A is LISTEN.
        let meets = *state == "0A" && port == wanted.port() && meet(address(ip)?, wanted.ip());
        if meets { inode.parse().ok() } else { None }
    };
    table.lines().skip(1).filter_map(row).collect()
}

/// Whether a socket on one of these addresses keeps another from the other.
fn meet(a: IpAddr, b: IpAddr) -> bool {
    a.is_unspecified() || b.is_unspecified() || a.to_canonical() == b.to_canonical()
}

/// An address as the kernel writes it: words of 32 bits in this machine's byte order, as hex.
fn address(hex: &str) -> Option<IpAddr> {
    let words: Vec<u32> = (0..hex.len() / 8)
        .map(|n| u32::from_str_radix(hex.get(n * 8..n * 8 + 8)?, 16).ok())
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let v4 = <[u8; 4]>::try_from(bytes.as_slice()).map(|bytes| Ipv4Addr::from(bytes).into());
    v4.or_else(|_| <[u8; 16]>::try_from(bytes.as_slice()).map(|bytes| Ipv6Addr::from(bytes).into())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_kernels_table_is_read() {
        const V4: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0 100 0 0 10 0
   1: 0500000A:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12 1 0 100 0 0 10 0
   2: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 13 1 0 100 0 0 10 0
";
        const V6: &str = "\
  sl  local_address                         remote_address                        st …
   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 21 1
   1: 0000000000000000FFFF00000100007F:1F91 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 22 1
";
        for (table, wanted, inodes) in [
            (V4, "127.0.0.1:8080", &[11][..]),
            (V4, "10.0.0.5:8080", &[12]),
            (V4, "0.0.0.0:8080", &[11, 12]),
            (V4, "127.0.0.1:8081", &[]),
            (V6, "127.0.0.1:8080", &[21]),
            (V6, "127.0.0.1:8081", &[22]),
            ("", "127.0.0.1:8080", &[]),
        ] {
            assert_eq!(listening(table, wanted.parse().unwrap()), inodes, "{wanted}");
        }
    }
}
