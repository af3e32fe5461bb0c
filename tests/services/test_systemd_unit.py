"""The shipped systemd unit: Custodes runs under the unit's own filter of system calls."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from kafka import KafkaProducer

from sample_events import all_findings
from servers import CUSTODES, ROOT, Kafka, PostgreSQL, Server, free_port, get, get_json, program

pytestmark = [pytest.mark.services, pytest.mark.timeout(180)]

UNIT = ROOT / "deploy" / "systemd" / "custodes.service"
FILTER = ROOT / "tests" / "service_filter.py"
ALLOWED = "SystemCallFilter=setpriority\n"

ATTEMPTS = """
import mmap, os, socket, stat, sys
def refused(attempt):
    try:
        attempt()
    except OSError as error:
        return error.strerror
print(refused(lambda: os.sched_setaffinity(0, [0])))
print(refused(lambda: os.chown(sys.argv[1], 1, 1)))
print(refused(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)))
print(refused(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)))
print(refused(lambda: os.chmod(sys.argv[1], stat.S_ISUID)))
print(refused(lambda: os.setpriority(os.PRIO_PROCESS, 0, 19)))
"""


@pytest.fixture(params=["as shipped", "without an exception for setpriority"])
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The shipped unit, and the stricter one of 0.2.0, which installations still have."""
    text = UNIT.read_text()
    assert ALLOWED in text
    path = tmp_path / "custodes.service"
    path.write_text(text if request.param == "as shipped" else text.replace(ALLOWED, ""))
    return path


def under(unit: Path) -> list[str | Path]:
    program("systemd-analyze")
    return [sys.executable, FILTER, unit]


def test_the_filter_is_in_force(unit: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    command = [*map(str, under(unit)), sys.executable, "-c", ATTEMPTS, str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    denied = "Operation not permitted"
    may_yield = ALLOWED in unit.read_text()
    assert done.stdout.splitlines() == [
        denied, denied, denied, "Address family not supported by protocol", denied, "None" if may_yield else denied,
    ]  # fmt: skip


def test_it_counts_and_stores_for_longer_than_until_the_second_segment(
    unit: Path, kafka: Kafka, postgresql: PostgreSQL, tmp_path: Path
) -> None:
    """The second segment of the history used to end the process: its merge could not lower its priority."""
    topic = f"filtered-{unit.read_text().count(ALLOWED)}"
    kafka.create_topic(topic, 1)
    base = f"http://127.0.0.1:{free_port()}"
    config = {
        "source": {"kafka": {"bootstrap_servers": [kafka.bootstrap], "topics": [topic], "group_id": topic}},
        "findings": {"database": postgresql.database(topic)},
        "state": {"interval": "1s"},
        "http": {"listen": base.removeprefix("http://")},
    }
    (tmp_path / "custodes.yaml").write_text(yaml.safe_dump(config))
    command = [*under(unit), CUSTODES, "run", "-c", tmp_path / "custodes.yaml"]
    server = Server(tmp_path / "monitor", command)
    server.wait_for("it to be ready", lambda: get(f"{base}/-/ready"))
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap)

    def events() -> int:
        return int(get_json(f"{base}/api/v1/status")["events"])

    def segments() -> int:
        return len(list((tmp_path / "custodes-history").glob("*.parquet")))

    for batch in range(1, 5):
        for n in range(50):
            event = {"time": time.time(), "actor": "P0042", "subject": f"S{batch}-{n}", "action": "read"}
            producer.send(topic, json.dumps(event).encode())
        producer.flush()
        known, read = segments(), 50 * batch
        server.wait_for("the batch to be counted", lambda read=read: events() == read)  # type: ignore[misc]
        server.wait_for("a further segment", lambda known=known: segments() > known)  # type: ignore[misc]
    producer.close()
    found = server.wait_for("the finding", lambda: all_findings(base))
    assert "Bulk lookups" in [finding["rule"] for finding in found]
    assert server.stop() == 0
    log = server.log.read_text()
    assert "Traceback" not in log
    assert log.count("history_compaction_at_normal_priority") == (0 if ALLOWED in unit.read_text() else 1)


def test_the_demo_finds_its_insiders(unit: Path) -> None:
    command = [*map(str, under(unit)), str(CUSTODES), "demo", "--json", "--speed", "max", "--listen", "127.0.0.1:0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert all(insider["found_by"] for insider in json.loads(done.stdout)["insiders"])
