//! Cost of each stage from bytes to findings: the engine with more and more stages, on one thread.
//!
//! The stages have no public interface, so the cost of each is the difference between two results: reading a record,
//! evaluating a condition, counting events, counting values. Decompression is measured for each of Kafka's codecs.

#![allow(clippy::unwrap_used)] // a failed step is a failed benchmark

#[path = "../tests/written/mod.rs"]
mod written;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use custodes_engine::{Engine, Fetched, Input, Plan};
use std::fmt::Write;
use std::hint::black_box;
use std::num::NonZeroUsize;
use written::{Batch, Written};

const EVENTS: u64 = 100_000;

/// Xorshift generator (Marsaglia 2003): the same events in every run.
struct Dice(u64);

impl Dice {
    /// A number below `over`; small numbers are more likely.
    fn skewed(&mut self, over: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let share = (self.0 >> 11) as f64 / (1_u64 << 53) as f64;
        (share * share * over as f64) as u64
    }
}

/// Events of the shape and size of `tests/bench/events.py`, a hundred per second.
fn events() -> Vec<String> {
    let mut dice = Dice(88_172_645_463_325_252);
    let event = |n| {
        let (actor, subject) = (dice.skewed(20_000), dice.skewed(500_000));
        let (minute, second, milli) = (n / 6000, n / 100 % 60, n % 100 * 10);
        let mut line = String::new();
        write!(
            line,
            r#"{{"time":"2026-01-05T{:02}:{:02}:{second:02}.{milli:03}Z","actor":"P{actor:05}","subject":"410105190101{subject:06}","resource":"person.identity","action":"read","peer_group":"traffic","purpose":"case-2026-{n:06}","client_ip":"10.1.2.3","app":"desk","count":1}}"#,
            8 + minute / 60,
            minute % 60,
        )
        .unwrap();
        line
    };
    (0..EVENTS).map(event).collect()
}

fn rule(action: &str, group_by: &str, minutes: u64, distinct: Option<&str>) -> String {
    let (timespan, resolution) = (minutes * 60_000, (minutes * 100).max(1000));
    let distinct = distinct.map(|field| format!(r#","distinct":"{field}""#)).unwrap_or_default();
    format!(
        r#"{{"id":"{group_by}{minutes}","when":{{"field":{{"name":"action","test":{{"text":{{"parts":[{{"literal":"{action}"}}]}}}}}}}},
            "group_by":["{group_by}"],"timespan_ms":{timespan},"resolution_ms":{resolution},"keep_open_ms":{timespan},
            "holds":{{"gte":1000000}}{distinct}}}"#
    )
}

fn engine(rules: &[String]) -> Engine {
    let fields =
        ["time", "actor", "subject", "resource", "action"].map(|name| format!(r#""{name}":["{name}"]"#));
    let plan = format!(r#"{{"mapping":{{{}}},"rules":[{}]}}"#, fields.join(","), rules.join(","));
    Engine::new(&Plan::from_json(&plan).unwrap(), NonZeroUsize::MIN).unwrap()
}

fn lines(criterion: &mut Criterion) {
    let text = events().join("\n");
    let per_actor = rule("read", "actor", 10, None);
    let subjects = rule("read", "actor", 60, Some("subject"));
    let actors = rule("read", "subject", 1440, Some("actor"));
    let mut group = criterion.benchmark_group("lines");
    group.throughput(Throughput::Elements(EVENTS)).sample_size(20);
    for (name, rules) in [
        ("read", vec![]),
        ("read and match", vec![rule("export", "actor", 10, None)]),
        ("count per actor", vec![per_actor.clone()]),
        ("distinct subjects per actor", vec![subjects.clone()]),
        ("distinct actors per subject", vec![actors.clone()]),
        ("all three", vec![per_actor, subjects, actors]),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || engine(&rules),
                |engine| black_box(engine.process_lines(text.as_bytes(), 1, Input::default()).events),
                BatchSize::LargeInput,
            );
        });
    }
}

fn record_batches(criterion: &mut Criterion) {
    let records: Vec<Written> = events()
        .into_iter()
        .enumerate()
        .map(|(n, event)| (n as i64, None, Some(event.into_bytes()), 0))
        .collect();
    let mut group = criterion.benchmark_group("record batches, read");
    group.throughput(Throughput::Elements(EVENTS)).sample_size(20);
    for (name, codec) in [("none", 0), ("gzip", 1), ("snappy", 2), ("lz4", 3), ("zstd", 4)] {
        let mut bytes = Vec::new();
        for records in records.chunks(4000) {
            let (base, last) = (records[0].0, records[records.len() - 1].0);
            Batch { codec, flags: 0, producer_id: -1, base, last, records }.write(&mut bytes);
        }
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || engine(&[]),
                |engine| {
                    let fetched = Fetched { bytes: &bytes, position: 0, aborted: None };
                    black_box(engine.process_fetched(fetched, Input::default()).events)
                },
                BatchSize::LargeInput,
            );
        });
    }
}

criterion_group!(stages, lines, record_batches);
criterion_main!(stages);
