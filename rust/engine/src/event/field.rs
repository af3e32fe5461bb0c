//! Fields: names that rules use, resolved to values of the current event.
//!
//! A canonical name is resolved through the mapping; any other name is a dotted path into the source record. Numbers
//! and booleans also have a text, so an identity number is the same identity with or without quotes. Identities and
//! actions have two values: the normal form, which rules test and count, and the value as written.
//!
//! Cost: one pass over the record for all fields; no allocation per event except for escaped or derived texts.

use crate::decode::json::{Extractor, Fault, Token, unescape};
use crate::decode::path::{Path, PathStep};
use crate::decode::reject::Reason;
use crate::event::action::ActionWords;
use crate::event::derive::{CompiledDerivation, Derived};
use crate::event::lookup::Tables;
use crate::event::respelling::{Respelled, Respelling};
use crate::event::scalar::Origin;
pub(crate) use crate::event::scalar::{Scalar, ScalarKind};
use crate::event::time_zone::Zone;
use crate::foundation::fingerprint::{Fingerprint, Fingerprinter};
use crate::plan::{
    CanonicalAction, Derivation, Identities, IdentityForm, Plan, PlanError, PlanErrorKind, Source,
};
use smallvec::SmallVec;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Index of a field in the table.
pub(crate) type FieldId = usize;

/// Field with the reason why a record was rejected, or [`LATE`]; otherwise absent. Only conditions that use it see
/// rejected records.
pub(crate) const PROBLEM: &str = "problem";
/// Value of [`PROBLEM`] for an event that arrived long after its time.
const LATE: &str = "late";

/// Why an event does not count as others do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Problem {
    Rejected(Reason),
    Late,
}

impl Problem {
    /// Its place among the values of [`PROBLEM`].
    fn place(self) -> usize {
        match self {
            Self::Rejected(reason) => reason as usize,
            Self::Late => Reason::ALL.len(),
        }
    }
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
    /// A derived field, with a smaller id.
    Field(FieldId),
    Constant(Scalar),
}

/// All fields of a plan, collected before the first event.
#[derive(Debug)]
pub(crate) struct FieldTable {
    /// `None` for a field in the form of another.
    names: Vec<Option<String>>,
    /// Fields in the form of an identity that they are compared with.
    compared: Vec<(FieldId, IdentityForm, FieldId)>,
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
    identities: Identities,
    actions: Option<Arc<ActionWords>>,
    respellings: Vec<Option<Respelling>>,
    /// Whether records contain fields under their canonical names, because another engine mapped them.
    is_repartitioned: bool,
}

impl FieldTable {
    /// # Errors
    /// The time zone is unknown.
    pub(crate) fn new(plan: &Plan) -> Result<Self, PlanError> {
        Ok(Self {
            names: Vec::new(),
            compared: Vec::new(),
            places: Vec::new(),
            paths: Vec::new(),
            constants: String::new(),
            mapping: plan.mapping.clone(),
            derivations: plan.derived.clone(),
            derived: Vec::new(),
            under_way: Vec::new(),
            zone: Zone::named(&plan.time_zone)
                .map_err(|problem| PlanError::new(PlanErrorKind::TimeZone, problem))?,
            identities: plan.identities.clone(),
            actions: ActionWords::of(&plan.actions).map(Arc::new),
            respellings: Vec::new(),
            is_repartitioned: plan.partition.is_some(),
        })
    }

    /// Form of an identity field.
    pub(crate) fn identity(&self, name: &str) -> Option<IdentityForm> {
        self.identities.get(name).copied()
    }

    /// Whether a field has a normal form besides the value as written.
    pub(crate) fn is_respelled(&self, field: FieldId) -> bool {
        self.respellings[field].is_some()
    }

    /// Time zone of hours and days.
    pub(crate) fn zone(&self) -> &Zone {
        &self.zone
    }

