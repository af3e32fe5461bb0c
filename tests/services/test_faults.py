"""Faults of a long-running consumer: each has its metric, and counting continues."""

from __future__ import annotations

import json
import resource
import signal
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from monitor_process import MonitorProcess, reads, send
from sample_events import RULES
from servers import CUSTODES, Kafka, Quorum, Server, eventually, free_port, get, get_json

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]


@pytest.fixture
def worker(kafka: Kafka, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[MonitorProcess]:
    """A worker on a topic with two partitions, named after the test."""
    topic = request.node.name
    kafka.create_topic(topic, 2)
    worker = MonitorProcess(kafka, topic, tmp_path)
    yield worker
    worker.end()


def test_a_restart_keeps_its_counts(kafka: Kafka, worker: MonitorProcess, tmp_path: Path) -> None:
    """Half of a finding's events before and half after the end of the process, by SIGTERM or kill."""
    now = time.time() - 3600
    events = reads(60, "P1", now)
    for part, end in ((events[:20], "kill"), (events[20:40], "stop"), (events[40:], "kill")):
        server = worker.start()
        server.wait_for("it to be ready", lambda: get(f"{worker.base}/-/ready"))
        send(kafka, worker.topic, part)
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
    assert worker.status()["events"] == 0, "no event was replayed"
    assert server.stop() == 0


def test_records_deleted_by_retention_are_reported_and_stored(
    kafka: Kafka, worker: MonitorProcess, tmp_path: Path
) -> None:
    now = time.time() - 3600
    server = worker.start()
    send(kafka, worker.topic, reads(10, "P1", now))
    server.wait_for("the first to be counted", lambda: worker.status()["events"] == 10)
    assert server.stop() == 0
    send(kafka, worker.topic, reads(25, "P1", now + 10))
    send(kafka, worker.topic, reads(5, "P1", now), partition=1)
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    # One partition has only its end left, and another without unread records not even that.
    admin.delete_records({TopicPartition(worker.topic, 0): 30})
    admin.close()
    server = worker.start()
    server.wait_for("the rest to be counted", lambda: worker.status()["events"] == 10)
    gaps = get_json(f"{worker.base}/api/v1/gaps")["gaps"]
    assert [(gap["topic"], gap["partition"], gap["from"], gap["until"], gap["records"]) for gap in gaps] == [
        (worker.topic, 0, 10, 30, 20)
    ]
    assert worker.metric("custodes_events_missed_total") == 20
    assert "records_missed" in server.log.read_text()
    assert server.stop() == 0
    send(kafka, worker.topic, reads(7, "P1", now + 40))
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    admin.delete_records({TopicPartition(worker.topic, 0): 42})
    admin.close()
    server = worker.start()
    server.wait_for("an empty partition's gap", lambda: len(get_json(f"{worker.base}/api/v1/gaps")["gaps"]) == 2)
    assert worker.metric("custodes_events_missed_total") == 7
    assert server.stop() == 0


def test_a_damaged_snapshot_is_skipped_for_the_previous_one(
    kafka: Kafka, worker: MonitorProcess, tmp_path: Path
) -> None:
    now = time.time() - 3600
    server = worker.start()
    server.wait_for("it to be ready", lambda: get(f"{worker.base}/-/ready"))
    send(kafka, worker.topic, reads(30, "P1", now))
    server.wait_for("all to be counted", lambda: worker.status()["events"] == 30)
    folder = tmp_path / "custodes-state"
    server.wait_for("two snapshots", lambda: len(list(folder.glob("*.snapshot"))) >= 2)
    assert server.stop() == 0
    newest = max(folder.glob("*.snapshot"))
    newest.write_bytes(newest.read_bytes()[:-100])
    server = worker.start()
    server.wait_for("it to be ready", lambda: get(f"{worker.base}/-/ready"))
    assert worker.metric("custodes_snapshots_damaged") == 1
    send(kafka, worker.topic, reads(30, "P1", now + 30))
    found = server.wait_for("the finding", lambda: get_json(f"{worker.base}/api/v1/findings")["findings"])
    server.wait_for(
        "its count", lambda: get_json(f"{worker.base}/api/v1/findings?open=true")["findings"][0]["count"] == 60
    )
    assert found[0]["group"] == {"actor": "P1"}
    assert server.stop() == 0


def test_two_processes_do_not_share_a_folder(kafka: Kafka, worker: MonitorProcess, tmp_path: Path) -> None:
    server = worker.start()
    server.wait_for("it to be ready", lambda: get(f"{worker.base}/-/ready"))
    second = Server(worker.folder, [CUSTODES, "run", "-c", tmp_path / "custodes.yaml"])
    assert second.process.wait(30) == 2
    second.stop()
    assert "in use by another running process" in server.log.read_text()
    assert server.stop() == 0


def test_a_full_disk_stops_neither_counting_nor_recovery(kafka: Kafka, worker: MonitorProcess, tmp_path: Path) -> None:
    """No file of the process may grow: snapshot, database, log. Then there is space again."""
    now = time.time() - 3600
    server = worker.start()
    server.wait_for("it to be ready", lambda: get(f"{worker.base}/-/ready"))
    send(kafka, worker.topic, reads(30, "P1", now))
    server.wait_for("all to be counted", lambda: worker.status()["events"] == 30)
    server.wait_for("a snapshot", partial(worker.has_snapshot_since, time.time()))
    none = resource.RLIM_INFINITY
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1, none))
    send(kafka, worker.topic, reads(30, "P1", now + 30))
    send(kafka, worker.topic, reads(70, "P2", now))
    server.wait_for("all to be counted", lambda: worker.status()["events"] == 130)
    server.wait_for("findings to wait", lambda: worker.metric("custodes_findings_waiting") >= 1)
    assert get_json(f"{worker.base}/api/v1/findings")["findings"] == []
    assert get(f"{worker.base}/-/healthy")
    # Longer than the retry delay, with nothing stored: no snapshot and no commit may follow.
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


