//! Fields: names that rules use, resolved to values of the current event.
//!
//! A canonical name is resolved through the mapping; any other name is a dotted path into the source record. Numbers
//! and booleans also have a text, so an identity number is the same identity with or without quotes.
//!
//! Cost: one pass over the record for all fields; no allocation per event except for escaped or derived texts.

use crate::decode::json::{Extractor, Fault, Token, elements, unescape};
use crate::decode::path::{Path, PathStep};
use crate::event::derive::{CompiledDerivation, Derived};
use crate::event::lookup::Tables;
use crate::event::time_zone::Zone;
use crate::foundation::fingerprint::{Fingerprint, Fingerprinter};
use crate::plan::{Derivation, Plan, PlanError, PlanErrorKind, Source};
use smallvec::SmallVec;
use std::cell::Cell;
use std::collections::BTreeMap;

/// Index of a field in the table.
pub(crate) type FieldId = usize;

/// A scalar value: input of tests and group names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scalar {
    kind: ScalarKind,
    origin: Origin,
    start: u32,
    end: u32,
}

impl Scalar {
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
#[derive(Debug, Clone, Copy)]
enum Origin {
    Record,
    Scratch,
    Constants,
}

/// Value of a field of the current event.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value {
    Absent,
    Null,
    One(Scalar),
    /// A range of the event's list elements.
    Many(u32, u32),
    Object,
}

#[derive(Debug, Clone)]
enum FieldSource {
    Slot(usize),
    Constant(Scalar),
}

/// All fields of a plan, collected before the first event.
#[derive(Debug)]
pub(crate) struct FieldTable {
    names: Vec<String>,
    places: Vec<Vec<FieldSource>>,
    paths: Vec<Path>,
    constants: String,
    mapping: BTreeMap<String, Vec<Source>>,
    derivations: BTreeMap<String, Derivation>,
    /// Derivation of each derived field; the source fields have smaller ids.
    derived: Vec<Option<Deriving>>,
    /// Derived fields whose sources are being registered, to detect circles.
    under_way: Vec<String>,
    zone: Zone,
    /// Whether records contain fields under their canonical names, because another engine mapped them.
    is_repartitioned: bool,
}

impl FieldTable {
    /// # Errors
    /// The time zone is unknown.
    pub(crate) fn new(plan: &Plan) -> Result<Self, PlanError> {
        Ok(Self {
            names: Vec::new(),
            places: Vec::new(),
            paths: Vec::new(),
            constants: String::new(),
            mapping: plan.mapping.clone(),
            derivations: plan.derived.clone(),
            derived: Vec::new(),
            under_way: Vec::new(),
            zone: Zone::named(&plan.time_zone)
                .map_err(|problem| PlanError::new(PlanErrorKind::TimeZone, problem))?,
            is_repartitioned: plan.partition.is_some(),
        })
    }

    /// Time zone of hours and days.
    pub(crate) fn zone(&self) -> &Zone {
        &self.zone
    }

    /// Id of a field, registered on first use.
    pub(crate) fn id(&mut self, name: &str) -> Result<FieldId, PlanError> {
        if let Some(id) = self.names.iter().position(|known| known == name) {
            return Ok(id);
        }
        let derivation = self.derivations.get(name).filter(|_| !self.is_repartitioned).cloned();
        let derived = derivation.map(|derivation| self.deriving(name, &derivation)).transpose()?;
        let places = if self.is_repartitioned {
            vec![self.place(Path { steps: vec![PathStep::Key(name.to_owned())] })]
        } else if derived.is_some() {
            Vec::new()
        } else {
            self.mapped(name)?
        };
        self.names.push(name.to_owned());
        self.places.push(places);
        self.derived.push(derived);
        Ok(self.names.len() - 1)
    }

