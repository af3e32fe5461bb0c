"""States that a released version left behind: how they are written, and how a later version reads them.

    python tests/states.py KAFKA        writes tests/fixtures/states/VERSION, by the broker at KAFKA (host:port)

A state is what an engine with all kinds of rules holds after the first part of a stream, as a snapshot in each kind of
store: a folder, a compacted topic (as its records) and an object store (as a directory). Each is one compressed file.
"""

from __future__ import annotations

import base64
import io
import json
import sys
import tarfile
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from custodes import __version__
from custodes._core import Engine
from custodes.config.mapping import load_mapping
from custodes.config.model import KafkaSourceSettings
from custodes.rules import Rule, build_plan, load_rules
from custodes.sources import StreamPosition
from custodes.state import Snapshots
from custodes.state.folder import LocalFolder
from custodes.state.objects import ObjectStates
from custodes.state.topic import StateTopic

STATES = Path(__file__).parent / "fixtures" / "states"
STREAM, TASK, TAKEN_AT = 0, "access/0", 1_760_000_000.0


def rules() -> list[Rule]:
    """Returns the rules whose state the snapshots hold."""
    return load_rules([STATES / "rules.yml", STATES / "pack.yml"])


def plan() -> str:
    """Returns the plan of :func:`rules`."""
    return build_plan(rules(), load_mapping("custodes"))


def events() -> tuple[list[bytes], list[bytes]]:
    """Returns the lines before and after the snapshot."""
    with zstandard.open(STATES / "events.jsonl.zst", "rb") as file:
        lines = file.read().splitlines(keepends=True)
    return lines[: len(lines) * 3 // 4], lines[len(lines) * 3 // 4 :]


def write(snapshots: Snapshots, engine: Engine, position: int) -> None:
    """Takes a snapshot."""
    writing = snapshots.begin()
    writing.add([engine.save_frame()])
    for part in range(engine.parts()):
        writing.add(engine.save_part(part, {STREAM: position}))
    writing.finish(TAKEN_AT, [StreamPosition(STREAM, TASK, position)])


def records_of(bootstrap: str, topic: str) -> Iterator[dict[str, Any]]:
    """Returns the records of a state topic."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, auto_offset_reset="earliest")
    partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))]
    consumer.assign(partitions)
    ends = consumer.end_offsets(partitions)
    while any(consumer.position(partition) < end for partition, end in ends.items()):
        for partition, records in consumer.poll(timeout_ms=500).items():
            for record in records:
                value = record.value and base64.b64encode(record.value).decode()
                yield {"partition": partition.partition, "key": record.key.decode(), "value": value}
    consumer.close()


def send_records(bootstrap: str, topic: str, path: Path) -> None:
    """Writes the records of a state topic into another one."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=False)
    with zstandard.open(path, "rb") as file:
        for line in file.read().splitlines():
            record = json.loads(line)
            value = record["value"] and base64.b64decode(record["value"])
            producer.send(topic, key=record["key"].encode(), value=value, partition=record["partition"])
    producer.close()


def pack(folder: Path, archive: Path) -> None:
    """Writes a folder as one file."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != "lock":
                tar.add(path, path.relative_to(folder))
    archive.write_bytes(zstandard.compress(packed.getvalue(), 19))


def unpack(archive: Path, folder: Path) -> None:
    """Writes the folder that :func:`pack` was given."""
    with zstandard.open(archive, "rb") as file, tarfile.open(fileobj=io.BytesIO(file.read())) as tar:
        tar.extractall(folder, filter="data")


def write_all(bootstrap: str, folder: Path) -> None:
    """Writes the state into each kind of store."""
    folder.mkdir(parents=True)
    before, _ = events()
    engine = Engine(plan())
    engine.join(STREAM)
    engine.process_lines(b"".join(before))
    with tempfile.TemporaryDirectory() as temporary:
        local = LocalFolder(Path(temporary) / "folder")
        write(Snapshots(local, keep=1), engine, len(before))
        local.close()
        pack(Path(temporary) / "folder", folder / "folder.tar.zst")
        objects = ObjectStates((Path(temporary) / "objects").as_uri())
        write(Snapshots(objects.claim(TASK), keep=1), engine, len(before))
        objects.close()
        pack(Path(temporary) / "objects", folder / "objects.tar.zst")
    topic = f"state-{uuid.uuid4()}"
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics([NewTopic(topic, 1, topic_configs={"cleanup.policy": "compact"})])
    admin.close()
    store = StateTopic(KafkaSourceSettings(bootstrap_servers=[bootstrap], topics=["any"]), topic)
    write(Snapshots(store.claim(TASK), keep=1), engine, len(before))
    store.close()
    time.sleep(1)
    records = b"".join(json.dumps(record).encode() + b"\n" for record in records_of(bootstrap, topic))
    (folder / "topic.jsonl.zst").write_bytes(zstandard.compress(records, 19))


if __name__ == "__main__":
    write_all(sys.argv[1], STATES / __version__)
