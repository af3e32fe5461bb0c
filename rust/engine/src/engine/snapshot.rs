//! Snapshot format: the engine's state as a frame and parts that were saved at different moments.
//!
//! The *frame* has what all parts share: the fingerprint key, the stream clocks, and which rules there were. A *part*
//! is the state of one keyed stream in one shard. Each part is saved between two batches, and batches may be counted
//! between two parts, so the longest pause is one part. Every part is saved with its own source positions. After a
//! restore the source starts at the lowest of them, and each part skips the events before its position. (This is a
//! fuzzy checkpoint with a replayed log; Kafka is the log.)
//!
//! The plan may have changed since the save. A window's state is kept if its condition, grouping, counted field,
//! panes and field sources are unchanged or have further alternatives; a rule's open findings are kept if its threshold is unchanged too.
//! Everything else is reported in [`Dropped`].
//!
//! Compatibility: the texts in [`OperatorId`] are compared, so the serialised names of plan types must not change.

use crate::foundation::codec::{Damaged, StateReader, StateWriter};
use crate::keyed::{KeyedStream, OrphanedFinding, WindowMapping};
use crate::plan::{BaselinePlan, Derivation, IdentityForm, Plan, PlanError, RulePlan};
use serde_json::{Value, json};
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use thiserror::Error;

/// Version of the format that is written.
pub const VERSION: u16 = 5;
/// Oldest version that can be read, that of 0.1 and 0.2. Others are rejected, because misread state would miscount.
const OLDEST: u16 = 4;
/// Versions that can be read.
pub const READABLE: RangeInclusive<u16> = OLDEST..=VERSION;

/// State of a snapshot that the plan cannot use.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Ids of rules whose windows start empty or no longer exist.
    pub windows: BTreeSet<String>,
    /// Ids of rules whose open findings ended, because the rule changed or was removed.
    pub decisions: BTreeSet<String>,
    /// The findings that ended.
    pub orphans: Vec<OrphanedFinding>,
}

/// Why a snapshot cannot be restored.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RestoreError {
    /// The plan cannot be run.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The bytes are not those that were saved.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// The snapshot was saved by another version of the engine.
    #[error("the saved state has version {0}, this engine reads versions {OLDEST} to {VERSION}")]
    Version(u16),
    /// The fingerprints in the snapshot were made with another key than the plan's.
    #[error("the saved state has another fingerprint key than this group of workers")]
    Key,
}

impl RestoreError {
    /// Stable name of the kind, for callers in other languages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Plan(_) => "plan",
            Self::Damaged(_) => "damaged",
            Self::Version(_) => "version",
            Self::Key => "key",
        }
    }
}

/// Identity of a rule's state: state can be reused where these texts are equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OperatorId {
    id: String,
    stream: String,
    window: String,
    decision: String,
    /// Identity of the baseline days; empty for a rule without a baseline.
    days: String,
    resolution_ms: u64,
}

impl OperatorId {
    fn of(rule: &RulePlan, plan: &Plan) -> Self {
        let sources = |names: BTreeSet<&str>| -> Vec<_> {
            let names = with_sources(names, &plan.derived);
            (names.into_iter())
                .map(|name| (name.to_owned(), plan.mapping.get(name), plan.derived.get(name)))
                .collect()
        };
        // Other forms give other fingerprints. The default form is not named, as in states of earlier versions.
        let forms: BTreeMap<_, _> =
            plan.identities.iter().filter(|(_, form)| **form != IdentityForm::default()).collect();
        let kept = |baseline: &BaselinePlan| {
            json!([rule.id, baseline.of, baseline.over_days, baseline.peers]).to_string()
        };
        let counted = sources(rule.counted_field().into_iter().collect());
        let mut fields = rule.deciding_fields();
        fields.extend(["time", "actor"]);
        Self {
            id: rule.id.clone(),
            stream: if forms.is_empty() {
                json!([rule.when, rule.group_by, rule.branches, rule.novelty, sources(fields)])
            } else {
                json!([rule.when, rule.group_by, rule.branches, rule.novelty, sources(fields), forms])
            }
            .to_string(),
            window: if rule.parts.is_empty() {
                json!([rule.timespan_ms, rule.resolution_ms, rule.distinct, rule.measure, counted])
            } else {
                json!([rule.timespan_ms, rule.resolution_ms, rule.parts, rule.measure])
            }
            .to_string(),
            decision: json!([rule.id, rule.holds, rule.keep_open_ms, rule.baseline]).to_string(),
            days: rule.baseline.as_ref().map(kept).unwrap_or_default(),
            resolution_ms: rule.resolution_ms,
        }
    }

