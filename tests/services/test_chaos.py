"""Kill -9 at random points: findings and counts equal the oracle's, none lost, none duplicated.

`make chaos` is the long version. A failing run prints its seed; CHAOS_SEED repeats that schedule.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from custodes.history import History, SegmentStore
from sample_events import HOUR, RULES, EventSender, all_findings, assert_as_the_oracle, look_ups
from servers import CUSTODES, Kafka, Server, free_port, get_json

KILLS = int(os.environ.get("CHAOS_KILLS", "10"))
EVENTS = int(os.environ.get("CHAOS_EVENTS", "100000"))
SEED = int(os.environ.get("CHAOS_SEED", random.randrange(1 << 32)))
PARTITIONS = 3

pytestmark = [pytest.mark.services, pytest.mark.timeout(240 + 10 * KILLS)]


def test_repeated_kills_give_the_oracles_findings(kafka: Kafka, tmp_path: Path) -> None:
    print(f"CHAOS_SEED={SEED} CHAOS_KILLS={KILLS} CHAOS_EVENTS={EVENTS}")  # noqa: T201 - to run it again
    rng = random.Random(SEED)
    kafka.create_topic("chaos", PARTITIONS)
    span = 5 * HOUR * max(1, EVENTS // 100_000)
    events = look_ups(rng, EVENTS, int(time.time()) * 1_000_000 - span - 10 * HOUR, span)
    port = free_port()
    config = {
        "source": {"kafka": {"bootstrap_servers": [kafka.bootstrap], "topics": ["chaos"], "group_id": "chaos"}},
        "rules": ["rules.yml"],
        "state": {"interval": "1s"},
        "http": {"listen": f"127.0.0.1:{port}"},
    }
    (tmp_path / "rules.yml").write_text(RULES)
    (tmp_path / "custodes.yaml").write_text(yaml.safe_dump(config))
    base = f"http://127.0.0.1:{port}"
    anywhere = random.Random(SEED)
    sender = EventSender(
        kafka, "chaos", events, PARTITIONS, lambda event: anywhere.randrange(PARTITIONS), seconds=1.5 * KILLS
    )

    def run() -> Server:
        return Server(tmp_path / "monitor", [CUSTODES, "run", "-c", tmp_path / "custodes.yaml"])

    for _ in range(KILLS):
        server = run()
        # From before the snapshot is restored to several snapshots later.
        killed_at = time.monotonic() + rng.uniform(0.2, 3.0)
        while time.monotonic() < killed_at:
            assert server.process.poll() is None, server.log.read_text()[-4000:]
            time.sleep(0.01)
        server.process.kill()
        server.stop()
    server = run()
    sender.finish()

    def settled() -> list[dict[str, Any]] | None:
        if get_json(f"{base}/api/v1/status")["lag_records"] != 0:
            return None
        found = all_findings(base)
        return found if found and all(finding["closed_at"] for finding in found) else None

    found = server.wait_for("all findings to close", settled, 120)
    assert server.stop() == 0
    assert_as_the_oracle(found, events)
    shelf = SegmentStore(tmp_path / "custodes-history")
    positions = Counter((one.source, one.position) for one in History(shelf).accesses({}, limit=2 * EVENTS))
    # The sender ends each partition with an event.
    sent = EVENTS + PARTITIONS
    assert (len(positions), sum(segment.rows for segment in shelf.segments)) == (sent, sent)
    shelf.close()
