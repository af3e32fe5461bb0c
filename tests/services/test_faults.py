"""What happens to a long-running consumer: each fault has its metric, and counting goes on."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from look_ups import RULES
from servers import CUSTODES, Kafka, Server, free_port, get, get_json

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]


class Worker:
    """`custodes run` on one topic, again and again in the same place."""

    def __init__(self, kafka: Kafka, topic: str, folder: Path, **settings: Any) -> None:
        port = free_port()
        self.base = f"http://127.0.0.1:{port}"
        self.folder = folder / "monitor"
        self._config = folder / "custodes.yaml"
        source = {"bootstrap_servers": [kafka.bootstrap], "topics": [topic], "group_id": topic}
        config = {
            "source": {"kafka": source},
            "rules": ["rules.yml"],
            "state": {"interval": "1s"},
            "http": {"listen": f"127.0.0.1:{port}"},
            **settings,
        }
        (folder / "rules.yml").write_text(RULES)
        self._config.write_text(yaml.safe_dump(config))

    def start(self) -> Server:
        return Server(self.folder, [CUSTODES, "run", "-c", self._config])

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = get_json(f"{self.base}/api/v1/status")
        return status

    def has_snapshot_since(self, since: float) -> bool:
        return time.time() - self.metric("custodes_snapshot_age_seconds") > since

    def metric(self, name: str) -> float:
        lines = get(f"{self.base}/metrics").splitlines()
        return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def send(kafka: Kafka, topic: str, events: Iterable[dict[str, Any]], partition: int = 0) -> None:
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap)
    for event in events:
        producer.send(topic, json.dumps(event).encode(), partition=partition)
    producer.flush()
    producer.close()


def reads(count: int, actor: str, since: float) -> list[dict[str, Any]]:
    return [{"time": since + n, "actor": actor, "subject": f"S{n}", "action": "read"} for n in range(count)]


def test_a_restart_goes_on_with_the_counts_it_had(kafka: Kafka, tmp_path: Path) -> None:
    """Half of a finding's events before, half after, whether the process was told to end or killed."""
    kafka.create_topic("restart", 2)
    worker, now = Worker(kafka, "restart", tmp_path), time.time() - 3600
    events = reads(60, "P1", now)
    for part, end in ((events[:20], "kill"), (events[20:40], "stop"), (events[40:], "kill")):
        server = worker.start()
        server.wait_for("it to be ready", lambda: get(f"{worker.base}/-/ready"))
        send(kafka, "restart", part)
        server.wait_for("all to be counted", lambda: worker.status()["events"] >= 20)
        if end == "kill":
            server.wait_for("a snapshot", partial(worker.has_snapshot_since, time.time()))
            server.process.kill()
        server.stop()
    server = worker.start()
    server.wait_for("it to be ready", lambda: get(f"{worker.base}/-/ready"))
    found = server.wait_for("the finding", lambda: get_json(f"{worker.base}/api/v1/findings")["findings"])
    assert {(one["rule"], one["peak"], one["count"]) for one in found} == {
        ("Many look-ups", 60, 60),
        ("Many people", 60, 60),
    }
    assert worker.status()["events"] == 0, "nothing had to be heard again"
    assert server.stop() == 0


def test_what_retention_took_before_it_was_read_is_told_and_kept(kafka: Kafka, tmp_path: Path) -> None:
    kafka.create_topic("overtaken", 2)
    worker, now = Worker(kafka, "overtaken", tmp_path), time.time() - 3600
    server = worker.start()
    send(kafka, "overtaken", reads(10, "P1", now))
    server.wait_for("the first to be counted", lambda: worker.status()["events"] == 10)
    assert server.stop() == 0
    send(kafka, "overtaken", reads(25, "P1", now + 10))
    send(kafka, "overtaken", reads(5, "P1", now), partition=1)
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    # Of one partition only the end is left, of a partition that has nothing more to read not even that.
    admin.delete_records({TopicPartition("overtaken", 0): 30})
    admin.close()
    server = worker.start()
    server.wait_for("the rest to be counted", lambda: worker.status()["events"] == 10)
    gaps = get_json(f"{worker.base}/api/v1/gaps")["gaps"]
    assert [(gap["topic"], gap["partition"], gap["from"], gap["until"], gap["records"]) for gap in gaps] == [
        ("overtaken", 0, 10, 30, 20)
    ]
    assert worker.metric("custodes_events_missed_total") == 20
    assert "records were never seen" in server.log.read_text()
    assert server.stop() == 0
    send(kafka, "overtaken", reads(7, "P1", now + 40))
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    admin.delete_records({TopicPartition("overtaken", 0): 42})
    admin.close()
    server = worker.start()
    server.wait_for("an empty partition's gap", lambda: len(get_json(f"{worker.base}/api/v1/gaps")["gaps"]) == 2)
    assert worker.metric("custodes_events_missed_total") == 7
    assert server.stop() == 0


