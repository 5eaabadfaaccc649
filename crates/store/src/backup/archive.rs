//! A tar file, part by part: nothing is in memory but a buffer, and every part is hashed on its way.
//!
//! Knows no part by name.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use lantern_types::{At, Digest};
use serde_json::Value;
use tar::{Archive, Builder, Entry, EntryType, Header};

use super::{reading, unfit};
use crate::error::{Error, Result};

/// The longest manifest that is read.
const JSON_BYTES_MAX: u64 = 1 << 20;
const BUFFER: usize = 256 << 10;

/// A part that went by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) bytes: u64,
    pub(super) digest: Digest,
}

/// Parts that are counted together.
pub(super) struct Total {
    pub(super) count: u64,
    pub(super) bytes: u64,
    digests: Context,
}

impl Default for Total {
    fn default() -> Self {
        Self { count: 0, bytes: 0, digests: Context::new(&SHA256) }
    }
}

impl Total {
    pub(super) fn add(&mut self, part: &Part) {
        self.count += 1;
        self.bytes += part.bytes;
        self.digests.update(part.digest.bytes());
    }

    /// Over the digests of the parts, in their order.
    pub(super) fn digest(&self) -> Digest {
        finished(self.digests.clone())
    }
}

/// Writes an archive.
pub(super) struct Writer {
    tar: Builder<BufWriter<File>>,
    mtime: u64,
}

impl Writer {
    pub(super) fn new(file: File, now: At) -> Self {
        let mtime = u64::try_from(now.micros() / 1_000_000).unwrap_or_default();
        Self { tar: Builder::new(BufWriter::with_capacity(BUFFER, file)), mtime }
    }

    /// Adds a file, as long as it is now.
    pub(super) fn file(&mut self, name: &str, file: File) -> Result<Part> {
        let bytes = file.metadata().map_err(writing)?.len();
        let mut content = Hashing { inner: file.take(bytes), context: Context::new(&SHA256), bytes: 0 };
        let header = self.header(name, bytes)?;
        self.tar.append(&header, &mut content).map_err(writing)?;
        if content.bytes == bytes {
            return Ok(Part { bytes, digest: finished(content.context) });
        }
        Err(Error::Backup(format!("{name} became shorter while it was read")))
    }

    pub(super) fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let header = self.header(name, bytes.len() as u64)?;
        self.tar.append(&header, bytes).map_err(writing)
    }

    pub(super) fn finish(self) -> Result<()> {
        let mut file = self.tar.into_inner().map_err(writing)?;
        file.flush().map_err(writing)
    }

    fn header(&self, name: &str, bytes: u64) -> Result<Header> {
        // The form that every tar reads; it has room for the name of a body.
        let mut header = Header::new_ustar();
        header.set_path(name).map_err(writing)?;
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_mtime(self.mtime);
        header.set_size(bytes);
        header.set_cksum();
        Ok(header)
    }
}

/// Reads an archive.
pub(super) struct Reader {
    tar: Archive<BufReader<File>>,
}

impl Reader {
    pub(super) fn new(file: File) -> Self {
        Self { tar: Archive::new(BufReader::with_capacity(BUFFER, file)) }
    }

    /// Hands over each part, in order.
    pub(super) fn parts(mut self, each: &mut dyn FnMut(&str, &mut Hashed<'_>) -> Result<()>) -> Result<()> {
        for entry in self.tar.entries().map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            if entry.header().entry_type() != EntryType::Regular {
                return Err(unfit("it has a part that is no file"));
            }
            let name = String::from_utf8(entry.path_bytes().into_owned())
                .map_err(|_| unfit("it has a part without a readable name"))?;
            each(&name, &mut Hashed { entry })?;
        }
        Ok(())
    }
}

/// The content of one part.
pub(super) struct Hashed<'a> {
    entry: Entry<'a, BufReader<File>>,
}

impl Hashed<'_> {
    /// Copies it whole to `file`, whose path is said when that fails.
    pub(super) fn copy_to(&mut self, file: &mut File, path: &Path) -> Result<Part> {
        let size = self.entry.size();
        let mut content = Hashing { inner: &mut self.entry, context: Context::new(&SHA256), bytes: 0 };
        let mut buffer = vec![0; BUFFER];
        loop {
            let n = content.read(&mut buffer).map_err(unreadable)?;
            let Some(piece) = buffer.get(..n).filter(|piece| !piece.is_empty()) else { break };
            file.write_all(piece).map_err(|e| Error::file(format!("write {}", path.display()), e))?;
        }
        if content.bytes == size {
            return Ok(Part { bytes: size, digest: finished(content.context) });
        }
        Err(unfit("it is cut off"))
    }

    pub(super) fn json(&mut self) -> Result<Value> {
        let mut bytes = Vec::new();
        (&mut self.entry).take(JSON_BYTES_MAX).read_to_end(&mut bytes).map_err(unreadable)?;
        serde_json::from_slice(&bytes).map_err(|_| unfit("its manifest cannot be read"))
    }
}

/// Hashes and counts what is read through it.
struct Hashing<R> {
    inner: R,
    context: Context,
    bytes: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.context.update(buffer.get(..n).unwrap_or_default());
        self.bytes += n as u64;
        Ok(n)
    }
}

/// The digest of all that is left to read.
pub(super) fn digest_of(from: &mut impl Read) -> io::Result<Digest> {
    let mut content = Hashing { inner: from, context: Context::new(&SHA256), bytes: 0 };
    io::copy(&mut content, &mut io::sink())?;
    Ok(finished(content.context))
}

fn finished(context: Context) -> Digest {
    let digest = context.finish();
    Digest::from_bytes(digest.as_ref()).unwrap_or_else(|| Digest::of(&[]))
}

fn writing(error: io::Error) -> Error {
    Error::file("write the backup", error)
}

fn unreadable(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::Other | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            unfit("it is damaged, cut off, or no backup at all")
        }
        _ => reading(Path::new("the backup"), error),
    }
}
