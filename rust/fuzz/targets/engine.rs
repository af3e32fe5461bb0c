//! Counting: the final findings do not depend on batch boundaries, on delays within the lateness, or on the number of
//! threads.

#![no_main]

use custodes_engine::{ChangeKind, Engine, Input, Plan};
use libfuzzer_sys::fuzz_target;
use std::num::NonZeroUsize;

const START: i64 = 1_767_600_000_000;
const LATENESS_MS: i64 = 10_000;

type Final = (usize, Vec<String>, i64, Option<i64>, u64, u64);

fn finals(plan: &Plan, events: &[(i64, u8, u8)], cut: usize, threads: usize) -> Vec<Final> {
    let threads = NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN);
    let Ok(mut engine) = Engine::new(plan, threads) else { return Vec::new() };
    let mut changes = Vec::new();
    for batch in events.chunks(cut.max(1)) {
        let line = |&(ms, actor, subject): &(i64, u8, u8)| {
            format!("{{\"time\":{},\"actor\":\"{actor}\",\"subject\":{subject}}}\n", START + ms)
        };
        let text: String = batch.iter().map(line).collect();
        let outcome = engine.process_lines(text.as_bytes(), 1, Input::default());
        assert_eq!(outcome.events, batch.len() as u64);
        changes.extend(outcome.changes);
    }
    changes.extend(engine.finish().changes);
    let closed = changes.into_iter().filter(|change| change.kind == ChangeKind::Closed);
    let mut closed: Vec<Final> =
        closed.map(|c| (c.rule, c.group, c.opened_at, c.closed_at, c.peak.to_bits(), c.count)).collect();
    closed.sort();
    closed
}

fuzz_target!(|data: &[u8]| {
    let Some((&[need, panes, keep, cut], steps)) = data.split_first_chunk() else { return };
    let rule = |id: &str, when: &str, more: &str, need: u8| {
        format!(
            r#"{{"id":"{id}","when":{when},"group_by":["actor"],{more}"timespan_ms":{},"resolution_ms":1000,
               "keep_open_ms":{},"holds":{{"gte":{need}}}}}"#,
            (1 + u64::from(panes % 60)) * 1000,
            u64::from(keep) * 1000,
        )
    };
    let (all, opened, need) = (r#"{"all":[]}"#, r#"{"opened":"count"}"#, 1 + need % 8);
    let part = |subject: u8| format!(r#"{{"field":{{"name":"subject","test":{{"number":{subject}}}}}}}"#);
    let parts = format!(r#""parts":[{},{},{}],"#, part(0), part(1), part(2));
    let ways = r#""measure":{"pattern":{"ways":[{"met":[2,0],"in_order":true,"absent":[1]},{"met":[1],"in_order":false,"absent":[]}]}},"#;
    let rules = [
        rule("count", all, "", need),
        rule("distinct", all, r#""distinct":"subject","#, need),
        rule("sum", all, r#""measure":{"sum":{"field":"subject"}},"#, need * 2),
        rule("middle", all, r#""measure":{"quantile":{"field":"subject","quantile":0.5}},"#, need),
        rule("order", all, &format!(r#"{parts}"measure":"in_order","#), 1 + need % 3),
        rule("pattern", all, &format!("{parts}{ways}"), 1),
        rule(
            "again",
            opened,
            &format!(r#""branches":[{{"when":{opened},"group_by":["actor"]}}],"#),
            1 + need % 3,
        ),
    ];
    let plan = format!(
        r#"{{"mapping":{{"time":["time"],"actor":["actor"],"subject":["subject"]}},"rules":[{}]}}"#,
        rules.join(",")
    );
    let Ok(plan) = Plan::from_json(&plan) else { return };
    let mut now = 0;
    let (mut sorted, mut arriving) = (Vec::new(), Vec::new());
    for step in steps.chunks_exact(4).take(400) {
        now += i64::from(step[0]) * i64::from(step[0]) / 8;
        let event = (now, step[1] % 5, step[2] % 7);
        sorted.push(event);
        arriving.push((now + i64::from(step[3]) * LATENESS_MS / 256, event));
    }
    arriving.sort_by_key(|&(at, _)| at);
    let arriving: Vec<_> = arriving.into_iter().map(|(_, event)| event).collect();
    let expected = finals(&plan, &sorted, sorted.len(), 1);
    assert_eq!(finals(&plan, &arriving, usize::from(cut), 1), expected);
    assert_eq!(finals(&plan, &arriving, usize::from(cut) / 2, 2), expected);
});
