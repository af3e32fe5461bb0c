"""Dead letters that their topic refuses: each is cut or put aside, and all others are stored."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from kafka import KafkaConsumer

from custodes.config.model import KafkaSourceSettings
from custodes.log_events import DeadLetterRefused
from custodes.sources.dead_letters import Letter
from custodes.sources.kafka import KafkaDeadLetters
from servers import Kafka

pytestmark = [pytest.mark.services, pytest.mark.timeout(120)]


@dataclass(frozen=True)
class Refused:
    """A record that was not counted."""

    position: int
    value: bytes
    reason: str = "bad_json"
    detail: str = "d" * 50_000


def letters_of(kafka: Kafka, topic: str) -> list[tuple[int, int, str | None]]:
    """Returns position, stored bytes and original size of the letters in a topic."""
    consumer = KafkaConsumer(
        topic, bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=3000
    )
    found = []
    for record in consumer:
        headers = {name: value.decode() for name, value in record.headers}
        cut_from = headers.get("custodes.cut_from_bytes")
        found.append((int(headers["custodes.offset"]), len(record.value), cut_from))
    consumer.close()
    return sorted(found)


def write(kafka: Kafka, topic: str, records: list[bytes]) -> None:
    letters = KafkaDeadLetters(KafkaSourceSettings(bootstrap_servers=[kafka.bootstrap], topics=["t"]), topic)
    letters.write([Letter(Refused(n, value), place_of()) for n, value in enumerate(records)])
    letters.close()


def place_of() -> dict[str, str | int]:
    return {"topic": "t", "partition": 0}


def test_a_record_too_large_for_the_topic_is_cut(kafka: Kafka) -> None:
    kafka.create_topic("small-letters", 1, max_message_bytes="20000")
    write(kafka, "small-letters", [b"{", b"x" * 900_000, b"y" * 15_000, b"["])
    stored = letters_of(kafka, "small-letters")
    assert [position for position, _, _ in stored] == [0, 1, 2, 3]
    assert (stored[0][1], stored[3][1]) == (1, 1)
    assert stored[1][2] == "900000"
    assert 0 < stored[1][1] < 20_000


def test_a_topic_that_takes_no_letters_stops_nothing(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compacted topic refuses records without a key."""
    kafka.create_topic("compacted-letters", 1, cleanup_policy="compact")
    refused: list[DeadLetterRefused] = []

    def keep(event: DeadLetterRefused) -> None:
        refused.append(event)

    monkeypatch.setattr(DeadLetterRefused, "emit", keep)
    write(kafka, "compacted-letters", [b"{", b"["])
    assert [event.position for event in refused] == [0, 1]
    assert letters_of(kafka, "compacted-letters") == []
