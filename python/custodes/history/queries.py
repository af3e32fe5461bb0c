"""Questions to the history: what an actor did, who looked at a subject, what lies behind a finding."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from custodes.history.segments import HistorySegment, SegmentStore
from custodes.history.writer import Freshness, HistoryWriter

FIELDS = ("actor", "subject", "resource", "action", "peer_group", "purpose", "client_ip", "app")
"""The fields with a column each."""
_MOST_NAMES = 20
_FIRST_FILES = 4
"""How many files the latest look-ups are looked for in, before twice as many, and so on."""


@dataclass(frozen=True)
class Access:
    """One look-up of one subject, or of none."""

    time: int
    """Microseconds since the epoch."""
    source: str
    position: int
    actor: str
    subject: str | None
    resource: str | None
    action: str | None
    peer_group: str | None
    purpose: str | None
    client_ip: str | None
    app: str | None


@dataclass(frozen=True)
class RecordedEvent:
    """An event as its source had it."""

    access: Access
    """Its first row."""
    record: bytes


@dataclass(frozen=True)
class AccessProfile:
    """What one actor did in a stretch of time, or what was done to one subject."""

    accesses: int
    first: int | None
    last: int | None
    others: int
    """Different subjects of an actor, or actors of a subject."""
    by_day: list[tuple[date, int]]
    by_hour: list[int]
    """Of each hour of the day, in UTC."""
    resources: list[tuple[str, int]]
    top_others: list[tuple[str, int]]
    peer_groups: list[str]


@dataclass(frozen=True)
class Peers:
    """How an actor stands among those of the same peer group, by how many different people each looked at."""

    group: str
    members: int
    """How many of them looked anybody up, the actor included."""
    theirs: int
    """The actor's own people."""
    ahead: int
    """How many looked at more."""
    median: float
    most: list[tuple[str, int]]
    """Who looked at the most, first."""