    /// Registers the source fields of a derived field.
    fn deriving(&mut self, name: &str, derivation: &Derivation) -> Result<Deriving, PlanError> {
        let fault = |problem: String| PlanError::in_field(PlanErrorKind::Derived, name, problem);
        let by = CompiledDerivation::compile(derivation, &self.zone).map_err(fault)?;
        if self.under_way.iter().any(|known| known == name) {
            return Err(fault(format!("is derived from itself through {}", self.under_way.join(", "))));
        }
        self.under_way.push(name.to_owned());
        let from = derivation.from.iter().map(|source| self.id(source)).collect::<Result<_, _>>()?;
        self.under_way.pop();
        Ok(Deriving { from, by })
    }

    /// Sources of a field according to the mapping; a field that is not mapped is its own path.
    fn mapped(&mut self, name: &str) -> Result<Vec<FieldSource>, PlanError> {
        let own = [Source::Path(name.to_owned())];
        let sources = self.mapping.get(name).cloned().unwrap_or_else(|| own.to_vec());
        let mut places = Vec::with_capacity(sources.len());
        for source in sources {
            places.push(match source {
                Source::Path(text) => {
                    let path = Path::parse(&text)
                        .map_err(|problem| PlanError::in_field(PlanErrorKind::Path, name, problem))?;
                    self.place(path)
                }
                Source::Constant(text) => {
                    let start = self.constants.len() as u32;
                    self.constants.push_str(&text);
                    let end = self.constants.len() as u32;
                    FieldSource::Constant(Scalar {
                        kind: ScalarKind::Text,
                        origin: Origin::Constants,
                        start,
                        end,
                    })
                }
            });
        }
        Ok(places)
    }

    fn place(&mut self, path: Path) -> FieldSource {
        let known = self.paths.iter().position(|known| *known == path);
        FieldSource::Slot(known.unwrap_or_else(|| {
            self.paths.push(path);
            self.paths.len() - 1
        }))
    }

    /// Id of a field that every event needs; the mapping must have a source for it.
    pub(crate) fn required(&mut self, name: &'static str) -> Result<FieldId, PlanError> {
        if self.mapping.get(name).is_none_or(Vec::is_empty) && !self.derivations.contains_key(name) {
            let problem = format!("the mapping has no source for '{name}'");
            return Err(PlanError::in_field(PlanErrorKind::Unmapped, name, problem));
        }
        self.id(name)
    }

    /// Finishes the table.
    pub(crate) fn reader(self) -> EventReader {
        let fields = self.places.len();
        let only_slot = |places: &Vec<FieldSource>| match places[..] {
            [FieldSource::Slot(slot)] => Some(slot),
            _ => None,
        };
        EventReader {
            extractor: Extractor::new(&self.paths),
            slots: self.places.iter().map(only_slot).collect(),
            places: self.places.into_iter().map(Vec::into_boxed_slice).collect(),
            derived: self.derived,
            constants: self.constants,
            scratch: String::new(),
            values: vec![Value::Absent; fields],
            elements: Vec::new(),
            ragged: vec![false; fields],
            number: 0,
            fingerprints: vec![Cell::default(); fields],
        }
    }
}

/// Derivation and source fields of a derived field.
#[derive(Debug, Clone)]
struct Deriving {
    from: SmallVec<[FieldId; 2]>,
    by: CompiledDerivation,
}

/// Reads records into fields. Buffers are reused for the next record.
#[derive(Debug, Clone)]
pub(crate) struct EventReader {
    extractor: Extractor,
    /// For each field, its slot in the extractor, if that is its only source.
    slots: Vec<Option<usize>>,
    places: Vec<Box<[FieldSource]>>,
    derived: Vec<Option<Deriving>>,
    constants: String,
    scratch: String,
    values: Vec<Value>,
    elements: Vec<Scalar>,
    ragged: Vec<bool>,
    /// Number of records read; tells whether a cached fingerprint belongs to the current one.
    number: u64,
    fingerprints: Vec<Cell<(u64, Fingerprint)>>,
}

/// The fields of one event.
#[derive(Clone, Copy)]
pub(crate) struct Event<'a> {
    record: &'a str,
    reader: &'a EventReader,
}

