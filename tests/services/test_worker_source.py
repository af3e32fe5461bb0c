"""The partitions of a worker, with a real broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from custodes.config import FaultsError
from custodes.config.model import KafkaSourceSettings, WorkersSettings
from custodes.sources import FetchedBatches
from custodes.sources.kafka_worker import PartitionedKafkaSource
from monitor_process import reads, send
from servers import Kafka, eventually

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]

SourceMaker = Callable[[str], PartitionedKafkaSource]


@pytest.fixture
def make(kafka: Kafka, request: pytest.FixtureRequest) -> Iterator[SourceMaker]:
    """Makes workers that share a topic of one partition, which is named after the test."""
    topic = request.node.name
    kafka.create_topic(topic, 1)
    settings = KafkaSourceSettings(
        bootstrap_servers=[kafka.bootstrap], topics=[topic], group_id=topic, client={"session_timeout_ms": 6000}
    )
    workers = WorkersSettings(repartition_topic=f"{topic}-repartition", state_topic=f"{topic}-state")
    made: list[PartitionedKafkaSource] = []

    def make(name: str) -> PartitionedKafkaSource:
        made.append(PartitionedKafkaSource(settings, workers, 60.0, name))
        return made[-1]

    yield make
    for source in made:
        source.close()


def assigned(source: PartitionedKafkaSource, name: str) -> int:
    """Returns the stream of an assigned partition."""
    found: list[int] = []

    def has_it() -> bool:
        joined = [message.stream for message in source.poll(0.1)]
        found.extend(stream for stream in joined if source.place(stream).name == name)
        return bool(found) and source.still_ours(found[-1])

    eventually(f"{name} to be assigned", has_it)
    return found[-1]


def test_a_partition_that_is_begun_again_without_a_snapshot_is_read_again(kafka: Kafka, make: SourceMaker) -> None:
    """As after another worker, which then lost it, had claimed the partition: what was counted is discarded."""
    source, topic = make("one"), "test_a_partition_that_is_begun_again_without_a_snapshot_is_read_again"
    send(kafka, topic, reads(10, "P1", time.time()))
    stream = assigned(source, f"{topic}/0")
    for _ in range(2):
        assert source.begin(stream, None) == 0

        def reads_all() -> bool:
            came = [message for message in source.poll(0.1) if isinstance(message, FetchedBatches)]
            assert all(message.position == 0 for message in came)
            return bool(came)

        eventually("all to be read", reads_all)
        assert source.place(stream).position == 10


def test_a_worker_whose_place_was_taken_is_told_so(make: SourceMaker) -> None:
    """Nothing was committed yet."""
    source, topic = make("same"), "test_a_worker_whose_place_was_taken_is_told_so"
    stream = assigned(source, f"{topic}/0")
    other = make("same")
    assigned(other, f"{topic}/0")
    with pytest.raises(FaultsError, match="another process has joined"):
        source.still_ours(stream)
