//! The Merkle tree of RFC 9162, section 2.1: its root as leaves come, and proofs that a leaf is in it.

use sha2::{Digest, Sha256};

/// SHA-256.
pub type Hash = [u8; 32];

/// The hash of a leaf.
pub fn leaf(entry: &[u8]) -> Hash {
    Sha256::new_with_prefix([0]).chain_update(entry).finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new_with_prefix([1]).chain_update(left).chain_update(right).finalize().into()
}

/// A tree that only grows: of it no more is kept than its root takes, a hash for each bit of the size.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    size: u64,
    /// The roots of its whole subtrees, the largest first.
    edge: Vec<Hash>,
}

impl Tree {
    /// Adds the next leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        // As many subtrees end with this leaf as the size has ones at its end.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.edge.pop() {
                hash = node(&left, &hash);
            }
        }
        self.edge.push(hash);
        self.size += 1;
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The hash of all leaves; of none that of nothing.
    pub fn root(&self) -> Hash {
        self.edge
            .iter()
            .rev()
            .copied()
            .reduce(|right, left| node(&left, &right))
            .unwrap_or_else(|| Sha256::digest([]).into())
    }
}

/// A tree that proofs can be had of: it keeps the root of every whole subtree.
#[derive(Debug)]
pub struct Levels {
    /// The leaves first.
    levels: Vec<Vec<Hash>>,
}

impl Levels {
    /// The tree of these leaves.
    pub fn new(leaves: Vec<Hash>) -> Self {
        let mut levels = vec![leaves];
        while let Some(last) = levels.last()
            && last.len() > 1
        {
            let above = last.chunks_exact(2).map(|pair| node(&pair[0], &pair[1])).collect();
            levels.push(above);
        }
        Self { levels }
    }

    /// The hashes beside the way from a leaf to the root, the lowest first.
    ///
    /// # Panics
    /// Where there is no such leaf.
    pub fn path(&self, leaf: usize) -> Vec<Hash> {
        let mut path = Vec::new();
        let (mut from, mut until) = (0, self.levels[0].len());
        assert!(leaf < until, "no leaf {leaf} in a tree of {until}");
        while until - from > 1 {
            let middle = from + split(until - from);
            if leaf < middle {
                path.push(self.root(middle, until));
                until = middle;
            } else {
                path.push(self.root(from, middle));
                from = middle;
            }
        }
        path.reverse();
        path
    }

    fn root(&self, from: usize, until: usize) -> Hash {
        let size = until - from;
        if size.is_power_of_two() {
            let level = size.trailing_zeros();
            return self.levels[level as usize][from >> level];
        }
        let middle = from + split(size);
        node(&self.root(from, middle), &self.root(middle, until))
    }
}

/// Where a tree is divided: the largest power of two below its size.
fn split(size: usize) -> usize {
    1 << (size - 1).ilog2()
}

/// Whether a leaf is where it should be in the tree of that size and root (RFC 9162, section 2.1.3.2).
pub fn is_included(leaf: Hash, at: u64, path: &[Hash], size: u64, root: &Hash) -> bool {
    if at >= size {
        return false;
    }
    let (mut number, mut last, mut hash) = (at, size - 1, leaf);
    for beside in path {
        if last == 0 {
            return false;
        }
        if number & 1 == 1 || number == last {
            hash = node(beside, &hash);
            while number & 1 == 0 && number != 0 {
                number >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, beside);
        }
        number >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As the RFC defines it, over and over from the start.
    fn by_definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [one] => *one,
            _ => {
                let (left, right) = leaves.split_at(split(leaves.len()));
                node(&by_definition(left), &by_definition(right))
            }
        }
    }

    proptest! {
        #[test]
        fn a_growing_tree_has_the_root_of_the_definition(size in 0usize..200) {
            let leaves: Vec<Hash> = (0..size).map(|number| leaf(&number.to_le_bytes())).collect();
            let mut tree = Tree::default();
            for leaf in &leaves {
                tree.push(*leaf);
            }
            prop_assert_eq!(tree.root(), by_definition(&leaves));
        }

        #[test]
        fn a_path_proves_its_leaf_and_no_other(size in 1usize..200, pick in any::<prop::sample::Index>(), other in 0u64..210) {
            let leaves: Vec<Hash> = (0..size).map(|number| leaf(&number.to_le_bytes())).collect();
            let root = by_definition(&leaves);
            let at = pick.index(size);
            let path = Levels::new(leaves.clone()).path(at);
            let is_proven = |place: u64| is_included(leaves[at], place, &path, size as u64, &root);
            prop_assert!(is_proven(at as u64));
            prop_assert!(other == at as u64 || !is_proven(other));
            prop_assert!(!is_included(leaf(b"another"), at as u64, &path, size as u64, &root));
        }
    }
}
