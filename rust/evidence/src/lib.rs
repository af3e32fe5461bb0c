//! Evidence log: an append-only log in which any later change is detectable.
//!
//! Entries are the leaves of a Merkle tree, hashed as in RFC 9162 (Certificate Transparency). Each is preceded by a
//! salt, so the hash of an erased entry reveals nothing about it. Entries are written in *blocks* ([`block`]). Each
//! block contains the tree's root after it, signed ([`head`]), and the hash of the block before it. Blocks fill
//! *segments*, the files of a folder ([`log`]). [`verify`] reads all of them and reports every deviation.
#![deny(unsafe_code)]

pub mod block;
pub mod head;
pub mod log;
pub mod merkle;
pub mod verify;
mod walk;

#[cfg(test)]
mod tests;

pub use head::{Head, Signer, Verifier};
pub use log::{Error, Log};
pub use merkle::Hash;
pub use verify::{Report, verify};