def test_snapshots_fail_and_recover_independently(kafka: Kafka, worker: MonitorProcess, tmp_path: Path) -> None:
    """Only the state folder is full: counting and findings continue, and the metric reports it."""
    now = time.time() - 3600
    server = worker.start()
    server.wait_for("it to be ready", lambda: get(f"{worker.base}/-/ready"))
    send(kafka, worker.topic, reads(30, "P1", now))
    server.wait_for("a snapshot", lambda: worker.status()["snapshot_at"])
    folder = tmp_path / "custodes-state"
    moved = folder.with_name("elsewhere")
    folder.rename(moved)
    folder.write_text("no folder at all")
    server.wait_for("failures", lambda: worker.metric("custodes_snapshot_failures") >= 1)
    send(kafka, worker.topic, reads(30, "P1", now + 30))
    server.wait_for("the finding", lambda: get_json(f"{worker.base}/api/v1/findings")["findings"])
    folder.unlink()
    moved.rename(folder)
    server.wait_for("snapshots again", lambda: worker.metric("custodes_snapshot_failures") == 0)
    assert server.stop() == 0


def test_reload_applies_new_rules_or_keeps_the_old_ones(kafka: Kafka, worker: MonitorProcess, tmp_path: Path) -> None:
    now = time.time() - 3600
    rules = tmp_path / "rules.yml"
    server = worker.start()
    server.wait_for("it to be ready", lambda: get(f"{worker.base}/-/ready"))
    events = reads(60, "P1", now)
    send(kafka, worker.topic, events[:30])
    server.wait_for("all to be counted", lambda: worker.status()["events"] == 30)

    rules.write_text(RULES.replace("gte: 60", "gte: sixty"))
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(f"{worker.base}/-/reload")
    answer = refused.value.read().decode()
    refused.value.close()
    assert refused.value.code == 400
    assert "rules.yml:" in answer
    assert worker.metric("custodes_reload_failed") == 1

    # One rule stays, one is removed, one has a new threshold, and one is added.
    stays, goes = "Many look-ups", "Watched by many"
    documents = [one for one in RULES.split("---") if goes not in one]
    assert len(documents) == 3
    fresh = documents[1].replace(stays, "Very many look-ups").replace("8111-111111111111", "8111-111111111112")
    text = "---".join([*documents, fresh]).replace("gte: 60", "gte: 50")
    rules.write_text(text)
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("the reload", lambda: worker.metric("custodes_reload_failed") == 0)
    assert post(f"{worker.base}/-/reload") == "reloaded\n", "once more changes nothing"
    send(kafka, worker.topic, events[30:])
    server.wait_for("all to be counted", lambda: worker.status()["events"] == 60)

    def figures() -> dict[str, tuple[int, int]]:
        found = get_json(f"{worker.base}/api/v1/findings")["findings"]
        return {one["rule"]: (one["peak"], one["threshold"]) for one in found}

    server.wait_for("the findings", lambda: all(peak == 60 for peak, _ in figures().values()) and len(figures()) == 3)
    assert figures() == {stays: (60, 40), "Many people": (60, 50), "Very many look-ups": (60, 40)}
    exposition = get(f"{worker.base}/metrics")
    assert goes not in exposition
    assert 'custodes_engine_groups{rule="Very many look-ups"} 1.0' in exposition
    log = server.log.read_text()
    assert "rule_state_dropped" in log
    assert server.stop() == 0


