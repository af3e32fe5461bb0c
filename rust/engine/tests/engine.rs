//! The engine through its public interface: results of batches.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use custodes_engine::{Change, ChangeKind, Dropped, Engine, Input, Outcome, Plan, Reason, Record};
use proptest::prelude::*;
use std::num::NonZeroUsize;

const START: i64 = 1_767_600_000;

fn plan(rule: &str) -> Plan {
    let text = format!(
        r#"{{"mapping":{{"time":["time"],"actor":["actor"],"subject":["subject"]}},
            "rules":[{{"id":"r","when":{{"all":[]}},{rule}}}]}}"#
    );
    Plan::from_json(&text).unwrap()
}

const BULK: &str = r#""group_by":["actor"],"distinct":"subject","timespan_ms":60000,"resolution_ms":1000,
                      "keep_open_ms":5000,"holds":{"gte":3}"#;

fn event(second: i64, actor: &str, subject: &str) -> String {
    format!(r#"{{"time":{},"actor":"{actor}","subject":{subject}}}"#, START + second)
}

fn feed(engine: &mut Engine, events: &[String]) -> Outcome {
    engine.process_lines(events.join("\n").as_bytes(), 1, Input::default())
}

#[test]
fn every_kind_of_bad_record_has_its_reason_and_position() {
    let plan = Plan { max_record_bytes: 1000, ..plan(BULK) };
    let mut engine = Engine::new(&plan, NonZeroUsize::MIN).unwrap();
    let good = event(0, "a", "1");
    let long = format!(r#"{{"time":1767600000,"actor":"a","x":"{}"}}"#, "y".repeat(1000));
    let deep = format!(r#"{{"time":1767600000,"actor":"a","x":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
    let cases: Vec<(&[u8], Option<Reason>)> = vec![
        (good.as_bytes(), None),
        (b"", Some(Reason::Empty)),
        (long.as_bytes(), Some(Reason::TooLarge)),
        (b"{\"a\":\"\xff\"}", Some(Reason::NotUtf8)),
        (&good.as_bytes()[..20], Some(Reason::BadJson)),
        (b"{} {}", Some(Reason::BadJson)),
        (deep.as_bytes(), Some(Reason::TooDeep)),
        (b"[1]", Some(Reason::NotAnObject)),
        (br#"{"actor":"a"}"#, Some(Reason::MissingTime)),
        (br#"{"time":null,"actor":"a"}"#, Some(Reason::MissingTime)),
        (br#"{"time":"08:00","actor":"a"}"#, Some(Reason::BadTime)),
        (br#"{"time":"1970-01-01T00:00:00Z","actor":"a"}"#, Some(Reason::TimeTooOld)),
        (br#"{"time":-5,"actor":"a"}"#, Some(Reason::TimeTooOld)),
        (br#"{"time":"2099-01-01T00:00:00Z","actor":"a"}"#, Some(Reason::TimeInFuture)),
        (br#"{"time":1767600000}"#, Some(Reason::MissingActor)),
        (br#"{"time":1767600000,"actor":""}"#, Some(Reason::MissingActor)),
        (br#"{"time":1767600000,"actor":["a","b"]}"#, Some(Reason::WrongType)),
        (br#"{"time":true,"actor":"a"}"#, Some(Reason::WrongType)),
        (br#"{"time":1767600000,"actor":"a","subject":{"id":1}}"#, Some(Reason::WrongType)),
        (br#"{"time":1767600000,"actor":"a","subject":["s",{"id":1}]}"#, Some(Reason::WrongType)),
        (br#"{"time":1767600000,"actor":["a"]}"#, None),
        (br#"{"time":1767600000,"actor":"a","subject":["s",null,["t"]]}"#, None),
        (b"{\"time\":1767600000,\"actor\":\"a\",\"x\":\"\xff\"}", None),
        (br#"{"time":1767600000,"actor":"a","x":"\ud800"}"#, None),
        (br#"{"time":1767600000,"actor":17,"subject":[1,"s"]}"#, None),
    ];
    let records = cases.iter().enumerate().map(|(at, (value, _))| Record::new(100 + at as u64, value));
    let now = Some((START + 60) * 1_000_000);
    let outcome = engine.process(records, Input { stream: 0, now });
    let found: Vec<_> = outcome.rejects.iter().map(|r| (r.position, r.reason)).collect();
    assert!(outcome.rejects.iter().all(|r| *r.value == *cases[(r.position - 100) as usize].0));
    let expected: Vec<_> = (cases.iter().enumerate())
        .filter_map(|(at, (_, reason))| reason.map(|reason| (100 + at as u64, reason)))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(outcome.events, 6);
    assert_eq!((outcome.coverage.skipped_nulls, outcome.coverage.repaired), (1, 1));
    let named: std::collections::BTreeSet<_> = outcome.rejects.iter().map(|reject| reject.reason).collect();
    // Corrupt batches are tested in tests/record_batch.rs.
    assert_eq!(named.len(), Reason::ALL.len() - 1, "a reason without a case here");
}

#[test]
fn a_finding_opens_updates_and_closes() {
    let mut engine = Engine::new(&plan(BULK), NonZeroUsize::MIN).unwrap();
    let kinds = |outcome: &Outcome| outcome.changes.iter().map(|c| c.kind).collect::<Vec<_>>();
    assert_eq!(kinds(&feed(&mut engine, &[event(0, "a", "1"), event(1, "a", "2")])), []);
    let opened = feed(&mut engine, &[event(2, "a", "[2, 3]")]);
    assert_eq!(kinds(&opened), [ChangeKind::Opened]);
    assert_eq!(opened.changes[0].opened_at, (START + 2) * 1_000_000);
    assert_eq!(opened.changes[0].until, (START + 60) * 1_000_000);
    assert_eq!(kinds(&feed(&mut engine, &[event(3, "a", "4")])), [], "updates are reported on request");
    let updates = engine.updates();
    assert_eq!(
        updates.iter().map(|c| (c.kind, c.peak as u64)).collect::<Vec<_>>(),
        [(ChangeKind::Updated, 4)]
    );
    assert_eq!(engine.updates(), []);
    assert_eq!(kinds(&feed(&mut engine, &[event(60, "b", "1")])), []);
    let closed = feed(&mut engine, &[event(300, "b", "1")]);
    assert_eq!(kinds(&closed), [ChangeKind::Closed]);
    let Change { id, peak, count, closed_at, .. } = &closed.changes[0];
    assert_eq!((id, *peak as u64, *count), (&opened.changes[0].id, 4, 4));
    // Without 1, from second 60, three values are left; without 2, whose last event leaves at second 62, two.
    assert_eq!(*closed_at, Some((START + 62) * 1_000_000));
}

#[test]
fn out_of_order_event_can_merge_two_findings() {
    let rule = r#""group_by":["actor"],"timespan_ms":1000,"resolution_ms":1000,"keep_open_ms":1000,
                  "holds":{"gte":1}"#;
    let mut engine = Engine::new(&plan(rule), NonZeroUsize::MIN).unwrap();
    let opened = feed(&mut engine, &[event(0, "a", "1"), event(4, "a", "1")]);
    assert_eq!(opened.changes.len(), 2);
    let joined = feed(&mut engine, &[event(2, "a", "1")]);
    let kinds: Vec<_> = joined.changes.iter().map(|c| c.kind).collect();
    assert_eq!(kinds, [ChangeKind::Merged]);
    let updates = engine.updates();
    assert_eq!(joined.changes[0].merged_into.as_ref(), Some(&updates[0].id));
    assert_eq!(updates[0].count, 3);
}

/// Found by fuzzing: the first of three entries of the lateness buffer was removed before the other two, which
/// followed an entry of another group that is still needed.
#[test]
fn opening_behind_the_watermark_is_final() {
    let rule = r#""group_by":["actor"],"timespan_ms":5000,"resolution_ms":1000,"keep_open_ms":0,
                  "holds":{"gte":3}"#;
    let mut engine = Engine::new(&plan(rule), NonZeroUsize::MIN).unwrap();
    let at =
        |ms: i64, actor: &str| format!(r#"{{"time":{},"actor":"{actor}","subject":1}}"#, START * 1000 + ms);
    for (ms, actor) in
        [(90_170, "a"), (99_900, "x"), (90_030, "a"), (90_058, "a"), (100_500, "y"), (99_558, "a")]
    {
        for change in feed(&mut engine, &[at(ms, actor)]).changes {
            assert_eq!((change.kind, change.opened_at), (ChangeKind::Opened, START * 1_000_000 + 90_170_000));
        }
    }
    feed(&mut engine, &[at(93_362, "a")]);
    let updates = engine.updates();
    assert_eq!((updates[0].opened_at, updates[0].peak as u64), (START * 1_000_000 + 90_170_000, 4));
}

/// Found by fuzzing: the pending recomputation of a finding was lost when another finding absorbed it.
#[test]
fn merged_finding_keeps_its_peak() {
    let rule = r#""group_by":["actor"],"distinct":"subject","timespan_ms":1000,"resolution_ms":1000,
                  "keep_open_ms":11000,"holds":{"gte":1}"#;
    let mut engine = Engine::new(&plan(rule), NonZeroUsize::MIN).unwrap();
    let at = |&(ms, subject): &(i64, u8)| {
        format!(r#"{{"time":{},"actor":"a","subject":{subject}}}"#, START * 1000 + ms)
    };
    let events = [(10_000, 1), (30_000, 1), (31_000, 1), (32_000, 1), (31_500, 2), (22_500, 1)];
    let outcome = feed(&mut engine, &events.iter().map(at).collect::<Vec<_>>());
    let found: Vec<_> = outcome.changes.iter().map(|c| (c.kind, c.peak as u64, c.count)).collect();
    assert_eq!(found, [(ChangeKind::Opened, 2, 6)]);
}

#[test]
fn each_finding_is_reported_once_per_batch_also_after_a_merge() {
    let rule = r#""group_by":["actor"],"timespan_ms":1000,"resolution_ms":1000,"keep_open_ms":1000,
                  "holds":{"gte":1}"#;
    let mut engine = Engine::new(&plan(rule), NonZeroUsize::MIN).unwrap();
    // The finding at 4 is merged into the one at 0 before it was reported; the one at 9 is separate.
    let seconds = [0, 4, 2, 9].map(|second| event(second, "a", "1"));
    let outcome = feed(&mut engine, &seconds);
    let found: Vec<_> = outcome.changes.iter().map(|c| (c.kind, c.from / 1_000_000 - START)).collect();
    assert_eq!(found, [(ChangeKind::Opened, 0), (ChangeKind::Opened, 9)]);
}

#[test]
fn invalid_plans_are_rejected_with_the_reason() {
    for (rule, wanted) in [
        (
            r#""group_by":["a..b"],"timespan_ms":1000,"resolution_ms":1000,"keep_open_ms":0,"holds":{"gte":1}"#,
            "path",
        ),
        (
            r#""group_by":[],"timespan_ms":1500,"resolution_ms":1000,"keep_open_ms":0,"holds":{"gte":1}"#,
            "divide",
        ),
        (
            r#""group_by":[],"timespan_ms":900,"resolution_ms":300,"keep_open_ms":0,"holds":{"gte":1}"#,
            "at least 1 s",
        ),
    ] {
        let error = Engine::new(&plan(rule), NonZeroUsize::MIN).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    let no_actor = Plan::from_json(r#"{"mapping":{"time":["t"]},"rules":[]}"#).unwrap();
    assert!(Engine::new(&no_actor, NonZeroUsize::MIN).unwrap_err().to_string().contains("'actor'"));
    assert!(Plan::from_json(r#"{"mapping":{},"rules":[],"typo":1}"#).is_err());
}

/// Group, opened at, closed at, peak, count.
type Final = (Vec<String>, i64, Option<i64>, u64, u64);

/// Final state of every finding, without the id, which depends on the first reported pane.
fn finals(events: &[(i64, u8, u8)], cuts: &[usize], rule: &str) -> Vec<Final> {
    let mut engine = Engine::new(&plan(rule), NonZeroUsize::MIN).unwrap();
    let mut found = Vec::new();
    let mut start = 0;
    for end in cuts.iter().map(|&cut| cut.min(events.len())).chain([events.len()]) {
        if end > start {
            let batch: Vec<String> = (events[start..end].iter())
                .map(|&(ms, actor, subject)| {
                    format!(r#"{{"time":{},"actor":"{actor}","subject":{subject}}}"#, START * 1000 + ms)
                })
                .collect();
            found.extend(feed(&mut engine, &batch).changes);
            start = end;
        }
    }
    found.extend(engine.finish().changes);
    let mut closed: Vec<_> = (found.into_iter())
        .filter(|change| change.kind == ChangeKind::Closed)
        .map(|c| (c.group, c.opened_at, c.closed_at, c.peak as u64, c.count))
        .collect();
    closed.sort();
    closed
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Findings do not depend on the order within the lateness or on batch boundaries.
    #[test]
    fn findings_do_not_depend_on_order_or_batches(
        mut events in prop::collection::vec((0i64..90_000, 0u8..3, 0u8..5), 1..80),
        delays in prop::collection::vec(0i64..10_000, 80),
        cuts in prop::collection::btree_set(0usize..80, 0..5),
        distinct in any::<bool>(), need in 1u64..6, panes in 1u64..30, keep in 0u64..40,
    ) {
        let field = if distinct { r#""distinct":"subject","# } else { "" };
        let rule = format!(
            r#""group_by":["actor"],{field}"timespan_ms":{},"resolution_ms":1000,"keep_open_ms":{},
               "holds":{{"gte":{need}}}"#, panes * 1000, keep * 1000);
        events.sort_by_key(|event| event.0);
        let sorted = finals(&events, &[], &rule);
        let mut arriving: Vec<_> = events.iter().zip(&delays).map(|(&e, delay)| (e.0 + delay, e)).collect();
        arriving.sort_by_key(|&(at, _)| at);
        let arriving: Vec<_> = arriving.into_iter().map(|(_, event)| event).collect();
        let cuts: Vec<_> = cuts.into_iter().collect();
        prop_assert_eq!(finals(&arriving, &cuts, &rule), sorted);
    }
}

#[test]
fn a_field_with_further_sources_keeps_its_counts() {
    let plan = |sources: &str| {
        Plan::from_json(&format!(
            r#"{{"mapping":{{"time":["time"],"actor":["actor"]{sources}}},"rules":[{{"id":"r","when":{{"all":[]}},
                 "group_by":["who"],"distinct":"rows","timespan_ms":3600000,"resolution_ms":60000,
                 "keep_open_ms":60000,"holds":{{"gte":2}}}}]}}"#
        ))
        .unwrap()
    };
    let lines = "{\"time\":1767600000,\"actor\":\"a\",\"who\":\"w\",\"rows\":1}\n";
    let later = "{\"time\":1767600001,\"actor\":\"a\",\"user\":\"w\",\"count\":2}\n";
    let mut engine = Engine::new(&plan(""), NonZeroUsize::MIN).unwrap();
    engine.process_lines(lines.as_bytes(), 1, Input::default());
    let changed = plan(r#","who":["who","user"],"rows":["rows","count"]"#);
    let (mut after, dropped) = engine.replanned(&changed, NonZeroUsize::MIN, &[]).unwrap();
    assert_eq!(dropped, Dropped::default());
    let outcome = after.process_lines(later.as_bytes(), 2, Input::default());
    assert_eq!(outcome.changes.len(), 1);
    let other = plan(r#","who":["user","who"],"rows":["rows","count"]"#);
    let (_, dropped) = engine.replanned(&other, NonZeroUsize::MIN, &[]).unwrap();
    assert_eq!(dropped.windows.into_iter().collect::<Vec<_>>(), ["r"]);
}

#[test]
fn a_text_that_joins_ids_is_split() {
    let plan = Plan::from_json(
        r#"{"mapping":{"time":["time"],"actor":["actor"]},"identities":{"subject":{}},
            "derived":{"subject":{"from":["ids"],"by":{"split":",;|"}}},"rules":[
            {"id":"r","when":{"all":[]},"group_by":["subject"],"timespan_ms":3600000,"resolution_ms":60000,
             "keep_open_ms":60000,"holds":{"gte":1}}]}"#,
    )
    .unwrap();
    for (ids, expected) in [
        (r#""a, b;c""#, &["A", "B", "C"][..]),
        (r#""a""#, &["A"]),
        (r#"" ; ,""#, &[]),
        (r#"["1|2","\u00e9\t,",3,null]"#, &["1", "2", "3", "É"]),
        ("12", &["12"]),
        (r#"{"a":1}"#, &[]),
    ] {
        let mut engine = Engine::new(&plan, NonZeroUsize::MIN).unwrap();
        let event = format!("{{\"time\":1767600000,\"actor\":\"a\",\"ids\":{ids}}}\n");
        let outcome = engine.process_lines(event.as_bytes(), 1, Input::default());
        assert_eq!(
            outcome.rejects.iter().map(|reject| &*reject.detail).collect::<Vec<_>>(),
            [""; 0],
            "{ids}"
        );
        let mut found: Vec<_> = outcome.changes.iter().map(|change| &*change.key[0]).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{ids}");
    }
    assert!(
        Plan::from_json(r#"{"mapping":{},"derived":{"x":{"from":["y"],"by":{"split":1}}},"rules":[]}"#)
            .is_err()
    );
}
