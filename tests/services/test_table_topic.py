"""A look-up table in a Kafka topic, followed as it changes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic

from servers import CUSTODES, Kafka, Server, free_port, get, get_json

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]

RULE = """\
title: Watched
name: watched
logsource: {product: custodes}
detection: {selection: {subject_watched: true}, condition: selection}
"""


class Watching:
    """A monitor with a watch list in a topic."""

    def __init__(self, kafka: Kafka, folder: Path, topic: str, table: str) -> None:
        self._producer = KafkaProducer(bootstrap_servers=kafka.bootstrap)
        self._topic, self._table, self._sent = topic, table, 0
        port = free_port()
        self.base = f"http://127.0.0.1:{port}"
        self.folder, self.config = folder / "monitor", folder / "custodes.yaml"
        (folder / "rules.yml").write_text(RULE)
        source = {"bootstrap_servers": [kafka.bootstrap], "topics": [topic], "group_id": topic}
        source["client"] = {"metadata_max_age_ms": 2000}  # type: ignore[assignment]
        config = {
            "source": {"kafka": source},
            "rules": ["rules.yml"],
            "tables": {"watched": {"topic": table, "columns": ["person", "why"]}},
            "http": {"listen": f"127.0.0.1:{port}"},
        }
        self.config.write_text(yaml.safe_dump(config))

    def row(self, key: str, row: Any) -> None:
        """Sends a row of the table; ``None`` deletes it."""
        value = None if row is None else row if isinstance(row, bytes) else json.dumps(row).encode()
        self._producer.send(self._table, key=key.encode(), value=value)
        self._producer.flush()

    def look_up(self, actor: str, subject: str) -> None:
        event = {"time": time.time() - 60 + self._sent, "actor": actor, "subject": subject, "action": "read"}
        self._sent += 1
        self._producer.send(self._topic, json.dumps(event).encode())
        self._producer.flush()

    def metric(self, name: str) -> float | None:
        lines = get(f"{self.base}/metrics").splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(name + " ")), None)

    def entries(self) -> float | None:
        return self.metric('custodes_table_entries{table="watched"}')

    def found(self) -> set[str]:
        return {one["group"]["actor"] for one in get_json(f"{self.base}/api/v1/findings")["findings"]}


def test_table_rows_are_added_changed_and_deleted(kafka: Kafka, tmp_path: Path) -> None:
    kafka.create_topic("looks-watched", 1)
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    admin.create_topics([NewTopic("watch-list", 3, 1, topic_configs={"cleanup.policy": "compact"})])
    admin.close()
    watching = Watching(kafka, tmp_path, "looks-watched", "watch-list")
    for number in range(1000):
        watching.row(f"row-{number}", {"person": f"S{number}", "why": 'a "canary", really'})
    watching.row("row-7", {"person": "S7-moved"})
    watching.row("row-8", None)
    server = Server(watching.folder, [CUSTODES, "run", "-c", watching.config])
    try:
        server.wait_for("it to be ready", lambda: get(f"{watching.base}/-/ready"))
        assert watching.entries() == 999, "all that was there is read before the first event"
        watching.look_up("first", "S6")
        watching.look_up("moved", "S7")
        watching.look_up("gone", "S8")
        watching.look_up("here", "S7-moved")
        server.wait_for("those on the list to be found", lambda: watching.found() == {"first", "here"})
        watching.row("row-8", {"person": 8_000_000_000_000_000_001})
        watching.row("row-6", None)
        watching.row("new", {"person": "S-new"})
        server.wait_for("the changes to be in force", lambda: watching.entries() == 1000)
        watching.look_up("late", "S6")
        watching.look_up("eight", "8000000000000000001")
        watching.look_up("new", "S-new")
        server.wait_for("them to count", lambda: watching.found() == {"first", "here", "eight", "new"})
        watching.row("bad", b"{")
        watching.row("list", {"person": ["S1"]})
        watching.row("last", {"person": "S-last"})
        server.wait_for("the row after bad ones", lambda: watching.entries() == 1001)
        assert watching.metric('custodes_table_rows_rejected_total{table="watched"}') == 2
        log = server.log.read_text()
        for problem in ("Expecting property name", "'person' is a list or an object"):
            assert problem in log
        assert server.stop() == 0
    finally:
        server.stop()


def test_a_missing_topic_is_reported(kafka: Kafka, tmp_path: Path) -> None:
    kafka.create_topic("looks-unwatched", 1)
    watching = Watching(kafka, tmp_path, "looks-unwatched", "no-such-list")
    server = Server(watching.folder, [CUSTODES, "check", "-c", watching.config])
    assert server.process.wait(60) == 1
    assert "the broker has no topic no-such-list" in server.log.read_text()
