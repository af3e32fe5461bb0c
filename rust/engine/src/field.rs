//! Fields: names that rules use, resolved through the mapping to values of the event at hand.
//!
//! A canonical name is looked up in the mapping; any other name is a dotted path into the source record.
//! Numbers and booleans have a text as well, so an identity number is the same identity whether it came
//! quoted or not.

use crate::derive::{Derivation, Derive, Derived, Zone};
use crate::json::{Extractor, Fault, Token, elements, unescape};
use crate::key::{Fingerprint, Keyring};
use crate::lookup::Tables;
use crate::path::{Path, Step};
use crate::plan::{Plan, PlanError, Source};
use smallvec::SmallVec;
use std::cell::Cell;
use std::collections::BTreeMap;

/// A field's place in the table.
pub(crate) type FieldId = usize;

/// A scalar: what a test sees and a group is named by.
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

/// Which buffer a scalar's text lies in.
#[derive(Debug, Clone, Copy)]
enum Origin {
    Record,
    Scratch,
    Constants,
}

/// A field of the event at hand.
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
enum Place {
    Slot(usize),
    Constant(Scalar),
}

/// All fields of a plan, and the extractor that finds them.
#[derive(Debug)]
pub(crate) struct FieldTable {
    names: Vec<String>,
    places: Vec<Vec<Place>>,
    paths: Vec<Path>,
    constants: String,
    mapping: BTreeMap<String, Vec<Source>>,
    derivations: BTreeMap<String, Derivation>,
    /// By field: how it is derived, if it is. It comes after those it is derived from.
    derived: Vec<Option<Deriving>>,
    /// Derived fields whose own sources are being named, to tell of circles.
    under_way: Vec<String>,
    zone: Zone,
    /// Whether fields stand under their own names, mapped already.
    is_repartitioned: bool,
}

