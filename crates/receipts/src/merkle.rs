//! The Merkle tree of RFC 6962 (and RFC 9162): hashing, proofs, and their checks.
//!
//! Invariant: leaves and nodes are hashed under different prefixes, so that no node passes for a leaf. A tree is never held
//! here: whoever asks for a proof brings the hashes of complete subtrees, wherever they are kept.

use lantern_types::Digest;

/// The hash of the complete subtree at this level (0 is that of leaves) and place; `None` when it cannot be had.
pub type Nodes<'a> = dyn FnMut(u32, u64) -> Option<Digest> + 'a;

/// The hash of a leaf.
pub fn leaf(entry: &[u8]) -> Digest {
    let mut bytes = Vec::with_capacity(1 + entry.len());
    bytes.push(0);
    bytes.extend_from_slice(entry);
    Digest::of(&bytes)
}

/// The hash of two neighbouring subtrees.
pub fn node(left: &Digest, right: &Digest) -> Digest {
    let mut bytes = [1; 65];
    if let Some((_, rest)) = bytes.split_first_mut() {
        let (to_left, to_right) = rest.split_at_mut(32);
        to_left.copy_from_slice(left.bytes());
        to_right.copy_from_slice(right.bytes());
    }
    Digest::of(&bytes)
}

/// The head of a tree without leaves.
pub fn empty() -> Digest {
    Digest::of(&[])
}

/// The head of the tree of the first `size` leaves.
pub fn root(size: u64, nodes: &mut Nodes<'_>) -> Option<Digest> {
    if size == 0 { Some(empty()) } else { span(0, size, nodes) }
}

/// The proof that the leaf at `index` is in the tree of the first `size` leaves; `None` also when it is not.
pub fn inclusion(index: u64, size: u64, nodes: &mut Nodes<'_>) -> Option<Vec<Digest>> {
    if index >= size {
        return None;
    }
    let (mut lo, mut hi, mut path) = (0, size, Vec::new());
    while hi - lo > 1 {
        let middle = lo + half(hi - lo);
        if index < middle {
            path.push(span(middle, hi, nodes)?);
            hi = middle;
        } else {
            path.push(span(lo, middle, nodes)?);
            lo = middle;
        }
    }
    path.reverse();
    Some(path)
}

/// The proof that the tree of the first `to` leaves begins with that of the first `from`; `None` also when `from` is none or
/// more.
pub fn consistency(from: u64, to: u64, nodes: &mut Nodes<'_>) -> Option<Vec<Digest>> {
    if from == 0 || from > to {
        return None;
    }
    let (mut lo, mut hi, mut path, mut whole) = (0, to, Vec::new(), true);
    while hi != from {
        let middle = lo + half(hi - lo);
        if from <= middle {
            path.push(span(middle, hi, nodes)?);
            hi = middle;
        } else {
            path.push(span(lo, middle, nodes)?);
            lo = middle;
            whole = false;
        }
    }
    if !whole {
        path.push(span(lo, hi, nodes)?);
    }
    path.reverse();
    Some(path)
}

/// Whether `proof` leads from a leaf to the head of a tree (RFC 9162, 2.1.3.2).
pub fn includes(leaf: Digest, index: u64, size: u64, proof: &[Digest], root: Digest) -> bool {
    if index >= size {
        return false;
    }
    let (mut place, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            hash = node(sibling, &hash);
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, sibling);
        }
        place >>= 1;
        last >>= 1;
    }
    last == 0 && hash == root
}

/// Whether `proof` leads from the head of a tree to that of a later one (RFC 9162, 2.1.4.2).
pub fn follows(from: (u64, Digest), to: (u64, Digest), proof: &[Digest]) -> bool {
    if from.0 == 0 || from.0 > to.0 {
        return false;
    }
    if from.0 == to.0 {
        return proof.is_empty() && from.1 == to.1;
    }
    let (mut place, mut last) = (from.0 - 1, to.0 - 1);
    while place & 1 == 1 {
        place >>= 1;
        last >>= 1;
    }
    // A first tree that is complete is where the path begins, and is left out of it.
    let mut hashes = proof.iter();
    let first = if from.0.is_power_of_two() { Some(from.1) } else { hashes.next().copied() };
    let Some(first) = first else { return false };
    let (mut one, mut two) = (first, first);
    for sibling in hashes {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            one = node(sibling, &one);
            two = node(sibling, &two);
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            two = node(&two, sibling);
        }
        place >>= 1;
        last >>= 1;
    }
    last == 0 && one == from.1 && two == to.1
}

