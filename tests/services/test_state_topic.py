"""State in a compacted topic: what the last claimant left is found, what one without a claim writes is not."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka.errors import KafkaError

from custodes.config.model import KafkaSource
from custodes.sources import Place
from custodes.state import Snapshots
from custodes.state.topic import StateTopic
from servers import Kafka, eventually

pytestmark = [
    pytest.mark.services,
    pytest.mark.timeout(120),
]

LARGE = bytes(range(256)) * 8000
"""Two megabytes: several chunks."""


@pytest.fixture
def stores(kafka: Kafka, request: pytest.FixtureRequest) -> Iterator[list[StateTopic]]:
    topic = request.node.name.replace("_", "-")[:60]
    kafka.create_topic(topic, 2, cleanup_policy="compact")
    settings = KafkaSource(bootstrap_servers=[kafka.bootstrap], topics=["any"])
    made = [StateTopic(settings, topic) for _ in range(3)]
    yield made
    for store in made:
        store.close()


def write(snapshots: Snapshots, what: bytes) -> None:
    writing = snapshots.begin()
    for section in (b"frame " + what, LARGE, b"part"):
        writing.add([section])
    writing.finish(1.0, [Place(0, "access/1", 7)])


def read(snapshots: Snapshots) -> list[bytes]:
    return [snapshots.read(number).frame for number in snapshots.numbers()]


def test_what_one_worker_leaves_the_next_one_finds(stores: list[StateTopic]) -> None:
    mine = Snapshots(stores[0].claim("access/1"), keep=2)
    assert mine.numbers() == []
    for what in (b"1", b"2", b"3"):
        write(mine, what)
        mine.prune()
    other_task = Snapshots(stores[0].claim("access/3"), keep=2)
    write(other_task, b"of another task in the same partition")
    unfinished = mine.begin()
    unfinished.add([LARGE])
    # The worker dies. What it did not finish is nothing.
    next_one = Snapshots(stores[1].claim("access/1"), keep=2)
    assert read(next_one) == [b"frame 3", b"frame 2"]
    write(next_one, b"4")
    last = Snapshots(stores[2].claim("access/1"), keep=2)
    newest, *before = [last.read(number) for number in last.numbers()]
    assert (newest.frame, newest.parts) == (b"frame 4", [LARGE, b"part"])
    assert newest.places == [Place(0, "access/1", 7)]
    assert [one.frame for one in before] == [b"frame 3", b"frame 2"]


def test_one_that_lost_its_claim_writes_nothing(stores: list[StateTopic]) -> None:
    zombie = Snapshots(stores[0].claim("access/1"), keep=2)
    write(zombie, b"before")
    begun = zombie.begin()
    begun.add([LARGE])
    rightful = Snapshots(stores[1].claim("access/1"), keep=2)
    assert read(rightful) == [b"frame before"]
    begun.finish(2.0, [])
    for _ in range(3):
        # Its numbers are those of the rightful one.
        write(zombie, b"by the zombie")
    write(rightful, b"by the rightful one")
    third = Snapshots(stores[2].claim("access/1"), keep=2)
    assert read(third) == [b"frame by the rightful one", b"frame before"]


def test_all_agree_on_what_was_first(stores: list[StateTopic]) -> None:
    assert stores[0].agree("key", "mine") == "mine"
    assert stores[1].agree("key", "yours") == "mine"
    assert stores[1].agree("other", "yours") == "yours"
    assert stores[2].agree("other", "whatever") == "yours"


def test_a_store_outlives_a_broker_that_was_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A claim that could not be made in time leaves nothing behind that keeps the next from being made."""
    caplog.set_level(logging.CRITICAL, logger="kafka")
    kafka = Kafka(tmp_path / "kafka")
    kafka.create_topic("state", 2, cleanup_policy="compact")
    store = StateTopic(KafkaSource(bootstrap_servers=[kafka.bootstrap], topics=["any"]), "state")
    try:
        write(Snapshots(store.claim("access/1"), keep=2), b"before")
        kafka.kill()
        with pytest.raises(KafkaError):
            store.claim("access/1")
        kafka.start_again()
        kafka.wait_for("Kafka to listen", kafka.listens, 60)

        def claimed() -> Snapshots | None:
            try:
                return Snapshots(store.claim("access/1"), keep=2)
            except KafkaError:
                return None

        mine = eventually("a claim", claimed, 60)
        assert read(mine) == [b"frame before"]
        write(mine, b"after")
    finally:
        store.close()
        kafka.stop()
        gc.collect()
