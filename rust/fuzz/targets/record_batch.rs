//! Fetches: arbitrary bytes cause no panic, no record before the position is counted, and the result is the same on
//! one thread and on three. Checksums are corrected, otherwise nothing behind them would be reached.

#![no_main]

use custodes_engine::{Aborted, Engine, Fetched, Input, Plan, fetched_pieces};
use libfuzzer_sys::fuzz_target;
use std::num::NonZeroUsize;

const PLAN: &str = r#"{"mapping":{"time":["time"],"actor":["actor"]},"rules":[{"id":"r","when":{"all":[]},
    "group_by":["actor"],"timespan_ms":60000,"resolution_ms":1000,"keep_open_ms":5000,"holds":{"gte":2}}]}"#;

fn with_right_checksums(data: &[u8]) -> Vec<u8> {
    let mut fetch = data.to_vec();
    let mut at = 0;
    while let Some(Ok(length)) = fetch.get(at + 8..at + 12).map(<[u8; 4]>::try_from) {
        let end = at.saturating_add(12).saturating_add(u32::from_be_bytes(length) as usize);
        if end > fetch.len() || end < at + 61 {
            break;
        }
        let checksum = crc32c::crc32c(&fetch[at + 21..end]);
        fetch[at + 17..at + 21].copy_from_slice(&checksum.to_be_bytes());
        at = end;
    }
    fetch
}

fuzz_target!(|data: &[u8]| {
    let Some((&first, rest)) = data.split_first() else { return };
    let fetch = with_right_checksums(rest);
    let _ = fetched_pieces(&fetch, 1000);
    let aborted = [Aborted { producer_id: 1, first_offset: 0 }];
    let position = u64::from(first >> 1);
    let fetched = Fetched { bytes: &fetch, position, aborted: (first & 1 == 1).then_some(&aborted[..]) };
    let Ok(plan) = Plan::from_json(PLAN) else { return };
    let outcomes = [1, 3].map(|threads| {
        let threads = NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN);
        Engine::new(&plan, threads).map(|mut engine| engine.process_fetched(fetched, Input::default()))
    });
    let [Ok(one), Ok(three)] = outcomes else { return };
    assert_eq!((one.events, one.late, &one.rejects), (three.events, three.late, &three.rejects));
    assert!(one.rejects.iter().all(|reject| reject.position >= position || !reject.value.is_empty()));
});
