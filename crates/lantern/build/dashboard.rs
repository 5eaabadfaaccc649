//! Lists the files of the built dashboard, so that they become a part of the program.
//!
//! Runs no Node: what `npm run build` left in `dashboard/out` is taken, and nothing is when nothing is there. The folder itself
//! is in every checkout, because Cargo would build again each time for one that is not there.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

pub(crate) fn list() -> io::Result<()> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dashboard/out");
    println!("cargo::rerun-if-changed={}", built.display());
    let mut files = Vec::new();
    let root = built.join("dist").canonicalize().unwrap_or_default();
    find(&root, &mut files)?;
    files.sort();
    let mut text = "&[\n".to_owned();
    for file in files.iter().filter(|file| file.extension().is_none_or(|kind| kind != "gz")) {
        let path = file.strip_prefix(&root).unwrap_or(file).display();
        let packed = PathBuf::from(format!("{}.gz", file.display()));
        let packed = if packed.exists() { format!("Some({})", bytes(&packed)) } else { "None".to_owned() };
        let _ = writeln!(text, "File {{ path: \"/{path}\", bytes: {}, gzip: {packed} }},", bytes(file));
    }
    text += "]\n";
    #[expect(clippy::disallowed_methods, reason = "what Cargo tells a build script, not configuration")]
    let out = env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    fs::write(out.join("dashboard.rs"), text)
}

/// The expression that is a file's bytes.
fn bytes(file: &Path) -> String {
    format!("include_bytes!({:?})", file.to_string_lossy())
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else {
            files.push(path.canonicalize()?);
        }
    }
    Ok(())
}
