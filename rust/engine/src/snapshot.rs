//! Snapshots: the engine's state as bytes, in parts that need not be of one moment.
//!
//! A *frame* has what all parts share: the fingerprints' key, the streams' clocks and which rules there were. A *part* is
//! one shard's share of one keyed stream. Each part is saved between two batches, and batches may be counted between
//! two parts, so that no pause is longer than one part takes. What makes a whole of them is that every part comes
//! with its own positions: after a restart the source begins at the lowest, and an event counts in a part only if it lies at or
//! behind that part's position. (The idea is that of fuzzy checkpoints with a log to replay: Kafka is the log.)
//!
//! The plan may have changed in between. A window is taken over if its condition, groups, counted field and panes are the
//! same and read from the same places; a rule's open findings if, besides, its threshold is. What is not is named.

use crate::codec::{Damaged, Reader, Writer};
use crate::derive::Derivation;
use crate::keyed::{KeyedStream, Orphan, WindowFate};
use crate::plan::{BaselinePlan, Plan, PlanError, RulePlan};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// The version of the bytes. Other versions are refused: a snapshot that is misread would miscount.
pub const VERSION: u16 = 4;

/// What of a snapshot was not taken over.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Ids of rules whose windows begin empty or are gone.
    pub windows: BTreeSet<String>,
    /// Ids of rules whose open findings ended, because the rule is another or gone.
    pub decisions: BTreeSet<String>,
    /// Those findings.
    pub orphans: Vec<Orphan>,
}

/// Why a snapshot cannot be restored.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RestoreError {
    /// The plan itself cannot be run.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The bytes are not what was saved.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// Saved by another version of the engine.
    #[error("the saved state has version {0}, this engine reads version {VERSION}")]
    Version(u16),
}

/// What makes a rule's windows and decisions what they are: equal texts, equal state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    id: String,
    stream: String,
    window: String,
    decision: String,
    /// Whose days it can go on with; empty for a rule without a baseline.
    days: String,
    resolution_ms: u64,
}

impl Identity {
    fn of(rule: &RulePlan, plan: &Plan) -> Self {
        let sources = |names: BTreeSet<&str>| -> Vec<_> {
            let names = with_sources(names, &plan.derived);
            (names.into_iter())
                .map(|name| (name.to_owned(), plan.mapping.get(name), plan.derived.get(name)))
                .collect()
        };
        let kept = |baseline: &BaselinePlan| {
            json!([rule.id, baseline.of, baseline.over_days, baseline.peers]).to_string()
        };
        let counted = sources(rule.counted_field().into_iter().collect());
        let mut fields = rule.deciding_fields();
        fields.extend(["time", "actor"]);
        Self {
            id: rule.id.clone(),
            stream: json!([rule.when, rule.group_by, rule.branches, rule.sieve, sources(fields)]).to_string(),
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

    fn save(&self, to: &mut Writer) {
        for text in [&self.id, &self.stream, &self.window, &self.decision, &self.days] {
            to.text(text);
        }
        to.u64(self.resolution_ms);
    }

    fn load(from: &mut Reader<'_>) -> Result<Self, Damaged> {
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

/// By keyed stream, by window: the rules that decide by it.
pub(crate) type Arrangement = Vec<Vec<Vec<Identity>>>;

/// How a plan's rules are arranged in streams of an engine.
pub(crate) fn arrangement(plan: &Plan, streams: &[KeyedStream]) -> Arrangement {
    let identities: Vec<Identity> = plan.rules.iter().map(|rule| Identity::of(rule, plan)).collect();
    let of_window = |rules: Vec<usize>| rules.into_iter().map(|rule| identities[rule].clone()).collect();
    streams.iter().map(|stream| stream.rules().map(of_window).collect()).collect()
}

pub(crate) fn save_arrangement(arrangement: &Arrangement, to: &mut Writer) {
    to.list(arrangement.iter(), |to, windows| {
        to.list(windows.iter(), |to, rules| to.list(rules.iter(), |to, rule| rule.save(to)));
    });
}

pub(crate) fn load_arrangement(from: &mut Reader<'_>) -> Result<Arrangement, Damaged> {
    from.list(8, |windows| windows.list(8, |rules| rules.list(8, Identity::load)))
}

/// What becomes of a saved stream.
#[derive(Debug)]
pub(crate) struct StreamFate {
    /// The stream that takes it over.
    pub(crate) heir: Option<usize>,
    pub(crate) windows: Vec<WindowFate>,
}

/// Finds for all that was saved who takes it over, and notes what nobody does.
pub(crate) fn fates(
    saved: &Arrangement,
    now: &Arrangement,
    judging: &BTreeSet<&str>,
    dropped: &mut Dropped,
) -> Vec<StreamFate> {
    let fates: Vec<StreamFate> = saved.iter().map(|windows| stream_fate(windows, now, judging)).collect();
    for (windows, fate) in saved.iter().zip(&fates) {
        for (rules, fate) in windows.iter().zip(&fate.windows) {
            for (rule, kept) in rules.iter().zip(&fate.detectors) {
                if fate.place.is_none() {
                    dropped.windows.insert(rule.id.clone());
                }
                if kept.is_none() {
                    dropped.decisions.insert(rule.id.clone());
                }
            }
        }
    }
    fates
}

/// Fields, and those they are derived from.
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

fn stream_fate(saved: &[Vec<Identity>], now: &Arrangement, judging: &BTreeSet<&str>) -> StreamFate {
    let stream = |windows: &[Vec<Identity>]| windows.first()?.first().map(|rule| rule.stream.clone());
    let heir = now.iter().position(|windows| stream(windows) == stream(saved) && !windows.is_empty());
    let known: BTreeSet<&str> = saved.iter().flatten().map(|rule| rule.decision.as_str()).collect();
    // A condition that is judged at the watermark needs the names of all its groups, which only their events tell.
    let can_be = |heir: &usize| {
        let mut rules = now[*heir].iter().flatten();
        rules.all(|rule| !judging.contains(rule.id.as_str()) || known.contains(rule.decision.as_str()))
    };
    let heir = heir.filter(can_be);
    let windows = saved.iter().map(|rules| {
        let same = |window: &Vec<Identity>| {
            window.first().map(|rule| &rule.window) == rules.first().map(|rule| &rule.window)
        };
        let place = heir.and_then(|heir| now[heir].iter().position(same));
        let own = heir.zip(place).map_or(&[][..], |(heir, place)| &now[heir][place]);
        WindowFate {
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
    StreamFate { heir, windows: windows.collect() }
}

/// From where on the events of one stream count in each part.
#[derive(Debug)]
pub(crate) struct Resume {
    /// By shard and keyed stream.
    from: Vec<Vec<u64>>,
    highest: u64,
}

impl Resume {
    pub(crate) fn new(from: Vec<Vec<u64>>) -> Self {
        Self { highest: from.iter().flatten().copied().max().unwrap_or(0), from }
    }

    /// Whether every part counts what lies at `position` and behind.
    pub(crate) fn is_over(&self, position: u64) -> bool {
        position >= self.highest
    }

    /// The position of the first event that counts in a part.
    #[inline]
    pub(crate) fn from(&self, shard: usize, stream: usize) -> u64 {
        self.from[shard][stream]
    }
}
