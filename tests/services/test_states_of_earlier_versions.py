"""States that earlier versions left behind are restored whole, from each kind of store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import states
from custodes._core import Engine, FindingChange, Tables
from custodes.config.model import KafkaSourceSettings
from custodes.state import Snapshots
from custodes.state.folder import Folder, LocalFolder
from custodes.state.objects import ObjectStates
from custodes.state.recovery import recover
from custodes.state.topic import StateTopic
from servers import Kafka

pytestmark = [pytest.mark.services]

VERSIONS = sorted(path.name for path in states.STATES.iterdir() if path.is_dir())


def facts(changes: list[FindingChange]) -> list[tuple[Any, ...]]:
    return sorted(
        (c.kind, c.id, c.rule, c.group, c.opened_at, c.closed_at or 0, c.peak, c.threshold, c.count) for c in changes
    )


def rest_of_the_stream(engine: Engine, after: list[bytes]) -> list[tuple[Any, ...]]:
    changes = engine.process_lines(b"".join(after)).changes
    return facts([*changes, *engine.updates(), *engine.finish().changes])


@pytest.fixture(scope="module")
def uninterrupted() -> list[tuple[Any, ...]]:
    """Changes of findings after the snapshot, in an engine that was never restarted."""
    before, after = states.events()
    engine = Engine(states.plan())
    engine.join(states.STREAM)
    engine.process_lines(b"".join(before))
    return rest_of_the_stream(engine, after)


@pytest.fixture(params=["folder", "objects", "topic"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_engine_restored_from_an_earlier_state_finds_what_an_uninterrupted_one_finds(
    version: str, kind: str, kafka: Kafka, tmp_path: Path, uninterrupted: list[tuple[Any, ...]]
) -> None:
    folder: Folder
    if kind == "folder":
        states.unpack(states.STATES / version / "folder.tar.zst", tmp_path)
        folder = LocalFolder(tmp_path)
    elif kind == "objects":
        states.unpack(states.STATES / version / "objects.tar.zst", tmp_path)
        folder = ObjectStates(tmp_path.as_uri()).claim(states.TASK)
    else:
        topic = f"state-of-{version}"
        kafka.create_topic(topic, 1, cleanup_policy="compact")
        states.send_records(kafka.bootstrap, topic, states.STATES / version / "topic.jsonl.zst")
        store = StateTopic(KafkaSourceSettings(bootstrap_servers=[kafka.bootstrap], topics=["any"]), topic)
        folder = store.claim(states.TASK)
    before, after = states.events()
    recovered = recover(Snapshots(folder, keep=2), states.plan(), states.rules(), 1, Tables())
    assert recovered.snapshot is not None
    assert recovered.damaged == 0
    assert recovered.left_open == []
    assert [place.position for place in recovered.snapshot.places] == [len(before)]
    assert len(uninterrupted) > 50
    assert rest_of_the_stream(recovered.engine, after) == uninterrupted