    fn save(&self, to: &mut StateWriter) {
        for text in [&self.id, &self.stream, &self.window, &self.decision, &self.days] {
            to.text(text);
        }
        to.u64(self.resolution_ms);
    }

    fn load(from: &mut StateReader<'_>) -> Result<Self, Damaged> {
        Ok(Self {
            id: from.text()?,
            stream: from.text()?,
            window: from.text()?,
            decision: from.text()?,
            days: from.text()?,
            resolution_ms: from.u64()?,
        })
    }
}

/// Identity of a stream or a window, with the sources of its fields apart.
struct SavedIdentity<'t> {
    text: &'t str,
    /// Everything but the sources. Read only if the texts differ.
    parts: OnceCell<Vec<Value>>,
}

/// Place of the sources in the text of a stream's or a window's identity.
const SOURCES: usize = 4;

impl<'t> SavedIdentity<'t> {
    fn of(text: &'t str) -> Self {
        Self { text, parts: OnceCell::new() }
    }

    fn parts(&self) -> &[Value] {
        self.parts.get_or_init(|| serde_json::from_str(self.text).unwrap_or_default())
    }

    /// Whether state saved under another identity can be used: the identities are equal, or a field now has further
    /// sources, which are read only in events that had no value before.
    fn goes_on_from(&self, saved: &Self) -> bool {
        if self.text == saved.text {
            return true;
        }
        let (now, before) = (self.parts(), saved.parts());
        now.len() == before.len()
            && now.len() > SOURCES
            && now.iter().zip(before).enumerate().all(|(at, (now, before))| {
                now == before || at == SOURCES && have_further_sources(now, before)
            })
    }
}

fn have_further_sources(now: &Value, before: &Value) -> bool {
    let (Some(now), Some(before)) = (now.as_array(), before.as_array()) else { return false };
    now.len() == before.len()
        && now.iter().zip(before).all(|(now, before)| {
            let same = now[0] == before[0] && now[2] == before[2];
            let own = json!([{"Path": before[0]}]);
            // A field that is not mapped is its own path.
            let listed = |field: &Value| field[1].as_array().or(own.as_array()).cloned();
            same && listed(now).zip(listed(before)).is_some_and(|(now, before)| now.starts_with(&before))
        })
}

/// Rules by keyed stream and window.
pub(crate) type StateLayout = Vec<Vec<Vec<OperatorId>>>;

/// Layout of a plan's rules in an engine's streams.
pub(crate) fn state_layout(plan: &Plan, streams: &[KeyedStream]) -> StateLayout {
    let identities: Vec<OperatorId> = plan.rules.iter().map(|rule| OperatorId::of(rule, plan)).collect();
    let of_window = |rules: Vec<usize>| rules.into_iter().map(|rule| identities[rule].clone()).collect();
    streams.iter().map(|stream| stream.rules().map(of_window).collect()).collect()
}

pub(crate) fn save_state_layout(state_layout: &StateLayout, to: &mut StateWriter) {
    to.list(state_layout.iter(), |to, windows| {
        to.list(windows.iter(), |to, rules| to.list(rules.iter(), |to, rule| rule.save(to)));
    });
}

pub(crate) fn load_state_layout(from: &mut StateReader<'_>) -> Result<StateLayout, Damaged> {
    from.list(8, |windows| windows.list(8, |rules| rules.list(8, OperatorId::load)))
}

/// Destination of one saved stream's state.
#[derive(Debug)]
pub(crate) struct StreamMapping {
    /// Index of the stream that inherits it.
    pub(crate) target: Option<usize>,
    pub(crate) windows: Vec<WindowMapping>,
}

