//! The evidence log: entries that are only ever added, so kept that any later change of them shows.
//!
//! Entries are the leaves of a Merkle tree, hashed as in RFC 9162 (Certificate Transparency), each with a salt before it, so
//! that the hash of an entry that is gone says nothing about what it was. They are written in *blocks* ([`block`]), each of
//! which has the tree's root after it, signed ([`head`]), and the hash of the block before it; blocks fill *segments*, the
//! files of a folder ([`log`]). [`verify`] reads them all and names what is not as it was written.
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
