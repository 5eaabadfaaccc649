//! Images that mean harm: each is refused, and outside of its folder nothing was touched.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use lantern_policy::workload::Image;
use lantern_sandbox::image::{Bounds, Images};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use crate::support::folder;

fn sha(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// An entry with exactly this name, whatever it is.
fn entry(tar: &mut Vec<u8>, kind: EntryType, name: &str, link: &str, body: &[u8]) {
    let mut header = Header::new_old();
    let old = header.as_old_mut();
    old.name[..name.len()].copy_from_slice(name.as_bytes());
    old.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o6777);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(u64::try_from(body.len()).unwrap());
    header.set_cksum();
    tar.extend_from_slice(header.as_bytes());
    tar.extend_from_slice(body);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

fn end(mut tar: Vec<u8>) -> Vec<u8> {
    tar.resize(tar.len() + 1_024, 0);
    tar
}

struct Hostile {
    images: Images,
    dir: std::path::PathBuf,
    layers: Vec<Value>,
    diff_ids: Vec<String>,
}

impl Hostile {
    fn new(name: &str) -> Self {
        let dir = folder(name);
        fs::create_dir_all(dir.join("images/blobs/sha256")).unwrap();
        fs::write(dir.join("canary"), "whole").unwrap();
        Self { images: Images::below(&dir), dir, layers: Vec::new(), diff_ids: Vec::new() }
    }

    fn put(&self, bytes: &[u8]) -> String {
        let sha = sha(bytes);
        fs::write(self.dir.join("images/blobs/sha256").join(&sha), bytes).unwrap();
        sha
    }

    fn layer(mut self, tar: &[u8]) -> Self {
        let digest = self.put(tar);
        self.describe("application/vnd.oci.image.layer.v1.tar", &digest, tar.len());
        self.diff_ids.push(format!("sha256:{digest}"));
        self
    }

    fn packed(mut self, tar: &[u8]) -> Self {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(tar).unwrap();
        let gzip = gzip.finish().unwrap();
        let digest = self.put(&gzip);
        self.describe("application/vnd.oci.image.layer.v1.tar+gzip", &digest, gzip.len());
        self.diff_ids.push(format!("sha256:{}", sha(tar)));
        self
    }

    fn describe(&mut self, kind: &str, digest: &str, size: usize) {
        self.layers.push(json!({ "mediaType": kind, "digest": format!("sha256:{digest}"), "size": size }));
    }

    fn image(&self) -> Image {
        let config = json!({ "os": "linux", "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "rootfs": { "type": "layers", "diff_ids": self.diff_ids } });
        let config = config.to_string();
        let digest = self.put(config.as_bytes());
        let manifest = json!({ "schemaVersion": 2, "layers": self.layers,
            "config": { "digest": format!("sha256:{digest}"), "size": config.len() } });
        Image { repository: "hostile".to_owned(), sha256: self.put(manifest.to_string().as_bytes()) }
    }

    /// Unpacks, and makes sure that nothing happened outside.
    fn unpack(&self) -> Result<std::path::PathBuf, String> {
        let ready =
            self.images.ready(&self.image()).map(|ready| ready.rootfs).map_err(|error| error.to_string());
        assert_eq!(fs::read_to_string(self.dir.join("canary")).unwrap(), "whole");
        let names: Vec<String> = fs::read_dir(&self.dir)
            .unwrap()
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names.len(), 2, "nothing beside the layout and the canary: {names:?}");
        let unpacked = self.dir.join("images/unpacked");
        let left = fs::read_dir(unpacked).map(Iterator::count).unwrap_or_default();
        assert_eq!(left, usize::from(ready.is_ok()), "only what is whole is kept");
        ready
    }
}

fn tar(entries: &[(EntryType, &str, &str, &[u8])]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (kind, name, link, body) in entries {
        entry(&mut tar, *kind, name, link, body);
    }
    end(tar)
}

#[test]
fn names_links_and_devices_that_mean_harm_are_refused() {
    use EntryType::{Block, Char, Directory, Fifo, Link, Regular, Symlink};
    for (n, (entries, words)) in [
        (vec![(Regular, "../canary", "", b"x" as &[u8])], "climbs out"),
        (vec![(Regular, "a/../../canary", "", b"x")], "climbs out"),
        (vec![(Regular, "..", "", b"x")], "climbs out"),
        (vec![(Link, "a", "../../../canary", b"")], "climbs out"),
        (vec![(Link, "a", "/nowhere", b"")], "links to what is not there"),
        (vec![(Directory, "d", "", b""), (Link, "a", "d", b"")], "links to what is no file"),
        (vec![(Symlink, "l", "/etc/passwd", b""), (Link, "a", "l", b"")], "links to what is no file"),
        (vec![(Symlink, "l", "/etc", b""), (Link, "a", "l/shadow", b"")], "links to what is not there"),
        (vec![(Block, "sda", "", b"")], "neither file, folder nor link"),
        (vec![(Char, "mem", "", b"")], "neither file, folder nor link"),
        (vec![(Fifo, "pipe", "", b"")], "neither file, folder nor link"),
        (vec![(Regular, ".wh...", "", b"")], "has no name"),
        (vec![(Regular, ".wh.", "", b"")], "has no name"),
        (vec![(Regular, "/", "", b"x")], "its root is no folder"),
        (vec![(Symlink, "l", "l", b""), (Regular, "l/a", "", b"x")], "cannot unpack"),
    ]
    .into_iter()
    .enumerate()
    {
        let refused = Hostile::new(&format!("hostile-{n}")).layer(&tar(&entries)).unpack().unwrap_err();
        assert!(refused.contains(words), "{entries:?}: {refused}");
    }
}

#[test]
fn a_link_is_followed_within_the_image_alone() {
    use EntryType::{Directory, Regular, Symlink};
    let hostile = Hostile::new("hostile-inside");
    let outside = hostile.dir.display().to_string();
    let entries: Vec<(EntryType, &str, &str, &[u8])> = vec![
        (Directory, "etc", "", b""),
        (Symlink, "up", "../../../..", b""),
        (Regular, "up/canary", "", b"in the image's root"),
        (Symlink, "abs", "/etc", b""),
        (Regular, "abs/made", "", b"in the image's etc"),
        (Symlink, "far", &outside, b""),
        (Symlink, "file", "/etc/made", b""),
        // A file takes the place of a link, and does not write through it.
        (Regular, "file", "", b"its own"),
    ];
    let refused =
        Hostile::new("hostile-far").layer(&tar(&[entries[5], (Regular, "far/canary", "", b"x")])).unpack();
    // Looked up inside of the image there is no such folder; it is made there, or refused, and never outside.
    assert!(refused.is_err() || !hostile.dir.join("canary").is_symlink());
    let rootfs = hostile.layer(&tar(&entries)).unpack().unwrap();
    let read = |name: &str| fs::read_to_string(rootfs.join(name)).unwrap();
    assert_eq!(
        (read("canary"), read("etc/made")),
        ("in the image's root".to_owned(), "in the image's etc".to_owned())
    );
    assert_eq!(read("file"), "its own");
}

#[test]
fn later_layers_remove_within_the_image_alone() {
    use EntryType::{Directory, Regular, Symlink};
    let hostile = Hostile::new("hostile-whiteout");
    let first = tar(&[
        (Directory, "d", "", b""),
        (Regular, "d/a", "", b"a"),
        (Regular, "d/b", "", b"b"),
        (Regular, "gone", "", b"x"),
        (Symlink, "up", "../../..", b""),
    ]);
    let second = tar(&[
        (Regular, ".wh.gone", "", b""),
        (Regular, "up/.wh.canary", "", b""),
        (Regular, "d/.wh..wh..opq", "", b""),
        (Regular, "d/c", "", b"c"),
    ]);
    let rootfs = hostile.layer(&first).packed(&second).unpack().unwrap();
    let names = |dir: &Path| -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&rootfs.join("d")), ["c"]);
    assert!(!rootfs.join("gone").exists());
}

