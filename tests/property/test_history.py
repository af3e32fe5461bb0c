"""The history contains every event once, for any batches, restarts, merges and write errors."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from custodes._core import Engine
from custodes.encryption.keys import NO_KEYS, Keys
from custodes.history import Access, History, HistoryWriter, SegmentStore, compaction
from custodes.history.queries import RecordedEvent
from streams import START, StreamRecord

PLAN = json.dumps(
    {
        "mapping": {name: [name] for name in ("time", "actor", "subject", "resource", "peer_group", "purpose")},
        "rules": [],
        "history": True,
    }
)
EVER = timedelta(days=10_000)

events = st.fixed_dictionaries(
    {
        "time": st.integers(0, 9 * 86_400).map(lambda s: START + s * 1_000_000),
        "actor": st.sampled_from(["a", "b", "Zoë 'quoted'", 7]),
        "subject": st.none() | st.sampled_from(["s1", "s2", 3]) | st.lists(st.sampled_from(["s1", "s2"]), max_size=3),
    },
    optional={"resource": st.sampled_from(["person", "hotel"]) | st.lists(st.just("many"), max_size=2)},
)
steps = st.lists(
    st.tuples(
        st.sampled_from([0, 1]), st.integers(1, 6), st.sampled_from(["on", "on", "on", "flush", "crash", "refuse"])
    ),
    max_size=40,
)


class HistoryProcess:
    """One process that reads two partitions, writes the history, and may end at any time."""

    def __init__(self, folder: Path, positions: list[int], keys: Keys = NO_KEYS) -> None:
        self.shelf = SegmentStore(folder, keys)
        self.writer = HistoryWriter(self.shelf, EVER)
        self.engine = Engine(PLAN)
        self.positions = positions

    def read(self, partition: int, log: list[bytes], most: int) -> None:
        begin = self.positions[partition]
        records = [StreamRecord(at, value) for at, value in enumerate(log[begin : begin + most], begin)]
        if records:
            outcome = self.engine.process_records(records, partition)
            self.writer.take(f"access/{partition}", outcome.recording)
            self.positions[partition] += len(records)

    def end(self) -> None:
        """Simulates a crash: queued rows are lost."""
        self.shelf.put = refuse  # type: ignore[method-assign, assignment]
        self.writer.close()


def rows_of(log: list[dict[str, Any]], partition: int) -> Counter[Any]:
    """Returns the expected history of a partition."""
    rows: Counter[Any] = Counter()
    for position, event in enumerate(log):
        subject, resource = event["subject"], event.get("resource")
        resource = (resource or [None])[0] if isinstance(resource, list) else resource
        for one in set(subject or [None]) if isinstance(subject, list) else [subject]:
            name = None if one is None else str(one)
            rows[(event["time"], f"access/{partition}", position, str(event["actor"]), name, resource)] += 1
    return rows


def rows_in(event: dict[str, Any]) -> int:
    subject = event["subject"]
    return max(1, len(subject)) if isinstance(subject, list) else 1


def said(access: Access) -> Any:
    return (access.time, access.source, access.position, access.actor, access.subject, access.resource)


OLD = ("old", b"o" * 32)
KEYRINGS = [NO_KEYS, Keys([OLD]), Keys([("new", b"n" * 32), OLD])]
"""Encryption settings: none, one key, and the next key."""


@given(
    st.lists(events, max_size=40), st.lists(events, max_size=40), steps, st.lists(st.sampled_from([0, 1]), max_size=3)
)
def test_every_event_is_stored_once(
    first: list[Any], second: list[Any], steps: list[Any], next_keys: list[int]
) -> None:
    keyring = 0
    logs = [[json.dumps(event).encode() for event in log] for log in (first, second)]
    with TemporaryDirectory() as name:
        process, saved = HistoryProcess(Path(name) / "history", [0, 0]), [0, 0]
        for partition, most, then in [*steps, (0, 99, "on"), (1, 99, "flush")]:
            put = process.shelf.put
            if then == "refuse":
                process.shelf.put = refuse  # type: ignore[method-assign, assignment]
            process.read(partition, logs[partition], most)
            try:
                if then in {"flush", "refuse"}:
                    process.writer.flush()
                    saved = list(process.positions)
            except OSError:
                assert then == "refuse"
            process.shelf.put = put  # type: ignore[method-assign]
            if then == "crash":
                process.end()
                # The next process may have the next key and must read older files.
                keyring = min(keyring + (next_keys.pop() if next_keys else 0), len(KEYRINGS) - 1)
                process = HistoryProcess(Path(name) / "history", list(saved), KEYRINGS[keyring])
        # All files that can be merged are merged.
        process.writer.wait_until_compacted()
        segments = process.shelf.segments
        assert not compaction.mergeable(segments, 2**62)
        assert sorted(path.name for path in process.shelf.path.glob("*.parquet")) == [one.name for one in segments]
        assert sum(one.rows for one in segments) == sum(map(rows_in, [*first, *second]))
        history = History(process.shelf)
        wanted = rows_of(first, 0) + rows_of(second, 1)
        assert Counter(map(said, history.accesses({}, limit=10_000))) == wanted
        for actor in ("a", "Zoë 'quoted'", "7"):
            theirs = {row: count for row, count in wanted.items() if row[3] == actor}
            found = history.accesses({"actor": actor}, limit=10_000)
            assert Counter(map(said, found)) == theirs
            assert [one.time for one in found] == sorted((one.time for one in found), reverse=True)
            positions = {row[1:3] for row in theirs}
            records = history.records({"actor": actor, "unknown": "x"}, since=0, until=2**52, limit=10_000)
            assert sorted(map(place, records)) == sorted(positions)
            for one in records:
                source, position = place(one)
                assert one.record == logs[int(source[-1])][position]
        in_order = sorted(
            (event["time"], f"access/{partition}", position, logs[partition][position])
            for partition, log in enumerate((first, second))
            for position, event in enumerate(log)
        )
        for most in (1, 3, 7, 99):
            assert history.latest_records(most) == [record for *_, record in in_order[-most:]]
        for subject in ("s1", "3", "nobody"):
            records = history.records({"subject": subject}, since=0, until=2**52, limit=10_000)
            mine = {row[1:3] for row in wanted if row[4] == subject}
            assert mine <= set(map(place, records))
        process.end()


def place(one: RecordedEvent) -> tuple[str, int]:
    return (one.access.source, one.access.position)


def refuse(*_: Any) -> None:
    raise OSError(28, "No space left on device")


@given(st.lists(events, min_size=1, max_size=30), st.integers(1, 9))
def test_pages_join_to_the_whole(log: list[Any], size: int) -> None:
    with TemporaryDirectory() as name:
        process = HistoryProcess(Path(name), [0, 0])
        single = [event | {"subject": "s1"} for event in log]
        process.read(0, [json.dumps(event).encode() for event in single], 99)
        process.writer.flush()
        history = History(process.shelf)
        whole = history.accesses({"subject": "s1"})
        pages: list[Access] = []
        while page := history.accesses(
            {"subject": "s1"},
            limit=size,
            before=(pages[-1].time, pages[-1].source, pages[-1].position) if pages else None,
        ):
            pages += page
        assert pages == whole
        assert len(whole) == len(log)
        process.end()


DAY = 86_400_000_000
LOOKS = st.tuples(st.integers(0, 3), st.sampled_from("abcd"), st.sampled_from("xy"), st.sampled_from("stuv"))


@given(st.lists(LOOKS, max_size=40))
def test_peers_and_co_viewers_equal_a_manual_count(looks: list[tuple[int, str, str, str]]) -> None:
    with TemporaryDirectory() as name:
        process = HistoryProcess(Path(name), [0, 0])
        log = [
            {"time": START + day * DAY, "actor": actor, "peer_group": group, "subject": subject}
            for day, actor, group, subject in looks
        ]
        process.read(0, [json.dumps(event).encode() for event in log], 99)
        process.writer.flush()
        history = History(process.shelf)
        found, lookers = history.peers("a", "x", START + DAY), history.lookers("st")
        process.end()
    people: dict[str, set[str]] = {}
    for day, actor, group, subject in looks:
        if group == "x" and day >= 1:
            people.setdefault(actor, set()).add(subject)
    counts = {actor: len(each) for actor, each in people.items()}
    theirs = counts.get("a", 0)
    assert (found.members, found.theirs) == (len(counts), theirs)
    assert found.ahead == sum(count > theirs for count in counts.values())
    assert found.median == (median(counts.values()) if counts else 0)
    assert found.most == _most(counts)
    for subject in "st":
        assert lookers[subject] == _most(Counter(actor for _, actor, _, whom in looks if whom == subject))


def _most(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Sorts by frequency, then by name."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
