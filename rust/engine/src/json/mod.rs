//! JSON without a document: one pass that checks the whole record and keeps only the wanted values.

mod extract;
mod run;
mod scan;
mod shapes;
mod text;

pub use extract::Extractor;
pub(crate) use extract::elements;
pub use scan::{Fault, FaultKind, Token};
pub(crate) use text::unescape;

/// Objects and arrays nested deeper than this are refused, so that no record can exhaust the stack.
pub const MAX_DEPTH: usize = 128;