/// The largest power of two below `n`, which is two or more.
const fn half(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

/// The head of the leaves from `lo` to before `hi`, as a tree has them: the left part of every split is complete.
fn span(lo: u64, hi: u64, nodes: &mut Nodes<'_>) -> Option<Digest> {
    let size = hi - lo;
    if size.is_power_of_two() {
        let level = size.trailing_zeros();
        return nodes(level, lo >> level);
    }
    let middle = lo + half(size);
    let left = span(lo, middle, nodes)?;
    Some(node(&left, &span(middle, hi, nodes)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The leaves of the test vectors that Certificate Transparency publishes.
    const LEAVES: [&str; 8] =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];

    fn leaves() -> Vec<Digest> {
        LEAVES.iter().map(|text| leaf(&hex::decode(text).unwrap())).collect()
    }

    /// By the definition, as slowly as it is written.
    fn slow(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => empty(),
            [one] => *one,
            more => {
                let (left, right) = more.split_at(usize::try_from(half(more.len() as u64)).unwrap());
                node(&slow(left), &slow(right))
            }
        }
    }

    fn source(leaves: &[Digest]) -> impl FnMut(u32, u64) -> Option<Digest> {
        move |level, index| {
            let (from, to) = (index << level, (index + 1) << level);
            leaves.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?).map(slow)
        }
    }

    #[test]
    fn the_published_vectors() {
        let leaves = leaves();
        assert_eq!(leaves[0].to_string(), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        let head = root(8, &mut source(&leaves)).unwrap();
        assert_eq!(head.to_string(), "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
        let path = inclusion(0, 8, &mut source(&leaves)).unwrap();
        let path: Vec<String> = path.iter().map(ToString::to_string).collect();
        assert_eq!(path.len(), 3);
        assert_eq!(path[0], "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7");
    }

    #[test]
    fn every_proof_of_small_trees_passes_and_no_other_does() {
        let leaves: Vec<Digest> = (0..40_u8).map(|n| leaf(&[n])).collect();
        for size in 1..=leaves.len() as u64 {
            let all = &leaves[..usize::try_from(size).unwrap()];
            let head = slow(all);
            assert_eq!(root(size, &mut source(all)), Some(head));
            for index in 0..size {
                let path = inclusion(index, size, &mut source(all)).unwrap();
                let own = all[usize::try_from(index).unwrap()];
                assert!(includes(own, index, size, &path, head), "{index} of {size}");
                for other in (0..=size).filter(|other| *other != index) {
                    assert!(!includes(own, other, size, &path, head), "{index} as {other} of {size}");
                }
                assert!(!includes(leaf(b"x"), index, size, &path, head));
                let longer = [path.as_slice(), &[head]].concat();
                assert!(!includes(own, index, size, &longer, head));
                if let Some((_, shorter)) = path.split_last() {
                    assert!(!includes(own, index, size, shorter, head));
                }
            }
            for from in 1..=size {
                let before = slow(&all[..usize::try_from(from).unwrap()]);
                let path = consistency(from, size, &mut source(all)).unwrap();
                assert!(follows((from, before), (size, head), &path), "{from} to {size}");
                assert!(!follows((from, leaf(b"x")), (size, head), &path));
                assert!(!follows((from, before), (size, leaf(b"x")), &path));
                assert!(!follows((from, before), (size, head), &[path.as_slice(), &[head]].concat()));
            }
        }
        assert_eq!(inclusion(3, 3, &mut source(&leaves)), None);
        assert_eq!(consistency(0, 3, &mut source(&leaves)), None);
        assert_eq!(consistency(4, 3, &mut source(&leaves)), None);
    }
}