#[test]
fn no_file_keeps_a_bit_that_gives_rights() {
    use std::os::unix::fs::PermissionsExt as _;
    let rootfs =
        Hostile::new("hostile-setuid").layer(&tar(&[(EntryType::Regular, "su", "", b"x")])).unpack().unwrap();
    let mode = fs::metadata(rootfs.join("su")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
}

#[test]
fn bombs_are_stopped_where_the_bound_is() {
    let zeros = vec![0_u8; 64 << 20];
    let bomb = tar(&[(EntryType::Regular, "zeros", "", &zeros)]);
    let mut hostile = Hostile::new("hostile-bomb").packed(&bomb);
    hostile.images = hostile.images.bounded(Bounds { bytes: 1 << 20, entries: 100 });
    assert!(hostile.unpack().unwrap_err().contains("more than an image may hold"));
    let names: Vec<String> = (0..200).map(|n| format!("f{n}")).collect();
    let many: Vec<(EntryType, &str, &str, &[u8])> =
        names.iter().map(|name| (EntryType::Regular, name.as_str(), "", b"" as &[u8])).collect();
    let mut hostile = Hostile::new("hostile-many").layer(&tar(&many));
    hostile.images = hostile.images.bounded(Bounds { bytes: 1 << 30, entries: 100 });
    assert!(hostile.unpack().unwrap_err().contains("too many files"));
}

#[test]
fn what_is_not_what_its_digest_says_is_refused() {
    let good = tar(&[(EntryType::Regular, "a", "", b"a")]);
    // Another blob of the same length under the layer's name.
    let hostile = Hostile::new("hostile-changed").layer(&good);
    let evil = tar(&[(EntryType::Regular, "a", "", b"b")]);
    fs::write(hostile.dir.join("images/blobs/sha256").join(sha(&good)), &evil).unwrap();
    assert!(hostile.unpack().unwrap_err().contains("not what its digest says"));
    // A layer whose configuration says another content.
    let mut hostile = Hostile::new("hostile-diff").packed(&good);
    hostile.diff_ids = vec![format!("sha256:{}", sha(b"other"))];
    assert!(hostile.unpack().unwrap_err().contains("not what its digest says"));
    // A manifest that was changed.
    let hostile = Hostile::new("hostile-manifest").layer(&good);
    let image = hostile.image();
    fs::write(hostile.dir.join("images/blobs/sha256").join(&image.sha256), "{}").unwrap();
    assert!(hostile.images.ready(&image).unwrap_err().to_string().contains("not what its digest says"));
    // A digest that is a path.
    let mut hostile = Hostile::new("hostile-path").layer(&good);
    hostile.layers[0]["digest"] = json!("sha256:../../canary");
    assert!(hostile.unpack().unwrap_err().contains("no SHA-256 digest"));
    // Something after the end of a layer.
    let mut long = good.clone();
    long.extend_from_slice(&[1; 512]);
    let mut hostile = Hostile::new("hostile-trailing").layer(&long);
    hostile.layers[0]["size"] = json!(good.len());
    assert!(hostile.unpack().unwrap_err().contains("bytes, not"));
}