def post(url: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=30) as response:
        return str(response.read().decode())


def test_a_broker_restart_is_survived(tmp_path: Path) -> None:
    kafka = Kafka(tmp_path / "kafka")
    kafka.create_topic("lost", 1)
    worker, now = MonitorProcess(kafka, "lost", tmp_path), time.time() - 3600
    server = worker.start()
    try:
        server.wait_for("it to be ready", lambda: get(f"{worker.base}/-/ready"))
        events = reads(60, "P1", now)
        send(kafka, "lost", events[:30])
        server.wait_for("half to be counted", lambda: worker.status()["events"] == 30)
        assert worker.metric("custodes_source_connected") == 1
        kafka.kill()
        server.wait_for("the loss to be noticed", lambda: worker.metric("custodes_source_connected") == 0)
        assert get(f"{worker.base}/-/healthy"), "it waits, it does not hang"
        kafka.start_again()
        kafka.wait_for("Kafka to listen", kafka.listens, 60)
        send(kafka, "lost", events[30:])
        server.wait_for("the rest to be counted", lambda: worker.status()["events"] == 60, 60)
        assert worker.metric("custodes_source_connected") == 1
        found = get_json(f"{worker.base}/api/v1/findings")["findings"]
        assert {(one["rule"], one["peak"]) for one in found} == {("Many look-ups", 60), ("Many people", 60)}
        assert get_json(f"{worker.base}/api/v1/gaps")["gaps"] == []
        assert server.stop() == 0
    finally:
        server.kill()
        kafka.stop()


def test_leader_changes_lose_nothing(tmp_path: Path) -> None:
    """Three brokers are killed one after the other, and partitions get a new leader each time."""
    quorum = Quorum([free_port() for _ in range(3)])
    brokers = [Kafka(tmp_path / f"kafka{node}", quorum=quorum, node=node) for node in range(3)]
    everywhere = [broker.bootstrap for broker in brokers]
    try:
        for broker in brokers:
            broker.wait_for("Kafka to listen", broker.listens, 60)
        brokers[0].create_topic("moving", 3, replicas=3)
        worker = MonitorProcess(brokers[0], "moving", tmp_path)
        worker.read_from(everywhere)
        server = worker.start()
        server.wait_for("it to be ready", lambda: get(f"{worker.base}/-/ready"))
        events = reads(90, "P1", time.time() - 3600)
        for lost, part in zip(brokers, (events[:30], events[30:60], events[60:]), strict=True):
            send(everywhere, "moving", part[:10])
            lost.kill()
            # Sends to all partitions; one of them has just lost its leader.
            for partition in range(3):
                send(everywhere, "moving", part[10 + partition : 30 : 3], partition)
            counted = events.index(part[-1]) + 1
            server.wait_for(f"{counted} to be counted", partial(worker.has_counted, counted), 60)
            lost.start_again()
            lost.wait_for("Kafka to listen", lost.listens, 60)
        server.wait_for("all to be stored", lambda: worker.peaks() == {90})
        assert worker.metric("custodes_events_missed_total") == 0
        assert server.stop() == 0
    finally:
        worker.end()
        for broker in brokers:
            broker.kill()


