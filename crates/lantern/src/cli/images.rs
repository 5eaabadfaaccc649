//! `lantern build`: an image of a folder, the same bytes each time, without any other program. Asks no server.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use lantern_sandbox::image::{Layout, Plan};
use serde_json::json;

use super::console::Console;
use super::failure::{Exit, Failure};
use crate::env;

/// Flags of `lantern build`.
#[derive(Debug, Args)]
#[command(
    after_help = "The image lies in the data folder of the server that is to run it, and is named by its digest. The same files give the same digest."
)]
pub(crate) struct BuildArgs {
    /// The folder whose files become the image
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// What the image is called, in lists and in front of its digest [default: the folder's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// What it runs, and arguments that it always has: once for each word
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    entrypoint: Vec<String>,
    /// A variable of whatever it runs
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// An image whose files are below, by its digest: sha256: and 64 hex digits
    #[arg(long, value_name = "DIGEST")]
    base: Option<String>,
    /// The data folder whose images it becomes one of [env: LANTERN_DATA_DIR] [default: data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Write the image into this spec too, in place of the one that it names
    #[arg(long, value_name = "FILE")]
    into: Option<PathBuf>,
}

/// Makes an image.
pub(crate) fn build(console: &Console, args: BuildArgs) -> Result<(), Failure> {
    let name = args.name.unwrap_or_else(|| named_after(&args.folder));
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./_-".contains(&byte)) {
        return Err(Failure::usage("--name: expected letters, digits, `.`, `/`, `_` or `-`"));
    }
    if let Some(wrong) = args.env.iter().find(|pair| !pair.contains('=')) {
        return Err(Failure::usage(format!("--env {wrong}: expected NAME=VALUE")));
    }
    let dir = args.data_dir.or_else(|| env::get(env::DATA_DIR).map(PathBuf::from));
    let layout = Layout::at(dir.unwrap_or_else(|| PathBuf::from("data")).join("images"));
    let base = args.base.map(|base| base.trim_start_matches("sha256:").to_owned());
    let plan = Plan { name, entrypoint: args.entrypoint, env: args.env, base };
    let built = lantern_sandbox::image::build(&layout, &args.folder, &plan).map_err(failed)?;
    let image = built.image.to_string();
    if let Some(spec) = &args.into {
        write_into(spec, &image)?;
    }
    let told =
        json!({ "image": image, "bytes": built.bytes, "entries": built.entries, "layout": layout.dir() });
    console.answer(&told, || image.clone())
}

fn named_after(folder: &Path) -> String {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Puts an image into a spec, in place of the one that it names. Everything else stays as it was written.
fn write_into(path: &Path, image: &str) -> Result<(), Failure> {
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
    let changed = with_image(&text, image).ok_or_else(|| {
        Failure::usage(format!("{} has no line of its own for image_digest", path.display()))
    })?;
    if changed == text {
        return Ok(());
    }
    fs::write(path, changed)
        .map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", path.display())))
}

fn with_image(text: &str, image: &str) -> Option<String> {
    let known = |line: &str| {
        let name = line.trim_start();
        name.starts_with("image_digest:") || name.starts_with("imageDigest:")
    };
    if text.lines().filter(|line| known(line)).count() != 1 {
        return None;
    }
    let changed = |line: &str| match line.split_once(':') {
        Some((name, _)) if known(line) => format!("{name}: {image}\n"),
        _ => format!("{line}\n"),
    };
    Some(text.lines().map(changed).collect())
}

fn failed(error: lantern_sandbox::Error) -> Failure {
    let exit = match error {
        lantern_sandbox::Error::NoImage(_) => Exit::NotFound,
        lantern_sandbox::Error::Refused(_) => Exit::Usage,
        _ => Exit::Failed,
    };
    Failure::new(exit, error.to_string()).hint("see `lantern build --help`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_takes_the_place_of_the_one_that_a_spec_names() {
        let spec =
            "apiVersion: lantern.dev/v1\nspec:\n  image_digest: a@sha256:0\n  isolation: trusted # so\n";
        let want =
            "apiVersion: lantern.dev/v1\nspec:\n  image_digest: b@sha256:1\n  isolation: trusted # so\n";
        assert_eq!(with_image(spec, "b@sha256:1").as_deref(), Some(want));
        for none in ["spec: {image_digest: a}\n", "image_digest: a\nimageDigest: b\n", ""] {
            assert_eq!(with_image(none, "b"), None, "{none}");
        }
    }
}
