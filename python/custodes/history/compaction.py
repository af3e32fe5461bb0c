"""Compaction: many small segments are merged into few, sorted by actor, so that one actor's days are adjacent.

This is a log-structured merge. Eight adjacent segments of one size become one of the next size, up to about ten million
rows. A query then opens few files, and reads only the row groups that may contain the requested value.
"""

from __future__ import annotations

from collections.abc import Sequence

from custodes._core import merge_history
from custodes.history.segments import HistorySegment, SegmentStore

FAN_IN = 8
MOST_ROWS = 16_000_000
"""Largest number of rows of a merged segment."""


def mergeable(segments: Sequence[HistorySegment], most_apart: int) -> Sequence[HistorySegment]:
    """Returns the segments to merge next; an empty list if there is nothing to do.

    A merged segment is deleted as a whole, so its parts must not be more than ``most_apart`` microseconds apart: an
    event may be kept that much longer than configured.
    """
    for start in range(len(segments) - FAN_IN + 1):
        row = segments[start : start + FAN_IN]
        newest = [one.newest for one in row]
        if (
            len({one.span for one in row}) == 1
            and sum(one.rows for one in row) <= MOST_ROWS
            and max(newest) - min(newest) <= most_apart
        ):
            return row
    return ()


def merge(shelf: SegmentStore, row: Sequence[HistorySegment]) -> None:
    """Merges adjacent segments. Raises ``OSError`` and DuckDB's errors, after which the segments are unchanged."""
    first, last = row[0].first, row[-1].last
    fresh = f"{first:010}-{last:010}.new"
    with shelf.reading():
        merge_history([shelf.path / one.name for one in row], shelf.path / fresh, shelf.keys.files)
    shelf.adopt(fresh, first, last)
