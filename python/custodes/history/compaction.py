"""Many small segments become few: merged by the row, sorted by actor, so that one person's days lie together.

It is a log-structured merge. Eight segments of one size in a row become one of the next, up to some ten million rows;
with those a query opens few files, and reads of each only the row groups that may hold whom it asks for.
"""

from __future__ import annotations

from collections.abc import Sequence

from custodes._core import merge_history
from custodes.history.segments import HistorySegment, SegmentStore

FAN_IN = 8
MOST_ROWS = 16_000_000
"""A merged segment has no more."""


def mergeable(segments: Sequence[HistorySegment], most_apart: int) -> Sequence[HistorySegment]:
    """The segments to be merged next; none if there is nothing to do.

    They become of no use together, and so must not lie further apart than ``most_apart`` microseconds: so much longer
    than it should may be kept what comes into one segment with later events.
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
    """Merges segments that lie side by side. Raises ``OSError`` and DuckDB's errors; the segments then stay."""
    first, last = row[0].first, row[-1].last
    fresh = f"{first:010}-{last:010}.new"
    with shelf.reading():
        merge_history([shelf.path / one.name for one in row], shelf.path / fresh, shelf.keys.files)
    shelf.adopt(fresh, first, last)
