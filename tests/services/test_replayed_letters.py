"""Dead letters are sent again after a mapping was repaired, and the running monitor counts each event once."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from commands import custodes
from custodes._core import Engine
from custodes.config.mapping import load_mapping
from custodes.config.model import KafkaSourceSettings
from custodes.rules import build_plan
from custodes.sources.dead_letters import Letter
from custodes.sources.kafka import KafkaDeadLetters
from custodes.sources.letter_replay import KafkaSourceTopics, LetterReplay, ReadableLetters
from custodes.sources.letter_store import LetterBatch, ReplayInProgressError, TopicLetterStore
from custodes.sources.topic_reader import TopicReader
from sample_events import RULES
from servers import CUSTODES, Kafka, Server, eventually, free_port, get, get_json

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]

BROKEN = "time: time\nactor: actor\nsubject: subject\naction: action\n"
REPAIRED = BROKEN.replace("actor: actor", "actor: [actor, user]")


@dataclass(frozen=True)
class Rejected:
    """A record that was not counted."""

    position: int
    value: bytes
    reason: str = "missing_actor"
    detail: str = ""


def reads(numbers: range, field: str, start: float) -> list[bytes]:
    return [
        json.dumps({"time": start + n, field: "P1", "subject": f"S{n}", "action": "read"}).encode() for n in numbers
    ]


def send(kafka: Kafka, topic: str, records: Sequence[bytes]) -> None:
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all")
    for number, record in enumerate(records):
        producer.send(topic, record, partition=number % 2)
    producer.flush()
    producer.close()


def ends(kafka: Kafka, topic: str) -> int:
    """Returns the number of records that a topic with two partitions has had."""
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap)
    found = consumer.end_offsets([TopicPartition(topic, number) for number in range(2)])
    consumer.close()
    return sum(found.values())


def summary(folder: Path, *more: str) -> dict[str, Any]:
    done = custodes("dead-letters", "replay", "-c", "custodes.yaml", "--json", *more, cwd=folder)
    assert done.returncode == 0, done.stderr.decode()
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("place", ["topic", "file"])
def test_each_event_counts_once_after_a_mapping_was_repaired(kafka: Kafka, tmp_path: Path, place: str) -> None:
    topic = f"repaired-{place}"
    kafka.create_topic(topic, 2)
    kafka.create_topic(f"{topic}-dead", 2)
    source = {
        "bootstrap_servers": [kafka.bootstrap],
        "topics": [topic],
        "group_id": topic,
        "client": {"metadata_max_age_ms": 2000},
    }
    if place == "topic":
        source["dead_letter_topic"] = f"{topic}-dead"
    listen = f"127.0.0.1:{free_port()}"
    config = {
        "source": {"kafka": source},
        "rules": ["rules.yml"],
        "mapping": "mapping.yml",
        "state": {"interval": "1s"},
        "http": {"listen": listen},
        "dead_letter": {"file": str(tmp_path / "letters.jsonl")},
    }
    (tmp_path / "rules.yml").write_text(RULES)
    (tmp_path / "mapping.yml").write_text(BROKEN)
    (tmp_path / "custodes.yaml").write_text(yaml.safe_dump(config))
    server = Server(tmp_path / "monitor", [CUSTODES, "run", "-c", tmp_path / "custodes.yaml"])

    def status() -> dict[str, Any]:
        found: dict[str, Any] = get_json(f"http://{listen}/api/v1/status")
        return found

    try:
        server.wait_for("it to be ready", lambda: get(f"http://{listen}/-/ready"))
        start = time.time() - 300
        records = [*reads(range(30), "actor", start), *reads(range(30, 60), "user", start), b"{"]
        send(kafka, topic, records)
        server.wait_for("all to be read", lambda: status()["events"] == 30 and status()["rejected"] == 31)
        assert get_json(f"http://{listen}/api/v1/findings")["findings"] == []

        (tmp_path / "mapping.yml").write_text(REPAIRED)
        urllib.request.urlopen(urllib.request.Request(f"http://{listen}/-/reload", method="POST"), timeout=30).close()
        would = {"missing_actor": 30}
        server.wait_for("all to be committed", lambda: summary(tmp_path, "--dry-run")["sent"] == would)
        assert ends(kafka, topic) == 61

        first = summary(tmp_path)
        assert (first["sent"], first["stay"], first["already_sent"]) == (would, {"bad_json": 1}, 0)
        server.wait_for("all to be counted", lambda: status()["events"] == 60)

        def peaks() -> list[int]:
            return sorted(one["peak"] for one in get_json(f"http://{listen}/api/v1/findings")["findings"])

        server.wait_for("the findings of all events", lambda: peaks() == [60, 60])
        second = summary(tmp_path)
        assert (second["sent"], second["stay"], second["already_sent"]) == ({}, {"bad_json": 1}, 30)
        assert ends(kafka, topic) == 91
        assert (status()["events"], peaks()) == (60, [60, 60])
        assert server.stop() == 0
    finally:
        server.kill()


@dataclass(frozen=True)
class Installation:
    """A source topic and a dead-letter topic with two partitions each, without a monitor."""

    kafka: Kafka
    topic: str

    @property
    def settings(self) -> KafkaSourceSettings:
        return KafkaSourceSettings(bootstrap_servers=[self.kafka.bootstrap], topics=[self.topic], group_id=self.topic)

    @property
    def letters(self) -> str:
        return f"{self.topic}-dead"

    def reject(self, values: Sequence[bytes]) -> None:
        """Writes letters, as a monitor that has committed their records."""
        with closing(KafkaDeadLetters(self.settings, self.letters)) as letters:
            place: dict[str, str | int] = {"topic": self.topic, "partition": 0}
            letters.write([Letter(Rejected(number, value), place) for number, value in enumerate(values)])
        consumer = KafkaConsumer(bootstrap_servers=self.kafka.bootstrap, group_id=self.topic, enable_auto_commit=False)
        partition = TopicPartition(self.topic, 0)
        consumer.assign([partition])
        consumer.seek(partition, 10_000)
        consumer.commit()
        consumer.close()

    def sent(self) -> list[bytes]:
        """Returns the records of the source topic."""
        with closing(TopicReader(self.settings)) as reader:
            return [record.value for record in reader.read(reader.ends(reader.partitions(self.topic)))]

    def replay(self, waits: list[float] | None = None) -> ReadableLetters:
        readable = ReadableLetters(Engine(build_plan([], load_mapping("custodes"))))
        waited = [] if waits is None else waits
        with ExitStack() as closed:
            reader = closed.enter_context(closing(TopicReader(self.settings)))
            topics = closed.enter_context(closing(KafkaSourceTopics(self.settings, reader, 16 << 20)))
            store = TopicLetterStore(self.settings, self.letters, reader, on_wait=waited.append)
            closed.callback(store.close)
            LetterReplay(store, topics, readable).run()
        return readable


@pytest.fixture
def installation(kafka: Kafka, request: pytest.FixtureRequest) -> Installation:
    made = Installation(kafka, request.node.name.removeprefix("test_")[:60])
    kafka.create_topic(made.topic, 2, max_message_bytes="20000")
    kafka.create_topic(made.letters, 2)
    return made


def test_a_record_that_the_topic_refuses_stops_no_other(installation: Installation) -> None:
    values = reads(range(6), "actor", time.time() - 300)
    values[2] = values[2][:-1] + b', "note": "' + b"x" * 50_000 + b'"}'
    installation.reject(values)
    result = installation.replay().result
    assert (result.sent, result.refused) == ({"missing_actor": 5}, {installation.topic: 1})
    assert sorted(installation.sent()) == sorted(values[:2] + values[3:])
    again = installation.replay().result
    assert (again.sent, again.refused, again.already_sent) == ({}, {installation.topic: 1}, 5)


def test_a_run_that_was_killed_while_it_sent_is_continued(installation: Installation) -> None:
    """The letters were sent, and no note says so: the next run finds them in the topic."""
    values = reads(range(6), "actor", time.time() - 300)
    installation.reject(values)
    with ExitStack() as closed:
        reader = closed.enter_context(closing(TopicReader(installation.settings)))
        topics = closed.enter_context(closing(KafkaSourceTopics(installation.settings, reader, 16 << 20)))
        store = TopicLetterStore(installation.settings, installation.letters, reader)
        closed.callback(store.close)
        store.notes()
        letters = ReadableLetters(Engine(build_plan([], load_mapping("custodes")))).select(store.letters())
        some = [letter for letter in letters if letter.position % 2]
        store.begin(LetterBatch("killed", topics.ends([(installation.topic, 0)])))
        topics.send(some)
    waits: list[float] = []
    result = installation.replay(waits).result
    assert (result.sent, result.already_sent, len(waits)) == ({"missing_actor": 3}, 3, 1)
    assert sorted(installation.sent()) == sorted(values)
    assert installation.replay().result.already_sent == 6


def test_a_command_that_is_killed_sends_nothing_twice(installation: Installation, tmp_path: Path) -> None:
    values = reads(range(5_000), "actor", time.time() - 6_000)
    installation.reject(values)
    source = installation.settings.model_dump(include={"bootstrap_servers", "topics", "group_id"})
    source["dead_letter_topic"] = installation.letters
    (tmp_path / "custodes.yaml").write_text(yaml.safe_dump({"source": {"kafka": source}}))
    command: list[str | Path] = [CUSTODES, "dead-letters", "replay", "-c", tmp_path / "custodes.yaml"]
    with closing(TopicReader(installation.settings)) as reader:
        partitions = reader.partitions(installation.topic)
        run = Server(tmp_path / "run", command)
        eventually("some to be sent", lambda: sum(reader.ends(partitions).values()) > 0)
        run.kill()
        assert sum(reader.ends(partitions).values()) < len(values), "the run must be killed before its end"
    second = summary(tmp_path)
    assert second["sent"]["missing_actor"] + second["already_sent"] == len(values)
    assert second["already_sent"] > 0
    assert sorted(installation.sent()) == sorted(values)


def test_if_two_runs_begin_at_once_the_first_continues(installation: Installation) -> None:
    installation.reject(reads(range(2), "actor", time.time() - 300))
    with ExitStack() as closed:
        stores = []
        for _ in range(2):
            reader = closed.enter_context(closing(TopicReader(installation.settings)))
            stores.append(TopicLetterStore(installation.settings, installation.letters, reader))
            closed.callback(stores[-1].close)
            stores[-1].notes()
        stores[0].begin(LetterBatch("first", {}))
        with pytest.raises(ReplayInProgressError, match="another run"):
            stores[1].begin(LetterBatch("second", {}))
        stores[0].end("first")
        stores[0].begin(LetterBatch("first", {}))
        stores[0].end("first")
    eventually("all to be sent", lambda: installation.replay().result.sent == {"missing_actor": 2})