def test_a_damaged_snapshot_is_passed_over_for_the_one_before(kafka: Kafka, tmp_path: Path) -> None:
    kafka.create_topic("damaged", 1)
    worker, now = Worker(kafka, "damaged", tmp_path), time.time() - 3600
    server = worker.start()
    server.wait_for("it to be ready", lambda: get(f"{worker.base}/-/ready"))
    send(kafka, "damaged", reads(30, "P1", now))
    server.wait_for("all to be counted", lambda: worker.status()["events"] == 30)
    folder = worker.folder / "custodes-state"
    server.wait_for("two snapshots", lambda: len(list(folder.glob("*.snapshot"))) >= 2)
    assert server.stop() == 0
    newest = max(folder.glob("*.snapshot"))
    newest.write_bytes(newest.read_bytes()[:-100])
    server = worker.start()
    server.wait_for("it to be ready", lambda: get(f"{worker.base}/-/ready"))
    assert worker.metric("custodes_snapshots_damaged") == 1
    send(kafka, "damaged", reads(30, "P1", now + 30))
    found = server.wait_for("the finding", lambda: get_json(f"{worker.base}/api/v1/findings")["findings"])
    server.wait_for(
        "its count", lambda: get_json(f"{worker.base}/api/v1/findings?open=true")["findings"][0]["count"] == 60
    )
    assert found[0]["group"] == {"actor": "P1"}
    assert server.stop() == 0


def test_two_processes_do_not_share_a_folder(kafka: Kafka, tmp_path: Path) -> None:
    kafka.create_topic("shared", 1)
    worker = Worker(kafka, "shared", tmp_path)
    server = worker.start()
    server.wait_for("it to be ready", lambda: get(f"{worker.base}/-/ready"))
    second = Server(worker.folder, [CUSTODES, "run", "-c", tmp_path / "custodes.yaml"])
    assert second.process.wait(30) == 2
    second.stop()
    assert "another running process's" in server.log.read_text()
    assert server.stop() == 0


def test_a_full_disk_stops_neither_counting_nor_what_follows(kafka: Kafka, tmp_path: Path) -> None:
    """No file of the process may grow: not a snapshot, not the database, not the log. Then there is room again."""
    kafka.create_topic("full", 1)
    worker, now = Worker(kafka, "full", tmp_path), time.time() - 3600
    server = worker.start()
    server.wait_for("it to be ready", lambda: get(f"{worker.base}/-/ready"))
    send(kafka, "full", reads(30, "P1", now))
    server.wait_for("all to be counted", lambda: worker.status()["events"] == 30)
    server.wait_for("a snapshot", partial(worker.has_snapshot_since, time.time()))
    none = resource.RLIM_INFINITY
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1, none))
    send(kafka, "full", reads(30, "P1", now + 30))
    send(kafka, "full", reads(70, "P2", now))
    server.wait_for("all to be counted", lambda: worker.status()["events"] == 130)
    server.wait_for("findings to wait", lambda: worker.metric("custodes_findings_waiting") >= 1)
    assert get_json(f"{worker.base}/api/v1/findings")["findings"] == []
    assert get(f"{worker.base}/-/healthy")
    # More than the pause between two tries, with nothing stored: nothing may be saved or committed behind that.
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (none, none))
    server.wait_for("the findings", lambda: len(get_json(f"{worker.base}/api/v1/findings")["findings"]) == 3)
    server.wait_for("nothing to wait", lambda: worker.metric("custodes_findings_waiting") == 0)
    server.wait_for("a snapshot", partial(worker.has_snapshot_since, time.time()))
    server.process.kill()
    server.stop()
    server = worker.start()
    server.wait_for("it to be ready", lambda: get(f"{worker.base}/-/ready"))
    found = get_json(f"{worker.base}/api/v1/findings")["findings"]
    figures = sorted((one["group"]["actor"], one["rule"], one["peak"], one["count"]) for one in found)
    assert figures == [
        ("P1", "Many look-ups", 60, 60),
        ("P2", "Many look-ups", 70, 70),
        ("P2", "Many people", 70, 70),
    ]
    assert server.stop() == 0


def test_snapshots_fail_and_recover_while_findings_are_stored_elsewhere(kafka: Kafka, tmp_path: Path) -> None:
    """The state folder alone has no room: counting and findings go on, and it is told of."""
    kafka.create_topic("nosnapshots", 1)
    worker, now = Worker(kafka, "nosnapshots", tmp_path), time.time() - 3600
    server = worker.start()
    server.wait_for("it to be ready", lambda: get(f"{worker.base}/-/ready"))
    send(kafka, "nosnapshots", reads(30, "P1", now))
    server.wait_for("a snapshot", lambda: worker.status()["snapshot_at"])
    folder = worker.folder / "custodes-state"
    moved = folder.with_name("elsewhere")
    folder.rename(moved)
    folder.write_text("no folder at all")
    server.wait_for("failures", lambda: worker.metric("custodes_snapshot_failures") >= 1)
    send(kafka, "nosnapshots", reads(30, "P1", now + 30))
    server.wait_for("the finding", lambda: get_json(f"{worker.base}/api/v1/findings")["findings"])
    folder.unlink()
    moved.rename(folder)
    server.wait_for("snapshots again", lambda: worker.metric("custodes_snapshot_failures") == 0)
    assert server.stop() == 0
