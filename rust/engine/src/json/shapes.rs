//! Shapes: what the records of a log have in common.
//!
//! A program that writes a log writes the same keys in the same order, record after record: only the values
//! change. So the text between values, the *gaps*, is remembered from records read in full, as a tree: at each
//! place, the gaps that have been seen there and the value each leads to. A record whose gaps are all known is
//! read by comparing them and scanning the values; its keys are never looked up. It is then valid JSON because a
//! valid record had the same gaps, and each value, scanned as strictly as ever, stands where a value stood.
//!
//! A record that meets a gap not known here is read in full, and its shape learned. Where records keep meeting
//! new ones (keys that are names or numbers), the tree is full after a while and begun anew from time to time.

use super::run::{Window, window};

/// Steps in a tree at most.
const MOST_STEPS: usize = 512;
/// Gaps remembered in one place at most; they are compared one after the other.
const MOST_GAPS: usize = 6;
/// A longer gap is not remembered.
const LONGEST_GAP: usize = 256;
/// Records read in full before a full tree is begun anew.
const PATIENCE: u32 = 100_000;

/// A value that a gap leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spot {
    /// A string, whose quotes are the gaps'; the slot that keeps it, or [`UNWANTED`].
    Text { slot: u32 },
    /// Any value; the node of the wanted paths it is, or [`UNWANTED`], and the objects and arrays around it.
    Any { node: u32, depth: u32 },
    /// None: the record ends with the gap.
    End,
}

/// Neither a slot nor a node.
pub(super) const UNWANTED: u32 = u32::MAX;

/// A step's number.
pub(super) type StepId = u32;

/// No step.
const NONE: StepId = StepId::MAX;

/// A gap and the value behind it: a cache line.
#[derive(Debug, Clone)]
#[repr(align(64))]
pub(super) struct Step {
    /// The gap's first 16 bytes, or all and zeros.
    start: u128,
    /// Ones where `start` has bytes.
    mask: u128,
    pub(super) length: u32,
    /// The first gap behind the value.
    pub(super) next: StepId,
    /// Another gap seen in this one's place.
    other: StepId,
    pub(super) spot: Spot,
}

/// A value met in a record read in full: where it lies, a string without its quotes, and what it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Met {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) spot: Spot,
}

#[derive(Debug, Clone)]
pub(super) struct Shapes {
    steps: Vec<Step>,
    /// The steps' gaps in full.
    texts: Vec<Box<[u8]>>,
    /// The first gap of a record.
    pub(super) first: StepId,
    /// Records read in full since the tree was begun.
    in_full: u32,
}

impl Shapes {
    pub(super) fn new() -> Self {
        Self { steps: Vec::new(), texts: Vec::new(), first: NONE, in_full: 0 }
    }

    /// The step at `from` or in its place that a record goes on with at `at`.
    #[inline]
    pub(super) fn step(&self, from: StepId, record: &[u8], at: usize) -> Option<&Step> {
        let step = self.steps.get(from as usize)?;
        let is_start = (u128::from_le_bytes(window(record, at)) ^ step.start) & step.mask == 0;
        if is_start && step.length as usize <= size_of::<Window>() {
            return Some(step);
        }
        self.other_step(from, &record[at..])
    }

    fn other_step(&self, from: StepId, rest: &[u8]) -> Option<&Step> {
        let mut id = from;
        loop {
            let step = self.steps.get(id as usize)?;
            if rest.starts_with(&self.texts[id as usize]) {
                return Some(step);
            }
            id = step.other;
        }
    }

    /// Learns the shape of a record that has been read in full, from its values in order.
    #[cold]
    pub(super) fn learn(&mut self, record: &[u8], values: &[Met]) {
        self.in_full += 1;
        if self.steps.len() + values.len() >= MOST_STEPS {
            if self.in_full < PATIENCE {
                return;
            }
            *self = Self::new();
        }
        let (mut last, mut at) = (None, 0);
        let end = Met { start: record.len(), end: record.len(), spot: Spot::End };
        for value in values.iter().chain([&end]) {
            last = self.step_behind(last, &record[at..value.start], value.spot);
            if last.is_none() {
                return;
            }
            at = value.end;
        }
    }

    /// The step behind another one, or the first, made if it is not there; `None` where there is no room.
    fn step_behind(&mut self, last: Option<StepId>, text: &[u8], spot: Spot) -> Option<StepId> {
        let first = last.map_or(self.first, |last| self.steps[last as usize].next);
        let (mut before, mut at, mut seen) = (None, first, 0);
        while let Some(step) = self.steps.get(at as usize) {
            let known = &self.texts[at as usize];
            if **known == *text {
                return (step.spot == spot).then_some(at);
            }
            seen += 1;
            // A gap up to a string's quote has the one up to another value as its beginning, so it is tried first.
            if known.len() >= text.len() {
                before = Some(at);
            }
            at = step.other;
        }
        if seen == MOST_GAPS || text.len() > LONGEST_GAP {
            return None;
        }
        let id = self.steps.len() as StepId;
        let kept = text.len().min(size_of::<Window>());
        let other = before.map_or(first, |before| self.steps[before as usize].other);
        self.texts.push(text.into());
        self.steps.push(Step {
            start: u128::from_le_bytes(window(text, 0)),
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