def test_an_expired_password_is_reported_and_retried(tmp_path: Path) -> None:
    """The password changes while connections are open that re-authenticate every three seconds."""
    kafka = Kafka(tmp_path / "kafka", password="good")
    kafka.create_topic("guarded", 1)
    worker = MonitorProcess(kafka, "guarded", tmp_path)
    worker.read_from([kafka.guarded], security_protocol="SASL_PLAINTEXT", sasl_mechanism="SCRAM-SHA-256",
                     sasl_plain_username="custodes", sasl_plain_password="good")  # fmt: skip
    server = worker.start()
    try:
        server.wait_for("it to be ready", lambda: get(f"{worker.base}/-/ready"))
        events = reads(90, "P1", time.time() - 3600)
        send(kafka, "guarded", events[:30])
        server.wait_for("some to be counted", partial(worker.has_counted, 30))
        kafka.set_password("other")
        server.wait_for("it to be shut out", lambda: worker.metric("custodes_source_connected") == 0, 60)
        send(kafka, "guarded", events[30:60])
        assert get(f"{worker.base}/-/healthy"), "it waits, it does not hang"
        server.wait_for("it to say why", lambda: "uthentication" in server.log.read_text())
        kafka.set_password("good")
        server.wait_for("what came meanwhile to be counted", partial(worker.has_counted, 60), 60)
        server.wait_for("it to say so", lambda: worker.metric("custodes_source_connected") == 1)
        # A monitor may also start with a password that is not valid yet.
        assert server.stop() == 0
        kafka.set_password("other")
        server = worker.start()
        before = server.log.read_text().count("brokers_refused")
        server.wait_for(
            "it to say why, twice", lambda: server.log.read_text().count("brokers_refused") >= before + 2, 60
        )
        kafka.set_password("good")
        send(kafka, "guarded", events[60:])
        server.wait_for("all to be stored", lambda: worker.peaks() == {90}, 60)
        assert worker.metric("custodes_events_missed_total") == 0
        assert server.stop() == 0
    finally:
        worker.end()
        kafka.stop()


def test_added_partitions_are_read_and_sigterm_is_quick(kafka: Kafka, worker: MonitorProcess) -> None:
    now = time.time() - 3600
    server = worker.start()
    server.wait_for("it to be ready", lambda: get(f"{worker.base}/-/ready"))
    events = reads(60, "P1", now)
    send(kafka, worker.topic, events[:30])
    server.wait_for("half to be counted", lambda: worker.status()["events"] == 30)
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    admin.create_partitions({worker.topic: 3})
    admin.close()
    send(kafka, worker.topic, events[30:], partition=2)
    server.wait_for("the new partition to be read", lambda: worker.status()["events"] == 60)
    server.wait_for("all to be stored", lambda: worker.peaks() == {60})
    begun = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - begun < 10
    # The same during a restart: a static member gets its old partitions, which are no longer all of them.
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    admin.create_partitions({worker.topic: 4})
    admin.close()
    server = worker.start()
    server.wait_for("it to have all partitions", lambda: worker.status()["streams"] == 4)
    assert worker.peaks() == {60}
    assert server.stop() == 0


