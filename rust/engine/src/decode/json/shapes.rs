//! Shapes: what the records of a log have in common.
//!
//! A program that writes a log writes the same keys in the same order in every record; only the values change. The
//! text between values, the *gaps*, is learned from fully parsed records and stored as a tree: for each position, the
//! gaps seen there and the value that follows each. A record whose gaps are all known is read by comparing gaps and
//! scanning values; its keys are never looked up. It is valid JSON, because a valid record had the same gaps and
//! every value is validated and is where a value was.
//!
//! A record with an unknown gap is parsed in full and its shape is learned. If records keep having new gaps (keys
//! that are names or numbers), the tree fills up and is restarted from time to time.

use super::scan16::{Chunk16, chunk16};

/// Maximum number of steps in the tree.
const MOST_STEPS: usize = 512;
/// Maximum number of gaps at one position, because they are compared in sequence.
const MOST_GAPS: usize = 6;
/// Longer gaps are not learned.
const LONGEST_GAP: usize = 256;
/// Number of fully parsed records before a full tree is restarted.
const PATIENCE: u32 = 100_000;

/// The value after a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueSlot {
    /// A string whose quotes belong to the gaps; its slot, or [`UNWANTED`].
    Text { slot: u32 },
    /// Any value; its node in the tree of wanted paths, or [`UNWANTED`], and its depth.
    Any { node: u32, depth: u32 },
    /// No value: the record ends with the gap.
    End,
}

/// Neither a slot nor a node.
pub(super) const UNWANTED: u32 = u32::MAX;

/// Index of a step.
pub(super) type StepId = u32;

/// No step.
const NONE: StepId = StepId::MAX;

/// A gap and the value after it: one cache line.
#[derive(Debug, Clone)]
#[repr(align(64))]
pub(super) struct ShapeStep {
    /// The first 16 bytes of the gap, padded with zeros.
    start: u128,
    /// Ones where `start` has bytes.
    mask: u128,
    pub(super) length: u32,
    /// First gap after the value.
    pub(super) next: StepId,
    /// Another gap seen at this position.
    other: StepId,
    pub(super) spot: ValueSlot,
}

/// A value of a fully parsed record: its range (strings without quotes) and its kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadValue {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) spot: ValueSlot,
}

#[derive(Debug, Clone)]
pub(super) struct Shapes {
    steps: Vec<ShapeStep>,
    /// The full gaps of the steps.
    texts: Vec<Box<[u8]>>,
    /// First gap of a record.
    pub(super) first: StepId,
    /// Records parsed in full since the tree was started.
    in_full: u32,
}

impl Shapes {
    pub(super) fn new() -> Self {
        Self { steps: Vec::new(), texts: Vec::new(), first: NONE, in_full: 0 }
    }

    /// The step at `from`, or one of its alternatives, whose gap the record has at `at`.
    #[inline]
    pub(super) fn step(&self, from: StepId, record: &[u8], at: usize) -> Option<&ShapeStep> {
        let step = self.steps.get(from as usize)?;
        let is_start = (u128::from_le_bytes(chunk16(record, at)) ^ step.start) & step.mask == 0;
        if is_start && step.length as usize <= size_of::<Chunk16>() {
            return Some(step);
        }
        self.other_step(from, &record[at..])
    }

    fn other_step(&self, from: StepId, rest: &[u8]) -> Option<&ShapeStep> {
        let mut id = from;
        loop {
            let step = self.steps.get(id as usize)?;
            if rest.starts_with(&self.texts[id as usize]) {
                return Some(step);
            }
            id = step.other;
        }
    }

    /// Learns the shape of a fully parsed record from its values in order.
    #[cold]
    pub(super) fn learn(&mut self, record: &[u8], values: &[ReadValue]) {
        self.in_full += 1;
        if self.steps.len() + values.len() >= MOST_STEPS {
            if self.in_full < PATIENCE {
                return;
            }
            *self = Self::new();
        }
        let (mut last, mut at) = (None, 0);
        let end = ReadValue { start: record.len(), end: record.len(), spot: ValueSlot::End };
        for value in values.iter().chain([&end]) {
            last = self.step_behind(last, &record[at..value.start], value.spot);
            if last.is_none() {
                return;
            }
            at = value.end;
        }
    }

    /// Returns the step after another one, or the first step, creating it if needed; `None` if there is no room.
    fn step_behind(&mut self, last: Option<StepId>, text: &[u8], spot: ValueSlot) -> Option<StepId> {
        let first = last.map_or(self.first, |last| self.steps[last as usize].next);
        let (mut before, mut at, mut seen) = (None, first, 0);
        while let Some(step) = self.steps.get(at as usize) {
            let known = &self.texts[at as usize];
            if **known == *text {
                return (step.spot == spot).then_some(at);
            }
            seen += 1;
            // The gap before a string includes its quote and so starts with the gap before another value; try the
            // longer one first.
            if known.len() >= text.len() {
                before = Some(at);
            }
            at = step.other;
        }
        if seen == MOST_GAPS || text.len() > LONGEST_GAP {
            return None;
        }
        let id = self.steps.len() as StepId;
        let kept = text.len().min(size_of::<Chunk16>());
        let other = before.map_or(first, |before| self.steps[before as usize].other);
        self.texts.push(text.into());
        self.steps.push(ShapeStep {
            start: u128::from_le_bytes(chunk16(text, 0)),
            mask: u128::MAX.checked_shr(u128::BITS - 8 * kept as u32).unwrap_or(0),
            length: text.len() as u32,
            next: NONE,
            other,
            spot,
        });
        match (before, last) {
            (Some(before), _) => self.steps[before as usize].other = id,
            (None, Some(last)) => self.steps[last as usize].next = id,
            (None, None) => self.first = id,
        }
        Some(id)
    }
}
