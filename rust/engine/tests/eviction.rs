//! Eviction when memory runs short, compared with a model of the policy.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use custodes_engine::{ChangeKind, Engine, Input, Outcome, Plan};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

const START: i64 = 1_767_600_000;
const SECOND: i64 = 1_000_000;
const SPAN: i64 = 60;

fn rule(id: &str, distinct: Option<&str>, holds: &Value) -> Value {
    json!({"id": id, "when": {"all": []}, "group_by": ["actor"], "distinct": distinct, "timespan_ms": SPAN * 1000,
           "resolution_ms": 1000, "keep_open_ms": 1000, "holds": holds})
}

fn plan(rules: &[Value]) -> Plan {
    let plan = json!({"mapping": {"time": ["time"], "actor": ["actor"], "subject": ["subject"]}, "rules": rules,
                      "allowed_lateness_ms": 0});
    Plan::from_json(&plan.to_string()).unwrap()
}

fn feed(engine: &mut Engine, second: i64, actor: u32, subject: u32) -> Outcome {
    let event = json!({"time": START + second, "actor": actor, "subject": subject}).to_string();
    engine.process_lines(event.as_bytes(), 1, Input::default())
}

fn restored(plan: &Plan, engine: &Engine) -> Engine {
    let parts: Vec<Vec<u8>> = (0..engine.parts()).map(|part| engine.save_part(part, &[]).concat()).collect();
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    Engine::restore(plan, NonZeroUsize::MIN, &engine.save_frame(), &parts).unwrap().0
}

/// State of a group in the model.
#[derive(Debug, Default, Clone)]
struct Group {
    /// Times of its events.
    events: Vec<i64>,
    /// Time at which each value was last seen.
    values: BTreeMap<u32, i64>,
    /// Last times of values that were evicted but still count.
    nameless: Vec<i64>,
}

impl Group {
    fn counts(&self, now: i64) -> [u64; 2] {
        let within = |times: &mut dyn Iterator<Item = i64>| times.filter(|&time| time + SPAN > now).count();
        let values = within(&mut self.values.values().copied()) + within(&mut self.nameless.iter().copied());
        [within(&mut self.events.iter().copied()) as u64, values as u64]
    }
}

proptest! {
    /// Events in order with occasional memory shortages: the counts equal those of the model, also after save and
    /// restore.
    #[test]
    fn counts_equal_those_of_the_model(
        steps in prop::collection::vec((0_i64..20, 0_u32..12, 0_u32..8), 1..300),
        shortages in prop::collection::btree_map(0_usize..300, (0_usize..100, any::<bool>()), 0..12),
        need in 1_u64..9,
    ) {
        let needs = [need, need.div_ceil(2)];
        let plan = plan(&[rule("events", None, &json!({"gte": needs[0]})),
                          rule("values", Some("subject"), &json!({"gte": needs[1]}))]);
        let mut engine = Engine::new(&plan, NonZeroUsize::MIN).unwrap();
        let mut groups: BTreeMap<u32, Group> = BTreeMap::new();
        let mut open: BTreeMap<String, (usize, String)> = BTreeMap::new();
        let mut now = 0;
        for (at, &(pause, actor, subject)) in steps.iter().enumerate() {
            now += pause;
            let outcome = feed(&mut engine, now, actor, subject);
            let group = groups.entry(actor).or_default();
            group.events.push(now);
            group.values.insert(subject, now);
            for change in outcome.changes {
                let key = (change.rule, change.group[0].clone());
                match change.kind {
                    ChangeKind::Opened => {
                        prop_assert_eq!(&change.group[0], &actor.to_string());
                        let count = group.counts(now)[change.rule];
                        prop_assert!(count >= needs[change.rule], "{count} of {needs:?} at {at}");
                        open.insert(change.id, key);
                    }
                    ChangeKind::Closed => drop(open.remove(&change.id)),
                    ChangeKind::Updated | ChangeKind::Merged => prop_assert!(false, "{:?}", change),
                }
            }
            let name = actor.to_string();
            for (rule, count) in group.counts(now).into_iter().enumerate() {
                let is_open = open.values().any(|key| *key == (rule, name.clone()));
                prop_assert!(is_open || count < needs[rule], "rule {} at {}: {:?}", rule, at, group);
            }
            let Some(&(percent, restore)) = shortages.get(&at) else { continue };
            if let Some(evict) = engine.evict(engine.used_bytes() * percent / 100) {
                let before = evict.before / SECOND - START;
                prop_assert!(before <= now);
                let is_forgotten = |name: u32, group: &Group| {
                    let close = group.counts(now).iter().zip(needs).any(|(count, need)| count * 2 > need);
                    let open = open.values().any(|(_, group)| *group == name.to_string());
                    group.events.iter().all(|&time| time < before) && !close && !open
                };
                let evicted: Vec<u32> =
                    groups.iter().filter(|(name, group)| is_forgotten(**name, group)).map(|(&name, _)| name).collect();
                let known = |group: &&Group| group.events.iter().any(|&time| time + SPAN >= now);
                let live = evicted.iter().map(|name| &groups[name]).filter(known).count();
                prop_assert!(evict.rules[0].groups >= live, "{evict:?} {evicted:?}");
                prop_assert!(evict.rules[0].groups <= evicted.len(), "{evict:?} {evicted:?}");
                prop_assert_eq!((evict.rules[0].values, evict.rules[0].groups), (0, evict.rules[1].groups));
                groups.retain(|name, _| !evicted.contains(name));
                for group in groups.values_mut() {
                    let old: Vec<u32> =
                        group.values.iter().filter(|(_, time)| **time < before).map(|(&value, _)| value).collect();
                    group.nameless.extend(old.iter().filter_map(|value| group.values.remove(value)));
                }
                if restore {
                    engine = restored(&plan, &engine);
                }
            }
        }
    }
}

