"""The file source: blocks end with whole lines, for any block size."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from custodes.sources import FileSource, LineChunk, file


def read(paths: list[Path]) -> list[LineChunk]:
    source = FileSource(paths)
    blocks: list[LineChunk] = []
    while not source.finished:
        for arrival in source.poll(0):
            assert isinstance(arrival, LineChunk)
            blocks.append(arrival)
    return blocks


@given(st.lists(st.text("ab\r", max_size=12).map(str.encode), max_size=20), st.integers(1, 9), st.booleans())
@settings(max_examples=200)
def test_every_line_once_with_its_number(lines: list[bytes], block: int, ends: bool) -> None:
    text = b"\n".join(lines) + (b"\n" if ends and lines else b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file, "BLOCK", block)
        path = Path(tempfile.mkdtemp()) / "f"
        path.write_bytes(text)
        blocks = read([path])
    assert b"".join(one.text for one in blocks) == text
    assert all(one.text.endswith(b"\n") for one in blocks[:-1])
    line = 1
    for one in blocks:
        assert one.first_line == line
        line += one.text.count(b"\n")


def test_compression_is_detected_by_content(tmp_path: Path) -> None:
    text = b'{"a":1}\n' * 1000
    frames = zstandard.ZstdCompressor().compress(text[:800]) + zstandard.ZstdCompressor().compress(text[800:])
    for name, data in {"a": text, "b": gzip.compress(text), "c": frames}.items():
        (tmp_path / name).write_bytes(data)
        assert b"".join(one.text for one in read([tmp_path / name])) == text
