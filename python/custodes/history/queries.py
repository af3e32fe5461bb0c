"""Queries over the history: activity of an actor, look-ups of a subject, events of a finding.

Values are compared in normal form and shown as they were written.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from custodes.config.normal_forms import NormalForms
from custodes.history.segments import HistorySegment, SegmentStore
from custodes.history.writer import Freshness, HistoryWriter

FIELDS = ("actor", "subject", "resource", "action", "peer_group", "purpose", "client_ip", "app")
"""Fields with their own column."""
SPELLED = ("actor", "subject", "action")
"""Fields with a column for the value as written, where it differs from the normal form. Files of 0.2 have none: the
values as written are in the column of the field."""
_MOST_NAMES = 20
_FIRST_FILES = 4
"""Number of files searched for the latest look-ups; doubled while too few are found."""


@dataclass(frozen=True)
class Access:
    """One look-up of one subject, or without a subject."""

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
    """Activity of one actor, or look-ups of one subject, in an interval."""

    accesses: int
    first: int | None
    last: int | None
    others: int
    """Number of distinct subjects of an actor, or actors of a subject."""
    by_day: list[tuple[date, int]]
    by_hour: list[int]
    """Number of look-ups by hour of the day, in UTC."""
    resources: list[tuple[str, int]]
    top_others: list[tuple[str, int]]
    peer_groups: list[str]


@dataclass(frozen=True)
class Peers:
    """An actor's rank in its peer group, by number of distinct subjects."""

    group: str
    members: int
    """Number of active actors in the peer group, including this one."""
    theirs: int
    """Number of distinct subjects of the actor."""
    ahead: int
    """Number of actors with more subjects."""
    median: float
    most: list[tuple[str, int]]
    """Actors with the most subjects, in descending order."""


