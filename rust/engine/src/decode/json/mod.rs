//! JSON without a document tree: one pass validates the whole record and keeps only the wanted values.

mod extract;
mod scan;
mod scan16;
mod shapes;
mod unescape;

pub use extract::Extractor;
pub use scan::{Fault, FaultKind, Token};
pub(crate) use unescape::unescape;
