"""End to end on real servers: Kafka → custodes run → Prometheus → Alertmanager → webhook."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from kafka import KafkaConsumer, KafkaProducer

import oracle
from commands import custodes
from sample_events import HOUR, ORACLE_RULES, RULES, all_findings, in_oracles_terms, iso, look_ups
from servers import CUSTODES, ROOT, Kafka, Server, Webhook, free_port, get, get_json, program

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]

EVENTS = 100_000
PARTITIONS = 3


def bad_records(now: int) -> list[tuple[bytes | None, str]]:
    good = {"time": iso(now - 9 * HOUR), "actor": "P0001", "subject": "S1", "action": "read"}

    def with_(**changes: Any) -> bytes:
        return json.dumps({**good, **changes}).encode()

    return [
        (with_()[:-20], "bad_json"),
        (b"\xff\xfe" + with_(), "not_utf8"),
        (json.dumps({k: v for k, v in good.items() if k != "actor"}).encode(), "missing_actor"),
        (with_(actor={"id": 7}), "wrong_type"),
        (with_(subject=[{"id": 7}]), "wrong_type"),
        (with_(time="1970-01-01T00:00:10Z"), "time_too_old"),
        (with_(time="2099-01-01T00:00:00Z"), "time_in_future"),
        (with_(time="yesterday"), "bad_time"),
        (b'{"actor": "' + b"x" * 900_000, "bad_json"),
        (b"", "empty"),
        (None, "empty"),
        (b"[1, 2]", "not_an_object"),
    ]


@dataclass
class Stream:
    """Sent events, and the positions of invalid records."""

    events: list[dict[str, Any]]
    bad: list[tuple[int, int, str, bytes | None]]


def send(broker: Kafka, topic: str, now: int) -> Stream:
    """Sends valid and invalid records mixed over the partitions; returns the expected result."""
    rng = random.Random(20260105)
    events = look_ups(rng, EVENTS, now - 10 * HOUR, 5 * HOUR)
    # A valid record of the same size as an oversized one would be: size alone is not a fault.
    events[500]["note"] = "y" * 900_000
    # This actor is active now, so its finding stays open.
    burst = [
        {"time": now - 60_000_000 + n * 1000, "actor": "P9999", "subject": f"S{n}", "action": "read"} for n in range(80)
    ]
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, linger_ms=20, max_request_size=2_000_000)
    bad = bad_records(now)
    places = dict(zip(rng.sample(range(EVENTS), len(bad)), bad, strict=True))
    sent = []
    for at, event in enumerate([*events, *burst]):
        partition = rng.randrange(PARTITIONS)
        if at in places:
            value, reason = places[at]
            sent.append((producer.send(topic, value=value, partition=partition, key=b"k"), reason, value))
        line = json.dumps({**event, "time": iso(event["time"])}).encode()
        producer.send(topic, value=line, partition=partition)
    producer.flush()
    placed = [(future.get().partition, future.get().offset, reason, value) for future, reason, value in sent]
    producer.close()
    return Stream([*events, *burst], placed)


def metric(exposition: str, name: str, **labels: str) -> float:
    for line in exposition.splitlines():
        if line.startswith((name + " ", name + "{")) and all(f'{k}="{v}"' in line for k, v in labels.items()):
            return float(line.rsplit(" ", 1)[1])
    raise AssertionError(f"no {name}{labels}")


def total_rejected(exposition: str) -> float:
    lines = [line for line in exposition.splitlines() if line.startswith("custodes_events_rejected_total{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


@pytest.fixture
def now() -> int:
    return int(time.time() * 1000) * 1000


@pytest.fixture
def stream(kafka: Kafka, now: int) -> Stream:
    """A backlog in Kafka before the monitor starts, as after an outage."""
    kafka.create_topic("access", PARTITIONS)
    return send(kafka, "access", now)


@pytest.fixture
def monitor(kafka: Kafka, stream: Stream, tmp_path: Path) -> Iterator[tuple[Server, str]]:
    """`custodes run` on the backlog."""
    kafka.create_topic("dead", 1)
    (tmp_path / "rules.yml").write_text(RULES)
    port = free_port()
    config = {
        "source": {
            "kafka": {
                "bootstrap_servers": [kafka.bootstrap],
                "topics": ["access"],
                "group_id": "spine",
                "dead_letter_topic": "dead",
            }
        },
        "rules": ["rules.yml"],
        "event_time": {"idle_after": "3s"},
        "http": {"listen": f"127.0.0.1:{port}"},
    }
    (tmp_path / "custodes.yaml").write_text(yaml.safe_dump(config))
    server = Server(tmp_path / "monitor", [CUSTODES, "run", "-c", tmp_path / "custodes.yaml"])
    yield server, f"127.0.0.1:{port}"
    server.stop()


@pytest.fixture
def alerting(monitor: tuple[Server, str], webhook: Webhook, tmp_path: Path) -> Iterator[str]:
    """Prometheus and Alertmanager with the configuration of deploy/, with the addresses of the test."""
    alertmanager_port, prometheus_port = free_port(), free_port()
    routes = (ROOT / "deploy/alertmanager/alertmanager.yml").read_text()
    routes = routes.replace("http://localhost:9999", webhook.url).replace("group_wait: 10s", "group_wait: 1s")
    (tmp_path / "alertmanager.yml").write_text(routes)
    scrape = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    scrape["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    scrape["rule_files"] = [str(ROOT / "deploy/prometheus" / file) for file in scrape["rule_files"]]
    scrape["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{alertmanager_port}"]
    scrape["scrape_configs"][0]["static_configs"][0]["targets"] = [monitor[1]]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(scrape))
    alertmanager = Server(
        tmp_path / "alertmanager",
        [
            program("prometheus-alertmanager"),
            f"--config.file={tmp_path / 'alertmanager.yml'}",
            f"--storage.path={tmp_path / 'alertmanager-data'}",
            f"--web.listen-address=127.0.0.1:{alertmanager_port}",
            "--cluster.listen-address=",
        ],
    )
    prometheus = Server(
        tmp_path / "prometheus",
        [
            program("prometheus"),
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'prometheus-data'}",
            f"--web.listen-address=127.0.0.1:{prometheus_port}",
        ],
    )
    url = f"http://127.0.0.1:{prometheus_port}"
    prometheus.wait_for("Prometheus to be ready", lambda: get(f"{url}/-/ready"))
    alertmanager.wait_for("Alertmanager to be ready", lambda: get(f"http://127.0.0.1:{alertmanager_port}/-/ready"))
    yield url
    prometheus.stop()
    alertmanager.stop()


def test_from_kafka_to_the_pager(
    kafka: Kafka, stream: Stream, monitor: tuple[Server, str], alerting: str, webhook: Webhook
) -> None:
    server, address = monitor
    base = f"http://{address}"
    server.wait_for("the monitor to be ready", lambda: get(f"{base}/-/ready"))

    def read() -> dict[str, Any] | None:
        status: dict[str, Any] = get_json(f"{base}/api/v1/status")
        return status if status["events"] + status["rejected"] >= len(stream.events) + len(stream.bad) else None

    status = server.wait_for("everything to be read", read, 90)
    assert status["events"] == len(stream.events)
    assert status["rejected"] == len(stream.bad)

    # The findings equal the oracle's in any order of partitions.
    def settled() -> list[dict[str, Any]] | None:
        found = all_findings(base)
        return found if sum(f["closed_at"] is None for f in found) == 2 else None

    found = server.wait_for("all but the burst's findings to close", settled, 60)
    for rule_id, rule in ORACLE_RULES.items():
        expected = [f for f in oracle.findings(stream.events, rule) if f.group != ("P9999",)]
        assert expected, "the stream must be worth counting"
        assert in_oracles_terms(found, rule_id) == expected

    # Every invalid record is counted by reason and is in the dead-letter topic with its position.
    exposition = get(f"{base}/metrics")
    for reason, count in Counter(reason for _, _, reason, _ in stream.bad).items():
        assert metric(exposition, "custodes_events_rejected_total", reason=reason) == count
    assert total_rejected(exposition) == len(stream.bad)
    letters = KafkaConsumer(
        "dead", bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=3000
    )
    kept = []
    for letter in letters:
        headers = {name: value.decode() for name, value in letter.headers}
        assert headers["custodes.topic"] == "access"
        assert headers["custodes.detail"]
        place = int(headers["custodes.partition"]), int(headers["custodes.offset"])
        kept.append((*place, headers["custodes.reason"], letter.value or None))
    letters.close()
    assert sorted(kept, key=lambda k: k[:2]) == sorted(
        ((p, o, reason, value or None) for p, o, reason, value in stream.bad), key=lambda k: k[:2]
    )

    # The far-future time closed no finding, and the lag is zero.
    assert metric(exposition, "custodes_watermark_lag_seconds") > 0
    server.wait_for("lag to be zero", lambda: get_json(f"{base}/api/v1/status")["lag_records"] == 0)

    # The page contains the actor; the alert contains rule and level but no name.
    page = get(base)
    assert "Many people" in page
    assert "actor P9999" in page
    alert = webhook.received(
        "/investigation",
        lambda alert: alert["status"] == "firing" and alert["labels"].get("rule") == "Many people",
    )
    assert alert["labels"]["level"] == "high"
    assert "P9999" not in json.dumps(alert)
    webhook.received("/operations", lambda alert: alert["labels"]["alertname"] == "CustodesEventsRejected")
    assert server.stop() == 0


def test_a_monitor_started_before_its_broker_waits(tmp_path: Path) -> None:
    """Without a broker the monitor starts, logs it, is not ready, can be stopped, and reads once one is available."""
    port = free_port()
    config = {
        "source": {"kafka": {"bootstrap_servers": [f"127.0.0.1:{port}"], "topics": ["late"], "group_id": "late"}},
        "http": {"listen": f"127.0.0.1:{free_port()}"},
    }
    (tmp_path / "custodes.yaml").write_text(yaml.safe_dump(config))
    server = Server(tmp_path / "monitor", [CUSTODES, "run", "-c", tmp_path / "custodes.yaml"])
    base = f"http://{config['http']['listen']}"  # type: ignore[index]
    server.wait_for("it to say that no broker answers", lambda: "brokers_unreachable" in server.log.read_text())
    assert metric(get(f"{base}/metrics"), "custodes_source_streams") == 0
    broker = Kafka(tmp_path / "kafka", port)
    broker.create_topic("late", 1)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    producer.send("late", json.dumps({"time": time.time(), "actor": "P1"}).encode())
    producer.close()
    server.wait_for("it to read", lambda: get_json(f"{base}/api/v1/status")["events"] == 1, 60)
    assert metric(get(f"{base}/metrics"), "custodes_source_streams") == 1
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()
    broker.stop()


def test_an_unsent_dead_letter_waits_and_is_sent_later(kafka: Kafka, tmp_path: Path) -> None:
    """The offset was not committed, so the record is replayed."""
    kafka.create_topic("bad-only", 1)
    config = {
        "source": {
            "kafka": {
                "bootstrap_servers": [kafka.bootstrap],
                "topics": ["bad-only"],
                "group_id": "bad-only",
                "dead_letter_topic": "nowhere",
                "client": {"request_timeout_ms": 3000, "metadata_max_age_ms": 1000},
            }
        },
        "http": {"listen": f"127.0.0.1:{free_port()}"},
    }
    (tmp_path / "custodes.yaml").write_text(yaml.safe_dump(config))
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap)
    producer.send("bad-only", b"{")
    producer.close()
    checked = custodes("check", "-c", "custodes.yaml", cwd=tmp_path)
    assert checked.returncode == 1
    assert b"no topic nowhere" in checked.stderr
    server = Server(tmp_path / "monitor", [CUSTODES, "run", "-c", tmp_path / "custodes.yaml"])
    base = f"http://{config['http']['listen']}"  # type: ignore[index]
    waits, told = "custodes_dead_letters_waiting 1.0", "dead_letters_failed"
    server.wait_for("it to wait", lambda: waits in get(f"{base}/metrics") and told in server.log.read_text(), 60)
    kafka.create_topic("nowhere", 1)
    server.wait_for("it to be sent", lambda: "dead_letters_recovered" in server.log.read_text(), 60)
    assert server.stop() == 0


def test_no_partition_runs_ahead_after_an_idle_period(kafka: Kafka, tmp_path: Path) -> None:
    """All partitions are idle; then hours of events arrive, one partition after the other. None of them is late."""
    kafka.create_topic("lull", PARTITIONS)
    listen = f"127.0.0.1:{free_port()}"
    source = {"bootstrap_servers": [kafka.bootstrap], "topics": ["lull"], "group_id": "lull"}
    config = {"source": {"kafka": source}, "event_time": {"idle_after": "3s"}, "http": {"listen": listen}}
    (tmp_path / "custodes.yaml").write_text(yaml.safe_dump(config))
    server = Server(tmp_path / "monitor", [CUSTODES, "run", "-c", tmp_path / "custodes.yaml"])
    server.wait_for("it to be ready", lambda: get(f"http://{listen}/-/ready"))
    idle_by = time.monotonic() + 4
    server.wait_for("the partitions to be idle", lambda: time.monotonic() > idle_by)
    start = time.time() - 7200
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap)
    for partition in range(PARTITIONS):
        for n in range(100):
            event = {"time": start + 60 * n, "actor": f"P{n}", "action": "read"}
            producer.send("lull", json.dumps(event).encode(), partition=partition)
        producer.flush()
    producer.close()
    status = server.wait_for(
        "all to be read",
        lambda: status if (status := get_json(f"http://{listen}/api/v1/status"))["events"] == 300 else None,
    )
    assert status["late"] == 0
    assert server.stop() == 0
