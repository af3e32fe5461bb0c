//! The layout: which keyed streams a plan's rules need, and where in them each rule has its place.
//!
//! Rules that count what the openings of others' findings make follow these: each stream has a *level*, one above those it
//! follows, and streams are laid out and settled by level.

use crate::field::FieldTable;
use crate::keyed::{Grouping, Measure, OpeningMeasure, OpeningSpec, StreamSpec};
use crate::matcher::Matcher;
use crate::plan::{Branch, Condition, PlanError, RulePlan, SievePlan};
use crate::time::Micros;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// Conditions of rules, each once.
#[derive(Default)]
pub(crate) struct Conditions<'p> {
    known: Vec<&'p Condition>,
    pub(crate) compiled: Vec<Matcher>,
}

impl<'p> Conditions<'p> {
    /// The place of a condition of a rule.
    fn of(
        &mut self,
        condition: &'p Condition,
        rule: &str,
        fields: &mut FieldTable,
    ) -> Result<usize, PlanError> {
        if let Some(known) = self.known.iter().position(|&known| known == condition) {
            return Ok(known);
        }
        self.compiled.push(Matcher::compile(condition, rule, fields)?);
        self.known.push(condition);
        Ok(self.known.len() - 1)
    }
}

/// The streams of rules, each once.
#[derive(Debug)]
pub(crate) struct Layout {
    /// By level.
    pub(crate) streams: Arc<[StreamSpec]>,
    /// Which streams each level has.
    pub(crate) levels: Vec<Range<usize>>,
    /// Of each rule.
    pub(crate) placed: Vec<Place>,
    /// The rules whose openings others count.
    pub(crate) followed: Vec<usize>,
}

/// Where a rule has its place.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place {
    pub(crate) stream: usize,
    /// What it counts, among what its stream counts.
    pub(crate) counted: Option<usize>,
    /// Where its stream has the values that say who are peers.
    pub(crate) peers: Option<usize>,
}

/// Lays out the rules of a plan.
///
/// # Errors
/// A rule that cannot be run, or that follows one there is not, or itself.
pub(crate) fn lay_out<'p>(
    rules: &'p [RulePlan],
    conditions: &mut Conditions<'p>,
    fields: &mut FieldTable,
) -> Result<Layout, PlanError> {
    let following = Following::of(rules)?;
    let mut streams: Vec<StreamSpec> = Vec::new();
    let mut placed = vec![Place::default(); rules.len()];
    let mut levels = Vec::new();
    for level in 0..=following.levels.iter().copied().max().unwrap_or(0) {
        let first = streams.len();
        let on_level = rules.iter().enumerate().filter(|&(at, _)| following.levels[at] == level);
        for (at, rule) in on_level {
            rule.check()?;
            placed[at] = place(rule, &following, &mut streams, conditions, fields)?;
        }
        levels.push(first..streams.len());
    }
    Ok(Layout { streams: streams.into(), levels, placed, followed: following.followed() })
}

/// Which rules count the openings of which.
struct Following<'p> {
    rules: &'p [RulePlan],
    numbers: BTreeMap<&'p str, usize>,
    levels: Vec<usize>,
}

impl<'p> Following<'p> {
    fn of(rules: &'p [RulePlan]) -> Result<Self, PlanError> {
        let numbers: BTreeMap<&str, usize> =
            rules.iter().enumerate().map(|(at, rule)| (rule.id.as_str(), at)).collect();
        let mut levels = vec![0; rules.len()];
        // Levels only rise, and not above the number of rules unless some follow each other in a circle.
        let mut has_risen = true;
        while has_risen {
            has_risen = false;
            for (at, rule) in rules.iter().enumerate() {
                let fault = |problem: String| PlanError::Rule { rule: rule.id.clone(), problem };
                for id in rule.follows() {
                    let Some(&followed) = numbers.get(id) else {
                        return Err(fault(format!("it follows '{id}', which is not among the rules")));
                    };
                    if levels[at] <= levels[followed] {
                        levels[at] = levels[followed] + 1;
                        has_risen = true;
                    }
                    if levels[at] > rules.len() {
                        return Err(fault("it follows itself".to_owned()));
                    }
                }
            }
        }
        Ok(Self { rules, numbers, levels })
    }

