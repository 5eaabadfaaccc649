//! Rules that keep a list of callers: who opens a tenant's rows without a request, who takes a secret out, who opens
//! sockets.
//!
//! The list must equal what the code does, in both directions, so that a new caller is a line in a review and a
//! removed one does not leave a door open for the next.

use std::collections::BTreeSet;

use crate::finding::Finding;
use crate::golden;
use crate::rust::has_word;
use crate::tree::Tree;

/// Callers of `Scope::of_lease`.
pub(crate) fn scopes(tree: &Tree) -> Vec<Finding> {
    callers(tree, "scopes", &["Scope::of_lease"], "golden/scope-callers.txt")
}

/// Callers of `Secret::expose`.
pub(crate) fn secrets(tree: &Tree) -> Vec<Finding> {
    callers(tree, "secrets", &[".expose()", "Secret::expose"], "golden/secret-exposers.txt")
}

/// Who opens or accepts connections without the HTTP client or a driver, which have rules of their own.
pub(crate) fn sockets(tree: &Tree) -> Vec<Finding> {
    let words = &["TcpStream", "TcpListener", "UdpSocket", "UnixStream", "UnixListener"];
    callers(tree, "sockets", words, "golden/sockets.txt")
}

fn callers(tree: &Tree, rule: &'static str, words: &[&str], list: &str) -> Vec<Finding> {
    let listed = golden::entries(tree, list);
    let mut findings = Vec::new();
    let mut calling = BTreeSet::new();
    for source in tree.rust("crates/") {
        let mut named = source.product_code().filter_map(|(line, code)| {
            words.iter().find(|word| has_word(code, word)).map(|word| (line, *word))
        });
        let Some((line, word)) = named.next() else { continue };
        calling.insert(source.path.as_str());
        if !listed.iter().any(|(_, path)| *path == source.path) {
            let message = format!("`{word}` in a new place: list it in {list} and say why");
            findings.push(Finding::new(rule, &source.path, line, message));
        }
    }
    let gone = listed.iter().filter(|(_, path)| !calling.contains(path));
    findings.extend(gone.map(|(line, path)| {
        Finding::new(rule, list, *line, format!("nothing of the kind in {path} any more: remove the line"))
    }));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::found;

    #[test]
    fn callers_equal_the_list() {
        let list = ("golden/scope-callers.txt", "crates/store/src/lease.rs # a leased run\n");
        let caller = "let s = Scope::of_lease(tenant);\n";
        assert!(found(scopes, &[list, ("crates/store/src/lease.rs", caller)]).is_empty());
        assert_eq!(
            found(scopes, &[list, ("crates/store/src/lease.rs", caller), ("crates/edge/src/a.rs", caller)]),
            ["crates/edge/src/a.rs:1"]
        );
        assert_eq!(found(scopes, &[list]), ["golden/scope-callers.txt:1"]);
    }

    #[test]
    fn a_new_door_is_found() {
        let text = "let l = tokio::net::TcpListener::bind(at).await;\n";
        assert_eq!(found(sockets, &[("crates/worker/src/a.rs", text)]), ["crates/worker/src/a.rs:1"]);
        let list = ("golden/sockets.txt", "crates/lantern/src/serve.rs # the API\n");
        assert!(found(sockets, &[list, ("crates/lantern/src/serve.rs", text)]).is_empty());
    }

    #[test]
    fn a_secret_taken_out_in_a_new_place_is_found() {
        let text = "f(key.expose());\n#[cfg(test)]\nmod tests { fn t() { k.expose(); } }\n";
        assert_eq!(found(secrets, &[("crates/control/src/a.rs", text)]), ["crates/control/src/a.rs:1"]);
        assert!(found(secrets, &[("crates/control/tests/it/a.rs", text)]).is_empty());
    }
}
