"""State stores of workers: the last claimant's state is restored, writes without a claim are ignored."""

from __future__ import annotations

import gc
import io
import logging
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kafka.errors import KafkaError

from custodes.config.model import KafkaSourceSettings
from custodes.sources import StreamPosition
from custodes.state import Snapshots
from custodes.state.claims import StateStore
from custodes.state.objects import ObjectStates
from custodes.state.topic import StateTopic
from servers import MOTO, Kafka, Server, eventually, free_port

pytestmark = [
    pytest.mark.services,
    pytest.mark.timeout(120),
]

LARGE = bytes(range(256)) * 8000
"""Two megabytes: several chunks."""


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Returns the URL of an S3 server with a bucket named `state`."""
    port = free_port()
    server = Server(tmp_path_factory.mktemp("s3"), [MOTO, "-H", "127.0.0.1", "-p", str(port)])
    url = f"http://127.0.0.1:{port}"

    def has_bucket() -> bool:
        request = urllib.request.Request(f"{url}/state", data=b"", method="PUT")
        return bool(urllib.request.urlopen(request, timeout=5).status == 200)

    server.wait_for("a bucket", has_bucket)
    yield url
    server.kill()


@pytest.fixture(params=["topic", "directory", "s3"])
def stores(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[StateStore]]:
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)[:60]
    made: list[StateStore]
    if request.param == "topic":
        kafka: Kafka = request.getfixturevalue("kafka")
        kafka.create_topic(name, 2, cleanup_policy="compact")
        settings = KafkaSourceSettings(bootstrap_servers=[kafka.bootstrap], topics=["any"])
        made = [StateTopic(settings, name) for _ in range(3)]
    elif request.param == "directory":
        made = [ObjectStates(f"file://{tmp_path}/all%20states") for _ in range(3)]
    else:
        monkeypatch.setenv("AWS_ENDPOINT", request.getfixturevalue("s3"))
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "custodes")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        made = [ObjectStates(f"s3://state/{name}") for _ in range(3)]
    yield made
    for store in made:
        store.close()


def write(snapshots: Snapshots, what: bytes) -> None:
    writing = snapshots.begin()
    for section in (b"frame " + what, LARGE, b"part"):
        writing.add([section])
    writing.finish(1.0, [StreamPosition(0, "access/1", 7)])


def read(snapshots: Snapshots) -> list[bytes]:
    return [snapshots.read(number).frame for number in snapshots.numbers()]


def test_the_next_owner_restores_a_workers_state(stores: list[StateStore]) -> None:
    mine = Snapshots(stores[0].claim("access/1"), keep=2)
    assert mine.numbers() == []
    for what in (b"1", b"2", b"3"):
        write(mine, what)
        mine.prune()
    other_task = Snapshots(stores[0].claim("access/3"), keep=2)
    write(other_task, b"of another task in the same partition")
    unfinished = mine.begin()
    unfinished.add([LARGE])
    # The worker dies. Its unfinished snapshot is ignored.
    next_one = Snapshots(stores[1].claim("access/1"), keep=2)
    assert read(next_one) == [b"frame 3", b"frame 2"]
    write(next_one, b"4")
    last = Snapshots(stores[2].claim("access/1"), keep=2)
    newest, *before = [last.read(number) for number in last.numbers()]
    assert (newest.frame, newest.parts) == (b"frame 4", [LARGE, b"part"])
    assert newest.places == [StreamPosition(0, "access/1", 7)]
    assert [one.frame for one in before] == [b"frame 3", b"frame 2"]
    unfinished.abandon()


def test_a_fenced_worker_writes_nothing(stores: list[StateStore]) -> None:
    zombie = Snapshots(stores[0].claim("access/1"), keep=2)
    write(zombie, b"before")
    begun = zombie.begin()
    begun.add([LARGE])
    rightful = Snapshots(stores[1].claim("access/1"), keep=2)
    assert read(rightful) == [b"frame before"]
    begun.finish(2.0, [])
    for _ in range(3):
        # The numbers are those of the rightful owner.
        write(zombie, b"by the zombie")
    write(rightful, b"by the rightful one")
    third = Snapshots(stores[2].claim("access/1"), keep=2)
    assert read(third) == [b"frame by the rightful one", b"frame before"]


def test_all_workers_agree_on_the_first_value(stores: list[StateStore]) -> None:
    assert stores[0].agree("key", "mine") == "mine"
    assert stores[1].agree("key", "yours") == "mine"
    assert stores[1].agree("other", "yours") == "yours"
    assert stores[2].agree("other", "whatever") == "yours"


def test_of_concurrent_claims_the_last_wins(stores: list[StateStore]) -> None:
    write(Snapshots(stores[0].claim("access/1"), keep=2), b"before")
    with ThreadPoolExecutor(3) as threads:
        claimed = [Snapshots(folder, keep=2) for folder in threads.map(lambda store: store.claim("access/1"), stores)]
    for number, snapshots in enumerate(claimed):
        assert read(snapshots) == [b"frame before"]
        write(snapshots, f"by {number}".encode())
    after = read(Snapshots(stores[0].claim("access/1"), keep=2))
    assert len(after) == 2
    assert after[0].startswith(b"frame by")
    assert after[1] == b"frame before"


def test_deleting_twice_is_no_error(tmp_path: Path) -> None:
    states = ObjectStates(f"file://{tmp_path}")
    states.write("tasks/access/1/claims/000000000001", io.BytesIO(b"[]"))
    for _ in range(2):
        states.delete("tasks/access/1/claims/000000000001")


def test_an_unusable_state_store_is_a_reported_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="'ftp://host/x' is not the URL of a state store"):
        ObjectStates("ftp://host/x")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Not a directory"):
        ObjectStates(f"file://{tmp_path}/file/below")
    monkeypatch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(OSError, match="Generic S3 error"):
        ObjectStates("s3://state/nobody").agree("key", "mine")


def test_a_directory_has_private_permissions(tmp_path: Path) -> None:
    ObjectStates(f"file://{tmp_path}/deep/down").agree("key", "mine")
    assert (tmp_path / "deep" / "down").stat().st_mode & 0o077 == 0


def test_a_store_survives_a_broker_outage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A claim that could not be made in time does not block the next one."""
    caplog.set_level(logging.CRITICAL, logger="kafka")
    kafka = Kafka(tmp_path / "kafka")
    kafka.create_topic("state", 2, cleanup_policy="compact")
    store = StateTopic(KafkaSourceSettings(bootstrap_servers=[kafka.bootstrap], topics=["any"]), "state")
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
