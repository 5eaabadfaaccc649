//! Rules about which crate's code may name what: clocks and sockets, drivers, the HTTP client.
//!
//! The manifests already keep most of this out; these rules catch what the standard library offers without one, and
//! what a crate that may have a dependency must keep in one folder.

use crate::finding::Finding;
use crate::rules::{PURE, crate_of};
use crate::rust::{Source, has_word};
use crate::tree::Tree;

/// What pure code never says.
const IMPURE: &[&str] = &[
    "async",
    ".await",
    "SystemTime",
    "Instant",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "std::net::Tcp",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::io",
];

const DRIVERS: &[&str] = &["rusqlite", "tokio_postgres", "deadpool_postgres"];

/// `types`, `engine` and `policy` know no clock, socket, file, environment or thread.
pub(crate) fn pure_code(tree: &Tree) -> Vec<Finding> {
    let pure = tree.rust("crates/").filter(|s| crate_of(&s.path).is_some_and(|krate| PURE.contains(&krate)));
    pure.flat_map(|source| {
        named(source, "pure-code", IMPURE, "pure code takes it as an argument, or the caller does it")
    })
    .collect()
}

/// Only `crates/store/src/db*` names a database driver.
pub(crate) fn drivers(tree: &Tree) -> Vec<Finding> {
    let elsewhere = tree
        .rust("crates/")
        .filter(|s| s.path != "crates/store/src/db.rs" && !s.path.starts_with("crates/store/src/db/"));
    elsewhere
        .flat_map(|source| named(source, "drivers", DRIVERS, "only crates/store/src/db* names a driver"))
        .collect()
}

/// Only `crates/net` names the HTTP client.
pub(crate) fn http_client(tree: &Tree) -> Vec<Finding> {
    let elsewhere = tree.rust("crates/").filter(|s| crate_of(&s.path) != Some("net"));
    elsewhere
        .flat_map(|source| named(source, "http-client", &["reqwest"], "connections leave through crates/net"))
        .collect()
}

fn named(source: &Source, rule: &'static str, words: &[&str], instead: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, code) in source.product_code() {
        for word in words.iter().filter(|word| has_word(code, word)) {
            findings.push(Finding::new(rule, &source.path, line, format!("`{word}`: {instead}")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::found;

    #[test]
    fn a_clock_in_a_pure_crate_is_found() {
        for planted in [
            "let t = std::time::Instant::now();",
            "use std::time::SystemTime;",
            "std::fs::read(p)",
            "std::env::var(n)",
            "use std::net::TcpStream;",
            "async fn f() {}",
        ] {
            assert_eq!(found(pure_code, &[("crates/engine/src/run.rs", planted)]).len(), 1, "{planted}");
            assert!(found(pure_code, &[("crates/net/src/clock.rs", planted)]).is_empty(), "{planted}");
        }
        let fine = "//! No SystemTime here.\nuse std::net::IpAddr;\nlet s = \"std::fs\"; env!(\"X\");\n\
                    #[cfg(test)]\nmod tests { use std::fs; }\n";
        assert!(found(pure_code, &[("crates/policy/src/egress.rs", fine)]).is_empty());
    }

    #[test]
    fn a_driver_outside_the_facade_is_found() {
        let planted = "use rusqlite::Connection;\nfn f(c: tokio_postgres::Client) {}\n";
        assert_eq!(found(drivers, &[("crates/store/src/journal.rs", planted)]).len(), 2);
        assert_eq!(found(drivers, &[("crates/worker/src/drive.rs", planted)]).len(), 2);
        assert!(found(drivers, &[("crates/store/src/db/sqlite.rs", planted)]).is_empty());
    }

    #[test]
    fn a_client_outside_net_is_found() {
        let planted = "reqwest::Client::new()";
        assert_eq!(found(http_client, &[("crates/llm/src/lib.rs", planted)]), ["crates/llm/src/lib.rs:1"]);
        assert!(found(http_client, &[("crates/net/src/http.rs", planted)]).is_empty());
    }
}