    /// The numbers of the rules that others follow.
    fn followed(&self) -> Vec<usize> {
        let followed = self.rules.iter().flat_map(RulePlan::follows).filter_map(|id| self.numbers.get(id));
        followed.copied().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The number of the rule whose openings a branch is, and the rule; `None` for a branch of events.
    fn followed_by(&self, branch: &Branch) -> Option<(usize, &'p RulePlan)> {
        let Condition::Opened(id) = &branch.when else { return None };
        let number = *self.numbers.get(id.as_str())?;
        Some((number, &self.rules[number]))
    }

    /// How far behind the watermark the openings of rules come that `rule` follows: the length of a pane, on each level.
    fn delay(&self, rule: &RulePlan) -> Micros {
        let followed = rule.branches.iter().filter_map(|branch| self.followed_by(branch));
        let delays = followed.map(|(_, one)| one.resolution_ms as Micros * 1000 + self.delay(one));
        delays.max().unwrap_or(0)
    }
}

/// Gives a rule a place in a stream that is there, or in one of its own.
fn place<'p>(
    rule: &'p RulePlan,
    following: &Following<'p>,
    streams: &mut Vec<StreamSpec>,
    conditions: &mut Conditions<'p>,
    fields: &mut FieldTable,
) -> Result<Place, PlanError> {
    let condition = conditions.of(&rule.when, &rule.id, fields)?;
    let mut grouping = Grouping::default();
    let mut openings = Vec::new();
    for (part, branch) in rule.branches.iter().enumerate() {
        if let Some((number, followed)) = following.followed_by(branch) {
            openings.push(opening_spec(rule, branch, number, followed)?);
        } else {
            let condition = conditions.of(&branch.when, &rule.id, fields)?;
            let names = branch.group_by.iter().map(|name| fields.id(name));
            grouping.branches.push((part, condition, names.collect::<Result<Vec<_>, _>>()?));
        }
    }
    if rule.branches.is_empty() {
        grouping.fields = rule.group_by.iter().map(|name| fields.id(name)).collect::<Result<Vec<_>, _>>()?;
    }
    let sieve = rule.sieve.as_ref();
    let same = |spec: &StreamSpec| {
        let known = spec.sieve.as_ref().map(|(known, _)| known);
        (spec.condition, &spec.grouping, known) == (condition, &grouping, sieve)
            && spec.openings.iter().map(OpeningSpec::key).eq(openings.iter().map(OpeningSpec::key))
    };
    let stream = streams.iter().position(same).unwrap_or_else(|| {
        streams.push(StreamSpec {
            condition,
            grouping: grouping.clone(),
            openings: openings.clone(),
            delay: following.delay(rule),
            sieve: sieve.cloned().map(|sieve| (sieve, None)),
            counted: Vec::new(),
        });
        streams.len() - 1
    });
    let spec = &mut streams[stream];
    let parts = rule.parts.iter().map(|part| conditions.of(part, &rule.id, fields));
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    let counted = rule.counted_field().map(|name| fields.id(name)).transpose()?;
    let measure = match (counted, &rule.measure) {
        (Some(field), None) => Some(Measure::Values(field)),
        (Some(field), Some(_)) => Some(Measure::Amounts(field)),
        (None, Some(_)) => Some(Measure::Moment(parts)),
        (None, None) if parts.is_empty() => None,
        (None, None) => Some(Measure::Met(parts)),
    };
    let counted = measure.map(|measure| {
        let of_openings = rule.branches.iter().enumerate().filter_map(|(part, branch)| {
            let (_, followed) = following.followed_by(branch)?;
            Some(opening_measure(rule, &measure, part, branch, followed))
        });
        spec.count(measure.clone(), of_openings)
    });
    let mut values_of = |name: Option<&str>| {
        let field = name.map(|name| fields.id(name)).transpose()?;
        Ok(field.map(|field| spec.count(Measure::Values(field), std::iter::empty())))
    };
    let peers = values_of(rule.baseline.as_ref().and_then(|baseline| baseline.peers.as_deref()))?;
    let new = values_of(sieve.and_then(SievePlan::field))?;
    if let Some((_, field)) = &mut spec.sieve {
        *field = new;
    }
    Ok(Place { stream, counted, peers })
}

/// The openings of one rule as events of another.
fn opening_spec(
    rule: &RulePlan,
    branch: &Branch,
    number: usize,
    followed: &RulePlan,
) -> Result<OpeningSpec, PlanError> {
    let name = |wanted: &String| {
        followed.group_by.iter().position(|name| name == wanted).ok_or_else(|| PlanError::Rule {
            rule: rule.id.clone(),
            problem: format!("field '{wanted}': the findings of '{}' are not by it", followed.id),
        })
    };
    let group = branch.group_by.iter().map(name).collect::<Result<Vec<_>, _>>()?;
    Ok(OpeningSpec { rule: number, group, counted: Vec::new() })
}

/// What of the openings of a rule that is `followed` a measure counts.
fn opening_measure(
    rule: &RulePlan,
    measure: &Measure,
    part: usize,
    branch: &Branch,
    followed: &RulePlan,
) -> OpeningMeasure {
    let name = followed.group_by.iter().position(|name| Some(name.as_str()) == rule.counted_field());
    match (measure, name) {
        (Measure::Met(_), _) => OpeningMeasure::Part(part),
        (Measure::Moment(_), _) => OpeningMeasure::Bit(part),
        (Measure::Values(_), Some(at)) => OpeningMeasure::Name(at),
        (Measure::Amounts(_), Some(at)) => OpeningMeasure::Number(at),
        (Measure::Amounts(_), None) if rule.counted_field() == Some("peak") => OpeningMeasure::Peak,
        (Measure::Amounts(_), None) if rule.counted_field() == Some("points") => {
            OpeningMeasure::Points(branch.points)
        }
        (Measure::Values(_) | Measure::Amounts(_), None) => OpeningMeasure::Nothing,
    }
}