    /// Id of a field, registered on first use.
    pub(crate) fn id(&mut self, name: &str) -> Result<FieldId, PlanError> {
        if let Some(id) = self.names.iter().position(|known| known.as_deref() == Some(name)) {
            return Ok(id);
        }
        let derivation = self.derivations.get(name).filter(|_| !self.is_repartitioned).cloned();
        let derived = derivation.map(|derivation| self.deriving(name, &derivation)).transpose()?;
        let places = if self.is_repartitioned {
            vec![self.place(Path { steps: vec![PathStep::Key(name.to_owned())] })]
        } else if derived.is_some() || name == PROBLEM {
            Vec::new()
        } else {
            self.mapped(name)?
        };
        let respelling = self.respelling(name);
        Ok(self.register(Some(name.to_owned()), places, derived, respelling))
    }

    fn register(
        &mut self,
        name: Option<String>,
        places: Vec<FieldSource>,
        derived: Option<Deriving>,
        respelling: Option<Respelling>,
    ) -> FieldId {
        self.names.push(name);
        self.places.push(places);
        self.derived.push(derived);
        self.respellings.push(respelling);
        self.names.len() - 1
    }

    /// Id of the values of a field in a normal form, because they are compared with an identity. A field with a form
    /// of its own keeps it.
    pub(crate) fn id_in_form(
        &mut self,
        name: &str,
        form: Option<IdentityForm>,
    ) -> Result<FieldId, PlanError> {
        let field = self.id(name)?;
        let Some(form) = form.filter(|_| self.respellings[field].is_none()) else { return Ok(field) };
        let known = self.compared.iter().find(|(source, of, _)| (*source, *of) == (field, form));
        if let Some(&(_, _, id)) = known {
            return Ok(id);
        }
        let id = self.register(None, vec![FieldSource::Field(field)], None, Some(Respelling::Identity(form)));
        self.compared.push((field, form, id));
        Ok(id)
    }

    fn respelling(&mut self, name: &str) -> Option<Respelling> {
        if let Some(form) = self.identity(name) {
            return Some(Respelling::Identity(form));
        }
        let words = Arc::clone(self.actions.as_ref().filter(|_| name == "action")?);
        let scalars = CanonicalAction::ALL.map(|action| self.constant(action.word()));
        Some(Respelling::Action(words, scalars))
    }

    fn constant(&mut self, text: &str) -> Scalar {
        let start = self.constants.len() as u32;
        self.constants.push_str(text);
        let end = self.constants.len() as u32;
        Scalar { kind: ScalarKind::Text, origin: Origin::Constants, start, end }
    }

