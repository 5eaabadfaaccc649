//! The tree in tiles, as C2SP tlog-tiles lays it out: 256 hashes of one level make a tile, whose own head is one hash eight
//! levels up.
//!
//! Invariant: a full tile never changes, and only the last one of each level grows. To append is to have those, and nothing
//! else. Does not know where tiles are kept.

use std::collections::{BTreeMap, BTreeSet};

use lantern_types::Digest;

use crate::merkle;

/// Hashes of a full tile.
pub const WIDTH: usize = 256;
/// Levels of the tree that a tile spans.
const HEIGHT: u32 = 8;
/// Bytes of a hash.
const HASH: usize = 32;
/// The length of an entry.
const LENGTH: [u8; 2] = [0, 32];
/// Levels of tiles that a tree of 64-bit size could have.
const LEVELS: u8 = 8;

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The entries themselves, which are digests.
    Entries,
    /// Hashes of the tree, eight levels above the tile below.
    Level(u8),
}

/// Which tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// What it holds.
    pub kind: Kind,
    /// Its place among those.
    pub n: u64,
}

/// Tiles with their hashes, 32 bytes each.
pub type Tiles = BTreeMap<Tile, Vec<u8>>;

/// What an append made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grown {
    /// How many leaves there are now.
    pub size: u64,
    /// The head of the tree.
    pub root: Digest,
    /// The tiles that are new or have more hashes than before.
    pub tiles: Tiles,
}

/// How many hashes of this level a tree of `size` leaves has.
const fn count(kind: Kind, size: u64) -> u64 {
    match kind {
        Kind::Entries => size,
        Kind::Level(level) => size.unbounded_shr(HEIGHT * level as u32),
    }
}

/// How many hashes a tile has in a tree of `size` leaves: none when it is not there.
pub fn width(tile: Tile, size: u64) -> usize {
    let first = tile.n.saturating_mul(WIDTH as u64);
    usize::try_from(count(tile.kind, size).saturating_sub(first)).map_or(WIDTH, |width| width.min(WIDTH))
}

/// The tiles of a tree of `size` leaves that are begun and not full: what an append must have.
pub fn edge(size: u64) -> Vec<Tile> {
    let kinds = std::iter::once(Kind::Entries).chain((0..LEVELS).map(Kind::Level));
    kinds
        .map(|kind| (kind, count(kind, size)))
        .filter(|(_, count)| count % WIDTH as u64 != 0)
        .map(|(kind, count)| Tile { kind, n: count / WIDTH as u64 })
        .collect()
}

/// Appends entries to a tree of `size` leaves whose [`edge`] is `tiles`. `None` when that is not its edge.
pub fn append(size: u64, mut tiles: Tiles, entries: &[Digest]) -> Option<Grown> {
    let fits = |tile: &Tile| tiles.get(tile).is_some_and(|held| held.len() == width(*tile, size) * HASH);
    if !edge(size).iter().all(fits) {
        return None;
    }
    let mut grown = BTreeSet::new();
    for (index, entry) in (size..).zip(entries) {
        push(&mut tiles, &mut grown, Kind::Entries, index, entry);
        let (mut level, mut index, mut hash) = (0, index, merkle::leaf(entry.bytes()));
        // The head of a tile that is now full is a hash of the level above.
        while let Some(full) = push(&mut tiles, &mut grown, Kind::Level(level), index, &hash) {
            hash = head(&full)?;
            index /= WIDTH as u64;
            level = level.checked_add(1).filter(|level| *level < LEVELS)?;
        }
    }
    let size = size.checked_add(entries.len() as u64)?;
    let root = merkle::root(size, &mut |level, index| find(&tiles, level, index))?;
    tiles.retain(|tile, _| grown.contains(tile));
    Some(Grown { size, root, tiles })
}

/// Adds a hash to its tile, and answers the tile when it is full with it.
fn push(
    tiles: &mut Tiles,
    grown: &mut BTreeSet<Tile>,
    kind: Kind,
    index: u64,
    hash: &Digest,
) -> Option<Vec<u8>> {
    let tile = Tile { kind, n: index / WIDTH as u64 };
    let held = tiles.entry(tile).or_default();
    held.extend_from_slice(hash.bytes());
    grown.insert(tile);
    (held.len() == WIDTH * HASH).then(|| held.clone())
}

/// The head of as many hashes as a power of two.
fn head(hashes: &[u8]) -> Option<Digest> {
    let mut level: Vec<Digest> = hashes.chunks(HASH).map(Digest::from_bytes).collect::<Option<_>>()?;
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => Some(merkle::node(left, right)),
                _ => None,
            })
            .collect::<Option<_>>()?;
    }
    level.first().copied()
}

/// The tile that has a node of the tree, and which of its hashes are below it.
fn place(level: u32, index: u64) -> (Tile, usize, usize) {
    let inner = level % HEIGHT;
    let first = index << inner;
    let kind = Kind::Level(u8::try_from(level / HEIGHT).unwrap_or(LEVELS));
    let start = usize::try_from(first % WIDTH as u64).unwrap_or_default();
    (Tile { kind, n: first / WIDTH as u64 }, start, 1 << inner)
}

/// The node of the tree at this level and place, when its tile is among these.
pub fn find(tiles: &Tiles, level: u32, index: u64) -> Option<Digest> {
    let (tile, start, below) = place(level, index);
    head(tiles.get(&tile)?.get(start * HASH..(start + below) * HASH)?)
}

