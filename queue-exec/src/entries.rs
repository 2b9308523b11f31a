//! The entries of an array's tasks as a hash tree: a warrant covers its root, so that each task can be shown to have
//! the entry that its owner gave it, without all others. Knows hashes; not what an entry is for.
//!
//! Leaves and inner nodes are hashed with different first bytes (RFC 6962 §2.1), and a node without a neighbour
//! moves up as it is.

use sha2::{Digest as _, Sha256};

/// A hash.
pub type Hash = [u8; 32];

fn leaf(entry: &[u8]) -> Hash {
    Sha256::new()
        .chain_update([0])
        .chain_update(entry)
        .finalize()
        .into()
}

fn node(a: &Hash, b: &Hash) -> Hash {
    Sha256::new()
        .chain_update([1])
        .chain_update(a)
        .chain_update(b)
        .finalize()
        .into()
}

/// All levels of the tree, leaves first.
#[derive(Debug, Clone, Default)]
pub struct Tree(Vec<Vec<Hash>>);

impl Tree {
    /// Of these entries.
    pub fn new<E: AsRef<[u8]>>(entries: &[E]) -> Self {
        let mut levels = vec![entries.iter().map(|e| leaf(e.as_ref())).collect::<Vec<_>>()];
        while let Some(last) = levels.last().filter(|l| l.len() > 1) {
            let next = last
                .chunks(2)
                .map(|c| match c {
                    [a, b] => node(a, b),
                    _ => c[0],
                })
                .collect();
            levels.push(next);
        }
        Self(levels)
    }

    /// The root; of nothing: the hash of nothing.
    pub fn root(&self) -> Hash {
        let top = self.0.last().and_then(|l| l.first());
        top.copied().unwrap_or_else(|| leaf(b""))
    }

    /// The hashes that lead from an entry to the root, one after the other.
    pub fn proof(&self, index: u32) -> Vec<u8> {
        let mut i = index as usize;
        let mut proof = Vec::new();
        for level in &self.0 {
            if let Some(sibling) = level.get(i ^ 1) {
                proof.extend_from_slice(sibling);
            }
            i /= 2;
        }
        proof
    }
}

/// Whether an entry is number `index` of `count` under a root.
pub fn verify(root: &[u8], count: u32, index: u32, entry: &[u8], proof: &[u8]) -> bool {
    let (siblings, rest) = proof.as_chunks::<32>();
    if index >= count || !rest.is_empty() {
        return false;
    }
    let mut siblings = siblings.iter();
    let (mut i, mut n, mut hash) = (index, count, leaf(entry));
    while n > 1 {
        if i ^ 1 < n {
            let Some(s) = siblings.next() else { return false };
            hash = if i & 1 == 0 {
                node(&hash, s)
            } else {
                node(s, &hash)
            };
        }
        i /= 2;
        n = n.div_ceil(2);
    }
    siblings.next().is_none() && hash == root
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_is_shown_and_no_other() {
        for n in 1..40u32 {
            let entries: Vec<String> = (0..n).map(|i| format!("entry {i}")).collect();
            let tree = Tree::new(&entries);
            let root = tree.root();
            for i in 0..n {
                let proof = tree.proof(i);
                assert!(verify(&root, n, i, entries[i as usize].as_bytes(), &proof));
                assert!(!verify(&root, n, i, b"other", &proof));
                assert!(!verify(&root, n, n, entries[i as usize].as_bytes(), &proof));
                for j in (0..n).filter(|j| *j != i) {
                    assert!(!verify(&root, n, j, entries[i as usize].as_bytes(), &proof));
                }
                let long = [&proof[..], &[0; 32]].concat();
                assert!(!verify(&root, n, i, entries[i as usize].as_bytes(), &long));
            }
        }
    }
}