    /// Registers the source fields of a derived field.
    fn deriving(&mut self, name: &str, derivation: &Derivation) -> Result<Deriving, PlanError> {
        let fault = |problem: String| PlanError::in_field(PlanErrorKind::Derived, name, problem);
        let by = CompiledDerivation::compile(derivation, &self.zone, |source| self.identity(source))
            .map_err(fault)?;
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
                Source::Path(text) if text != name && self.derivations.contains_key(&text) => {
                    FieldSource::Field(self.id(&text)?)
                }
                Source::Path(text) => {
                    let path = Path::parse(&text)
                        .map_err(|problem| PlanError::in_field(PlanErrorKind::Path, name, problem))?;
                    self.place(path)
                }
                Source::Constant(text) => FieldSource::Constant(self.constant(&text)),
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
    pub(crate) fn reader(mut self) -> EventReader {
        let fields = self.places.len();
        let named = |wanted: &str| self.names.iter().position(|name| name.as_deref() == Some(wanted));
        let problem = named(PROBLEM);
        let access = named("action").zip(named("subject")).filter(|_| self.actions.is_some());
        let reasons = Reason::ALL.map(Reason::name).into_iter().chain([LATE]);
        let problems: Vec<Scalar> = reasons.map(|reason| self.constant(reason)).collect();
        let only_slot = |places: &Vec<FieldSource>| match places[..] {
            [FieldSource::Slot(slot)] => Some(slot),
            _ => None,
        };
        EventReader {
            extractor: Extractor::new(&self.paths),
            slots: self.places.iter().map(only_slot).collect(),
            places: self.places.into_iter().map(Vec::into_boxed_slice).collect(),
            derived: self.derived,
            respelled: (0..fields).filter(|&field| self.respellings[field].is_some()).collect(),
            respellings: self.respellings,
            constants: self.constants,
            scratch: String::new(),
            values: vec![Value::Absent; fields],
            written: vec![None; fields],
            skipped_nulls: 0,
            problem,
            problems: problems.into(),
            access,
            current_problem: None,
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
    respellings: Vec<Option<Respelling>>,
    /// The fields that have a respelling.
    respelled: Box<[FieldId]>,
    constants: String,
    scratch: String,
    values: Vec<Value>,
    /// Values as written of the fields whose normal form differs.
    written: Vec<Option<Value>>,
    /// Nulls that were skipped in lists of this record.
    skipped_nulls: u32,
    /// The field [`PROBLEM`], if a rule uses it, and its values by reason.
    problem: Option<FieldId>,
    problems: Box<[Scalar]>,
    /// The fields `action` and `subject`, if actions are mapped.
    access: Option<(FieldId, FieldId)>,
    /// The problem of the current record.
    current_problem: Option<Problem>,
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
        self.current_problem = None;
        Ok(self.resolve_all(record))
    }

    /// Reads a record with a problem: of a text that is not JSON, what looks like its fields.
    #[cold]
    pub(crate) fn read_with_problem<'a>(&'a mut self, record: &'a str, problem: Problem) -> Event<'a> {
        if self.extractor.read(record).is_err() {
            self.extractor.salvage(record);
        }
        self.current_problem = Some(problem);
        self.resolve_all(record)
    }

    #[inline]
    fn resolve_all<'a>(&'a mut self, record: &'a str) -> Event<'a> {
        self.scratch.clear();
        self.elements.clear();
        self.number += 1;
        let mut others = 0;
        for (value, &slot) in self.values.iter_mut().zip(&self.slots) {
            match slot.and_then(|slot| plain(self.extractor.token(slot))) {
                Some(scalar) => *value = Value::One(scalar),
                None => others += 1,
            }
        }
        if let Some(field) = self.problem {
            self.values[field] = self.problem_of_record();
            others -= 1;
        }
        self.skipped_nulls = 0;
        for at in 0..self.respelled.len() {
            let field = self.respelled[at];
            if self.slots[field].is_some_and(|slot| plain(self.extractor.token(slot)).is_some()) {
                self.respell(field, record);
            }
        }
        if others > 0 {
            self.resolve_others(record);
        }
        if let Some((action, subject)) = self.access {
            self.check_access(action, subject);
        }
        Event { record, reader: self }
    }

    /// Makes an action that is no access, such as a login, an unknown one if the event has a subject.
    #[inline]
    fn check_access(&mut self, action: FieldId, subject: FieldId) {
        let Some(Respelling::Action(_, words)) = &self.respellings[action] else { return };
        let (none, other) = (words[CanonicalAction::None as usize], words[CanonicalAction::Other as usize]);
        let is_none = matches!(self.values[action], Value::One(scalar) if scalar.is(none));
        if is_none && !self.scalars(&self.values[subject]).is_empty() {
            self.values[action] = Value::One(other);
        }
    }

    /// Value of the field [`PROBLEM`].
    fn problem_of_record(&self) -> Value {
        let scalar = self.current_problem.and_then(|problem| self.problems.get(problem.place()));
        scalar.map_or(Value::Absent, |&scalar| Value::One(scalar))
    }

    /// Replaces a value by its normal form.
    #[inline]
    fn respell(&mut self, field: FieldId, record: &str) {
        let value = self.values[field];
        self.written[field] = None;
        let Self { respellings, values, elements, scratch, constants, written, .. } = self;
        let Some(respelling) = &respellings[field] else { return };
        let mut normal = |scalar| respelling.normal(scalar, record, scratch, constants);
        match value {
            Value::One(scalar) => match normal(scalar) {
                Respelled::Same => {}
                Respelled::As(other) => {
                    (values[field], written[field]) = (Value::One(other), Some(value));
                }
                Respelled::Empty => (values[field], written[field]) = (Value::Absent, Some(value)),
            },
            Value::Many(first, end) if first == end && matches!(respelling, Respelling::Action(..)) => {
                if let Respelling::Action(_, words) = respelling {
                    let read = words[CanonicalAction::Read as usize];
                    (values[field], written[field]) = (Value::One(read), Some(value));
                }
            }
            Value::Many(first, end) => {
                // The normal forms and the values as written are two lists of equal length.
                let (mut all, mut kept, mut differs) = (Vec::new(), Vec::new(), false);
                for &scalar in &elements[first as usize..end as usize] {
                    let result = normal(scalar);
                    differs |= !matches!(result, Respelled::Same);
                    let form = match result {
                        Respelled::Same => scalar,
                        Respelled::As(other) => other,
                        Respelled::Empty => continue,
                    };
                    all.push(form);
                    kept.push(scalar);
                }
                if differs {
                    values[field] = append(elements, &all);
                    written[field] = Some(append(elements, &kept));
                }
            }
            Value::Absent | Value::Null | Value::Object => {
                if let Respelling::Action(_, words) = respelling {
                    let is_missing = !matches!(value, Value::Object);
                    let action = if is_missing { CanonicalAction::Read } else { CanonicalAction::Other };
                    (values[field], written[field]) = (Value::One(words[action as usize]), Some(value));
                }
            }
        }
    }

    #[inline]
    fn scalars<'v>(&'v self, value: &'v Value) -> &'v [Scalar] {
        match value {
            Value::One(scalar) => std::slice::from_ref(scalar),
            Value::Many(first, end) => &self.elements[*first as usize..*end as usize],
            Value::Absent | Value::Null | Value::Object => &[],
        }
    }

    /// Resolves the fields without a plain scalar, in the order of their ids.
    fn resolve_others(&mut self, record: &str) {
        for field in 0..self.places.len() {
            if Some(field) != self.problem
                && self.slots[field].and_then(|slot| plain(self.extractor.token(slot))).is_none()
            {
                self.values[field] = self.resolve(field, record);
                if self.respellings[field].is_some() {
                    self.respell(field, record);
                }
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
        match (by, &from[..]) {
            (CompiledDerivation::Written, &[source]) => {
                return self.written[source].unwrap_or(self.values[source]);
            }
            (CompiledDerivation::Split(separators), &[source]) => {
                let whole: SmallVec<[Scalar; 2]> = self.scalars(&self.values[source]).into();
                let first = self.elements.len();
                let texts = Buffers { record, scratch: &self.scratch, constants: &self.constants };
                self.elements.extend(whole.into_iter().flat_map(|scalar| parts(scalar, texts, separators)));
                return match self.elements.len() - first {
                    0 => Value::Absent,
                    1 => Value::One(self.elements[first]),
                    _ => Value::Many(first as u32, self.elements.len() as u32),
                };
            }
            _ => {}
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
            let slot = match &self.places[field][at] {
                FieldSource::Constant(scalar) => return Value::One(*scalar),
                FieldSource::Field(other) => match self.values[*other] {
                    Value::Absent => continue,
                    value => return value,
                },
                FieldSource::Slot(slot) => *slot,
            };
            let token = self.extractor.token(slot);
            match token {
                Token::Absent => {}
                Token::Null => found = Value::Null,
                Token::Object => return Value::Object,
                // A source that is not the last one may leave the field to the next by an empty text.
                Token::Text { start, end, .. } if start == end && at + 1 < self.places[field].len() => {
                    found = scalar(token, record, &mut self.scratch).map_or(Value::Absent, Value::One);
                }
                Token::Array { .. } | Token::Spread { .. } => {
                    let first = self.elements.len() as u32;
                    let Self { extractor, elements: list, scratch, ragged, skipped_nulls, .. } = self;
                    extractor.elements(record, slot, &mut |token| match scalar(token, record, scratch) {
                        Some(element) => list.push(element),
                        None if token == Token::Null => *skipped_nulls += 1,
                        None => ragged[field] = true,
                    });
                    let end = self.elements.len() as u32;
                    // An array of objects none of which has the value.
                    if first == end && matches!(token, Token::Spread { .. }) {
                        continue;
                    }
                    return Value::Many(first, end);
                }
                token => {
                    return scalar(token, record, &mut self.scratch).map_or(Value::Absent, Value::One);
                }
            }
        }
        found
    }
}

/// Appends scalars to the elements of lists, as one list.
fn append(elements: &mut Vec<Scalar>, list: &[Scalar]) -> Value {
    let first = elements.len() as u32;
    elements.extend_from_slice(list);
    Value::Many(first, elements.len() as u32)
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

/// The parts of a text between separators, without spaces around them and without empty ones.
fn parts<'b>(
    scalar: Scalar,
    texts: Buffers<'b>,
    separators: &'b [char],
) -> impl Iterator<Item = Scalar> + use<'b> {
    let text = texts.text(scalar);
    let place = |part: &'b str| (part.as_ptr() as usize - text.as_ptr() as usize) as u32;
    let pieces = text.split(separators).map(str::trim).filter(|part| !part.is_empty());
    pieces.map(move |part| {
        if part.len() == text.len() {
            return scalar;
        }
        let start = scalar.start + place(part);
        Scalar { kind: ScalarKind::Text, origin: scalar.origin, start, end: start + part.len() as u32 }
    })
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
        Token::Absent | Token::Null | Token::Array { .. } | Token::Spread { .. } | Token::Object => {
            return None;
        }
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
        self.reader.scalars(&self.reader.values[field])
    }

    /// Scalars of a field as written; those of [`Self::scalars`] are their normal forms, in the same order.
    #[inline]
    pub(crate) fn written(&self, field: FieldId) -> &[Scalar] {
        match &self.reader.written[field] {
            None => self.scalars(field),
            Some(value) => self.reader.scalars(value),
        }
    }

    /// The values as written of a field whose normal form differs; none if it does not.
    pub(crate) fn respelled(&self, field: FieldId) -> &[Scalar] {
        self.reader.written[field].as_ref().map_or(&[], |value| self.reader.scalars(value))
    }

    /// A scalar of a field as written; of an action, the canonical word.
    pub(crate) fn spelling(&self, field: FieldId, scalar: Scalar) -> &'a str {
        if let Some(Respelling::Action(..)) = self.reader.respellings[field] {
            return self.text(scalar);
        }
        let place = self.scalars(field).iter().position(|known| known.is(scalar));
        let written = place.and_then(|place| self.written(field).get(place));
        self.text(written.copied().unwrap_or(scalar))
    }

    /// Nulls that were skipped in lists.
    pub(crate) fn skipped_nulls(&self) -> u32 {
        self.reader.skipped_nulls
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

    /// Appends a field's value as written to `out`, as JSON that reads as the same value. Returns false if the field
    /// is absent.
    pub(crate) fn write(&self, field: FieldId, out: &mut Vec<u8>) -> bool {
        match self.reader.written[field].unwrap_or(self.value(field)) {
            Value::Absent => return false,
            Value::Null => out.extend_from_slice(b"null"),
            Value::Object => out.extend_from_slice(b"{}"),
            Value::One(scalar) => self.write_scalar(scalar, out),
            Value::Many(..) => {
                out.push(b'[');
                for (at, &scalar) in self.written(field).iter().enumerate() {
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