impl EventReader {
    pub(crate) fn read<'a>(&'a mut self, record: &'a str) -> Result<Event<'a>, Fault> {
        self.extractor.read(record)?;
        self.scratch.clear();
        self.elements.clear();
        self.number += 1;
        let mut all_plain = true;
        for (value, &slot) in self.values.iter_mut().zip(&self.slots) {
            match slot.and_then(|slot| plain(self.extractor.token(slot))) {
                Some(scalar) => *value = Value::One(scalar),
                None => all_plain = false,
            }
        }
        if !all_plain {
            self.resolve_others(record);
        }
        Ok(Event { record, reader: self })
    }

    /// Resolves the fields without a plain scalar, in the order of their ids.
    fn resolve_others(&mut self, record: &str) {
        for field in 0..self.places.len() {
            if self.slots[field].and_then(|slot| plain(self.extractor.token(slot))).is_none() {
                self.values[field] = self.resolve(field, record);
            }
        }
    }

    /// Takes the current versions of the look-up tables.
    pub(crate) fn refresh(&mut self, tables: &Tables) {
        self.derived.iter_mut().flatten().for_each(|deriving| deriving.by.refresh(tables));
    }

    /// Derives a field from fields with smaller ids.
    fn derive(&mut self, field: FieldId, record: &str) -> Value {
        let Some(Deriving { from, by }) = &self.derived[field] else { return Value::Absent };
        if by.is_idle() {
            return Value::Absent;
        }
        let mut key: SmallVec<[Scalar; 2]> = SmallVec::new();
        if by.is_of_record() {
            let whole =
                Scalar { kind: ScalarKind::Text, origin: Origin::Record, start: 0, end: record.len() as u32 };
            key.push(whole);
        }
        let first = self.elements.len();
        let is_list = from.iter().any(|&source| matches!(self.values[source], Value::Many(..)));
        let Self { values, elements, scratch, constants, .. } = self;
        for_each_choice(from, values, elements, &mut key, &mut |key| {
            derived(by, key, record, scratch, constants)
        });
        match self.elements.len() - first {
            0 => Value::Absent,
            1 if !is_list => Value::One(self.elements[first]),
            _ => Value::Many(first as u32, self.elements.len() as u32),
        }
    }

    /// The first source that is present and not null; null if there are only nulls.
    fn resolve(&mut self, field: FieldId, record: &str) -> Value {
        if self.derived[field].is_some() {
            return self.derive(field, record);
        }
        let mut found = Value::Absent;
        self.ragged[field] = false;
        for at in 0..self.places[field].len() {
            let token = match &self.places[field][at] {
                FieldSource::Constant(scalar) => return Value::One(*scalar),
                FieldSource::Slot(slot) => self.extractor.token(*slot),
            };
            match token {
                Token::Absent => {}
                Token::Null => found = Value::Null,
                Token::Object => return Value::Object,
                Token::Array { start, .. } => {
                    let first = self.elements.len() as u32;
                    let Self { elements: list, scratch, ragged, .. } = self;
                    elements(record, start, |token| match scalar(token, record, scratch) {
                        Some(element) => list.push(element),
                        None => ragged[field] = true,
                    });
                    return Value::Many(first, self.elements.len() as u32);
                }
                token => {
                    return scalar(token, record, &mut self.scratch).map_or(Value::Absent, Value::One);
                }
            }
        }
        found
    }
}

/// Buffers that hold the texts of an event's scalars.
#[derive(Clone, Copy)]
struct Buffers<'b> {
    record: &'b str,
    scratch: &'b str,
    constants: &'b str,
}

impl<'b> Buffers<'b> {
    /// Buffer that holds a scalar's text, or the text itself.
    #[inline]
    fn of(self, scalar: Scalar) -> Result<&'b str, &'static str> {
        match (scalar.kind, scalar.origin) {
            (ScalarKind::Bool(true), _) => Err("true"),
            (ScalarKind::Bool(false), _) => Err("false"),
            (_, Origin::Record) => Ok(self.record),
            (_, Origin::Scratch) => Ok(self.scratch),
            (_, Origin::Constants) => Ok(self.constants),
        }
    }

