//! A forwarded event reads the same at both ends, with any content of its fields.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use custodes_engine::{Change, Engine, Input, Outcome, Plan, RestoreError};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::num::NonZeroUsize;

/// Rules with every kind of test, each with another grouping.
fn rules() -> Value {
    let asked = [
        json!({"exists": true}),
        json!({"exists": false}),
        json!("null"),
        json!({"bool": true}),
        json!({"number": 7.0}),
        json!({"gte": 2.0}),
        json!({"text": {"parts": [{"literal": "a\"é\n"}, "any_run"]}}),
        json!({"regex": {"pattern": "^.{3,}$"}}),
    ];
    let fields = ["subject", "deep.down", "either", "fixed"];
    let mut rules = Vec::new();
    for (number, (field, test)) in
        fields.iter().flat_map(|field| asked.iter().map(move |test| (field, test))).enumerate()
    {
        let counted = [Value::Null, json!("deep.down")];
        let by = [json!(["actor"]), json!(["subject"]), json!([]), json!(["either", "actor"])];
        rules.push(json!({
            "id": format!("r{number}"), "when": {"field": {"name": field, "test": test}},
            "group_by": by[number % by.len()], "distinct": counted[number % counted.len()],
            "timespan_ms": 60_000, "resolution_ms": 1000, "keep_open_ms": 5000, "holds": {"gte": 1},
        }));
    }
    let part = |field: &str| json!({"field": {"name": field, "test": {"exists": true}}});
    let parts = [part("deep.down"), part("either"), part("subject")];
    rules.push(json!({
        "id": "parts", "when": {"any": parts}, "parts": parts, "group_by": ["actor"],
        "timespan_ms": 60_000, "resolution_ms": 1000, "keep_open_ms": 5000, "holds": {"gte": 2},
    }));
    Value::from(rules)
}

fn engine(parts: &Value) -> Engine {
    let mut plan = json!({
        "mapping": {"time": ["when"], "actor": ["who"], "subject": ["whom"], "either": ["a[0]", "b.c"],
                    "fixed": ["=a\"é\n constant"]},
        "fingerprint_key": "000102030405060708090a0b0c0d0e0f",
        "allowed_lateness_ms": 60_000,
        "rules": [],
    });
    plan.as_object_mut().unwrap().extend(parts.as_object().unwrap().clone());
    Engine::new(&Plan::from_json(&plan.to_string()).unwrap(), NonZeroUsize::MIN).unwrap()
}

/// All findings as sorted text.
fn findings(outcomes: impl IntoIterator<Item = Outcome>, engine: &mut Engine) -> Vec<String> {
    let mut changes: Vec<Change> = outcomes.into_iter().flat_map(|outcome| outcome.changes).collect();
    changes.extend(engine.updates());
    changes.extend(engine.finish().changes);
    let mut reported: Vec<_> = changes.iter().map(|change| format!("{change:?}")).collect();
    reported.sort_unstable();
    reported
}

fn value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        prop_oneof![Just(json!(7)), Just(json!(7.5)), Just(json!(-3)), Just(json!(1e30))],
        "[a-c\"\\\\/é\n\u{1}𝄞]{0,5}".prop_map(Value::from),
        Just(json!("a\"é\nb")),
    ];
    prop_oneof![
        scalar.clone(),
        prop::collection::vec(scalar, 0..4).prop_map(Value::from),
        Just(json!({"c": "a\"é\n"})),
        Just(json!([[1], {"x": 2}, "s"])),
    ]
}

fn subject() -> impl Strategy<Value = Value> {
    let one = prop_oneof![Just(json!("s")), Just(json!(7)), "[a\"é\n]{0,3}".prop_map(Value::from)];
    prop_oneof![one.clone(), prop::collection::vec(one, 0..4).prop_map(Value::from), Just(Value::Null)]
}

fn event() -> impl Strategy<Value = Value> {
    let actor = prop_oneof![Just(json!("p\"1")), Just(json!(42)), Just(json!("é"))];
    let time = prop_oneof![
        (0..30_i64).prop_map(|second| json!(1_767_600_000 + second)),
        (0..30_i64).prop_map(|second| json!((1_767_600_000 + second) * 1000)),
        (0..30_i64).prop_map(|second| json!(format!("2026-01-05T08:00:{second:02}.5+00:00"))),
    ];
    let fields = (time, actor, subject(), value(), value(), value());
    fields.prop_map(|(time, actor, subject, a, b, down)| {
        json!({"when": time, "who": actor, "whom": subject, "a": a, "b": b, "deep": {"down": down}})
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn findings_equal_those_of_one_engine(events in prop::collection::vec(event(), 1..30), shares in 1..4_u32) {
        let lines: Vec<String> = events.iter().map(Value::to_string).collect();
        let text = lines.join("\n");
        let mut alone = engine(&json!({"rules": rules()}));
        let outcome = alone.process_lines(text.as_bytes(), 1, Input::default());
        prop_assert_eq!(outcome.rejects.len(), 0);
        prop_assert_eq!(outcome.repartition_batches.len(), 0);
        let expected = findings([outcome], &mut alone);

        let mut reading = engine(&json!({"repartition": {"rules": rules(), "partitions": shares}}));
        let sent = reading.process_lines(text.as_bytes(), 1, Input::default());
        let mut found = Vec::new();
        for partition in 0..shares {
            let mut counting =
                engine(&json!({"rules": rules(), "share": {"partition": partition, "of": shares}}));
            let mine = sent.repartition_batches.iter().filter(|repartition_batch| repartition_batch.partition == partition);
            let outcomes: Vec<Outcome> = mine
                .map(|repartition_batch| counting.process_repartition_batch(&repartition_batch.bytes, 0, Input::default()).unwrap())
                .collect();
            for outcome in &outcomes {
                prop_assert_eq!(outcome.rejects.len(), 0);
            }
            found.append(&mut findings(outcomes, &mut counting));
        }
        found.sort_unstable();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn snapshot_with_another_fingerprint_key_is_rejected() {
    let saved = engine(&json!({})).save_frame();
    let other = json!({"mapping": {"time": ["when"], "actor": ["who"]}, "rules": [],
        "fingerprint_key": "ffffffffffffffffffffffffffffffff"});
    let other = Plan::from_json(&other.to_string()).unwrap();
    let error = Engine::restore(&other, NonZeroUsize::MIN, &saved, &[]).unwrap_err();
    assert_eq!(error, RestoreError::Key);
    for wrong in [json!({"fingerprint_key": "12"}), json!({"share": {"partition": 3, "of": 3}})] {
        let mut plan = json!({"mapping": {"time": ["when"], "actor": ["who"]}, "rules": []});
        plan.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        let plan = Plan::from_json(&plan.to_string()).unwrap();
        assert!(Engine::new(&plan, NonZeroUsize::MIN).is_err());
    }
}
