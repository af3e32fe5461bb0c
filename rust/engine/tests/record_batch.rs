//! Record batches: the result equals that of a plain list of the same records, with any compression.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

mod written;

use custodes_engine::{
    Aborted, Engine, Fetched, FetchedPiece, FramingError, Input, Outcome, Plan, Reason, Record,
    fetched_pieces,
};
use proptest::prelude::*;
use std::num::NonZeroUsize;
use written::{Batch, CONTROL, TRANSACTIONAL};

const START: i64 = 1_767_600_000;

fn engine() -> Engine {
    let plan = r#"{"mapping":{"time":["time"],"actor":["actor"]},
        "rules":[{"id":"r","when":{"all":[]},"group_by":["actor"],"timespan_ms":60000,"resolution_ms":1000,
                  "keep_open_ms":5000,"holds":{"gte":2}}]}"#;
    Engine::new(&Plan::from_json(plan).unwrap(), NonZeroUsize::MIN).unwrap()
}

fn event(offset: i64) -> Vec<u8> {
    format!(r#"{{"time":{},"actor":"P{}"}}"#, START + offset, offset % 7).into_bytes()
}

fn plain(codec: u16, base: i64, count: i64) -> Vec<u8> {
    let records: Vec<_> = (base..base + count).map(|offset| (offset, None, Some(event(offset)), 0)).collect();
    let mut out = Vec::new();
    let last = base + count - 1;
    Batch { codec, flags: 0, producer_id: -1, base, last, records: &records }.write(&mut out);
    out
}

fn read(bytes: &[u8]) -> Outcome {
    engine().process_fetched(Fetched { bytes, position: 0, aborted: None }, Input::default())
}

fn marker(producer_id: i64, offset: i64, kind: u8) -> Vec<u8> {
    let records = [(offset, Some(vec![0, 0, 0, kind]), Some(vec![0; 6]), 0)];
    let flags = TRANSACTIONAL | CONTROL;
    let mut out = Vec::new();
    Batch { codec: 0, flags, producer_id, base: offset, last: offset, records: &records }.write(&mut out);
    out
}

fn transactional(producer_id: i64, base: i64, count: i64) -> Vec<u8> {
    let records: Vec<_> = (base..base + count).map(|offset| (offset, None, Some(event(offset)), 0)).collect();
    let mut out = Vec::new();
    let last = base + count - 1;
    Batch { codec: 4, flags: TRANSACTIONAL, producer_id, base, last, records: &records }.write(&mut out);
    out
}

#[test]
fn read_committed_skips_aborted_transactions() {
    let fetch = [
        transactional(1, 0, 10),
        transactional(2, 10, 10),
        marker(1, 20, 0),
        transactional(1, 21, 5),
        marker(2, 26, 1),
        marker(1, 27, 1),
        plain(0, 28, 3),
    ]
    .concat();
    let aborted = [Aborted { producer_id: 1, first_offset: 0 }];
    let events = |aborted| {
        let fetched = Fetched { bytes: &fetch, position: 0, aborted };
        engine().process_fetched(fetched, Input::default()).events
    };
    assert_eq!(events(None), 28);
    assert_eq!(events(Some(&[])), 28);
    assert_eq!(events(Some(&aborted)), 18);
    let twice = [aborted[0], Aborted { producer_id: 1, first_offset: 21 }];
    assert_eq!(events(Some(&twice)), 13, "the second begins after the first one's marker");
}

#[test]
fn corrupt_batch_rejects_only_its_own_records() {
    for codec in [0, 1, 2, 12, 3, 4] {
        let mut bad = plain(codec, 10, 5);
        let last = bad.len() - 1;
        bad[last] ^= 0x40;
        let outcome = read(&[plain(codec, 0, 10), bad.clone(), plain(codec, 15, 5)].concat());
        assert_eq!(outcome.events, 15, "codec {codec}");
        let reject = &outcome.rejects[0];
        assert_eq!((reject.position, reject.reason), (10, Reason::CorruptBatch));
        assert_eq!(&*reject.value, &bad);
        assert!(reject.detail.contains("checksum"), "{}", reject.detail);
    }
}

#[test]
fn rejection_names_the_decompression_fault() {
    let sealed = |codec: u16, body: &[u8]| {
        let mut batch = plain(0, 0, 1)[..61].to_vec();
        batch[22] = codec as u8;
        batch.extend(body);
        let length = batch.len() as i32 - 12;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        batch
    };
    for (codec, body, says) in [
        (1, &b"\x1f\x8bnot gzip"[..], "Gzip"),
        (2, b"\xff\xff\xff\xff\x0f", "impossible length"),
        (2, b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x09x", "truncated"),
        (3, b"not lz4", "Lz4"),
        (4, &zstd::stream::encode_all(&[7; 100][..], 3).unwrap()[..12], "Zstd"),
        (4, &zstd::stream::encode_all(std::io::repeat(0).take(33 << 20), 3).unwrap()[..], "more than 32 MiB"),
        (5, b"", "unknown compression"),
        (0, b"\x7f", "malformed"),
    ] {
        let outcome = read(&[sealed(codec, body), plain(0, 1, 1)].concat());
        assert_eq!((outcome.events, outcome.rejects.len()), (1, 1), "codec {codec}");
        assert!(outcome.rejects[0].detail.contains(says), "{}", outcome.rejects[0].detail);
    }
}

#[test]
fn fetch_is_split_between_complete_batches() {
    let batches = [plain(0, 100, 10), plain(4, 110, 5), plain(0, 115, 5)];
    let [first, second, third] = [0, 1, 2].map(|at| batches[at].len());
    let mut fetch = batches.concat();
    fetch[first + 35..first + 43].copy_from_slice(&1_767_600_000_123_i64.to_be_bytes());
    let piece = |end, next_offset, records, latest_ms| FetchedPiece {
        end,
        next_offset,
        leader_epoch: 7,
        records,
        latest_ms,
    };
    let late = 1_767_600_000_123;
    assert_eq!(fetched_pieces(&fetch, usize::MAX), Ok(vec![piece(first + second + third, 120, 20, late)]));
    assert_eq!(
        fetched_pieces(&fetch, first + 1),
        Ok(vec![piece(first + second, 115, 15, late), piece(first + second + third, 120, 5, 0)])
    );
    assert_eq!(fetched_pieces(&fetch, 1).unwrap().len(), 3);
    assert_eq!(
        fetched_pieces(&fetch[..fetch.len() - 1], usize::MAX),
        Ok(vec![piece(first + second, 115, 15, late)])
    );
    assert_eq!(fetched_pieces(&fetch[..40], 1), Ok(vec![]));
    let mut old = fetch.clone();
    old[16] = 1;
    assert_eq!(fetched_pieces(&old, 1), Err(FramingError::Format { at: 0, magic: 1 }));
    let mut short = fetch;
    short[8..12].copy_from_slice(&3_i32.to_be_bytes());
    assert_eq!(fetched_pieces(&short, 1), Err(FramingError::Length { at: 0, length: 3 }));
}

use std::io::Read;

proptest! {
    /// Any division into batches, any compression, keys, headers, nulls and gaps yield the records from the position
    /// on.
    #[test]
    fn equals_the_plain_records(
        batches in prop::collection::vec(
            (prop::sample::select(vec![0_u16, 1, 2, 12, 3, 4]),
             prop::collection::vec((0_i64..3, any::<Option<[u8; 3]>>(), prop::option::weighted(0.9, Just(())), 0_usize..3), 1..40)),
            1..8),
        skip in 0_u64..60,
    ) {
        let (mut fetch, mut expected, mut offset) = (Vec::new(), Vec::new(), 0_i64);
        for (codec, chosen) in &batches {
            let base = offset;
            let records: Vec<_> = chosen.iter().map(|(gap, key, value, headers)| {
                offset += gap + 1;
                (offset - 1, key.map(|key| key.to_vec()), value.map(|()| event(offset)), *headers)
            }).collect();
            let batch = Batch { codec: *codec, flags: 0, producer_id: -1, base, last: offset - 1, records: &records };
            batch.write(&mut fetch);
            expected.extend(records.into_iter().map(|(at, _, value, _)| (at.cast_unsigned(), value.unwrap_or_default())));
        }
        let wanted = expected.iter().filter(|(position, _)| *position >= skip);
        let mut by_record = engine().process(
            wanted.map(|(position, value)| Record::new(*position, value)), Input::default());
        let mut by_batch = engine().process_fetched(
            Fetched { bytes: &fetch, position: skip, aborted: None }, Input::default());
        for outcome in [&mut by_record, &mut by_batch] {
            outcome.changes.sort_by(|a, b| a.id.cmp(&b.id));
        }
        prop_assert_eq!(by_batch.events, by_record.events);
        prop_assert_eq!(by_batch.rejects, by_record.rejects);
        prop_assert_eq!(by_batch.changes, by_record.changes);
    }

    /// Corrupted bytes cause no panic, and no record is counted that was not there.
    #[test]
    fn damage_is_never_counted(codec in 0_u16..5, at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let mut fetch = [plain(codec, 0, 8), plain(codec, 8, 8)].concat();
        let at = at.index(fetch.len());
        fetch[at] ^= flip;
        let outcome = read(&fetch);
        let refused = outcome.rejects.iter().filter(|reject| reject.reason == Reason::CorruptBatch).count() as u64;
        prop_assert!(outcome.events + 8 * refused <= 16);
        let _ = fetched_pieces(&fetch, 100);
    }
}

#[test]
fn large_records_are_read_in_order_by_any_number_of_threads() {
    let large = |offset: i64| {
        let actor = offset % 3;
        let time = START + offset;
        let note = "x".repeat(5 << 20);
        format!(r#"{{"time":{time},"actor":"P{actor}","note":"{note}"}}"#).into_bytes()
    };
    let mut fetch = plain(0, 0, 5);
    for base in (5..45).step_by(4) {
        let records: Vec<_> = (base..base + 4)
            .map(|offset| {
                (offset, None, Some(if offset % 2 == 0 { large(offset) } else { event(offset) }), 0)
            })
            .collect();
        Batch { codec: 4, flags: 0, producer_id: -1, base, last: base + 3, records: &records }
            .write(&mut fetch);
    }
    fetch.extend(plain(4, 45, 5));
    let plan = Plan::from_json(
        r#"{"mapping":{"time":["time"],"actor":["actor"]},"allowed_lateness_ms":0,
            "rules":[{"id":"r","when":{"all":[]},"group_by":["actor"],"timespan_ms":4000,"resolution_ms":1000,
                      "keep_open_ms":1000,"holds":{"gte":2}}]}"#,
    )
    .unwrap();
    let found = |threads: usize| {
        let mut engine = Engine::new(&plan, NonZeroUsize::new(threads).unwrap()).unwrap();
        let outcome =
            engine.process_fetched(Fetched { bytes: &fetch, position: 2, aborted: None }, Input::default());
        let mut changes = outcome.changes;
        changes.extend(engine.finish().changes);
        let mut changes: Vec<_> = changes.iter().map(|change| format!("{change:?}")).collect();
        changes.sort_unstable();
        (outcome.events, outcome.late, outcome.rejects.len(), changes)
    };
    let one = found(1);
    assert_eq!((one.0, one.1, one.2), (48, 0, 0));
    assert!(one.3.len() > 5);
    for threads in [2, 3, 7] {
        assert_eq!(found(threads), one, "{threads} threads");
    }
}