class History:
    """Answers queries from the segments. Safe to use from any thread."""

    def __init__(
        self,
        shelf: SegmentStore,
        writer: HistoryWriter | None = None,
        forms: NormalForms | None = None,
    ) -> None:
        """``forms`` are those of the default mapping if there are none."""
        self._shelf = shelf
        self.forms = forms or NormalForms()
        """Normal forms in which names are compared; replaced when the mapping changes."""
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
        """Returns look-ups whose fields have these values, latest first.

        ``before`` is time, source and position of the last known one, for the next page. ``within`` are resource
        patterns, in all methods: events of other resources are left out. Raises ``ValueError`` for a field without a
        column.
        """
        where, values = self._where(having, since, until, within)
        if before is not None:
            where += " AND (time, source, position) < (make_timestamptz(?), ?, ?)"
            values += before
            until = before[0] if until is None else min(until, before[0])
        query = (
            f"SELECT DISTINCT epoch_us(time) AS moment, source, position, {_SHOWN} "
            f"FROM $files WHERE {where} "
            f"ORDER BY moment DESC, source DESC, position DESC, {_written('subject')} LIMIT {int(limit)}"
        )
        rows = self._latest(query, values, limit, since, until, then=lambda row: (row[4] is None, row[4]))
        return [Access(*row) for row in rows]

    def records(
        self, having: Mapping[str, str], *, since: int, until: int, limit: int, refresh: bool = True
    ) -> list[RecordedEvent]:
        """Returns the original events, earliest first: all that may have these values.

        A field without a column does not filter. Without ``refresh``, events that are not written yet are left out.
        """
        known = {name: value for name, value in having.items() if name in FIELDS}
        where, values = self._where(known, since, until)
        if "subject" in known:
            # The record is in the first row of its event, which may be about another subject.
            found = self._ask(
                f"SELECT DISTINCT actor, position FROM $files WHERE {where} LIMIT {int(limit)}",
                values, since, until, refresh,
            )  # fmt: skip
            if not found:
                return []
            where, values = self._where({}, since, until)
            for at, column in enumerate(("actor", "position")):
                each = sorted({row[at] for row in found})
                where += f" AND {column} IN ({', '.join('?' * len(each))})"
                values += each
        rows = self._ask(
            f"SELECT DISTINCT epoch_us(time) AS moment, source, position, {_SHOWN}, record FROM $files "
            f"WHERE {where} AND record IS NOT NULL ORDER BY moment, source, position LIMIT {int(limit)}",
            values, since, until, refresh,
        )  # fmt: skip
        return [RecordedEvent(Access(*access), record.encode()) for *access, record in rows]

    def latest_records(self, limit: int) -> list[bytes]:
        """Returns the latest events as their sources had them, earliest first."""
        query = (
            "SELECT epoch_us(time) AS moment, source, position, record FROM $files "
            f"WHERE record IS NOT NULL ORDER BY moment DESC, source DESC, position DESC LIMIT {int(limit)}"
        )
        return [record.encode() for *_, record in reversed(self._latest(query, [], limit))]

    def reaches_back_to(self, time: int) -> bool:
        """Returns whether events of a time would still be kept; ``False`` if all kept events are later."""
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
        """Returns the distribution of an ``actor``'s or a ``subject``'s look-ups over days, hours, resources and
        people."""
        other = "subject" if field == "actor" else "actor"
        where, values = self._where({field: value}, since, until, within)
        self._refresh()
        with self._shelf.reading(since, until) as segments:
            if not segments:
                return AccessProfile(0, None, None, 0, [], [0] * 24, [], [], [])
            cursor = self._shelf.database.cursor()
            cursor.execute(
                f"CREATE OR REPLACE TEMP TABLE theirs AS SELECT time, {other} AS other, {_written(other)} AS shown, "
                f"resource, peer_group FROM {self._listed(segments)} WHERE {where}",
                values,
            )
            ((accesses, first, last, others),) = cursor.execute(
                "SELECT count(*), epoch_us(min(time)), epoch_us(max(time)), count(DISTINCT other) FROM theirs"
            ).fetchall()
            days = cursor.execute("SELECT time::DATE, count(*) FROM theirs GROUP BY 1 ORDER BY 1").fetchall()
            hours = dict(cursor.execute("SELECT hour(time), count(*) FROM theirs GROUP BY 1").fetchall())

            def top(column: str, shown: str | None = None) -> list[tuple[str, int]]:
                return cursor.execute(
                    f"SELECT min({shown or column}), count(*) FROM theirs WHERE {column} IS NOT NULL "
                    f"GROUP BY {column} ORDER BY 2 DESC, 1 LIMIT {_MOST_NAMES}"
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
                top("other", "shown"),
                groups,
            )

    def peers(self, actor: str, group: str, since: int) -> Peers:
        """Returns an actor's rank in its peer group since a time. Reads all data of the group, which is slow."""
        self._refresh()
        with self._shelf.reading(since) as segments:
            if not segments:
                return Peers(group, 0, 0, 0, 0.0, [])
            cursor = self._shelf.database.cursor()
            cursor.execute(
                f"CREATE OR REPLACE TEMP TABLE peers AS SELECT actor, min({_written('actor')}) AS shown, "
                f"count(DISTINCT subject) AS people FROM {self._listed(segments)} "
                "WHERE peer_group = ? AND time >= make_timestamptz(?) GROUP BY actor",
                [group, since],
            )
            condition, names = self._is("actor", actor)
            ((members, theirs, median),) = cursor.execute(
                f"SELECT count(*), coalesce(max(people) FILTER ({condition}), 0), coalesce(median(people), 0) "
                "FROM peers",
                names,
            ).fetchall()
            ((ahead,),) = cursor.execute("SELECT count(*) FROM peers WHERE people > ?", [theirs]).fetchall()
            most = cursor.execute(
                f"SELECT shown, people FROM peers ORDER BY people DESC, actor LIMIT {_MOST_NAMES}"
            ).fetchall()
            return Peers(group, members, theirs, ahead, median, most)

    def lookers(self, subjects: Sequence[str], within: Sequence[str] = ()) -> dict[str, list[tuple[str, int]]]:
        """Returns the actors of each of some subjects, with the number of look-ups, most frequent first. Slow, too."""
        where, patterns = self._where({}, None, None, within)
        asked = {spelling: subject for subject in subjects for spelling in self._spellings("subject", subject)}
        rows = self._ask(
            f"SELECT subject, min({_written('actor')}), count(*) FROM $files "
            f"WHERE subject IN ({', '.join('?' * len(asked))}) AND {where} GROUP BY subject, actor ORDER BY 3 DESC, 2",
            [*asked, *patterns], None, None,
        )  # fmt: skip
        found: dict[str, list[tuple[str, int]]] = {subject: [] for subject in subjects}
        for subject, actor, count in rows:
            found[asked[subject]].append((actor, count))
        return found

    def actors(self, beginning: str, limit: int = 20, within: Sequence[str] = ()) -> list[str]:
        """Returns actors whose names begin with a text."""
        theirs, patterns = self._where({}, None, None, within)
        found: dict[str, str] = {}
        for start in self._spellings("actor", beginning):
            # All of them lie between these two bounds, which excludes most row groups.
            after = _after_all_that_begin_with(start)
            bound = "" if after is None else "AND actor < ? "
            found |= self._ask(
                f"SELECT actor, min({_written('actor')}) FROM $files WHERE actor >= ? {bound}"
                f"AND starts_with(actor, ?) AND {theirs} GROUP BY actor ORDER BY actor LIMIT {int(limit)}",
                [start, *([] if after is None else [after]), start, *patterns], None, None,
            )  # fmt: skip
        return [found[actor] for actor in sorted(found)][:limit]

    def knows(self, field: str, value: str, within: Sequence[str] = ()) -> bool:
        """Returns whether any look-up has this value."""
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
        """Returns rows that begin with time, source and position, latest first; rows of one event in the order of
        ``then``."""
        self._refresh()
        found: list[tuple[Any, ...]] = []
        with self._shelf.reading(since, until) as segments:
            waiting = sorted(segments, key=lambda one: one.newest)
            # The latest look-ups are usually in few files, so the others need not be opened.
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
        # Placeholders are positional; the files come at the place where the query names them.
        asked = query.replace("$files", self._listed(segments))
        return self._shelf.database.cursor().execute(asked, list(values)).fetchall()

    def _listed(self, segments: Sequence[HistorySegment]) -> str:
        paths = (self._shelf.place(one.name).replace("'", "''") for one in segments)
        listed = ", ".join(f"'{path}'" for path in paths)
        # The second part defines the columns that files of 0.2 do not have.
        return (
            f"(SELECT * FROM read_parquet([{listed}], union_by_name = true) "
            f"UNION ALL BY NAME SELECT {_NO_SPELLINGS} WHERE false)"
        )

    def _spellings(self, field: str, value: str) -> list[str]:
        """Returns the values to look for in a column: the normal form, and the value for files of 0.2."""
        return list(dict.fromkeys([self.forms.normal(field, value), value]))

    def _is(self, field: str, value: str) -> tuple[str, list[str]]:
        """Returns the condition that a field has a value, and the values of its placeholders."""
        if field not in FIELDS:
            raise ValueError(f"the history has no column '{field}'; it has {', '.join(FIELDS)}")
        values = self._spellings(field, value)
        return f"{field} IN ({', '.join('?' * len(values))})", values

    def _where(
        self, having: Mapping[str, str], since: int | None, until: int | None, within: Sequence[str] = ()
    ) -> tuple[str, list[Any]]:
        conditions, values = ["true"], list[Any]()
        for name, value in having.items():
            condition, names = self._is(name, value)
            conditions.append(condition)
            values += names
        if within:
            conditions.append(f"({' OR '.join(['resource GLOB ?'] * len(within))})")
            values += within
        for compared, bound in ((">=", since), ("<=", until)):
            if bound is not None:
                conditions.append(f"time {compared} make_timestamptz(?)")
                values.append(bound)
        return " AND ".join(conditions), values


def _written(field: str) -> str:
    """Returns the expression of a field's value as it was written."""
    return f"coalesce({field}_written, {field})" if field in SPELLED else field


_SHOWN = ", ".join(map(_written, FIELDS))
_NO_SPELLINGS = ", ".join(f"NULL::VARCHAR AS {name}_written" for name in SPELLED)


def _after_all_that_begin_with(beginning: str) -> str | None:
    """Returns the smallest text after all texts with a prefix, in the order of code points, which is that of UTF-8."""
    for at in range(len(beginning) - 1, -1, -1):
        following = ord(beginning[at]) + 1
        if following == 0xD800:
            following = 0xE000  # surrogates are not characters
        if following <= sys.maxunicode:
            return beginning[:at] + chr(following)
    return None
