//! An OCI image layout in a folder: blobs by digest, each checked whenever it is read.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// Bytes of a manifest or configuration.
pub(super) const SMALL_MAX: u64 = 4 << 20;
/// Layers of an image.
const LAYERS_MAX: usize = 128;

/// A layout's folder.
#[derive(Clone, Debug)]
pub struct Layout {
    dir: PathBuf,
}

/// How a layer is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
}

/// A layer as a manifest names it.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) sha256: String,
    pub(crate) size: u64,
    pub(crate) packing: Packing,
}

#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) config: (String, u64),
    pub(crate) layers: Vec<Layer>,
}

/// What an image says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// What it runs.
    pub entrypoint: Vec<String>,
    /// With which arguments.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Where.
    pub working_dir: String,
    /// The digests of its layers as they are unpacked.
    pub(crate) diff_ids: Vec<String>,
}

#[derive(Deserialize)]
struct Descriptor {
    #[serde(default, rename = "mediaType")]
    media_type: String,
    digest: String,
    size: u64,
}

#[derive(Deserialize)]
struct WireManifest {
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct WireRun {
    #[serde(default)]
    entrypoint: Option<Vec<String>>,
    #[serde(default)]
    cmd: Option<Vec<String>>,
    #[serde(default)]
    env: Option<Vec<String>>,
    #[serde(default)]
    working_dir: Option<String>,
}

#[derive(Deserialize)]
struct WireRootfs {
    diff_ids: Vec<String>,
}

#[derive(Deserialize)]
struct WireConfig {
    os: String,
    architecture: String,
    #[serde(default)]
    config: Option<WireRun>,
    rootfs: WireRootfs,
}

impl Layout {
    /// The layout in `dir`.
    pub const fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn blob(&self, sha256: &str) -> PathBuf {
        self.dir.join("blobs/sha256").join(sha256)
    }

    /// A manifest by its digest; `None` when it is not here.
    pub(crate) fn manifest(&self, sha256: &str) -> Result<Option<Manifest>> {
        if !self.blob(sha256).is_file() {
            return Ok(None);
        }
        let bytes = self.small(sha256, None)?;
        let wire: WireManifest = read(&bytes, "its manifest")?;
        if wire.manifests.is_some() {
            return Err(bad(
                "its digest names a list of images for several machines; name the one for this machine",
            ));
        }
        let config = wire.config.ok_or_else(|| bad("its manifest names no configuration"))?;
        if wire.layers.len() > LAYERS_MAX {
            return Err(bad(&format!("it has more than {LAYERS_MAX} layers")));
        }
        let layer = |layer: Descriptor| {
            Ok(Layer {
                sha256: digest(&layer.digest)?,
                size: layer.size,
                packing: packing(&layer.media_type)?,
            })
        };
        let layers: Result<Vec<Layer>> = wire.layers.into_iter().map(layer).collect();
        Ok(Some(Manifest { config: (digest(&config.digest)?, config.size), layers: layers? }))
    }

    pub(crate) fn config(&self, manifest: &Manifest) -> Result<Config> {
        let (sha256, size) = &manifest.config;
        let bytes = self.small(sha256, Some(*size))?;
        let wire: WireConfig = read(&bytes, "its configuration")?;
        if wire.os != "linux" || wire.architecture != architecture() {
            let (os, machine) = (&wire.os, &wire.architecture);
            return Err(bad(&format!(
                "it is for {os}/{machine}, and this machine is linux/{}",
                architecture()
            )));
        }
        let run = wire.config.unwrap_or_default();
        let diff_ids: Result<Vec<String>> = wire.rootfs.diff_ids.iter().map(|id| digest(id)).collect();
        Ok(Config {
            entrypoint: run.entrypoint.unwrap_or_default(),
            cmd: run.cmd.unwrap_or_default(),
            env: run.env.unwrap_or_default(),
            working_dir: run.working_dir.unwrap_or_default(),
            diff_ids: diff_ids?,
        })
    }

    pub(crate) fn open(&self, layer: &Layer) -> Result<File> {
        let path = self.blob(&layer.sha256);
        let file = File::open(&path).map_err(Error::io("open", &path))?;
        let size = file.metadata().map_err(Error::io("look at", &path))?.len();
        if size != layer.size {
            return Err(bad(&format!("the layer {} has {size} bytes, not {}", layer.sha256, layer.size)));
        }
        Ok(file)
    }

    /// A small blob, whole, checked.
    fn small(&self, sha256: &str, size: Option<u64>) -> Result<Vec<u8>> {
        let path = self.blob(sha256);
        let file = File::open(&path).map_err(Error::io("open", &path))?;
        let mut bytes = Vec::new();
        file.take(SMALL_MAX + 1).read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
        let long = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if long > SMALL_MAX || size.is_some_and(|size| size != long) {
            return Err(bad(&format!("the blob {sha256} has another size than it should")));
        }
        if hex::encode(Sha256::digest(&bytes)) != sha256 {
            return Err(bad(&format!("the blob {sha256} is not what its digest says")));
        }
        Ok(bytes)
    }

    /// Makes the folders, and the file that says what this is.
    pub(crate) fn begin(&self) -> Result<()> {
        let blobs = self.dir.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(Error::io("make", &blobs))?;
        let mark = self.dir.join("oci-layout");
        fs::write(&mark, "{\"imageLayoutVersion\":\"1.0.0\"}").map_err(Error::io("write", &mark))
    }
}

fn read<T: for<'a> Deserialize<'a>>(bytes: &[u8], what: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| bad(&format!("{what} cannot be read: {error}")))
}

pub(crate) fn bad(words: &str) -> Error {
    Error::BadImage(words.to_owned())
}

/// `sha256:` and 64 hex digits, as the digits alone. Nothing else may become a file's name.
pub(super) fn digest(text: &str) -> Result<String> {
    let hex = text
        .strip_prefix("sha256:")
        .filter(|hex| hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
    hex.map(str::to_owned).ok_or_else(|| bad("it names a blob by something that is no SHA-256 digest"))
}

fn packing(media_type: &str) -> Result<Packing> {
    match media_type {
        "application/vnd.oci.image.layer.v1.tar" | "application/vnd.docker.image.rootfs.diff.tar" => {
            Ok(Packing::Plain)
        }
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Ok(Packing::Gzip),
        other => Err(bad(&format!("a layer of the type {other:?} cannot be unpacked here"))),
    }
}

/// This machine in the words of OCI.
pub(crate) const fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}