class History:
    """Answers from the segments on a shelf. Used from any thread."""

    def __init__(self, shelf: SegmentStore, writer: HistoryWriter | None = None) -> None:
        self._shelf = shelf
        self._freshness = None if writer is None else Freshness(writer)

    def accesses(
        self,
        having: Mapping[str, str],
        *,
        since: int | None = None,
        until: int | None = None,
        before: tuple[int, str, int] | None = None,
        limit: int = 100,
        within: Sequence[str] = (),
    ) -> list[Access]:
        """Look-ups whose fields have these values, the latest first.

        ``before`` is time, source and position of the last one known, for the page after it. ``within`` are patterns
        of resources, as of the others here: those of no other are left out. Raises ``ValueError`` for a field that has
        no column.
        """
        where, values = _where(having, since, until, within)
        if before is not None:
            where += " AND (time, source, position) < (make_timestamptz(?), ?, ?)"
            values += before
            until = before[0] if until is None else min(until, before[0])
        query = (
            f"SELECT DISTINCT epoch_us(time) AS moment, source, position, {', '.join(FIELDS)} "
            f"FROM read_parquet($files) WHERE {where} "
            f"ORDER BY moment DESC, source DESC, position DESC, subject LIMIT {int(limit)}"
        )
        rows = self._latest(query, values, limit, since, until, then=lambda row: (row[4] is None, row[4]))
        return [Access(*row) for row in rows]

    def records(
        self, having: Mapping[str, str], *, since: int, until: int, limit: int, refresh: bool = True
    ) -> list[RecordedEvent]:
        """The events themselves, the earliest first: all that may have these values.

        A field without a column leaves nothing out. Without ``refresh`` what is not written yet is left out.
        """
        known = {name: value for name, value in having.items() if name in FIELDS}
        where, values = _where(known, since, until)
        if "subject" in known:
            # The record stands in the first row of its event, which may be another subject's.
            found = self._ask(
                f"SELECT DISTINCT actor, position FROM read_parquet($files) WHERE {where} LIMIT {int(limit)}",
                values, since, until, refresh,
            )  # fmt: skip
            if not found:
                return []
            where, values = _where({}, since, until)
            for at, column in enumerate(("actor", "position")):
                each = sorted({row[at] for row in found})
                where += f" AND {column} IN ({', '.join('?' * len(each))})"
                values += each
        columns = ", ".join(FIELDS)
        rows = self._ask(
            f"SELECT DISTINCT epoch_us(time) AS moment, source, position, {columns}, record FROM read_parquet($files) "
            f"WHERE {where} AND record IS NOT NULL ORDER BY moment, source, position LIMIT {int(limit)}",
            values, since, until, refresh,
        )  # fmt: skip
        return [RecordedEvent(Access(*access), record.encode()) for *access, record in rows]

    def latest_records(self, limit: int) -> list[bytes]:
        """The events of the latest times as their sources had them, the earliest first."""
        query = (
            "SELECT epoch_us(time) AS moment, source, position, record FROM read_parquet($files) "
            f"WHERE record IS NOT NULL ORDER BY moment DESC, source DESC, position DESC LIMIT {int(limit)}"
        )
        return [record.encode() for *_, record in reversed(self._latest(query, [], limit))]

    def reaches_back_to(self, time: int) -> bool:
        """Whether events of a time, if there were any, are still kept; ``False`` where all that is kept is later."""
        return any(segment.oldest <= time for segment in self._shelf.segments)

    def profile(
        self,
        field: str,
        value: str,
        *,
        since: int | None = None,
        until: int | None = None,
        within: Sequence[str] = (),
    ) -> AccessProfile:
        """How the look-ups of an ``actor``, or of a ``subject``, spread over days, hours, resources and people."""
        other = "subject" if field == "actor" else "actor"
        where, values = _where({field: value}, since, until, within)
        self._refresh()
        with self._shelf.reading(since, until) as segments:
            if not segments:
                return AccessProfile(0, None, None, 0, [], [0] * 24, [], [], [])
            cursor = self._shelf.database.cursor()
            cursor.execute(
                f"CREATE OR REPLACE TEMP TABLE theirs AS SELECT time, {other} AS other, resource, peer_group "
                f"FROM read_parquet({self._listed(segments)}) WHERE {where}",
                values,
            )
            ((accesses, first, last, others),) = cursor.execute(
                "SELECT count(*), epoch_us(min(time)), epoch_us(max(time)), count(DISTINCT other) FROM theirs"
            ).fetchall()
            days = cursor.execute("SELECT time::DATE, count(*) FROM theirs GROUP BY 1 ORDER BY 1").fetchall()
            hours = dict(cursor.execute("SELECT hour(time), count(*) FROM theirs GROUP BY 1").fetchall())

            def top(column: str) -> list[tuple[str, int]]:
                return cursor.execute(
                    f"SELECT {column}, count(*) FROM theirs WHERE {column} IS NOT NULL "
                    f"GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {_MOST_NAMES}"
                ).fetchall()

            groups = [name for name, _ in top("peer_group")]
            return AccessProfile(
                accesses,
                first,
                last,
                others,
                days,
                [hours.get(hour, 0) for hour in range(24)],
                top("resource"),
                top("other"),
                groups,
            )

    def peers(self, actor: str, group: str, since: int) -> Peers:
        """How an actor stands in a peer group, from ``since`` on. It reads all there is of it, and takes its time."""
        self._refresh()
        with self._shelf.reading(since) as segments:
            if not segments:
                return Peers(group, 0, 0, 0, 0.0, [])
            cursor = self._shelf.database.cursor()
            cursor.execute(
                "CREATE OR REPLACE TEMP TABLE peers AS SELECT actor, count(DISTINCT subject) AS people "
                f"FROM read_parquet({self._listed(segments)}) WHERE peer_group = ? AND time >= make_timestamptz(?) "
                "GROUP BY actor",
                [group, since],
            )
            ((members, theirs, median),) = cursor.execute(
                "SELECT count(*), coalesce(max(people) FILTER (actor = ?), 0), coalesce(median(people), 0) FROM peers",
                [actor],
            ).fetchall()
            ((ahead,),) = cursor.execute("SELECT count(*) FROM peers WHERE people > ?", [theirs]).fetchall()
            most = cursor.execute(
                f"SELECT actor, people FROM peers ORDER BY people DESC, actor LIMIT {_MOST_NAMES}"
            ).fetchall()
            return Peers(group, members, theirs, ahead, median, most)

    def lookers(self, subjects: Sequence[str], within: Sequence[str] = ()) -> dict[str, list[tuple[str, int]]]:
        """Who looked at each of some people, and how often, the most often first. It takes its time, too."""
        where, patterns = _where({}, None, None, within)
        rows = self._ask(
            "SELECT subject, actor, count(*) FROM read_parquet($files) "
            f"WHERE subject IN ({', '.join('?' * len(subjects))}) AND {where} GROUP BY ALL ORDER BY 3 DESC, 2",
            [*subjects, *patterns], None, None,
        )  # fmt: skip
        found: dict[str, list[tuple[str, int]]] = {subject: [] for subject in subjects}
        for subject, actor, count in rows:
            found[subject].append((actor, count))
        return found

    def actors(self, beginning: str, limit: int = 20, within: Sequence[str] = ()) -> list[str]:
        """Actors whose names begin with a text."""
        # Between these two lie all of them, which says of most row groups that there is none in them.
        after = _after_all_that_begin_with(beginning)
        bound = "" if after is None else "AND actor < ? "
        theirs, patterns = _where({}, None, None, within)
        rows = self._ask(
            f"SELECT DISTINCT actor FROM read_parquet($files) WHERE actor >= ? {bound}AND starts_with(actor, ?) "
            f"AND {theirs} ORDER BY actor LIMIT {int(limit)}",
            [beginning, *([] if after is None else [after]), beginning, *patterns], None, None,
        )  # fmt: skip
        return [actor for (actor,) in rows]

    def knows(self, field: str, value: str, within: Sequence[str] = ()) -> bool:
        """Whether there is any look-up with this value."""
        return bool(self.accesses({field: value}, limit=1, within=within))

    def _refresh(self) -> None:
        if self._freshness is not None:
            self._freshness.ensure()

    def _latest(
        self,
        query: str,
        values: Sequence[Any],
        limit: int,
        since: int | None = None,
        until: int | None = None,
        then: Callable[[tuple[Any, ...]], Any] = lambda _: 0,
    ) -> list[tuple[Any, ...]]:
        """Rows that begin with time, source and position, the latest first; those of one event by ``then``."""
        self._refresh()
        found: list[tuple[Any, ...]] = []
        with self._shelf.reading(since, until) as segments:
            waiting = sorted(segments, key=lambda one: one.newest)
            # The latest are in few files as a rule, and the others need not be opened.
            at_once = _FIRST_FILES
            while waiting and not (len(found) >= limit and waiting[-1].newest < found[limit - 1][0]):
                chosen = [waiting.pop() for _ in range(min(at_once, len(waiting)))]
                found += self._ask_of(chosen, query, values)
                found.sort(key=then)
                found.sort(key=lambda row: row[:3], reverse=True)
                del found[limit:]
                at_once *= 2
        return found

    def _ask(
        self, query: str, values: Sequence[Any], since: int | None, until: int | None, refresh: bool = True
    ) -> list[tuple[Any, ...]]:
        if refresh:
            self._refresh()
        with self._shelf.reading(since, until) as segments:
            return self._ask_of(segments, query, values)

    def _ask_of(self, segments: Sequence[HistorySegment], query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        if not segments:
            return []
        # Placeholders are taken in order; the files stand where the query names them.
        asked = query.replace("$files", self._listed(segments))
        return self._shelf.database.cursor().execute(asked, list(values)).fetchall()

    def _listed(self, segments: Sequence[HistorySegment]) -> str:
        paths = (self._shelf.place(one.name).replace("'", "''") for one in segments)
        return "[" + ", ".join(f"'{path}'" for path in paths) + "]"


def _after_all_that_begin_with(beginning: str) -> str | None:
    """The least text after all that begin so, in the order of code points, which is that of UTF-8's bytes."""
    for at in range(len(beginning) - 1, -1, -1):
        following = ord(beginning[at]) + 1
        if following == 0xD800:
            following = 0xE000  # what lies between is no character
        if following <= sys.maxunicode:
            return beginning[:at] + chr(following)
    return None


def _where(
    having: Mapping[str, str], since: int | None, until: int | None, within: Sequence[str] = ()
) -> tuple[str, list[Any]]:
    conditions, values = ["true"], list[Any]()
    for name, value in having.items():
        if name not in FIELDS:
            raise ValueError(f"the history has no column '{name}'; it has {', '.join(FIELDS)}")
        conditions.append(f"{name} = ?")
        values.append(value)
    if within:
        conditions.append(f"({' OR '.join(['resource GLOB ?'] * len(within))})")
        values += within
    for compared, bound in ((">=", since), ("<=", until)):
        if bound is not None:
            conditions.append(f"time {compared} make_timestamptz(?)")
            values.append(bound)
    return " AND ".join(conditions), values