    #[inline]
    fn text(self, scalar: Scalar) -> &'b str {
        match self.of(scalar) {
            Ok(buffer) => &buffer[scalar.start as usize..scalar.end as usize],
            Err(word) => word,
        }
    }
}

/// Derives a value from scalars; text that is not part of theirs is appended to `scratch`.
fn derived(
    by: &CompiledDerivation,
    from: &[Scalar],
    record: &str,
    scratch: &mut String,
    constants: &str,
) -> Option<Scalar> {
    let mut written = String::new();
    let outcome = {
        let buffers = Buffers { record, scratch, constants };
        let texts: SmallVec<[&str; 2]> = from.iter().map(|&scalar| buffers.text(scalar)).collect();
        by.apply(&texts, &mut written)
    };
    match outcome {
        Derived::Nothing => None,
        Derived::True => {
            Some(Scalar { kind: ScalarKind::Bool(true), origin: Origin::Record, start: 0, end: 0 })
        }
        Derived::Within(start, end) => {
            let &Scalar { kind, origin, start: first, .. } = from.first()?;
            let is_word = matches!(kind, ScalarKind::Bool(_));
            let (start, end) = (first + start as u32, first + end as u32);
            (!is_word).then_some(Scalar { kind: ScalarKind::Text, origin, start, end })
        }
        Derived::Written { is_number } => {
            let start = scratch.len() as u32;
            scratch.push_str(&written);
            let kind = if is_number { ScalarKind::Number } else { ScalarKind::Text };
            Some(Scalar { kind, origin: Origin::Scratch, start, end: scratch.len() as u32 })
        }
    }
}

/// Calls `each` for every combination of one scalar per field, and appends the results to `elements`.
fn for_each_choice(
    fields: &[FieldId],
    values: &[Value],
    elements: &mut Vec<Scalar>,
    chosen: &mut SmallVec<[Scalar; 2]>,
    each: &mut impl FnMut(&[Scalar]) -> Option<Scalar>,
) {
    let Some((&field, rest)) = fields.split_first() else {
        elements.extend(each(chosen));
        return;
    };
    let mut with = |scalar: Scalar, elements: &mut Vec<Scalar>| {
        chosen.push(scalar);
        for_each_choice(rest, values, elements, chosen, each);
        chosen.pop();
    };
    match values[field] {
        Value::Absent | Value::Null | Value::Object => {}
        Value::One(scalar) => with(scalar, elements),
        Value::Many(first, end) => {
            for at in first..end {
                with(elements[at as usize], elements);
            }
        }
    }
}

/// The token as a scalar if it needs no processing, which is the usual case.
#[inline]
fn plain(token: Token) -> Option<Scalar> {
    match token {
        Token::Text { start, end, escaped: false } => {
            Some(Scalar { kind: ScalarKind::Text, origin: Origin::Record, start, end })
        }
        Token::Number { start, end } => {
            Some(Scalar { kind: ScalarKind::Number, origin: Origin::Record, start, end })
        }
        _ => None,
    }
}

/// The token as a scalar; `None` for nested arrays, objects and nulls.
fn scalar(token: Token, record: &str, scratch: &mut String) -> Option<Scalar> {
    let (kind, origin, start, end) = match token {
        Token::Text { start, end, escaped: false } => (ScalarKind::Text, Origin::Record, start, end),
        Token::Text { start, end, escaped: true } => {
            let first = scratch.len() as u32;
            unescape(&record[start as usize..end as usize], scratch);
            (ScalarKind::Text, Origin::Scratch, first, scratch.len() as u32)
        }
        Token::Number { start, end } => (ScalarKind::Number, Origin::Record, start, end),
        Token::Bool(truth) => (ScalarKind::Bool(truth), Origin::Record, 0, 0),
        Token::Absent | Token::Null | Token::Array { .. } | Token::Object => return None,
    };
    Some(Scalar { kind, origin, start, end })
}

impl<'a> Event<'a> {
    #[inline]
    pub(crate) fn value(&self, field: FieldId) -> Value {
        self.reader.values[field]
    }

