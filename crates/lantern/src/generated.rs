//! Files of the repository that are written from the code, so that neither can say what the other does not.
//!
//! `UPDATE=1` writes them (`make gen`); otherwise they are compared.

use std::path::Path;

/// Compares or writes the file at `path` below the repository's root.
pub(crate) fn keep(path: &str, made: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if std::env::vars().any(|(name, value)| name == "UPDATE" && value == "1") {
        std::fs::write(&file, made).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(kept == made, "{path} is not what the code says; `make gen` writes it anew:\n{made}");
}
