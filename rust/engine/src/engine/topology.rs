//! Topology: the keyed streams that a plan's rules need, and the place of each rule in them.
//!
//! Rules can count finding openings of other rules. A stream's *level* is one above the levels of the rules it
//! counts; streams are created and advanced by level, lowest first.

use crate::event::field::{FieldTable, PROBLEM};
use crate::foundation::time::Micros;
use crate::keyed::{Grouping, OpeningSpec, OpeningValueSource, StreamSpec, ValueSource};
use crate::matching::Matcher;
use crate::plan::{Branch, Condition, NoveltyPlan, PlanError, RulePlan};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// The distinct conditions of all rules.
#[derive(Default)]
pub(crate) struct Conditions<'p> {
    known: Vec<&'p Condition>,
    pub(crate) compiled: Vec<Matcher>,
    /// For each condition, whether it sees rejected records.
    pub(crate) of_rejected: Vec<bool>,
}

impl<'p> Conditions<'p> {
    /// Index of a condition, compiled on first use.
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
        self.of_rejected.push(condition.uses(PROBLEM));
        self.known.push(condition);
        Ok(self.known.len() - 1)
    }
}

/// The distinct keyed streams of a plan.
#[derive(Debug)]
pub(crate) struct Topology {
    /// Ordered by level.
    pub(crate) streams: Arc<[StreamSpec]>,
    /// Stream indices per level.
    pub(crate) levels: Vec<Range<usize>>,
    /// Place of each rule.
    pub(crate) slots: Vec<RuleSlot>,
    /// Rules whose openings other rules count.
    pub(crate) upstream: Vec<usize>,
}

/// Place of a rule.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RuleSlot {
    pub(crate) stream: usize,
    /// Index of its counted value source in the stream.
    pub(crate) counted: Option<usize>,
    /// Index of the value source that names the peer group.
    pub(crate) peers: Option<usize>,
}

/// Assigns the rules of a plan to streams.
///
/// # Errors
/// A rule is invalid, or counts a rule that does not exist, or itself.
pub(crate) fn build_topology<'p>(
    rules: &'p [RulePlan],
    conditions: &mut Conditions<'p>,
    fields: &mut FieldTable,
) -> Result<Topology, PlanError> {
    let graph = RuleGraph::of(rules)?;
    let mut streams: Vec<StreamSpec> = Vec::new();
    let mut slots = vec![RuleSlot::default(); rules.len()];
    let mut levels = Vec::new();
    for level in 0..=graph.levels.iter().copied().max().unwrap_or(0) {
        let first = streams.len();
        let on_level = rules.iter().enumerate().filter(|&(at, _)| graph.levels[at] == level);
        for (at, rule) in on_level {
            rule.check()?;
            if rule
                .group_by
                .iter()
                .chain(rule.branches.iter().flat_map(|branch| &branch.group_by))
                .any(|name| name == PROBLEM)
            {
                return Err(PlanError::in_rule_field(
                    &rule.id,
                    PROBLEM,
                    "a rule cannot group by it".to_owned(),
                ));
            }
            slots[at] = assign_slot(rule, &graph, &mut streams, conditions, fields)?;
        }
        levels.push(first..streams.len());
    }
    Ok(Topology { streams: streams.into(), levels, slots, upstream: graph.upstream() })
}

/// Graph of the rules that count openings of other rules.
struct RuleGraph<'p> {
    rules: &'p [RulePlan],
    numbers: BTreeMap<&'p str, usize>,
    levels: Vec<usize>,
}

impl<'p> RuleGraph<'p> {
    fn of(rules: &'p [RulePlan]) -> Result<Self, PlanError> {
        let numbers: BTreeMap<&str, usize> =
            rules.iter().enumerate().map(|(at, rule)| (rule.id.as_str(), at)).collect();
        let mut levels = vec![0; rules.len()];
        // Levels only rise. They exceed the number of rules only if rules count each other in a circle.
        let mut has_risen = true;
        while has_risen {
            has_risen = false;
            for (at, rule) in rules.iter().enumerate() {
                let fault = |problem: String| PlanError::in_rule(&rule.id, problem);
                for id in rule.upstream_rules() {
                    let Some(&upstream) = numbers.get(id) else {
                        return Err(fault(format!(
                            "it counts findings of '{id}', which is not among the rules"
                        )));
                    };
                    if levels[at] <= levels[upstream] {
                        levels[at] = levels[upstream] + 1;
                        has_risen = true;
                    }
                    if levels[at] > rules.len() {
                        return Err(fault("it counts its own findings".to_owned()));
                    }
                }
            }
        }
        Ok(Self { rules, numbers, levels })
    }

