"""Whole fetches from a real broker: the same findings for each codec and each way of reading."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.record import MemoryRecords
from kafka.structs import OffsetAndMetadata
from structlog.testing import capture_logs

from custodes._core import Engine, FindingChange
from custodes.config.model import KafkaSourceSettings as Settings
from custodes.sources import FetchedBatches, RecordList, fetches
from custodes.sources.kafka import KafkaSource
from servers import Kafka, eventually

pytestmark = [pytest.mark.services, pytest.mark.timeout(120)]

START = 1_767_600_000
EVENTS = 20_000
PLAN = json.dumps(
    {
        "mapping": {"time": ["time"], "actor": ["actor"], "subject": ["subject"]},
        "rules": [
            {
                "id": "count", "when": {"all": []}, "group_by": ["actor"], "timespan_ms": 600_000,
                "resolution_ms": 1000, "keep_open_ms": 600_000, "holds": {"gte": 30},
            },
            {
                "id": "distinct", "when": {"all": []}, "group_by": ["subject"], "distinct": "actor",
                "timespan_ms": 3_600_000, "resolution_ms": 6000, "keep_open_ms": 3_600_000, "holds": {"gte": 5},
            },
        ],
    }
)  # fmt: skip


def records() -> Iterator[bytes]:
    """Events nearly in order, with some invalid records."""
    rng = random.Random(7)
    for n in range(EVENTS):
        event = {
            "time": START + n // 4 + rng.random() * 5,
            "actor": f"P{int(300 * rng.random() ** 2)}",
            "subject": f"市民{int(4000 * rng.random() ** 2)}",
        }
        yield b"{" if n % 1000 == 7 else json.dumps(event, ensure_ascii=n % 2 == 0).encode()


def send(broker: Kafka, topic: str, codec: str = "uncompressed") -> None:
    """Sends plain records that the broker recompresses with Kafka's own codecs."""
    broker.create_topic(topic, 1, compression_type=codec)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, linger_ms=20, batch_size=100_000)
    for n, value in enumerate(records()):
        producer.send(topic, value=value, key=b"k" if n % 3 else None, headers=[("h", b"v")] * (n % 3))
    producer.close()


def read(broker: Kafka, topic: str, group: str, threads: int = 1) -> tuple[list[bytes], set[type]]:
    """Reads a topic to its end. Returns the final findings and how records were read."""
    settings = Settings(bootstrap_servers=[broker.bootstrap], topics=[topic], group_id=group)
    source = KafkaSource(settings, idle_after=3600)
    engine = Engine(PLAN, threads)
    kinds: set[type] = set()
    seen = 0
    changes: dict[str, FindingChange] = {}

    def all_read() -> bool:
        nonlocal seen
        for arrival in source.poll(0.25):
            outcome = arrival.feed(engine, None)
            if isinstance(arrival, FetchedBatches | RecordList):
                kinds.add(type(arrival))
            if outcome is not None:
                seen += outcome.events + len(outcome.rejects)
                changes.update({change.id: change for change in outcome.changes})
        return seen >= EVENTS

    try:
        eventually(f"{topic} to be read", all_read, 60)
        source.commit()
    finally:
        source.close()
    assert seen == EVENTS
    changes.update({change.id: change for change in engine.finish().changes})
    return sorted(as_bytes(change) for change in changes.values()), kinds


def records_until(source: KafkaSource, is_enough: Callable[[int], bool]) -> int:
    """Reads until enough records have been read; returns their number."""
    engine = Engine(PLAN)
    seen = 0

    def has_read_enough() -> bool:
        nonlocal seen
        for arrival in source.poll(0.25):
            outcome = arrival.feed(engine, None)
            seen += 0 if outcome is None else outcome.events + len(outcome.rejects)
        return is_enough(seen)

    try:
        eventually("enough to be read", has_read_enough)
    finally:
        source.close()
    return seen


def as_bytes(change: FindingChange) -> bytes:
    names = ("kind", "id", "rule", "group", "opened_at", "closed_at", "held_from", "held_until", "peak", "count")
    return json.dumps({name: getattr(change, name) for name in names}).encode()


@pytest.fixture
def expected() -> list[bytes]:
    """Returns the findings of the same records as lines of a file."""
    engine = Engine(PLAN)
    outcome = engine.process_lines(b"\n".join(records()))
    changes = {change.id: change for change in [*outcome.changes, *engine.finish().changes]}
    assert len(changes) > 100, "the stream must be worth counting"
    return sorted(as_bytes(change) for change in changes.values())


@pytest.mark.parametrize("codec", ["uncompressed", "gzip", "snappy", "lz4", "zstd"])
def test_every_codec_and_any_number_of_threads_give_the_same_findings(
    kafka: Kafka, expected: list[bytes], codec: str
) -> None:
    topic = f"codec-{codec}"
    send(kafka, topic, codec)
    for threads in (1, 3):
        found, kinds = read(kafka, topic, f"threads-{threads}", threads)
        assert kinds == {FetchedBatches}
        assert found == expected


