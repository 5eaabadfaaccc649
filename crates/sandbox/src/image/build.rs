//! A folder as an OCI image: one layer, the same bytes each time, without any daemon.
//!
//! Invariant: the digest depends on the names, contents, links and executable bits below the folder and on the plan, and
//! on nothing else: no times, no owners, no order of the file system.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use lantern_policy::workload::Image;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::layout::{Layout, Packing, architecture, bad};
use crate::error::{Error, Result};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const NAME: &str = "org.opencontainers.image.ref.name";

/// What is to be made of a folder.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// A name for lists.
    pub name: String,
    /// What the image runs.
    pub entrypoint: Vec<String>,
    /// `NAME=value`, for whatever it runs.
    pub env: Vec<String>,
    /// An image of the same layout whose files are below.
    pub base: Option<String>,
}

/// An image that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// Its name and digest, as a spec says them.
    pub image: Image,
    /// Bytes of its own layer.
    pub bytes: u64,
    /// Files, folders and links in it.
    pub entries: u64,
}

/// Makes an image of `folder` in `layout`. Blocks.
pub fn build(layout: &Layout, folder: &Path, plan: &Plan) -> Result<Built> {
    layout.begin()?;
    let (mut layers, mut diff_ids, mut inherited) = (Vec::new(), Vec::new(), super::Config::default());
    if let Some(base) = &plan.base {
        let manifest = layout.manifest(base)?.ok_or_else(|| Error::NoImage(format!("sha256:{base}")))?;
        inherited = layout.config(&manifest)?;
        for layer in &manifest.layers {
            let kind = if layer.packing == Packing::Gzip { format!("{TAR}+gzip") } else { TAR.to_owned() };
            layers.push(descriptor(&kind, &layer.sha256, layer.size));
        }
        diff_ids.extend(inherited.diff_ids.iter().map(|id| format!("sha256:{id}")));
    }
    let (sha256, bytes, entries) = layer(layout, folder)?;
    layers.push(descriptor(TAR, &sha256, bytes));
    diff_ids.push(format!("sha256:{sha256}"));
    let entrypoint = if plan.entrypoint.is_empty() { inherited.entrypoint } else { plan.entrypoint.clone() };
    let env: Vec<String> = inherited.env.into_iter().chain(plan.env.iter().cloned()).collect();
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": { "Entrypoint": entrypoint, "Env": env, "WorkingDir": "/" },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let (config, config_size) = small(layout, &config)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config, config_size),
        "layers": layers,
    });
    let (sha256, size) = small(layout, &manifest)?;
    index(layout, &plan.name, &sha256, size)?;
    Ok(Built { image: Image { repository: plan.name.clone(), sha256 }, bytes, entries })
}

fn descriptor(media_type: &str, sha256: &str, size: u64) -> Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{sha256}"), "size": size })
}

/// Puts a small blob where its digest says.
fn small(layout: &Layout, value: &Value) -> Result<(String, u64)> {
    let bytes = value.to_string().into_bytes();
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let path = layout.blob(&sha256);
    let beside = beside(layout, &sha256);
    fs::write(&beside, &bytes).map_err(Error::io("write", &beside))?;
    fs::rename(&beside, &path).map_err(Error::io("move into", &path))?;
    Ok((sha256, u64::try_from(bytes.len()).unwrap_or(u64::MAX)))
}

fn beside(layout: &Layout, what: &str) -> PathBuf {
    layout.dir().join(format!(".{what}-{}", std::process::id()))
}

/// The file that lists the images of a layout by name; this one takes the place of an earlier one of its name.
fn index(layout: &Layout, name: &str, sha256: &str, size: u64) -> Result<()> {
    let path = layout.dir().join("index.json");
    let read = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        read => Some(read.map_err(Error::io("read", &path))?),
    };
    let index: Value = match read {
        Some(bytes) => {
            serde_json::from_slice(&bytes).map_err(|_| bad("the layout's index.json cannot be read"))?
        }
        None => json!({}),
    };
    let listed = index.get("manifests").and_then(Value::as_array).cloned().unwrap_or_default();
    let named =
        |entry: &Value| entry.get("annotations").and_then(|notes| notes.get(NAME)) == Some(&json!(name));
    let mut manifests: Vec<Value> = listed.into_iter().filter(|entry| !named(entry)).collect();
    let mut entry = descriptor(MANIFEST, sha256, size);
    if let Some(entry) = entry.as_object_mut() {
        entry.insert("annotations".to_owned(), json!({ NAME: name }));
    }
    manifests.push(entry);
    let beside = beside(layout, "index");
    let text = json!({ "schemaVersion": 2, "manifests": manifests }).to_string();
    fs::write(&beside, text).map_err(Error::io("write", &beside))?;
    fs::rename(&beside, &path).map_err(Error::io("move into", &path))
}

/// Writes and hashes.
struct Hashed<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..n).unwrap_or_default());
        self.bytes = self.bytes.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn layer(layout: &Layout, folder: &Path) -> Result<(String, u64, u64)> {
    let temporary = beside(layout, "layer");
    let file = File::create(&temporary).map_err(Error::io("write", &temporary))?;
    let made = pack(folder, file);
    if made.is_err() {
        // The reason why it failed matters, not that its rest could not be removed.
        let _ = fs::remove_file(&temporary);
    }
    let (sha256, bytes, entries) = made?;
    let path = layout.blob(&sha256);
    fs::rename(&temporary, &path).map_err(Error::io("move into", &path))?;
    Ok((sha256, bytes, entries))
}

fn pack(folder: &Path, file: File) -> Result<(String, u64, u64)> {
    let hashed = Hashed { inner: BufWriter::new(file), hash: Sha256::new(), bytes: 0 };
    let mut tar = Builder::new(hashed);
    let mut entries = 0;
    if !folder.is_dir() {
        return Err(Error::Refused(format!("{} is no folder", folder.display())));
    }
    let mut todo = sorted(folder)?;
    while let Some(path) = todo.pop() {
        let name = path.strip_prefix(folder).unwrap_or(&path).to_owned();
        let meta = fs::symlink_metadata(&path).map_err(Error::io("look at", &path))?;
        let mut header = Header::new_gnu();
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        let fail = Error::io("pack", &path);
        entries += 1;
        if meta.is_dir() {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o755);
            tar.append_data(&mut header, &name, io::empty()).map_err(fail)?;
            todo.extend(sorted(&path)?);
        } else if meta.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            header.set_mode(0o777);
            let target = fs::read_link(&path).map_err(Error::io("read", &path))?;
            tar.append_link(&mut header, &name, target).map_err(fail)?;
        } else if meta.is_file() {
            header.set_entry_type(EntryType::Regular);
            header.set_mode(if meta.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 });
            header.set_size(meta.len());
            let file = File::open(&path).map_err(Error::io("open", &path))?;
            tar.append_data(&mut header, &name, file).map_err(fail)?;
        } else {
            return Err(Error::Refused(format!("{} is neither file, folder nor link", path.display())));
        }
    }
    let mut hashed = tar.into_inner().map_err(Error::io("pack", folder))?;
    hashed.flush().map_err(Error::io("pack", folder))?;
    Ok((hex::encode(hashed.hash.finalize()), hashed.bytes, entries))
}

/// What a folder holds, last first: what is taken from the end comes in order.
fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let fail = |error| Error::io("list", folder)(error);
    let entries = fs::read_dir(folder).map_err(fail)?;
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(fail)?;
    paths.sort();
    paths.reverse();
    Ok(paths)
}