    /// Indices of the rules whose openings are counted.
    fn upstream(&self) -> Vec<usize> {
        let upstream =
            self.rules.iter().flat_map(RulePlan::upstream_rules).filter_map(|id| self.numbers.get(id));
        upstream.copied().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The rule whose openings a branch counts, with its index; `None` for a branch of events.
    fn upstream_of(&self, branch: &Branch) -> Option<(usize, &'p RulePlan)> {
        let Condition::Opened(id) = &branch.when else { return None };
        let number = *self.numbers.get(id.as_str())?;
        Some((number, &self.rules[number]))
    }

    /// Delay with which openings of upstream rules arrive: one pane per level.
    fn delay(&self, rule: &RulePlan) -> Micros {
        let upstream = rule.branches.iter().filter_map(|branch| self.upstream_of(branch));
        let delays = upstream.map(|(_, rule)| rule.resolution_ms as Micros * 1000 + self.delay(rule));
        delays.max().unwrap_or(0)
    }
}

/// Assigns a rule to an existing stream with the same events and groups, or to a new one.
fn assign_slot<'p>(
    rule: &'p RulePlan,
    graph: &RuleGraph<'p>,
    streams: &mut Vec<StreamSpec>,
    conditions: &mut Conditions<'p>,
    fields: &mut FieldTable,
) -> Result<RuleSlot, PlanError> {
    let condition = conditions.of(&rule.when, &rule.id, fields)?;
    let mut grouping = Grouping::default();
    let mut openings = Vec::new();
    for (part, branch) in rule.branches.iter().enumerate() {
        if let Some((number, upstream)) = graph.upstream_of(branch) {
            openings.push(opening_spec(rule, branch, number, upstream)?);
        } else {
            let condition = conditions.of(&branch.when, &rule.id, fields)?;
            let in_form = |(place, name): (usize, &String)| {
                let form = rule.group_form(place, |name| fields.identity(name));
                fields.id_in_form(name, form)
            };
            let group = branch.group_by.iter().enumerate().map(in_form).collect::<Result<Vec<_>, _>>()?;
            grouping.branches.push((part, condition, group));
        }
    }
    if rule.branches.is_empty() {
        grouping.fields = rule.group_by.iter().map(|name| fields.id(name)).collect::<Result<Vec<_>, _>>()?;
    }
    let novelty = rule.novelty.as_ref();
    let same = |spec: &StreamSpec| {
        let known = spec.novelty.as_ref().map(|(known, _)| known);
        (spec.condition, &spec.grouping, known) == (condition, &grouping, novelty)
            && spec.openings.iter().map(OpeningSpec::key).eq(openings.iter().map(OpeningSpec::key))
    };
    let stream = streams.iter().position(same).unwrap_or_else(|| {
        streams.push(StreamSpec {
            condition,
            grouping: grouping.clone(),
            openings: openings.clone(),
            delay: graph.delay(rule),
            novelty: novelty.cloned().map(|novelty| (novelty, None)),
            counted: Vec::new(),
        });
        streams.len() - 1
    });
    let spec = &mut streams[stream];
    let parts = rule.parts.iter().map(|part| conditions.of(part, &rule.id, fields));
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    let counted = rule.counted_field().map(|name| fields.id(name)).transpose()?;
    let measure = match (counted, &rule.measure) {
        (Some(field), None) => Some(ValueSource::Values(field)),
        (Some(field), Some(_)) => Some(ValueSource::Amounts(field)),
        (None, Some(_)) => Some(ValueSource::Moment(parts)),
        (None, None) if parts.is_empty() => None,
        (None, None) => Some(ValueSource::Met(parts)),
    };
    let counted = measure.map(|measure| {
        let of_openings = rule.branches.iter().enumerate().filter_map(|(part, branch)| {
            let (_, upstream) = graph.upstream_of(branch)?;
            Some(opening_measure(rule, &measure, part, branch, upstream))
        });
        spec.count(measure.clone(), of_openings)
    });
    let mut values_of = |name: Option<&str>| {
        let field = name.map(|name| fields.id(name)).transpose()?;
        Ok(field.map(|field| spec.count(ValueSource::Values(field), std::iter::empty())))
    };
    let peers = values_of(rule.baseline.as_ref().and_then(|baseline| baseline.peers.as_deref()))?;
    let new = values_of(novelty.and_then(NoveltyPlan::field))?;
    if let Some((_, field)) = &mut spec.novelty {
        *field = new;
    }
    Ok(RuleSlot { stream, counted, peers })
}

/// Openings of one rule as input of another.
fn opening_spec(
    rule: &RulePlan,
    branch: &Branch,
    number: usize,
    upstream: &RulePlan,
) -> Result<OpeningSpec, PlanError> {
    let name = |wanted: &String| {
        upstream.group_by.iter().position(|name| name == wanted).ok_or_else(|| {
            let problem = format!("the findings of '{}' are not grouped by it", upstream.id);
            PlanError::in_rule_field(&rule.id, wanted, problem)
        })
    };
    let group = branch.group_by.iter().map(name).collect::<Result<Vec<_>, _>>()?;
    Ok(OpeningSpec { rule: number, group, counted: Vec::new() })
}

/// The value of an `upstream` rule's openings that corresponds to a value source.
fn opening_measure(
    rule: &RulePlan,
    measure: &ValueSource,
    part: usize,
    branch: &Branch,
    upstream: &RulePlan,
) -> OpeningValueSource {
    let name = upstream.group_by.iter().position(|name| Some(name.as_str()) == rule.counted_field());
    match (measure, name) {
        (ValueSource::Met(_), _) => OpeningValueSource::Part(part),
        (ValueSource::Moment(_), _) => OpeningValueSource::Bit(part),
        (ValueSource::Values(_), Some(at)) => OpeningValueSource::Name(at),
        (ValueSource::Amounts(_), Some(at)) => OpeningValueSource::Number(at),
        (ValueSource::Amounts(_), None) if rule.counted_field() == Some("peak") => OpeningValueSource::Peak,
        (ValueSource::Amounts(_), None) if rule.counted_field() == Some("points") => {
            OpeningValueSource::Points(branch.points)
        }
        (ValueSource::Values(_) | ValueSource::Amounts(_), None) => OpeningValueSource::Nothing,
    }
}