/// Finds the destination of all saved state, and records in `dropped` what has none.
pub(crate) fn mappings(
    saved: &StateLayout,
    now: &StateLayout,
    deferred: &BTreeSet<&str>,
    dropped: &mut Dropped,
) -> Vec<StreamMapping> {
    let now: Vec<Candidate<'_>> = now.iter().map(|windows| Candidate::of(windows)).collect();
    let mappings: Vec<StreamMapping> =
        saved.iter().map(|windows| map_stream(windows, &now, deferred)).collect();
    for (windows, mapping) in saved.iter().zip(&mappings) {
        for (rules, mapping) in windows.iter().zip(&mapping.windows) {
            for (rule, kept) in rules.iter().zip(&mapping.detectors) {
                if mapping.place.is_none() {
                    dropped.windows.insert(rule.id.clone());
                }
                if kept.is_none() {
                    dropped.decisions.insert(rule.id.clone());
                }
            }
        }
    }
    mappings
}

/// Fields, and the fields that they are derived from.
fn with_sources<'n>(
    names: BTreeSet<&'n str>,
    derived: &'n BTreeMap<String, Derivation>,
) -> BTreeSet<&'n str> {
    let mut all = names.clone();
    let mut new: Vec<&str> = names.into_iter().collect();
    while let Some(name) = new.pop() {
        for source in derived.get(name).map_or(&[][..], |derivation| &derivation.from) {
            if all.insert(source) {
                new.push(source);
            }
        }
    }
    all
}

/// A stream of the plan, which may inherit state.
struct Candidate<'t> {
    windows: &'t [Vec<OperatorId>],
    stream: Option<SavedIdentity<'t>>,
    of_windows: Vec<Option<SavedIdentity<'t>>>,
}

impl<'t> Candidate<'t> {
    fn of(windows: &'t [Vec<OperatorId>]) -> Self {
        let of = |rules: &'t Vec<OperatorId>| rules.first().map(|rule| SavedIdentity::of(&rule.window));
        let stream = windows.first().and_then(|rules| rules.first());
        Self {
            windows,
            stream: stream.map(|rule| SavedIdentity::of(&rule.stream)),
            of_windows: windows.iter().map(of).collect(),
        }
    }
}

fn goes_on(now: Option<&SavedIdentity<'_>>, saved: Option<&SavedIdentity<'_>>) -> bool {
    match (now, saved) {
        (Some(now), Some(saved)) => now.goes_on_from(saved),
        (now, saved) => now.is_none() && saved.is_none(),
    }
}

fn map_stream(saved: &[Vec<OperatorId>], now: &[Candidate<'_>], deferred: &BTreeSet<&str>) -> StreamMapping {
    let of_saved = Candidate::of(saved);
    let inherits = |now: &Candidate<'_>| {
        !now.windows.is_empty() && goes_on(now.stream.as_ref(), of_saved.stream.as_ref())
    };
    let target = now.iter().position(inherits);
    let known: BTreeSet<&str> = saved.iter().flatten().map(|rule| rule.decision.as_str()).collect();
    // A rule evaluated at the watermark needs the names of all its groups, which can only be read from events. It
    // must have existed before.
    let can_be = |target: &usize| {
        let mut rules = now[*target].windows.iter().flatten();
        rules.all(|rule| !deferred.contains(rule.id.as_str()) || known.contains(rule.decision.as_str()))
    };
    let target = target.filter(can_be);
    let windows = saved.iter().zip(&of_saved.of_windows).map(|(rules, of_saved)| {
        let same = |now: &Option<SavedIdentity<'_>>| goes_on(now.as_ref(), of_saved.as_ref());
        let place = target.and_then(|target| now[target].of_windows.iter().position(same));
        let own = target.zip(place).map_or(&[][..], |(target, place)| &now[target].windows[place]);
        WindowMapping {
            resolution: rules.first().map_or(0, |rule| rule.resolution_ms as i64).saturating_mul(1000),
            place,
            detectors: (rules.iter())
                .map(|rule| own.iter().position(|own| own.decision == rule.decision))
                .collect(),
            days: (rules.iter())
                .map(|rule| own.iter().position(|own| own.days == rule.days && !rule.days.is_empty()))
                .collect(),
        }
    });
    StreamMapping { target, windows: windows.collect() }
}
