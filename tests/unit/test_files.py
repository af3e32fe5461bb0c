"""The file source: blocks end with whole lines; what can be decompressed is counted; files are read by event time."""

from __future__ import annotations

import gzip
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from custodes.authoring.recorded_events import event_times
from custodes.config.mapping import load_mapping
from custodes.sources import FileFault, FileSource, LineChunk, SourceMessage, StreamExpected, file, raw_files

TIMES = event_times(load_mapping("custodes"))
LINES = b"".join(b'{"time":"2026-06-15T08:00:%02dZ","actor":"P%d"}\n' % (n % 60, n) for n in range(20_000))


def messages(paths: Sequence[Path]) -> Iterator[SourceMessage]:
    source = FileSource(paths, TIMES)
    while not source.finished:
        yield from source.poll(0)
    source.close()


def read(path: Path) -> tuple[bytes, list[FileFault]]:
    """Returns the lines of a file, and its faults."""
    text, faults = b"", []
    for message in messages([path]):
        if isinstance(message, LineChunk):
            assert message.first_line == text.count(b"\n") + 1
            text += message.text
        elif isinstance(message, FileFault):
            faults.append(message)
    return text, faults


def whole_lines(text: bytes) -> bytes:
    return text[: text.rfind(b"\n") + 1]


@given(
    st.lists(st.text("ab", max_size=12).map(lambda text: f'{{"{text}"}}'.encode())), st.integers(1, 9), st.booleans()
)
@settings(max_examples=200)
def test_every_line_once_with_its_number(lines: list[bytes], block: int, ends: bool) -> None:
    text = b"\n".join(lines) + (b"\n" if ends and lines else b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file, "BLOCK", block)
        patch.setattr(file, "_SMALLEST", block)
        path = Path(tempfile.mkdtemp()) / "f"
        path.write_bytes(text)
        assert read(path) == (text, [])


def test_compression_is_detected_by_content(tmp_path: Path) -> None:
    halves = LINES[:100_000], LINES[100_000:]
    pack = zstandard.ZstdCompressor().compress
    skippable = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"pzstd"
    packed = {
        "plain": LINES,
        "gzip": gzip.compress(LINES),
        "gzip members": b"".join(map(gzip.compress, halves)),
        "gzip padded with zeros": gzip.compress(LINES) + bytes(1000),
        "zstd": pack(LINES),
        "zstd frames": b"".join(map(pack, halves)),
        "zstd without size and checksum": zstandard.ZstdCompressor(write_content_size=False).compress(LINES),
        "zstd with checksum": zstandard.ZstdCompressor(write_checksum=True).compress(LINES),
        "zstd with skippable frames": skippable + pack(LINES) + skippable,
        "zstd of one repeated line": pack(LINES[:43] * 100_000),
    }
    for name, data in packed.items():
        (tmp_path / name).write_bytes(data)
        assert read(tmp_path / name) == (LINES[:43] * 100_000 if "repeated" in name else LINES, []), name


