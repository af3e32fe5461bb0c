"""Recreated topics and truncated logs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient

from monitor_process import MonitorProcess, reads, send
from servers import Kafka, PostgreSQL, Server, eventually, get, get_json

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Kafka]:
    kafka = Kafka(tmp_path / "kafka")
    yield kafka
    kafka.kill()
    kafka.stop()


@pytest.fixture
def monitor(broker: Kafka, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[MonitorProcess]:
    """A monitor of one partition, as a single process or as a worker."""
    settings: dict[str, Any] = {}
    if request.param == "workers":
        postgresql: PostgreSQL = request.getfixturevalue("postgresql")
        settings = {"workers": {}, "findings": {"database": postgresql.database(f"logs{time.time_ns()}")}}
    broker.create_topic("log", 1)
    monitor = MonitorProcess(broker, "log", tmp_path, **settings)
    yield monitor
    monitor.end()


def ready(monitor: MonitorProcess) -> Server:
    server = monitor.start()
    server.wait_for("it to be ready", lambda: get(f"{monitor.base}/-/ready"))
    return server


def gaps(monitor: MonitorProcess) -> list[tuple[int, int]]:
    return [(gap["from"], gap["until"]) for gap in get_json(f"{monitor.base}/api/v1/gaps")["gaps"]]


def counted(monitor: MonitorProcess) -> dict[str, int]:
    """Returns the peak of the finding *Many look-ups* of each actor, and asserts that the history has all events."""
    found = get_json(f"{monitor.base}/api/v1/findings")["findings"]
    many = [one for one in found if one["rule"] == "Many look-ups"]
    for one in many:
        events = get_json(f"{monitor.base}/api/v1/findings/{one['id']}/events?limit=1000")["events"]
        assert len(events) == one["count"], one["group"]
    return {one["group"]["actor"]: one["peak"] for one in many}


def read_sixty(broker: Kafka, monitor: MonitorProcess, since: float) -> tuple[Server, int]:
    """Returns the process once it has counted 60 records of P1, and the size of the log with the first 40."""
    server, events = ready(monitor), reads(60, "P1", since)
    send(broker, "log", events[:40])
    size = size_of_log(broker)
    send(broker, "log", events[40:])
    server.wait_for("all to be counted", lambda: monitor.status()["events"] == 60)
    return server, size


def log_file(broker: Kafka) -> Path:
    return broker.log.parent / "data" / "log-0" / f"{0:020}.log"


def size_of_log(broker: Kafka) -> int:
    return log_file(broker).stat().st_size


def truncate(broker: Kafka, size: int) -> None:
    """Ends a broker like a power failure that loses the end of the log, and starts it again."""
    broker.kill()
    broker.stop()
    log = log_file(broker)
    with log.open("r+b") as file:
        file.truncate(size)
    for other in log.parent.iterdir():
        if other.suffix in {".index", ".timeindex", ".snapshot"}:
            other.unlink()
    broker.start_again()
    broker.wait_for("Kafka to listen", broker.listens, 60)


def recreate(broker: Kafka) -> None:
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    admin.delete_topics(["log"])
    eventually("the topic to be gone", lambda: "log" not in admin.list_topics())
    admin.close()
    broker.create_topic("log", 1)


@pytest.mark.parametrize(
    ("monitor", "new_records"), [("one process", 30), ("one process", 0), ("workers", 10)], indirect=["monitor"]
)
def test_a_truncated_log_is_noticed_and_nothing_is_skipped_or_counted_twice(
    broker: Kafka, monitor: MonitorProcess, new_records: int
) -> None:
    """The broker has lost 20 of 60 records while the monitor is down; new records may lie where the lost ones lay."""
    now = time.time() - 3600
    server, size = read_sixty(broker, monitor, now)
    assert server.stop() == 0
    truncate(broker, size)
    send(broker, "log", reads(new_records, "P2", now + 100))
    server = ready(monitor)
    server.wait_for("the loss to be noticed", lambda: gaps(monitor) == [(60, 40)])
    send(broker, "log", reads(45, "P2", now + 200))
    server.wait_for("the new ones to be counted", lambda: monitor.status()["events"] == new_records + 45)
    assert counted(monitor) == {"P1": 60, "P2": new_records + 45}
    assert monitor.metric('custodes_source_new_logs_total{cause="truncated"}') == 1
    assert server.stop() == 0
    server = ready(monitor)
    send(broker, "log", reads(5, "P2", now + 300))
    server.wait_for("later ones to be counted", lambda: monitor.status()["events"] == 5)
    assert counted(monitor) == {"P1": 60, "P2": new_records + 50}
    assert gaps(monitor) == [(60, 40)]
    assert "log_truncated" in server.log.read_text()
    assert server.stop() == 0


@pytest.mark.parametrize("monitor", ["one process"], indirect=True)
def test_a_log_that_is_truncated_meanwhile_is_noticed(broker: Kafka, monitor: MonitorProcess) -> None:
    now = time.time() - 3600
    server, size = read_sixty(broker, monitor, now)
    truncate(broker, size)
    send(broker, "log", reads(45, "P2", now + 100))
    server.wait_for("the loss to be noticed", lambda: gaps(monitor) == [(60, 40)])
    server.wait_for("the new ones to be counted", lambda: monitor.status()["events"] == 105)
    assert counted(monitor) == {"P1": 60, "P2": 45}
    assert server.stop() == 0


@pytest.mark.parametrize(("monitor", "new_records"), [("one process", 70), ("workers", 45)], indirect=["monitor"])
def test_a_topic_recreated_while_the_monitor_is_down_is_read_from_its_start(
    broker: Kafka, monitor: MonitorProcess, new_records: int
) -> None:
    """The new topic has more records than were read from the old one, or fewer."""
    now = time.time() - 3600
    server, _ = read_sixty(broker, monitor, now)
    assert server.stop() == 0
    recreate(broker)
    send(broker, "log", reads(new_records, "P2", now + 100))
    server = ready(monitor)
    server.wait_for("all of the new one to be counted", lambda: monitor.status()["events"] == new_records)
    assert counted(monitor) == {"P1": 60, "P2": new_records}
    assert gaps(monitor) == [(60, 0)]
    assert monitor.metric('custodes_source_new_logs_total{cause="recreated"}') == 1
    assert "topic_recreated" in server.log.read_text()
    assert server.stop() == 0
    server = ready(monitor)
    send(broker, "log", reads(5, "P2", now + 300))
    server.wait_for("later ones to be counted", lambda: monitor.status()["events"] == 5)
    assert counted(monitor) == {"P1": 60, "P2": new_records + 5}
    assert gaps(monitor) == [(60, 0)]
    assert server.stop() == 0


@pytest.mark.parametrize("monitor", ["one process", "workers"], indirect=True)
def test_a_topic_recreated_after_a_restart_with_nothing_read_is_read_from_its_start(
    broker: Kafka, monitor: MonitorProcess
) -> None:
    now = time.time() - 3600
    server, _ = read_sixty(broker, monitor, now)
    assert server.stop() == 0
    server = ready(monitor)
    recreate(broker)
    send(broker, "log", reads(70, "P2", now + 100))
    server.wait_for("all of the new one to be counted", lambda: monitor.status()["events"] == 70)
    assert counted(monitor) == {"P1": 60, "P2": 70}
    assert gaps(monitor) == [(60, 0)]
    assert server.stop() == 0