def test_records_decoded_one_by_one_give_the_same_findings(
    kafka: Kafka, expected: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a kafka-python that has another fetcher, one warning is logged and everything works."""
    send(kafka, "one-by-one", "gzip")

    class OtherRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
        """Stands for the fetcher of a later kafka-python."""

    make = Fetcher.__init__

    def other_fetcher(fetcher: Any, *args: Any, **settings: Any) -> None:
        make(fetcher, *args, **settings)
        fetcher.PartitionRecords = OtherRecords

    monkeypatch.setattr(Fetcher, "__init__", other_fetcher)
    with capture_logs() as logs:
        found, kinds = read(kafka, "one-by-one", "single")
    assert kinds == {RecordList}
    assert found == expected
    assert [entry["event"] for entry in logs].count("slow_decoding_everywhere") == 1


@pytest.mark.parametrize(("isolation", "expected_events"), [("read_committed", 20), ("read_uncommitted", 30)])
def test_aborted_transactions_are_skipped_as_in_kafka(
    kafka: Kafka, isolation: str, expected_events: int, request: pytest.FixtureRequest
) -> None:
    topic = f"transactions-{isolation}"
    kafka.create_topic(topic, 1)
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=topic, compression_type="zstd")
    producer.init_transactions()
    end: list[Callable[[], Any]] = [
        producer.commit_transaction, producer.abort_transaction, producer.commit_transaction
    ]  # fmt: skip
    for number, finish in enumerate(end):
        producer.begin_transaction()
        for n in range(10):
            event = {"time": START + number * 10 + n, "actor": f"P{number}"}
            producer.send(topic, value=json.dumps(event).encode())
        producer.flush()
        finish()
    producer.close()
    settings = Settings(
        bootstrap_servers=[kafka.bootstrap],
        topics=[topic],
        group_id=isolation,
        client={"isolation_level": isolation},
    )
    source = KafkaSource(settings, idle_after=3600)
    seen = records_until(source, lambda seen: seen >= expected_events and source.lag() == 0)
    assert seen == expected_events


def test_a_restart_continues_within_a_batch(kafka: Kafka) -> None:
    """Offsets committed in the middle of a batch: earlier records are not counted again."""
    send(kafka, "middle", "lz4")
    settings = Settings(bootstrap_servers=[kafka.bootstrap], topics=["middle"], group_id="middle")
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id="middle")
    consumer.assign([TopicPartition("middle", 0)])
    consumer.commit({TopicPartition("middle", 0): OffsetAndMetadata(12_345, "", -1)})
    consumer.close()
    source = KafkaSource(settings, idle_after=3600)
    assert records_until(source, lambda seen: seen >= EVENTS - 12_345) == EVENTS - 12_345


def test_a_backlog_is_read_with_aligned_partitions(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """One partition has nine tenths of the records, so fetches of equal size cover unequal times."""
    monkeypatch.setattr(fetches, "PIECE_BYTES", 10_000)
    monkeypatch.setattr("custodes.sources.partitions.MAX_QUEUED_BYTES", 20_000)
    topic, second = "side-by-side", 1000
    kafka.create_topic(topic, 3)
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, linger_ms=20, batch_size=5_000)
    for n, value in enumerate(records()):
        partition = n // 10 % 2 + 1 if n % 10 == 0 else 0
        producer.send(topic, value=value, partition=partition, timestamp_ms=START * second + n * 250)
    producer.close()
    settings = Settings(
        bootstrap_servers=[kafka.bootstrap],
        topics=[topic],
        group_id=topic,
        client={"max_partition_fetch_bytes": 100_000, "fetch_max_bytes": 200_000},
    )
    source = KafkaSource(settings, idle_after=3600)
    reached: dict[int, int] = {}
    paused: set[TopicPartition] = set()
    handed_over: Counter[int] = Counter()
    apart = 0

    def all_read() -> bool:
        nonlocal apart
        arrivals = source.poll(0.25)
        paused.update(source.paused)
        for arrival in arrivals:
            if isinstance(arrival, FetchedBatches):
                span = MemoryRecords(arrival.data[slice(*arrival.span)])
                # Headers alone: decoding 20,000 records in Python takes longer than the limit on a busy machine.
                for batch in iter(span.next_batch, None):
                    handed_over[arrival.stream] += batch.records_count
                    reached[arrival.stream] = batch.max_timestamp
                if len(reached) == 3:
                    apart = max(apart, reached[arrival.stream] - min(reached.values()))
        return handed_over.total() == EVENTS

    try:
        eventually("all to be read", all_read, 60)
        assert source.lag() == 0
    finally:
        source.close()
    assert paused, "a partition that is far ahead is asked for no more until the others have come up"
    assert sorted(handed_over.values()) == [EVENTS // 20, EVENTS // 20, EVENTS * 9 // 10]
    # A batch of a slow partition spans minutes, which is also the allowed distance between partitions.
    assert apart < 30 * 60 * second, "the topic spans 83 minutes"
