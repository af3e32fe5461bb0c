//! Memory of a fetch whose batches unpack to a thousand times their size.

#![allow(clippy::unwrap_used)] // a failed step is a failed test
#![allow(clippy::disallowed_methods)] // asks the system for the memory of the process
#![cfg(target_os = "linux")]

mod written;

use custodes_engine::{Engine, Fetched, Input, Plan, Reason};
use std::io::{Read, Write};
use std::num::NonZeroUsize;
use written::Batch;

const MIB: usize = 1 << 20;

/// Memory in bytes, as the system counts it: `VmRSS` now, or `VmHWM` at most so far.
fn memory(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// A batch that claims one record and whose body is this.
fn sealed(codec: u8, base: i64, body: &[u8]) -> Vec<u8> {
    let mut batch = Vec::new();
    let record = [(base, None, Some(b"{}".to_vec()), 0)];
    Batch { codec: 0, flags: 0, producer_id: -1, base, last: base, records: &record }.write(&mut batch);
    batch.truncate(61);
    batch[22] = codec;
    batch.extend(body);
    let length = batch.len() as i32 - 12;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

fn packed(codec: u8, size: usize) -> Vec<u8> {
    let zeros = || std::io::repeat(0).take(size as u64);
    match codec {
        1 => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            std::io::copy(&mut zeros(), &mut out).unwrap();
            out.finish().unwrap()
        }
        2 => snap::raw::Encoder::new().compress_vec(&vec![0; size]).unwrap(),
        3 => {
            let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
            out.write_all(&vec![0; size]).unwrap();
            out.finish().unwrap()
        }
        _ => zstd::stream::encode_all(zeros(), 3).unwrap(),
    }
}

#[test]
fn batches_that_unpack_to_gigabytes_take_little_memory() {
    let plan = Plan::from_json(r#"{"mapping":{"time":["time"],"actor":["actor"]},"rules":[]}"#).unwrap();
    let cases = [
        (4, 8 * MIB, 640),
        (4, 31 * MIB, 10),
        (4, 512 * MIB, 2),
        (1, 8 * MIB, 34),
        (3, 8 * MIB, 34),
        (2, 2 * MIB, 40),
    ];
    for (codec, size, most) in cases {
        let body = packed(codec, size);
        let count = (4 * MIB / body.len()).min(most);
        let mut fetch: Vec<u8> = (0..count).flat_map(|at| sealed(codec, at as i64, &body)).collect();
        let records: Vec<_> = (0..5)
            .map(|at| {
                let offset = count as i64 + at;
                (offset, None, Some(br#"{"time":1767600000,"actor":"P1"}"#.to_vec()), 0)
            })
            .collect();
        let (base, last) = (count as i64, count as i64 + 4);
        Batch { codec: 4, flags: 0, producer_id: -1, base, last, records: &records }.write(&mut fetch);
        for threads in if codec == 4 { 1..=2 } else { 2..=2 } {
            let mut engine = Engine::new(&plan, NonZeroUsize::new(threads).unwrap()).unwrap();
            let before = memory("VmRSS");
            let fetched = Fetched { bytes: &fetch, position: 0, aborted: None };
            let outcome = engine.process_fetched(fetched, Input::default());
            let grown = memory("VmHWM").saturating_sub(before);
            assert!(grown < 256 * MIB, "codec {codec}, {size} bytes, {threads} threads: {} MiB", grown / MIB);
            assert_eq!(outcome.events, 5);
            let places: Vec<_> = outcome.rejects.iter().map(|reject| reject.position).collect();
            assert_eq!(places, (0..count as u64).collect::<Vec<_>>());
            assert!(outcome.rejects.iter().all(|reject| reject.reason == Reason::CorruptBatch));
        }
    }
}
