"""Writes half a year to files: events, labels and look-up tables."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import orjson
import zstandard

from custodes.demo.agency import AgencyDay
from custodes.demo.half_year.simulation import HalfYear


def write(half_year: HalfYear, folder: Path, on_day: Callable[[AgencyDay], None] = lambda day: None) -> None:
    """Writes ``events.jsonl.zst``, ``labels.jsonl`` as ``rules backtest`` reads them, and a CSV file for each table."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "events.jsonl.zst").open("wb") as raw, zstandard.ZstdCompressor().stream_writer(raw) as out:
        for day in half_year.days():
            out.write(b"".join(line for _, line in day.events))
            on_day(day)
    labels = [
        {"kind": deed.kind, "group": group, "times": [_rfc3339(time) for time in deed.times]}
        for deed in half_year.deeds
        if deed.times
        for group in deed.groups
    ]
    lines = b"".join(orjson.dumps(label, option=orjson.OPT_APPEND_NEWLINE) for label in labels)
    (folder / "labels.jsonl").write_bytes(lines)
    write_tables(half_year, folder)


def write_tables(half_year: HalfYear, folder: Path) -> dict[str, Path]:
    """Writes a CSV file for each look-up table; returns them by name."""
    files = {}
    for name, text in half_year.tables().items():
        files[name] = folder / f"{name}.csv"
        files[name].write_text(text)
    return files


def _rfc3339(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1e6, UTC).isoformat(timespec="milliseconds")
