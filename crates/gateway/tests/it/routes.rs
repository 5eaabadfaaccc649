//! The doors and their actions, as a file. `UPDATE=1` rewrites it.

use std::collections::BTreeSet;
use std::path::Path;

use lantern_gateway::{routes, table};
use lantern_policy::action::ACTIONS;

#[test]
fn the_doors_are_as_listed_and_none_is_public() {
    let got = format!("# The front doors: method, path, codes of success, action\n{}", table());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/doors.txt");
    #[expect(clippy::disallowed_methods, reason = "a test's own switch, not configuration")]
    if std::env::var("UPDATE").is_ok() {
        std::fs::write(&path, &got).unwrap();
    }
    assert_eq!(got, std::fs::read_to_string(&path).unwrap_or_default(), "UPDATE=1 rewrites it");
    let known: BTreeSet<&str> = ACTIONS.iter().map(|(name, _)| *name).collect();
    assert!(routes().iter().all(|route| route.action().is_some_and(|(name, _)| known.contains(name))));
}
