"""Many small segments become few: merged by the row, sorted by actor, so that one person's days lie together.

It is a log-structured merge. Eight segments of one size in a row become one of the next, up to about a million rows;
with those a query opens few files, and reads of each only the row groups that may hold whom it asks for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from custodes.history.database import connect
from custodes.history.shelf import Segment, Shelf

FAN_IN = 8
MOST_ROWS = 1_000_000
"""A merged segment has no more."""


def mergeable(segments: Sequence[Segment]) -> Sequence[Segment]:
    """The segments to be merged next; none if there is nothing to do."""
    for start in range(len(segments) - FAN_IN, -1, -1):
        row = segments[start : start + FAN_IN]
        if len({one.span for one in row}) == 1 and sum(one.rows for one in row) <= MOST_ROWS:
            return row
    return ()


def merge(shelf: Shelf, row: Sequence[Segment]) -> None:
    """Merges segments that lie side by side. Raises ``OSError`` and DuckDB's errors; the segments then stay."""
    first, last = row[0].first, row[-1].last
    fresh = f"{first:010}-{last:010}.new"
    database = connect(shelf.path)
    try:
        with shelf.reading():
            # A subject is hardly in a row group twice, but only a column with a dictionary gets a Bloom filter.
            database.execute(
                "COPY (SELECT * FROM read_parquet(?) ORDER BY actor, time, position) "
                f"TO '{(shelf.path / fresh).as_posix().replace(chr(39), chr(39) * 2)}' "
                "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE 65536, "
                "DICTIONARY_SIZE_LIMIT 65536)",
                [[str(shelf.path / one.name) for one in row]],
            )
    finally:
        database.close()
    with (shelf.path / fresh).open("rb") as file:
        os.fsync(file.fileno())
    shelf.adopt(fresh, first, last)
