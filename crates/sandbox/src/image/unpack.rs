//! Layers into a folder, without leaving it.
//!
//! Invariant: every name is looked up by the kernel as if the folder were the root of everything (`openat2` with
//! `RESOLVE_IN_ROOT`), so no link, however it came there, leads out. Only folders, files and links are made: no device,
//! no set-user-id bit, no owner but ourselves. What an image may hold is bounded, and counted as it is unpacked, so that
//! a small file cannot become a large one. Files can be read by everybody: in its box a workload owns nothing.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use sha2::{Digest as _, Sha256};
use tar::{Archive, EntryType};

use super::layout::{Layer, Packing, bad};
use crate::error::{Error, Result};

/// What an image may hold, over all its layers.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes when it is unpacked, headers included.
    pub bytes: u64,
    /// Files, folders and links.
    pub entries: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { bytes: 8 << 30, entries: 500_000 }
    }
}

/// Bytes of a name.
const NAME_MAX: usize = 4_096;
/// Folders of an image that something is mounted on in a box.
pub(super) const MOUNTED_ON: [&str; 4] = ["proc", "dev", "tmp", "run"];
const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

/// A folder that layers are unpacked into.
pub struct Unpacked {
    root: OwnedFd,
    left: Bounds,
}

/// Counts and hashes what goes through it.
struct Watched<R> {
    inner: R,
    hash: Sha256,
    left: u64,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(into)?;
        let taken = u64::try_from(n).unwrap_or(u64::MAX);
        self.left = self
            .left
            .checked_sub(taken)
            .ok_or_else(|| io::Error::other("it unpacks to more than an image may hold"))?;
        self.hash.update(into.get(..n).unwrap_or_default());
        Ok(n)
    }
}

impl Unpacked {
    /// Unpacks into `root`, a folder of our own that nothing else writes to.
    pub fn new(root: &Path, bounds: Bounds) -> Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let opened = rustix::fs::open(root, flags, Mode::empty());
        let root = opened.map_err(|error| Error::io("open", root)(error.into()))?;
        Ok(Self { root, left: bounds })
    }

    /// Unpacks a layer over what is there, and checks that it was the one that was asked for.
    pub(crate) fn layer(&mut self, file: File, layer: &Layer, diff_id: &str) -> Result<()> {
        let (packed, plain) = match layer.packing {
            Packing::Plain => {
                let plain = self.entries(file)?;
                // One stream: both digests are of the same bytes.
                (plain.clone(), plain)
            }
            Packing::Gzip => {
                let blob = Watched { inner: file, hash: Sha256::new(), left: layer.size };
                let mut decoder = MultiGzDecoder::new(blob);
                let plain = self.entries(&mut decoder)?;
                let mut blob = decoder.into_inner();
                io::copy(&mut blob, &mut io::sink()).map_err(unread)?;
                (hex::encode(blob.hash.finalize()), plain)
            }
        };
        if packed != layer.sha256 || plain != diff_id {
            return Err(bad(&format!("the layer {} is not what its digest says", layer.sha256)));
        }
        Ok(())
    }

    /// Makes the folders that every box mounts something on: in a box nobody can.
    pub(crate) fn frame(&self) -> Result<()> {
        for name in MOUNTED_ON {
            directory(&self.root, name).map_err(|error| unwritten(Path::new(name), error))?;
        }
        Ok(())
    }

    /// Unpacks a tar stream and answers its digest.
    fn entries(&mut self, stream: impl Read) -> Result<String> {
        let watched = Watched { inner: stream, hash: Sha256::new(), left: self.left.bytes };
        let mut archive = Archive::new(watched);
        for entry in archive.entries().map_err(unread)? {
            let mut entry = entry.map_err(unread)?;
            self.left.entries =
                self.left.entries.checked_sub(1).ok_or_else(|| bad("it has too many files"))?;
            let path = inside(&entry.path_bytes())?;
            let (kind, mode) = (entry.header().entry_type(), entry.header().mode().map_err(unread)?);
            let link = entry.link_name_bytes().map(std::borrow::Cow::into_owned);
            let Some((parent, name)) = self.parent(&path, kind)? else { continue };
            if name == OPAQUE {
                clear(&parent).map_err(|error| unwritten(&path, error))?;
                continue;
            }
            if let Some(gone) = name.strip_prefix(WHITEOUT) {
                if gone.is_empty() || gone == "." || gone == ".." {
                    return Err(bad("a layer removes something that has no name"));
                }
                remove(&parent, gone).map_err(|error| unwritten(&path, error))?;
                continue;
            }
            self.entry(&parent, &name, &Made { kind, mode, link, path: &path }, &mut entry)?;
        }
        let mut watched = archive.into_inner();
        io::copy(&mut watched, &mut io::sink()).map_err(unread)?;
        self.left.bytes = watched.left;
        Ok(hex::encode(watched.hash.finalize()))
    }

    fn entry(&self, parent: &OwnedFd, name: &str, made: &Made<'_>, from: &mut impl Read) -> Result<()> {
        let fail = |error: io::Error| unwritten(made.path, error);
        if made.kind != EntryType::Directory {
            remove(parent, name).map_err(fail)?;
        }
        match made.kind {
            EntryType::Directory => directory(parent, name).map_err(fail),
            EntryType::Regular | EntryType::Continuous => {
                let executable = if made.mode & 0o111 == 0 { 0 } else { 0o111 };
                let mode = Mode::from_raw_mode((made.mode & 0o755) | 0o444 | executable);
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let opened = rustix::fs::openat(parent, name, flags, mode);
                let mut file = File::from(opened.map_err(|error| fail(error.into()))?);
                io::copy(from, &mut file).map_err(unread)?;
                rustix::fs::fchmod(&file, mode).map_err(|error| fail(error.into()))?;
                file.flush().map_err(fail)
            }
            EntryType::Symlink => {
                let target =
                    made.link.as_deref().filter(|target| !target.is_empty() && target.len() <= NAME_MAX);
                let target = target.ok_or_else(|| bad("a link leads nowhere"))?;
                // Wherever it leads: it is looked up inside of the box, and by us inside of this folder.
                rustix::fs::symlinkat(target, parent, name).map_err(|error| fail(error.into()))
            }
            EntryType::Link => self.link(parent, name, made).map_err(|error| match error {
                Ok(error) => fail(error),
                Err(error) => error,
            }),
            other => {
                Err(bad(&format!("{} is neither file, folder nor link ({other:?})", made.path.display())))
            }
        }
    }

    /// A second name for a file of the image.
    fn link(
        &self,
        parent: &OwnedFd,
        name: &str,
        made: &Made<'_>,
    ) -> std::result::Result<(), std::result::Result<io::Error, Error>> {
        let target = made.link.as_deref().ok_or_else(|| Err(bad("a link leads nowhere")))?;
        let target = inside(target).map_err(Err)?;
        let Some((from, old)) = self.parent(&target, EntryType::Link).map_err(Err)? else {
            return Err(Err(bad("a link leads to the root")));
        };
        let stat = rustix::fs::statat(&from, old.as_str(), AtFlags::SYMLINK_NOFOLLOW);
        let stat =
            stat.map_err(|_| Err(bad(&format!("{} links to what is not there", made.path.display()))))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Err(bad(&format!("{} links to what is no file", made.path.display()))));
        }
        rustix::fs::linkat(&from, old.as_str(), parent, name, AtFlags::empty())
            .map_err(|error| Ok(error.into()))
    }

    /// The folder that a name stands in, which is made if it is not there, and the name in it. `None` for the root itself.
    fn parent(&self, path: &Path, kind: EntryType) -> Result<Option<(OwnedFd, String)>> {
        let Some(name) = path.file_name() else {
            return if kind == EntryType::Directory { Ok(None) } else { Err(bad("its root is no folder")) };
        };
        let name = name.to_str().ok_or_else(|| bad("a name is not UTF-8"))?.to_owned();
        let parents = path.parent().unwrap_or_else(|| Path::new(""));
        let folder = self.folder(parents).map_err(|error| unwritten(path, error))?;
        Ok(Some((folder, name)))
    }

    fn folder(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.file_name().is_some() => {
                let parent = self.folder(path.parent().unwrap_or_else(|| Path::new("")))?;
                directory(&parent, path.file_name().unwrap_or_default())?;
                self.open(path)
            }
            opened => opened,
        }
    }

    fn open(&self, path: &Path) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve).map_err(io::Error::from)
    }
}

