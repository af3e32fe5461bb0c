"""A hot copy of a running monitor's data, as docs/backup.md describes, restores exactly."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from commands import custodes
from custodes.history import History, SegmentStore
from sample_events import HOUR, RULES, EventSender, all_findings, assert_as_the_oracle, look_ups
from servers import CUSTODES, ROOT, Kafka, Server, free_port, get_json

COPIES = 2
EVENTS = 40_000
PARTITIONS = 2

pytestmark = [pytest.mark.services, pytest.mark.timeout(400)]


def hot_copy(source: Path, target: Path) -> None:
    """Runs the shipped script on a monitor's folders and copies its configuration."""
    folders = {"state": "custodes-state", "history": "custodes-history", "evidence": "custodes-evidence"}
    arguments = [f"--{part}={source / name}" for part, name in folders.items()]
    command = [sys.executable, ROOT / "deploy/backup/hot_copy.py", target, *arguments]
    subprocess.run([*map(str, command), f"--database={source / 'custodes.db'}"], check=True)
    for name in ("custodes.yaml", "rules.yml"):
        shutil.copy(source / name, target / name)


def test_a_hot_copy_restores_exactly(kafka: Kafka, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - to repeat the run
    rng = random.Random(seed)
    kafka.create_topic("backup", PARTITIONS)
    span = 4 * HOUR
    events = look_ups(rng, EVENTS, int(time.time()) * 1_000_000 - span - 10 * HOUR, span)
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    config = {
        "source": {"kafka": {"bootstrap_servers": [kafka.bootstrap], "topics": ["backup"], "group_id": "backup"}},
        "rules": ["rules.yml"],
        "state": {"interval": "1s"},
        "evidence": {"name": "test/custodes"},
        "http": {"listen": f"127.0.0.1:{port}"},
    }
    original = tmp_path / "original"
    original.mkdir()
    (original / "rules.yml").write_text(RULES)
    (original / "custodes.yaml").write_text(yaml.safe_dump(config))
    placement = random.Random(seed)
    copies_made = threading.Event()
    held_back = events[EVENTS * 9 // 10 :]

    def partition_of(event: dict[str, Any]) -> int:
        if event is held_back[0]:
            copies_made.wait(120)
        return placement.randrange(PARTITIONS)

    sender = EventSender(kafka, "backup", events, PARTITIONS, partition_of, seconds=10.0)

    def run(folder: Path) -> Server:
        return Server(folder / "monitor", [CUSTODES, "run", "-c", folder / "custodes.yaml"])

    server = run(original)
    server.wait_for("a snapshot", lambda: list((original / "custodes-state").glob("*.snapshot")))
    copies = [tmp_path / f"copy-{number}" for number in range(COPIES)]
    hot_copy(original, copies[0])
    server.wait_for("evidence", lambda: list((original / "custodes-evidence").glob("*.evidence")))
    for copy in copies[1:]:
        hot_copy(original, copy)
        time.sleep(rng.uniform(0.5, 2.0))
    copies_made.set()
    server.kill()
    sender.finish()

    def settled() -> list[dict[str, Any]] | None:
        if get_json(f"{base}/api/v1/status")["lag_records"] != 0:
            return None
        found = all_findings(base)
        return found if found and all(finding["closed_at"] for finding in found) else None

    for copy in copies:
        restored = run(copy)
        found = restored.wait_for("all findings to close", settled, 120)
        assert restored.stop() == 0
        assert "snapshot" in restored.log.read_text()
        assert_as_the_oracle(found, events)
        shelf = SegmentStore(copy / "custodes-history")
        positions = Counter((one.source, one.position) for one in History(shelf).accesses({}, limit=2 * EVENTS))
        # The sender ends each partition with an event.
        sent = EVENTS + PARTITIONS
        assert (len(positions), sum(segment.rows for segment in shelf.segments)) == (sent, sent)
        shelf.close()
        verified = custodes("evidence", "verify", cwd=copy)
        assert verified.returncode == 0, verified.stdout.decode() + verified.stderr.decode()
