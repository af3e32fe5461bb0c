//! Merkle tree of RFC 9162, section 2.1: incremental root and inclusion proofs.

use sha2::{Digest, Sha256};

/// SHA-256 hash.
pub type Hash = [u8; 32];

/// Hash of a leaf.
pub fn leaf(entry: &[u8]) -> Hash {
    Sha256::new_with_prefix([0]).chain_update(entry).finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new_with_prefix([1]).chain_update(left).chain_update(right).finalize().into()
}

/// Append-only tree that stores only what its root needs: one hash per set bit of the size.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    size: u64,
    /// Roots of the complete subtrees, largest first.
    edge: Vec<Hash>,
}

impl Tree {
    /// Appends a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        // The leaf completes as many subtrees as the size has trailing ones.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.edge.pop() {
                hash = node(&left, &hash);
            }
        }
        self.edge.push(hash);
        self.size += 1;
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Root hash; for an empty tree, the hash of the empty string.
    pub fn root(&self) -> Hash {
        self.edge
            .iter()
            .rev()
            .copied()
            .reduce(|right, left| node(&left, &right))
            .unwrap_or_else(|| Sha256::digest([]).into())
    }
}

/// Tree with proofs: stores the root of every complete subtree.
#[derive(Debug)]
pub struct Levels {
    /// Hashes by level, leaves first.
    levels: Vec<Vec<Hash>>,
}

impl Levels {
    /// Builds the tree of these leaves.
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

    /// Inclusion proof of a leaf: sibling hashes from the leaf to the root.
    ///
    /// # Panics
    /// If the leaf does not exist.
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

/// Split point of a tree: the largest power of two below its size.
fn split(size: usize) -> usize {
    1 << (size - 1).ilog2()
}

/// Whether an inclusion proof is valid for a tree of that size and root (RFC 9162, section 2.1.3.2).
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

    /// The recursive definition in the RFC.
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
        fn incremental_root_equals_the_definition(size in 0usize..200) {
            let leaves: Vec<Hash> = (0..size).map(|number| leaf(&number.to_le_bytes())).collect();
            let mut tree = Tree::default();
            for leaf in &leaves {
                tree.push(*leaf);
            }
            prop_assert_eq!(tree.root(), by_definition(&leaves));
        }

        #[test]
        fn inclusion_proof_is_valid_for_its_leaf_only(size in 1usize..200, pick in any::<prop::sample::Index>(), other in 0u64..210) {
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