/// The tiles that a proof needs: those whose nodes `ask` asks for.
pub fn needed<T>(ask: impl FnOnce(&mut merkle::Nodes<'_>) -> Option<T>) -> Vec<Tile> {
    let mut tiles = BTreeSet::new();
    ask(&mut |level, index| {
        tiles.insert(place(level, index).0);
        Some(merkle::empty())
    });
    tiles.into_iter().collect()
}

/// A tile's address below the log's, and how many hashes it is asked for with: `tile/0/x001/067.p/8`.
pub fn path(tile: Tile, width: usize) -> String {
    let kind = match tile.kind {
        Kind::Entries => "entries".to_owned(),
        Kind::Level(level) => level.to_string(),
    };
    let mut groups = vec![format!("{:03}", tile.n % 1_000)];
    let mut rest = tile.n / 1_000;
    while rest > 0 {
        groups.push(format!("x{:03}", rest % 1_000));
        rest /= 1_000;
    }
    groups.reverse();
    let partial = if width < WIDTH { format!(".p/{width}") } else { String::new() };
    format!("tile/{kind}/{}{partial}", groups.join("/"))
}

/// Reads such an address; `None` for everything that [`path`] does not write.
pub fn parse(text: &str) -> Option<(Tile, usize)> {
    let (kind, rest) = text.strip_prefix("tile/")?.split_once('/')?;
    let kind = match kind {
        "entries" => Kind::Entries,
        level => Kind::Level(level.parse().ok().filter(|level| *level < LEVELS)?),
    };
    let (groups, width) = match rest.split_once(".p/") {
        Some((groups, width)) => (groups, width.parse().ok().filter(|width| (1..WIDTH).contains(width))?),
        None => (rest, WIDTH),
    };
    let number = |n: u64, group: &str| {
        let digits = group.strip_prefix('x').unwrap_or(group);
        n.checked_mul(1_000)?.checked_add(digits.parse::<u64>().ok()?)
    };
    let n = groups.split('/').try_fold(0, number)?;
    let tile = Tile { kind, n };
    (path(tile, width) == text).then_some((tile, width))
}

/// A tile of entries in the form that is served: each with its length, of two bytes, before it.
pub fn bundle(entries: &[u8]) -> Vec<u8> {
    entries.chunks(HASH).flat_map(|entry| LENGTH.iter().chain(entry)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(from: u64, to: u64) -> Vec<Digest> {
        (from..to).map(|n| Digest::of(&n.to_be_bytes())).collect()
    }

    /// Keeps tiles as a store does, and brings the edge to each append.
    fn grow(kept: &mut Tiles, size: u64, more: u64) -> Grown {
        let edge = edge(size).into_iter().map(|tile| (tile, kept[&tile].clone())).collect();
        let grown = append(size, edge, &entries(size, size + more)).unwrap();
        kept.extend(grown.tiles.clone());
        grown
    }

    #[test]
    fn a_log_in_tiles_is_the_tree_however_it_grew() {
        let (mut kept, mut size, mut grown) = (Tiles::new(), 0, None);
        for more in [1, 1, 3, 251, 1, 255, 300, 70_000] {
            grown = Some(grow(&mut kept, size, more));
            size += more;
        }
        let grown = grown.unwrap();
        let whole = append(0, Tiles::new(), &entries(0, size)).unwrap();
        assert_eq!((grown.size, grown.root), (whole.size, whole.root));
        assert_eq!(kept, whole.tiles);
        assert!(kept.keys().any(|tile| tile.kind == Kind::Level(2)));
        let leaves: Vec<Digest> = entries(0, size).iter().map(|entry| merkle::leaf(entry.bytes())).collect();
        for index in [0, 1, 255, 256, 65_535, 65_536, size - 1] {
            let asked = needed(|nodes| merkle::inclusion(index, size, nodes));
            assert!(asked.len() <= 6, "{asked:?}");
            let few: Tiles = asked.iter().map(|tile| (*tile, kept[tile].clone())).collect();
            let path = merkle::inclusion(index, size, &mut |level, n| find(&few, level, n)).unwrap();
            let own = leaves[usize::try_from(index).unwrap()];
            assert!(merkle::includes(own, index, size, &path, whole.root), "{index}");
        }
        let before = append(0, Tiles::new(), &entries(0, 513)).unwrap();
        let path = merkle::consistency(513, size, &mut |level, n| find(&kept, level, n)).unwrap();
        assert!(merkle::follows((513, before.root), (size, whole.root), &path));
    }

    #[test]
    fn an_edge_of_another_tree_is_refused() {
        let three = append(0, Tiles::new(), &entries(0, 3)).unwrap().tiles;
        assert_eq!(append(4, three.clone(), &entries(4, 5)), None);
        assert_eq!(append(3, Tiles::new(), &entries(3, 4)), None);
        assert!(append(3, three, &entries(3, 4)).is_some());
    }

    #[test]
    fn addresses_are_those_of_the_specification() {
        for (kind, n, width, text) in [
            (Kind::Level(0), 0, 256, "tile/0/000"),
            (Kind::Level(1), 1_234_067, 256, "tile/1/x001/x234/067"),
            (Kind::Level(0), 273, 8, "tile/0/273.p/8"),
            (Kind::Entries, 1_000, 256, "tile/entries/x001/000"),
        ] {
            let tile = Tile { kind, n };
            assert_eq!(path(tile, width), text);
            assert_eq!(parse(text), Some((tile, width)));
        }
        for other in [
            "tile/0/0",
            "tile/0/0000",
            "tile/00/000",
            "tile/8/000",
            "tile/-1/000",
            "tile/0/001/067",
            "tile/0/x000/001",
            "tile/0/x001/x067",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/08",
            "tile/0/+00",
            "tile/0/../000",
            "tile/0/",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
            "checkpoint",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
