//! Record batches as written by Kafka clients, for tests and benchmarks.

#![allow(clippy::unwrap_used)] // writing to memory does not fail
#![allow(dead_code)] // benchmarks write no transactions

use std::io::Write;

pub fn varint(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Compresses a body as Kafka clients do. Codec 2 is snappy with the framing of the Java client, 12 as written by
/// librdkafka.
pub fn pack(codec: u16, body: &[u8]) -> Vec<u8> {
    match codec {
        1 => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            gzip.write_all(body).unwrap();
            gzip.finish().unwrap()
        }
        2 => {
            let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
            for block in body.chunks(100) {
                let packed = snap::raw::Encoder::new().compress_vec(block).unwrap();
                out.extend((packed.len() as u32).to_be_bytes());
                out.extend(packed);
            }
            out
        }
        12 => snap::raw::Encoder::new().compress_vec(body).unwrap(),
        3 => {
            let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
            lz4.write_all(body).unwrap();
            lz4.finish().unwrap()
        }
        4 => zstd::stream::encode_all(body, 3).unwrap(),
        _ => body.to_vec(),
    }
}

pub const TRANSACTIONAL: u16 = 0x10;
pub const CONTROL: u16 = 0x20;

/// A record: offset, key, value, number of headers.
pub type Written = (i64, Option<Vec<u8>>, Option<Vec<u8>>, usize);

pub struct Batch<'a> {
    pub codec: u16,
    pub flags: u16,
    pub producer_id: i64,
    pub base: i64,
    pub last: i64,
    pub records: &'a [Written],
}

impl Batch<'_> {
    pub fn write(&self, out: &mut Vec<u8>) {
        let bytes = |value: Option<&[u8]>, out: &mut Vec<u8>| {
            varint(value.map_or(-1, |value| value.len() as i64), out);
            out.extend(value.unwrap_or_default());
        };
        let mut body = Vec::new();
        for (offset, key, value, headers) in self.records {
            let mut record = vec![0];
            varint(5, &mut record);
            varint(offset - self.base, &mut record);
            bytes(key.as_deref(), &mut record);
            bytes(value.as_deref(), &mut record);
            varint(*headers as i64, &mut record);
            for _ in 0..*headers {
                bytes(Some(b"name"), &mut record);
                bytes(Some(b"value"), &mut record);
            }
            varint(record.len() as i64, &mut body);
            body.extend(record);
        }
        let mut checked = ((self.codec % 10) | self.flags).to_be_bytes().to_vec();
        checked.extend(((self.last - self.base) as i32).to_be_bytes());
        checked.extend([0; 16]);
        checked.extend(self.producer_id.to_be_bytes());
        checked.extend([0; 6]);
        checked.extend((self.records.len() as i32).to_be_bytes());
        checked.extend(pack(self.codec, &body));
        out.extend(self.base.to_be_bytes());
        out.extend((checked.len() as i32 + 9).to_be_bytes());
        out.extend(7_i32.to_be_bytes());
        out.push(2);
        out.extend(crc32c::crc32c(&checked).to_be_bytes());
        out.extend(checked);
    }
}