def test_a_locked_database_delays_storing_only(kafka: Kafka, worker: MonitorProcess, tmp_path: Path) -> None:
    server = worker.start()
    server.wait_for("it to be ready", lambda: get(f"{worker.base}/-/ready"))
    with closing(sqlite3.connect(tmp_path / "custodes.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        send(kafka, worker.topic, reads(60, "P1", time.time() - 3600))
        server.wait_for("all to be counted", lambda: worker.status()["events"] == 60)
        server.wait_for("findings to wait", lambda: worker.metric("custodes_findings_waiting") >= 1)
        assert "database is locked" in server.log.read_text()
        assert get(f"{worker.base}/-/healthy")
        other.execute("ROLLBACK")
    server.wait_for("the findings", lambda: worker.peaks() == {60})
    assert server.stop() == 0


def test_a_damaged_database_is_reported(kafka: Kafka, worker: MonitorProcess, tmp_path: Path) -> None:
    (tmp_path / "custodes.db").write_bytes(b"no database at all" * 1000)
    server = worker.start()
    assert server.process.wait(30) == 1
    assert "file is not a database" in server.log.read_text()


def test_poison_and_oversized_records_become_dead_letters_without_loss(kafka: Kafka, tmp_path: Path) -> None:
    kafka.create_topic("poison", 1, max_message_bytes="20000000")
    worker = MonitorProcess(kafka, "poison", tmp_path)
    server = worker.start()
    try:
        server.wait_for("it to be ready", lambda: get(f"{worker.base}/-/ready"))
        events = reads(60, "P1", time.time() - 3600)
        giant = json.dumps({**events[0], "note": "x" * 17_000_000}).encode()
        producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, max_request_size=20_000_000)
        for at, event in enumerate(events):
            producer.send("poison", json.dumps(event).encode())
            if at == 20:
                producer.send("poison", b'{"time": ')
                producer.send("poison", b"[" * 100_000)
            if at == 40:
                producer.send("poison", giant)
                producer.send("poison", None, key=b"a tombstone")
        producer.flush()
        producer.close()
        server.wait_for("all to be counted", partial(worker.has_counted, 60))
        server.wait_for("the finding", lambda: worker.peaks() == {60})
        rejected = {"bad_json": 1, "too_deep": 1, "too_large": 1, "empty": 1}
        for reason, count in rejected.items():
            assert worker.metric(f'custodes_events_rejected_total{{reason="{reason}"}}') == count
        letters = [json.loads(line) for line in (tmp_path / "custodes-dead-letters.jsonl").read_text().splitlines()]
        assert [(letter["reason"], letter["position"]) for letter in letters] == [
            ("bad_json", 21), ("too_deep", 22), ("too_large", 43), ("empty", 44),
        ]  # fmt: skip
        assert server.stop() == 0
    finally:
        worker.end()


def test_dead_letters_wait_until_they_can_be_written(kafka: Kafka, worker: MonitorProcess, tmp_path: Path) -> None:
    """The disk for dead letters is full: nothing stops, nothing is lost, and no commit passes them after a kill."""
    now = time.time() - 3600
    server = worker.start()
    server.wait_for("it to be ready", lambda: get(f"{worker.base}/-/ready"))
    letters = tmp_path / "custodes-dead-letters.jsonl"
    none = resource.RLIM_INFINITY
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (letters.stat().st_size, none))
    bad: list[dict[str, Any]] = [{"time": now, "note": "nobody"}] * 3
    send(kafka, worker.topic, [*bad, *reads(30, "P1", now)])
    server.wait_for("all to be counted", lambda: worker.status()["events"] == 30)
    server.wait_for("letters to wait", lambda: worker.metric("custodes_dead_letters_waiting") == 3)
    assert worker.status()["rejected"] == 3
    assert get(f"{worker.base}/-/healthy")
    server.kill()
    server.stop()
    assert letters.read_text() == ""
    server = worker.start()
    server.wait_for("it to hear them again", lambda: worker.status()["events"] == 30)
    server.wait_for("nothing to wait", lambda: worker.metric("custodes_dead_letters_waiting") == 0)
    assert [json.loads(line)["reason"] for line in letters.read_text().splitlines()] == ["missing_actor"] * 3
    assert server.stop() == 0