    /// Text of a scalar; numbers as written.
    #[inline]
    pub(crate) fn text(&self, scalar: Scalar) -> &'a str {
        self.buffers().text(scalar)
    }

    /// Bytes of a scalar's text; cheaper than the text, because character boundaries are not checked.
    #[inline]
    pub(crate) fn bytes(&self, scalar: Scalar) -> &'a [u8] {
        match self.buffers().of(scalar) {
            Ok(buffer) => &buffer.as_bytes()[scalar.start as usize..scalar.end as usize],
            Err(word) => word.as_bytes(),
        }
    }

    #[inline]
    fn buffers(&self) -> Buffers<'a> {
        Buffers { record: self.record, scratch: &self.reader.scratch, constants: &self.reader.constants }
    }

    /// Scalars of a field: none, one, or a list's.
    #[inline]
    pub(crate) fn scalars(&self, field: FieldId) -> &[Scalar] {
        match &self.reader.values[field] {
            Value::One(scalar) => std::slice::from_ref(scalar),
            Value::Many(first, end) => &self.reader.elements[*first as usize..*end as usize],
            Value::Absent | Value::Null | Value::Object => &[],
        }
    }

    /// Fingerprint of a field with exactly one scalar; computed once per event and field.
    #[inline]
    pub(crate) fn single_fingerprint(
        &self,
        field: FieldId,
        fingerprinter: &Fingerprinter,
    ) -> Option<Fingerprint> {
        let (number, fingerprint) = self.reader.fingerprints[field].get();
        if number == self.reader.number {
            Some(fingerprint)
        } else {
            self.compute_fingerprint(field, fingerprinter)
        }
    }

    #[inline(never)] // seldom called: most fingerprints are cached
    fn compute_fingerprint(&self, field: FieldId, fingerprinter: &Fingerprinter) -> Option<Fingerprint> {
        let &[scalar] = self.scalars(field) else { return None };
        let fingerprint = self.fingerprint(scalar, fingerprinter);
        self.reader.fingerprints[field].set((self.reader.number, fingerprint));
        Some(fingerprint)
    }

    /// Fingerprint of a scalar.
    #[inline]
    pub(crate) fn fingerprint(&self, scalar: Scalar, fingerprinter: &Fingerprinter) -> Fingerprint {
        fingerprinter.fingerprint(self.bytes(scalar))
    }

    /// Appends a field's value to `out` as JSON that reads as the same value. Returns false if the field is absent.
    pub(crate) fn write(&self, field: FieldId, out: &mut Vec<u8>) -> bool {
        match self.value(field) {
            Value::Absent => return false,
            Value::Null => out.extend_from_slice(b"null"),
            Value::Object => out.extend_from_slice(b"{}"),
            Value::One(scalar) => self.write_scalar(scalar, out),
            Value::Many(..) => {
                out.push(b'[');
                for (at, &scalar) in self.scalars(field).iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    self.write_scalar(scalar, out);
                }
                if self.is_ragged(field) {
                    out.extend_from_slice(if out.ends_with(b"[") { b"null" } else { b",null" });
                }
                out.push(b']');
            }
        }
        true
    }

    fn write_scalar(&self, scalar: Scalar, out: &mut Vec<u8>) {
        let bytes = self.bytes(scalar);
        match (scalar.kind, scalar.origin) {
            (ScalarKind::Text, Origin::Record) => {
                // The text was a JSON string without escapes.
                out.push(b'"');
                out.extend_from_slice(bytes);
                out.push(b'"');
            }
            (ScalarKind::Text, _) => {
                out.extend_from_slice(serde_json::Value::from(self.text(scalar)).to_string().as_bytes());
            }
            (ScalarKind::Number | ScalarKind::Bool(_), _) => out.extend_from_slice(bytes),
        }
    }

    /// Whether a list field has elements that are not scalars: nulls, lists or objects.
    pub(crate) fn is_ragged(&self, field: FieldId) -> bool {
        matches!(self.value(field), Value::Many(..)) && self.reader.ragged[field]
    }
}
