//! Identities and actions in any spelling, rejected records, and what rules saw of the input.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use custodes_engine::{Change, Engine, Input, Outcome, Plan};
use std::num::NonZeroUsize;

const START: i64 = 1_767_600_000;

fn plan(rules: &str) -> Plan {
    Plan::from_json(&format!(
        r#"{{"mapping":{{"time":["time"],"actor":["actor"],"subject":["subject"],"action":["action"]}},
             "identities":{{"actor":{{}},"subject":{{"separators":"remove"}}}},
             "actions":{{"select":"read","login":"none","kopieren":"export"}},
             "allowed_lateness_ms":10000,"rules":[{rules}]}}"#
    ))
    .unwrap()
}

fn rule(id: &str, when: &str, group: &str, extra: &str) -> String {
    format!(
        r#"{{"id":"{id}","when":{when},"group_by":["{group}"],"timespan_ms":3600000,"resolution_ms":60000,
             "keep_open_ms":60000,{extra}}}"#
    )
}

const ANY: &str = r#"{"all":[]}"#;

fn is(field: &str, text: &str) -> String {
    format!(r#"{{"field":{{"name":"{field}","test":{{"text":{{"parts":[{{"literal":"{text}"}}]}}}}}}}}"#)
}

fn events(fields: &[&str]) -> String {
    let line = |(at, fields): (usize, &&str)| format!("{{\"time\":{},{fields}}}\n", START + at as i64);
    fields.iter().enumerate().map(line).collect()
}

fn run(rules: &[String], fields: &[&str]) -> (Engine, Outcome) {
    let mut engine = Engine::new(&plan(&rules.join(",")), NonZeroUsize::MIN).unwrap();
    let outcome = engine.process_lines(events(fields).as_bytes(), 1, Input::default());
    (engine, outcome)
}

fn groups(outcome: &Outcome) -> Vec<(&[String], &[String])> {
    outcome.changes.iter().map(|Change { group, key, .. }| (&group[..], &key[..])).collect()
}

#[test]
fn one_actor_in_many_spellings_is_one_group_with_the_spelling_of_the_opening() {
    let spellings = [
        r#""actor":"Anna""#,
        r#""actor":"ANNA ""#,
        r#""actor":"\u200banna""#,
        r#""actor":"ａｎｎａ""#,
        r#""actor":["anna"]"#,
    ];
    let (mut engine, outcome) = run(&[rule("r", ANY, "actor", r#""holds":{"gte":5}"#)], &spellings);
    assert_eq!(groups(&outcome), [(&["anna".to_owned()][..], &["ANNA".to_owned()][..])]);
    let status = engine.group_status(0, &["aNNa".to_owned()], (START + 5) * 1_000_000).unwrap();
    assert!((status.level - 5.0).abs() < f64::EPSILON);
}

#[test]
fn one_subject_in_many_spellings_counts_once() {
    let subjects = [
        r#""actor":"a","subject":"410105-1990""#,
        r#""actor":"a","subject":4101051990"#,
        r#""actor":"a","subject":4101051990.0"#,
        r#""actor":"a","subject":[" 410105 1990", "x1", "X1", ""]"#,
    ];
    let distinct = |gte: u8| format!(r#""distinct":"subject","holds":{{"gte":{gte}}}"#);
    let rules = [rule("two", ANY, "actor", &distinct(2)), rule("three", ANY, "actor", &distinct(3))];
    let (_, outcome) = run(&rules, &subjects);
    assert_eq!(outcome.changes.iter().map(|change| change.rule).collect::<Vec<_>>(), [0]);
}

#[test]
fn a_literal_is_compared_in_normal_form_and_as_written() {
    let once = r#""holds":{"gte":1}"#;
    let rules = [
        rule("normal", &is("actor", "ＡＮＮＡ"), "actor", once),
        rule(
            "number",
            r#"{"field":{"name":"subject","test":{"number":410105199001011234}}}"#,
            "subject",
            once,
        ),
        rule("canonical", &is("action", "read"), "action", once),
        rule("own word", &is("action", "approve"), "subject", once),
        rule("other", &is("action", "other"), "subject", once),
        rule("not read", &format!(r#"{{"not":{}}}"#, is("action", "read")), "subject", once),
    ];
    let fields = [
        r#""actor":"anna","subject":"410105199001011264","action":"SELECT""#,
        r#""actor":"b","subject":"410105199001011234","action":"approve""#,
        r#""actor":"c","subject":"1""#,
        r#""actor":"d","action":"Login""#,
    ];
    let (_, outcome) = run(&rules, &fields);
    let mut found: Vec<_> = outcome.changes.iter().map(|change| (change.rule, &*change.group[0])).collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            (0, "anna"),
            (1, "410105199001011234"),
            (2, "read"),
            (3, "410105199001011234"),
            (4, "410105199001011234"),
            (5, "410105199001011234"),
        ]
    );
    assert_eq!((outcome.coverage.no_access, outcome.coverage.unmatched), (1, 0));
}

#[test]
fn events_without_a_rule_are_counted_as_unmatched() {
    let rules = [rule("r", &is("action", "export"), "actor", r#""holds":{"gte":1}"#)];
    let fields = [r#""actor":"a""#, r#""actor":"a","action":"kopieren""#, r#""actor":"a","action":"login""#];
    let (_, outcome) = run(&rules, &fields);
    assert_eq!((outcome.events, outcome.coverage.unmatched, outcome.coverage.no_access), (3, 1, 1));
    assert_eq!(outcome.changes.len(), 1);
}

#[test]
fn rejected_records_are_counted_by_the_actor_that_can_be_read() {
    let exists = r#"{"field":{"name":"problem","test":{"exists":true}}}"#;
    let rules = [
        rule("rejected", exists, "actor", r#""holds":{"gte":4}"#),
        rule("all", ANY, "actor", r#""holds":{"gte":2}"#),
    ];
    let mut engine = Engine::new(&plan(&rules.join(",")), NonZeroUsize::MIN).unwrap();
    let good = events(&[r#""actor":"b""#]);
    let bad = [
        r#"{"actor":"Anna","time":"yesterday"}"#,
        r#"{"time":1767600001,"actor":"anna","subject":{"id":1}}"#,
        r#"{"time":1767600001,"actor":"anna","subject":"s""#,
        r#"{"time":"2099-01-01T00:00:00Z","actor":"anna"}"#,
        r#"{"time":1767600001}"#,
        "[1]",
    ]
    .join("\n");
    let now = Some((START + 60) * 1_000_000);
    let outcome = engine.process_lines(format!("{good}{bad}\n").as_bytes(), 1, Input { stream: 0, now });
    assert_eq!((outcome.events, outcome.rejects.len()), (1, 6));
    let [change] = &outcome.changes[..] else { unreachable!("{:?}", outcome.changes) };
    assert_eq!((change.rule, &*change.group[0], change.count), (0, "anna", 4));
    assert_eq!(outcome.clock, Some(START * 1_000_000));
}

#[test]
fn a_late_event_counts_at_its_time_and_for_rules_on_late_events() {
    let is_late = is("problem", "late");
    let rules = [
        rule("late", &is_late, "actor", r#""holds":{"gte":2}"#),
        rule("all", ANY, "actor", r#""holds":{"gte":3}"#),
    ];
    let mut engine = Engine::new(&plan(&rules.join(",")), NonZeroUsize::MIN).unwrap();
    let line = |second: i64, actor: &str| format!("{{\"time\":{},\"actor\":\"{actor}\"}}\n", START + second);
    engine.process_lines(line(7200, "b").as_bytes(), 1, Input::default());
    let late: String = [line(0, "a"), line(7195, "a"), line(1, "a")].concat();
    let outcome = engine.process_lines(late.as_bytes(), 2, Input::default());
    let found: Vec<_> = outcome.changes.iter().map(|change| (change.rule, change.opened_at)).collect();
    assert_eq!(found, [(0, (START + 7200) * 1_000_000)]);
}

#[test]
fn a_late_burst_is_compared_with_the_baseline() {
    let baseline = r#""distinct":"subject","holds":{"gte":5},"baseline":{"of":"own","over_days":14,"factor":2.0,
        "stranger_factor":3.0,"least_days":5,"least_peers":5,"cold":5}"#;
    let rules = [rule("r", ANY, "actor", baseline)];
    let mut engine = Engine::new(&plan(&rules[0]), NonZeroUsize::MIN).unwrap();
    let line = |second: i64, actor: &str| {
        format!("{{\"time\":{},\"actor\":\"{actor}\",\"subject\":\"s{second}\"}}\n", START + second)
    };
    engine.process_lines(line(600, "b").as_bytes(), 1, Input::default());
    let burst: String = (0..6).map(|second| line(second, "a")).collect();
    let outcome = engine.process_lines(burst.as_bytes(), 2, Input::default());
    assert_eq!(outcome.late, 6);
    assert_eq!(outcome.changes.len(), 2, "it opens and closes: {:?}", outcome.changes);
    assert!((outcome.changes[0].peak - 6.0).abs() < f64::EPSILON);
}

#[test]
fn a_login_with_a_subject_is_an_access() {
    let rules = [rule("r", &is("action", "other"), "actor", r#""holds":{"gte":1}"#)];
    let fields = [r#""actor":"a","action":"login","subject":"s""#, r#""actor":"b","action":"login""#];
    let (_, outcome) = run(&rules, &fields);
    assert_eq!((outcome.changes.len(), outcome.coverage.no_access), (1, 1));
}

#[test]
fn letters_that_look_like_others_and_spellings_are_fields() {
    let plan = |rules: &[String]| {
        let mut plan = plan(&rules.join(","));
        for (name, by) in [("actor_spelling", r#""written""#), ("actor_confusable", r#""confusable""#)] {
            let derivation = serde_json::from_str(&format!(r#"{{"from":["actor"],"by":{by}}}"#)).unwrap();
            plan.derived.insert(name.to_owned(), derivation);
        }
        plan
    };
    let is_confusable = r#"{"field":{"name":"actor_confusable","test":{"bool":true}}}"#;
    let rules = [
        rule("confusable", is_confusable, "actor", r#""holds":{"gte":1}"#),
        rule("spellings", ANY, "actor", r#""distinct":"actor_spelling","holds":{"gte":3}"#),
    ];
    let mut engine = Engine::new(&plan(&rules), NonZeroUsize::MIN).unwrap();
    let fields = [
        r#""actor":"Р0042""#, // a Cyrillic letter
        r#""actor":"王小明""#,
        r#""actor":"P0042""#,
        r#""actor":"p0042""#,
        r#""actor":" P0042""#,
    ];
    let outcome = engine.process_lines(events(&fields).as_bytes(), 1, Input::default());
    let mut found: Vec<_> = outcome.changes.iter().map(|change| (change.rule, &*change.key[0])).collect();
    found.sort_unstable();
    assert_eq!(found, [(0, "Р0042"), (1, "P0042")]);
}

#[test]
fn a_rule_cannot_group_by_the_problem() {
    let plan = plan(&rule("r", ANY, "problem", r#""holds":{"gte":1}"#));
    let error = Engine::new(&plan, NonZeroUsize::MIN).unwrap_err().to_string();
    assert!(error.contains("problem"), "{error}");
}

#[test]
fn a_snapshot_keeps_the_spelling_of_open_findings() {
    let rules = [rule("r", ANY, "actor", r#""holds":{"gte":2}"#)];
    let (engine, opened) = run(&rules, &[r#""actor":"Anna""#, r#""actor":"Anna""#]);
    let parts: Vec<Vec<u8>> =
        (0..engine.parts()).map(|part| engine.save_part(part, &[(0, 3)]).concat()).collect();
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let restored = Engine::restore(&plan(&rules[0]), NonZeroUsize::MIN, &engine.save_frame(), &parts);
    let (mut restored, dropped) = restored.unwrap();
    assert!(dropped.windows.is_empty());
    let closing = format!("{{\"time\":{},\"actor\":\"z\"}}\n", START + 100_000);
    let closed = restored.process_lines(closing.as_bytes(), 3, Input::default());
    let ids = |outcome: &Outcome| outcome.changes.iter().map(|change| change.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&closed), ids(&opened));
    assert_eq!(closed.changes[0].group, ["Anna"]);
}

#[test]
fn a_field_that_is_compared_with_an_identity_takes_its_form() {
    let own = r#"{"field":{"name":"subject","test":{"same":{"other":"person","place":"whole"}}}}"#;
    let turned = r#"{"field":{"name":"person","test":{"same":{"other":"subject","place":"whole"}}}}"#;
    let holds = r#""holds":{"gte":2}"#;
    let rules = [rule("own", own, "actor", holds), rule("turned", turned, "actor", holds)];
    let fields = [
        r#""actor":"a","subject":"X410105-1990","person":"x4101051990""#,
        r#""actor":"a","subject":"x4101051990","person":["y","x410105 1990"]"#,
        r#""actor":"b","subject":"x4101051990","person":"y""#,
        r#""actor":"b","subject":"x4101051990""#,
    ];
    let (_, outcome) = run(&rules, &fields);
    let mut found: Vec<_> = outcome.changes.iter().map(|change| (change.rule, &*change.key[0])).collect();
    found.sort_unstable();
    assert_eq!(found, [(0, "A"), (1, "A")]);
}

#[test]
fn alternatives_that_group_by_an_identity_and_by_another_field_share_groups() {
    let (read, approved) = (is("action", "read"), is("action", "approve"));
    let branches = format!(
        r#""branches":[{{"when":{approved},"group_by":["owner"]}},{{"when":{read},"group_by":["actor"]}}],
           "holds":{{"gte":2}}"#
    );
    let rules = [rule("r", &format!(r#"{{"any":[{read},{approved}]}}"#), "who", &branches)];
    let fields = [
        r#""actor":"anna","subject":"1","action":"read""#,
        r#""actor":"b","owner":" Anna","subject":"1","action":"approve""#,
    ];
    let (mut engine, outcome) = run(&rules, &fields);
    assert_eq!(groups(&outcome), [(&[" Anna".to_owned()][..], &["ANNA".to_owned()][..])]);
    assert!(engine.group_status(0, &["anna".to_owned()], (START + 5) * 1_000_000).is_some());
}