/// What an entry is to become.
struct Made<'a> {
    kind: EntryType,
    mode: u32,
    link: Option<Vec<u8>>,
    path: &'a Path,
}

/// A name of a tar file as a path below the root. One that climbs is refused, not bent.
fn inside(bytes: &[u8]) -> Result<PathBuf> {
    let text = std::str::from_utf8(bytes).map_err(|_| bad("a name is not UTF-8"))?;
    if text.len() > NAME_MAX || text.contains('\0') {
        return Err(bad("a name is too long"));
    }
    let mut path = PathBuf::new();
    for part in Path::new(text).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(bad(&format!("the name {text:?} climbs out of the image")));
            }
        }
    }
    Ok(path)
}

/// Makes a folder, in place of what is no folder.
fn directory(parent: &OwnedFd, name: impl AsRef<std::ffi::OsStr>) -> io::Result<()> {
    let name = name.as_ref();
    if let Ok(stat) = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Ok(());
        }
        rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
    }
    rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)).map_err(io::Error::from)
}

/// Removes what has this name, whatever it is; the standard library's removal follows no links.
fn remove(parent: &OwnedFd, name: &str) -> io::Result<()> {
    let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        stat => stat?,
    };
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return std::fs::remove_dir_all(named(parent, name));
    }
    rustix::fs::unlinkat(parent, name, AtFlags::empty()).map_err(io::Error::from)
}

/// Removes all that a folder holds.
fn clear(folder: &OwnedFd) -> io::Result<()> {
    for entry in std::fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd()))? {
        let name = entry?.file_name();
        remove(folder, name.to_str().ok_or_else(|| io::Error::other("a name is not UTF-8"))?)?;
    }
    Ok(())
}

/// A path to a name in an open folder, which stays the same folder whatever is renamed.
fn named(folder: &OwnedFd, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))
}

fn unread(error: io::Error) -> Error {
    bad(&format!("a layer cannot be read: {error}"))
}

fn unwritten(path: &Path, error: io::Error) -> Error {
    Error::io("unpack", path)(error)
}