@pytest.mark.parametrize("kind", ["gzip", "gzip members", "zstd", "zstd frames"])
def test_a_truncated_file_counts_up_to_the_end(tmp_path: Path, kind: str) -> None:
    parts = [LINES] if kind in {"gzip", "zstd"} else [LINES[:400_000], LINES[400_000:]]
    pack = gzip.compress if kind.startswith("gzip") else zstandard.ZstdCompressor(write_checksum=True).compress
    data = b"".join(map(pack, parts))
    sizes = [len(pack(part)) for part in parts]
    rng, longest = random.Random(3), b""
    for cut in sorted([3, 5, len(data) - 1, len(data) - 5, *(rng.randrange(6, len(data)) for _ in range(8))]):
        (tmp_path / "f").write_bytes(data[:cut])
        text, faults = read(tmp_path / "f")
        assert [fault.reason for fault in faults] == [
            "truncated" if cut > 3 or kind.startswith("gzip") else "other_format"
        ]
        assert LINES.startswith(text + faults[0].value)
        assert text == whole_lines(text)
        assert len(text) >= len(longest), "a longer file has at least the lines of a shorter one"
        assert faults[0].position == text.count(b"\n") + 1
        longest = text
    assert len(whole_lines(LINES[:-1])) - len(longest) < 200_000
    if len(parts) > 1:
        (tmp_path / "f").write_bytes(data[: sizes[0]])
        assert read(tmp_path / "f") == (parts[0], []), "cut between two members"


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_damaged_file_counts_up_to_the_damage(tmp_path: Path, kind: str) -> None:
    pack = gzip.compress if kind == "gzip" else zstandard.ZstdCompressor(write_checksum=True).compress
    intact = pack(LINES[:400_000])
    rng = random.Random(5)
    for _ in range(12):
        data = bytearray(pack(LINES[400_000:]))
        at = rng.randrange(len(data) // 2, len(data) - 9)
        data[at : at + 8] = rng.randbytes(8)
        (tmp_path / "f").write_bytes(intact + bytes(data))
        text, faults = read(tmp_path / "f")
        # The damage can also hide the end of the data.
        assert [fault.reason in {"damaged", "truncated"} for fault in faults] == [True]
        assert text.startswith(LINES[:400_000])
        assert text == whole_lines(text)


def test_nothing_before_a_damage_is_lost(tmp_path: Path) -> None:
    data = gzip.compress(LINES)
    (tmp_path / "f").write_bytes(data[:-8] + bytes(8))
    text, faults = read(tmp_path / "f")
    assert (text, [fault.reason for fault in faults]) == (LINES, ["damaged"]), "only the checksum is wrong"


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_bytes_after_compressed_data_are_a_fault(tmp_path: Path, pack: object) -> None:
    assert callable(pack)
    (tmp_path / "f").write_bytes(pack(LINES) + b"garbage")
    text, faults = read(tmp_path / "f")
    assert (text, [fault.reason for fault in faults]) == (LINES, ["damaged"])


def test_an_empty_file_has_no_lines_and_no_fault(tmp_path: Path) -> None:
    for name, data in {"plain": b"", "gzip": gzip.compress(b""), "blank": b"\n\n"}.items():
        (tmp_path / name).write_bytes(data)
        text, faults = read(tmp_path / name)
        assert (text.strip(), faults) == (b"", [])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(tmp_path: Path, encoding: str, line_end: str) -> None:
    lines = [f'{{"time":"2026-06-15T08:00:00Z","actor":"Ω李😀{n}"}}' for n in range(50_000)]
    text = line_end.join(lines) + line_end
    mark = "\ufeff" if encoding in {"utf-16-le", "utf-32-be"} else ""
    (tmp_path / "f").write_bytes(gzip.compress((mark + text).encode(encoding), 1))
    found, faults = read(tmp_path / "f")
    assert (found.decode().split(), faults) == (lines, [])


def test_byte_order_marks_inside_a_joined_file(tmp_path: Path) -> None:
    part = b'\xef\xbb\xbf{"actor":"\xef\xbb\xbf"}\n'
    (tmp_path / "f").write_bytes(part * 3)
    assert read(tmp_path / "f") == (part[3:] * 3, []), "inside of a value they remain"


def test_invalid_utf_16_is_replaced(tmp_path: Path) -> None:
    text = b"\xff\xfe" + '{"actor":"'.encode("utf-16-le") + b"\x00\xd8" + '"}\n'.encode("utf-16-le") + b"{"
    (tmp_path / "f").write_bytes(text)
    found, faults = read(tmp_path / "f")
    assert (found.decode(), faults) == ('{"actor":"\ufffd"}\n\ufffd', [])


def test_a_line_without_end_is_bounded(tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb") as written:
        written.write(b'{"time":"')
        written.seek(100 << 20)
        written.write(b'"}\n{"actor":"P1"}\n')
    text, faults = read(tmp_path / "f")
    assert faults == []
    assert len(text) < 70 << 20
    assert text.endswith(b'\n{"actor":"P1"}\n')


OTHER = {
    "CSV": b'time,actor\n2026-06-15T08:00:00Z,P1\n2026-06-15T08:00:00Z,"P,1"\n',
    "Parquet": b"PAR1\x15\x04\n\n",
    "PDF": b"%PDF-1.7\n%\xe2\xe3\n",
    "ZIP": b"PK\x03\x04\x14\0",
    "xz": b"\xfd7zXZ\0\0\x04",
    "bzip2": b"BZh91AY&SY",
    "tar": b"events.jsonl".ljust(257, b"\0") + b"ustar\x0000" + bytes(500),
    "JSON array": b'[{"time":"2026-06-15T08:00:00Z","actor":"P1"},\n{"actor":"P1"}]\n',
    "JSON over several lines": b'{\n  "time": "2026-06-15T08:00:00Z",\n  "actor": "P1"\n}\n',
    "JSON text sequence": b'\x1e{"actor":"P1"}\n\x1e{"actor":"P1"}\n',
    "XML": b'<?xml version="1.0"?>\n<events/>\n',
    "syslog": b'<134>1 2026-06-15T08:00:00Z host app - - - {"actor":"P1"}\n',
    "CEF": b"CEF:0|vendor|product|1|100|read|5|suser=P1\n",
    "SQLite": b"SQLite format 3\0" + bytes(100),
    "Avro": b"Obj\x01\x04\x14avro.codec",
    "binary": bytes(range(256)) * 4,
    "plain text": b"Jun 15 08:00:00 host app: P1 read S1\n",
}


@pytest.mark.parametrize("name", OTHER)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_another_format_is_one_fault_that_names_it(tmp_path: Path, name: str, pack: object) -> None:
    assert callable(pack)
    (tmp_path / "f").write_bytes(pack(OTHER[name]))
    text, (fault,) = read(tmp_path / "f")
    assert (text, fault.reason, fault.position) == (b"", "other_format", 1)
    assert name in fault.detail


@pytest.mark.parametrize(
    "text",
    [
        b'time,actor\n{"time":"2026-06-15T08:00:00Z","actor":"P1"}\n',
        b'<134> restarted\n[\n\0\0\0\0{"time":"2026-06-15T08:00:00Z","actor":"P1"}\n',
        b'{"time":"2026-06-15T08:00:00Z","actor":"P1"\n',
        b'{"time":"2026-06-15T08:00:00Z","actor":"P1", "text": "' + b"a" * 200_000 + b'"}\n',
        b'\n\n  {"time":"2026-06-15T08:00:00Z","actor":"P1"}\n',
        b"{}\n",
    ],
)
def test_invalid_lines_are_no_other_format(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "f").write_bytes(text)
    assert read(tmp_path / "f") == (text, [])


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_any_bytes_are_lines_or_one_fault(data: bytes) -> None:
    path = Path(tempfile.mkdtemp()) / "f"
    for head in (
        b"",
        b"\x1f\x8b",
        b"\x1f\x8b\x08\0\0\0\0\0\0\xff",
        b"\x28\xb5\x2f\xfd",
        b"\xff\xfe",
        b"\x50\x2a\x4d\x18",
    ):
        path.write_bytes(head + data)
        _, faults = read(path)
        assert len(faults) <= 1


def test_a_file_that_vanished_is_a_fault_and_others_are_read(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_bytes(LINES[:4300])
    reading = messages(paths)
    first = next(reading)
    paths[1].unlink()
    found = [first, *reading]
    assert [(one.stream, one.reason) for one in found if isinstance(one, FileFault)] == [(1, "unreadable")]
    assert {one.stream for one in found if isinstance(one, LineChunk)} == {0, 2}


def test_a_folder_or_a_file_without_permission_is_a_fault(tmp_path: Path) -> None:
    assert [fault.reason for fault in read(tmp_path)[1]] == ["unreadable"]


def test_a_file_that_became_shorter_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(LINES * 20)
    reading = messages([path])
    first = next(reading)
    assert isinstance(first, LineChunk)
    os.truncate(path, 10)
    assert [one.reason for one in reading if isinstance(one, FileFault)] == ["truncated"]


def event(at: datetime, actor: str = "P1") -> bytes:
    return json.dumps({"time": at.isoformat(), "actor": actor}).encode() + b"\n"


def order_of(paths: Sequence[Path]) -> list[tuple[int, datetime]]:
    """Returns the events in the order of reading: file and time."""
    return [
        (one.stream, datetime.fromisoformat(json.loads(line)["time"]))
        for one in messages(paths)
        if isinstance(one, LineChunk)
        for line in one.text.splitlines()
    ]


START = datetime(2026, 6, 1, tzinfo=UTC)


def test_files_of_several_servers_are_read_together(tmp_path: Path) -> None:
    paths = [tmp_path / f"server-{n}" for n in range(5)]
    for path in paths:
        path.write_bytes(b"".join(event(START + timedelta(seconds=n)) for n in range(5000)))
    newest = START
    for _, time in order_of(paths):
        assert time > newest - timedelta(minutes=15)
        newest = max(newest, time)


def test_files_of_consecutive_months_are_read_one_after_the_other(tmp_path: Path) -> None:
    paths = [tmp_path / f"month-{n}" for n in range(12)]
    for n, path in enumerate(paths):
        path.write_bytes(b"".join(event(START + timedelta(days=30 * n, minutes=m)) for m in range(300)))
    order = order_of(list(reversed(paths)))
    assert order == sorted(order, key=lambda pair: pair[1])


def test_few_files_are_open_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_files, "MOST_OPEN", 3)
    paths = [tmp_path / f"{n}.gz" for n in range(30)]
    most = len(list(Path("/proc/self/fd").iterdir())) + 6
    for n, path in enumerate(paths):
        lines = [event(START + timedelta(seconds=s), f"P{random.Random(s * n).random()}") for s in range(9000)]
        path.write_bytes(gzip.compress(b"".join(lines), 1))
    count = 0
    for message in messages(paths):
        count += isinstance(message, LineChunk) and message.text.count(b"\n")
        assert len(list(Path("/proc/self/fd").iterdir())) <= most
    assert count == 30 * 9000


def test_a_file_that_was_replaced_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_files, "MOST_OPEN", 1)
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        path.write_bytes(b"".join(event(START + timedelta(seconds=n)) for n in range(100_000)))
    found = []
    for message in messages(paths):
        found.append(message)
        if isinstance(message, LineChunk) and message.stream == 0 and not (tmp_path / "rotated").exists():
            paths[0].rename(tmp_path / "rotated")
            paths[0].write_bytes(LINES)
    reasons = [one.reason for one in found if isinstance(one, FileFault)]
    assert reasons == ["unreadable"]


def test_a_file_waits_at_the_time_of_its_first_event(tmp_path: Path) -> None:
    for name, hours in (("a", 0), ("b", 5)):
        (tmp_path / name).write_bytes(event(START + timedelta(hours=hours)))
    expected = [one for one in messages([tmp_path / "a", tmp_path / "b"]) if isinstance(one, StreamExpected)]
    times = [int((START + timedelta(hours=hours)).timestamp() * 1e6) for hours in (0, 5)]
    assert [(one.stream, one.time) for one in expected] == [(0, times[0]), (1, times[1])]


def test_standard_input_among_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [event(START + timedelta(seconds=n)) for n in range(1000)]
    (tmp_path / "f").write_bytes(b"".join(lines[::2]))
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(gzip.compress(b"".join(lines[1::2])))))
    order = order_of([Path("-"), tmp_path / "f"])
    assert sorted(time for _, time in order) == [START + timedelta(seconds=n) for n in range(1000)]