impl FieldTable {
    /// # Errors
    /// A time zone there is not.
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
            zone: Zone::named(&plan.time_zone).map_err(PlanError::Zone)?,
            is_repartitioned: plan.share.is_some(),
        })
    }

    /// The zone in which hours and days are meant.
    pub(crate) fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The id of a field, made on first use.
    pub(crate) fn id(&mut self, name: &str) -> Result<FieldId, PlanError> {
        if let Some(id) = self.names.iter().position(|known| known == name) {
            return Ok(id);
        }
        let derivation = self.derivations.get(name).filter(|_| !self.is_repartitioned).cloned();
        let derived = derivation.map(|derivation| self.deriving(name, &derivation)).transpose()?;
        let places = if self.is_repartitioned {
            vec![self.place(Path { steps: vec![Step::Key(name.to_owned())] })]
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

    /// Names the fields that `name` is derived from.
    fn deriving(&mut self, name: &str, derivation: &Derivation) -> Result<Deriving, PlanError> {
        let fault = |problem: String| PlanError::Derived { field: name.to_owned(), problem };
        let by = Derive::compile(derivation, &self.zone).map_err(fault)?;
        if self.under_way.iter().any(|known| known == name) {
            return Err(fault(format!("is derived from itself, by way of {}", self.under_way.join(", "))));
        }
        self.under_way.push(name.to_owned());
        let from = derivation.from.iter().map(|source| self.id(source)).collect::<Result<_, _>>()?;
        self.under_way.pop();
        Ok(Deriving { from, by })
    }

    /// Where the mapping says a field comes from; one it doesn't know is a path itself.
    fn mapped(&mut self, name: &str) -> Result<Vec<Place>, PlanError> {
        let own = [Source::Path(name.to_owned())];
        let sources = self.mapping.get(name).cloned().unwrap_or_else(|| own.to_vec());
        let mut places = Vec::with_capacity(sources.len());
        for source in sources {
            places.push(match source {
                Source::Path(text) => {
                    let path = Path::parse(&text)
                        .map_err(|problem| PlanError::Path { field: name.to_owned(), problem })?;
                    self.place(path)
                }
                Source::Constant(text) => {
                    let start = self.constants.len() as u32;
                    self.constants.push_str(&text);
                    let end = self.constants.len() as u32;
                    Place::Constant(Scalar { kind: ScalarKind::Text, origin: Origin::Constants, start, end })
                }
            });
        }
        Ok(places)
    }

    fn place(&mut self, path: Path) -> Place {
        let known = self.paths.iter().position(|known| *known == path);
        Place::Slot(known.unwrap_or_else(|| {
            self.paths.push(path);
            self.paths.len() - 1
        }))
    }

    /// The id of a field that every event needs, which the mapping must name.
    pub(crate) fn required(&mut self, name: &'static str) -> Result<FieldId, PlanError> {
        if self.mapping.get(name).is_none_or(Vec::is_empty) && !self.derivations.contains_key(name) {
            return Err(PlanError::Unmapped(name));
        }
        self.id(name)
    }

    /// Ends the building: from now on events are read.
    pub(crate) fn reader(self) -> EventReader {
        let fields = self.places.len();
        let only_slot = |places: &Vec<Place>| match places[..] {
            [Place::Slot(slot)] => Some(slot),
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
            prints: vec![Cell::default(); fields],
        }
    }
}

/// How a field is derived, and from which.
#[derive(Debug, Clone)]
struct Deriving {
    from: SmallVec<[FieldId; 2]>,
    by: Derive,
}

/// Reads records into fields. Its buffers are reused from record to record.
#[derive(Debug, Clone)]
pub(crate) struct EventReader {
    extractor: Extractor,
    /// By field: the slot it has its value from, where that is its only place.
    slots: Vec<Option<usize>>,
    places: Vec<Box<[Place]>>,
    derived: Vec<Option<Deriving>>,
    constants: String,
    scratch: String,
    values: Vec<Value>,
    elements: Vec<Scalar>,
    ragged: Vec<bool>,
    /// How many records have been read: which of the fingerprints are this record's.
    number: u64,
    prints: Vec<Cell<(u64, Fingerprint)>>,
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

    /// Resolves the fields that are not plain, each after those it may be derived from.
    fn resolve_others(&mut self, record: &str) {
        for field in 0..self.places.len() {
            if self.slots[field].and_then(|slot| plain(self.extractor.token(slot))).is_none() {
                self.values[field] = self.resolve(field, record);
            }
        }
    }

    /// Takes the look-up tables that are in force.
    pub(crate) fn refresh(&mut self, tables: &Tables) {
        self.derived.iter_mut().flatten().for_each(|deriving| deriving.by.refresh(tables));
    }

    /// Works a field out from those before it.
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

    /// The first source that is there and not null; null where there are only nulls.
    fn resolve(&mut self, field: FieldId, record: &str) -> Value {
        if self.derived[field].is_some() {
            return self.derive(field, record);
        }
        let mut found = Value::Absent;
        self.ragged[field] = false;
        for at in 0..self.places[field].len() {
            let token = match &self.places[field][at] {
                Place::Constant(scalar) => return Value::One(*scalar),
                Place::Slot(slot) => self.extractor.token(*slot),
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

/// The texts that an event's scalars lie in.
#[derive(Clone, Copy)]
struct Buffers<'b> {
    record: &'b str,
    scratch: &'b str,
    constants: &'b str,
}

impl<'b> Buffers<'b> {
    /// The buffer a scalar's text lies in, or the text itself.
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

/// What is derived from these scalars; a text that is no part of theirs is appended to `scratch`.
fn derived(
    by: &Derive,
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

/// Appends to `elements` what comes of each way to take one scalar of each of the fields.
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

/// A token as a scalar, where nothing has to be done for it: almost always.
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

/// A token as a scalar; nested arrays and objects and nulls are none.
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

    /// A scalar's text. A number's is as written.
    #[inline]
    pub(crate) fn text(&self, scalar: Scalar) -> &'a str {
        self.buffers().text(scalar)
    }

    /// The bytes of a scalar's text, for those who only compare: they need no look at where characters end.
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

    /// The scalars of a field: none, one, or a list's.
    #[inline]
    pub(crate) fn scalars(&self, field: FieldId) -> &[Scalar] {
        match &self.reader.values[field] {
            Value::One(scalar) => std::slice::from_ref(scalar),
            Value::Many(first, end) => &self.reader.elements[*first as usize..*end as usize],
            Value::Absent | Value::Null | Value::Object => &[],
        }
    }

    /// The fingerprint of a field's scalar if it has just one, worked out once an event whichever rules ask.
    #[inline]
    pub(crate) fn only_print(&self, field: FieldId, keyring: &Keyring) -> Option<Fingerprint> {
        let (number, print) = self.reader.prints[field].get();
        if number == self.reader.number { Some(print) } else { self.work_out_print(field, keyring) }
    }

    #[inline(never)] // seldom beside those that are known
    fn work_out_print(&self, field: FieldId, keyring: &Keyring) -> Option<Fingerprint> {
        let &[scalar] = self.scalars(field) else { return None };
        let print = self.print(scalar, keyring);
        self.reader.prints[field].set((self.reader.number, print));
        Some(print)
    }

    /// The fingerprint of a scalar.
    #[inline]
    pub(crate) fn print(&self, scalar: Scalar, keyring: &Keyring) -> Fingerprint {
        keyring.print(self.bytes(scalar))
    }

    /// Appends a field's value to `out` as JSON that reads as the same value again. Returns whether there is one.
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
                // It stood between quotes and had no escapes.
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

    /// Whether a list field had elements that are no scalar: a null, a list, an object.
    pub(crate) fn is_ragged(&self, field: FieldId) -> bool {
        matches!(self.value(field), Value::Many(..)) && self.reader.ragged[field]
    }
}
