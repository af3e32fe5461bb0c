//! Scalars: texts, numbers and booleans of an event, as places in the buffers that hold their texts.

/// A scalar value: input of tests and group names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scalar {
    pub(super) kind: ScalarKind,
    pub(super) origin: Origin,
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Scalar {
    /// Whether both are the same place of the same buffer.
    pub(super) fn is(self, other: Self) -> bool {
        (self.origin, self.start, self.end) == (other.origin, other.start, other.end)
    }

    #[inline]
    pub(crate) fn kind(self) -> ScalarKind {
        self.kind
    }

    #[inline]
    pub(crate) fn is_bool(self) -> bool {
        matches!(self.kind, ScalarKind::Bool(_))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScalarKind {
    Text,
    Number,
    Bool(bool),
}

/// Buffer that holds a scalar's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Record,
    Scratch,
    Constants,
}