def test_a_recreated_topic_is_read_from_its_start(kafka: Kafka, worker: MonitorProcess) -> None:
    now = time.time() - 3600
    server = worker.start()
    server.wait_for("it to be ready", lambda: get(f"{worker.base}/-/ready"))
    send(kafka, worker.topic, reads(30, "P1", now))
    server.wait_for("all to be counted", lambda: worker.status()["events"] == 30)
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    admin.delete_topics([worker.topic])
    admin.close()
    server.wait_for("its partitions to go", lambda: worker.metric("custodes_source_streams") == 0)
    assert worker.status()["ready"] is False
    assert server.stop() == 0
    kafka.create_topic(worker.topic, 2)
    send(kafka, worker.topic, reads(20, "P2", now + 100))
    server = worker.start()
    server.wait_for("all of the new one to be counted", lambda: worker.status()["events"] == 20)
    assert server.stop() == 0


def test_a_member_whose_place_was_taken_ends_and_says_so(kafka: Kafka, worker: MonitorProcess, tmp_path: Path) -> None:
    """Both processes have copies of one state folder, as two clones of a machine have."""
    server = worker.start()
    server.wait_for("it to be ready", lambda: get(f"{worker.base}/-/ready"))
    send(kafka, worker.topic, reads(30, "P1", time.time() - 3600))
    server.wait_for("all to be counted", lambda: worker.status()["events"] == 30)
    (tmp_path / "clone").mkdir()
    clone = MonitorProcess(kafka, worker.topic, tmp_path / "clone")
    name = next(tmp_path.rglob("worker"))
    (tmp_path / "clone" / name.relative_to(tmp_path)).parent.mkdir(parents=True)
    (tmp_path / "clone" / name.relative_to(tmp_path)).write_text(name.read_text())
    second = clone.start()
    try:
        second.wait_for("the clone to be ready", lambda: get(f"{clone.base}/-/ready"))
        eventually("the first to end", lambda: server.process.poll() is not None, 60)
        assert server.process.returncode == 2, "systemd does not start it again"
        assert "another process has joined the consumer group" in server.log.read_text()
        assert second.stop() == 0
    finally:
        clone.end()


def test_a_hanging_transaction_delays_and_loses_nothing(kafka: Kafka, worker: MonitorProcess) -> None:
    worker.read_from([kafka.bootstrap], isolation_level="read_committed")
    server = worker.start()
    server.wait_for("it to be ready", lambda: get(f"{worker.base}/-/ready"))
    now = time.time() - 3600
    send(kafka, worker.topic, reads(20, "P1", now))
    server.wait_for("the first to be counted", lambda: worker.status()["events"] == 20)
    hanging = KafkaProducer(
        bootstrap_servers=kafka.bootstrap, transactional_id="hanging", transaction_timeout_ms=15_000, acks="all"
    )
    hanging.init_transactions()
    hanging.begin_transaction()
    hanging.send(worker.topic, json.dumps(reads(1, "P9", now + 30)[0]).encode(), partition=0)
    hanging.flush()
    send(kafka, worker.topic, reads(60, "P1", now)[20:])
    server.wait_for("the committed records to wait", lambda: worker.metric("custodes_source_lag_records") >= 40)
    assert worker.status()["events"] == 20
    server.wait_for("the broker to abort the transaction", lambda: worker.status()["events"] == 60, 60)
    assert worker.peaks() == {60}
    assert get_json(f"{worker.base}/api/v1/gaps")["gaps"] == []
    assert worker.metric("custodes_source_lag_records") == 0
    hanging.close(timeout=1)
    assert server.stop() == 0