/// A hundred thousand groups with one event each, and a few older groups close to their threshold.
#[test]
fn groups_close_to_their_threshold_outlive_a_flood_of_groups() {
    let plan = plan(&[rule("values", Some("subject"), &json!({"gte": 10}))]);
    let mut engine = Engine::new(&plan, NonZeroUsize::new(2).unwrap()).unwrap();
    for actor in 0..40 {
        for subject in 0..6 {
            feed(&mut engine, 0, actor, subject);
        }
    }
    let calm = engine.used_bytes();
    for second in 1..=50 {
        let events = (0..2000).map(|n| {
            let actor = 1000 + second * 2000 + n;
            json!({"time": START + second, "actor": actor, "subject": n}).to_string()
        });
        engine.process_lines(events.collect::<Vec<_>>().join("\n").as_bytes(), 1, Input::default());
    }
    let flood = engine.used_bytes();
    let most = flood / 3;
    assert!(calm < most);
    let evict = engine.evict(most).unwrap();
    assert!(engine.used_bytes() <= most, "{} of {most}", engine.used_bytes());
    assert!(engine.used_bytes() > most / 2, "no more was evicted than necessary");
    assert!(evict.rules[0].groups > 50_000, "{evict:?}");
    assert!(engine.stats().bytes >= engine.used_bytes());
    assert_eq!(engine.evict(most), None, "nothing more needs to be evicted");
    let mut opened = BTreeSet::new();
    for actor in 0..40 {
        for subject in 6..10 {
            let changes = feed(&mut engine, 51, actor, subject).changes;
            opened.extend(changes.into_iter().map(|change| change.group[0].clone()));
        }
    }
    assert_eq!(opened.len(), 40);
}

#[test]
fn groups_of_low_count_rules_are_not_evicted() {
    let plan = plan(&[rule("few", Some("subject"), &json!({"lte": 2}))]);
    let mut engine = Engine::new(&plan, NonZeroUsize::MIN).unwrap();
    for actor in 0..1000 {
        feed(&mut engine, i64::from(actor) / 20, actor, 1);
    }
    let evict = engine.evict(0).unwrap();
    assert_eq!((evict.rules[0].groups, evict.rules[0].values), (0, 0));
}

/// A thousand groups reach the threshold at once, a few of them several times over.
#[test]
fn flood_opens_findings_up_to_the_limit_and_for_outstanding_groups() {
    let mut rule = rule("events", None, &json!({"gte": 2}));
    rule["most_open"] = json!(100);
    let mut engine = Engine::new(&plan(&[rule]), NonZeroUsize::MIN).unwrap();
    let opened = |outcome: Outcome| -> Vec<String> {
        outcome
            .changes
            .into_iter()
            .filter(|c| c.kind == ChangeKind::Opened)
            .map(|c| c.group[0].clone())
            .collect()
    };
    let mut early = Vec::new();
    for actor in (0..1000).flat_map(|actor| [actor; 2]) {
        early.extend(opened(feed(&mut engine, 0, actor, 0)));
    }
    let stats = engine.stats().rules[0].clone();
    assert_eq!((stats.open_findings, stats.suppressed), (early.len(), 1000 - early.len()));
    assert!((75..=100).contains(&early.len()), "{}", early.len());
    let mut late = Vec::new();
    for actor in (900..950).flat_map(|actor| [actor; 2]) {
        late.extend(opened(feed(&mut engine, 1, actor, 0)));
    }
    let expected: Vec<String> =
        (900..950).map(|n| n.to_string()).filter(|name| !early.contains(name)).collect();
    assert_eq!(late, expected, "four events are twice the threshold");
    // All groups have left the window; no group is suppressed any more.
    let gone = feed(&mut engine, 500, 5000, 0);
    assert_eq!(
        gone.changes.iter().filter(|c| c.kind == ChangeKind::Closed).count(),
        early.len() + late.len()
    );
    let again: Vec<String> =
        (0..50).flat_map(|n| [n; 2]).flat_map(|n| opened(feed(&mut engine, 501, n, 0))).collect();
    assert_eq!(again.len(), 50);
    feed(&mut engine, 900, 5000, 0);
    feed(&mut engine, 1300, 5000, 0);
    assert_eq!(engine.stats().rules[0].suppressed, 0);
}

/// The memory of novelty filters is bounded as well: thousands of values, each new to one group.
#[test]
fn novelty_history_is_evicted_oldest_first() {
    let mut rule = rule("new", None, &json!({"gte": 1}));
    rule["sieve"] = json!({"new": {"field": "subject", "over_days": 9, "after_days": 2}});
    let mut engine = Engine::new(&plan(&[rule]), NonZeroUsize::MIN).unwrap();
    let day = 86_400;
    let opened = |outcome: Outcome| outcome.changes.iter().filter(|c| c.kind == ChangeKind::Opened).count();
    for subject in 0..20_000 {
        assert_eq!(opened(feed(&mut engine, 0, 1, subject)), 0, "nothing is new on the first days");
    }
    feed(&mut engine, 3 * day, 1, 7);
    assert!(engine.used_bytes() > 20_000 * 18);
    assert_eq!(engine.evict(100_000).unwrap().before, (START + 3 * day) * SECOND);
    assert!(engine.used_bytes() < 100_000);
    assert_eq!(opened(feed(&mut engine, 5 * day, 1, 7)), 0, "it was seen two days ago");
    assert_eq!(opened(feed(&mut engine, 5 * day + 1, 1, 8)), 1, "its history was evicted");
}
