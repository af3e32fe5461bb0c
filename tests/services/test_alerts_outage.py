"""Alerts during an outage of a real Alertmanager: every finding is delivered effectively once, in order, and resolved.

ALERT_OUTAGE is the length of the outage in seconds; `make chaos` uses ten minutes.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kafka import KafkaConsumer, KafkaProducer
from standardwebhooks import Webhook

from recording_server import RecordingServer
from servers import CUSTODES, Kafka, Server, free_port, get, get_json, program

OUTAGE = float(os.environ.get("ALERT_OUTAGE", "5"))
FINDINGS = 500
SECRET = base64.b64encode(b"a secret of thirty-two bytes now").decode()
ROUTES = {
    # No grouping and no delay, so that each alert is visible separately.
    "route": {"receiver": "ear", "group_by": ["..."], "group_wait": "1s", "group_interval": "1s"},
}

pytestmark = [pytest.mark.services, pytest.mark.timeout(180 + 2 * OUTAGE)]


def write_events(path: Path, name: str) -> None:
    """Writes old look-ups by many actors, 150 subjects each within 15 minutes; then one recent look-up."""
    start = time.time() - 86_400
    with path.open("w") as file:
        for n in range(150):
            for actor in range(FINDINGS):
                event = {"time": start + n * 6, "actor": f"{name}{actor:04}", "subject": f"S{n}", "action": "read"}
                file.write(json.dumps(event) + "\n")
        file.write(json.dumps({"time": start + 50_000, "actor": "nobody", "subject": "S", "action": "read"}) + "\n")


def alertmanager(folder: Path, port: int, ear: RecordingServer) -> Server:
    receivers = [{"name": "ear", "webhook_configs": [{"url": f"{ear.url}/alertmanager", "send_resolved": True}]}]
    folder.mkdir()
    (folder / "alertmanager.yml").write_text(yaml.safe_dump({**ROUTES, "receivers": receivers}))
    server = Server(
        folder,
        [
            program("prometheus-alertmanager"),
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ],
    )
    server.wait_for("Alertmanager to be ready", lambda: get(f"http://127.0.0.1:{port}/-/ready"))
    return server


def the_rule(folder: Path) -> Path:
    """Returns a rule that finds each of them once."""
    rule = folder / "rules.yml"
    rule.write_text(
        "title: Looks\nname: looks\nlogsource: {product: custodes}\ndetection: {x: {action: read}, condition: x}\n"
        "---\ntitle: Many people\nlevel: high\ncorrelation:\n  type: value_count\n  rules: [looks]\n"
        "  group-by: [actor]\n  timespan: 1h\n  condition: {field: subject, gte: 100}\n"
    )
    return rule


@pytest.fixture
def started() -> Iterator[list[Server]]:
    """Stops servers at the end of the test in any case."""
    servers: list[Server] = []
    yield servers
    for server in servers:
        server.stop()


def told(ear: RecordingServer, path: str) -> list[Any]:
    return [heard.json for heard in list(ear.heard) if heard.path == path]


def test_alerts_survive_an_outage_of_the_receiver(tmp_path: Path, ear: RecordingServer, started: list[Server]) -> None:
    hook_port, alertmanager_port, port = free_port(), free_port(), free_port()
    write_events(tmp_path / "events.jsonl", "P")
    (tmp_path / "secret").write_text(f"whsec_{SECRET}")
    hook = {"kind": "webhook", "name": "hook", "url": f"http://127.0.0.1:{hook_port}/hook", "secret": "secret"}
    pager = {
        "kind": "alertmanager", "name": "pager", "urls": [f"http://127.0.0.1:{alertmanager_port}"],
        "least_firing": "10s", "resend": "5s",
    }  # fmt: skip
    config = {
        "source": {"file": {"paths": ["events.jsonl"]}},
        "rules": [str(the_rule(tmp_path))],
        "alerts": {"receivers": [hook, pager], "console": "https://custodes.example/"},
        "http": {"listen": f"127.0.0.1:{port}"},
    }
    (tmp_path / "custodes.yaml").write_text(yaml.safe_dump(config))
    base = f"http://127.0.0.1:{port}"
    server = Server(tmp_path / "monitor", [CUSTODES, "run", "-c", tmp_path / "custodes.yaml"])
    started.append(server)
    server.wait_for("the file to end", lambda: get_json(f"{base}/api/v1/status")["finished"], 60)
    since = time.monotonic()
    server.wait_for("both to be tried in vain", lambda: "custodes_alert_failures" in get(f"{base}/metrics"))
    assert f'custodes_alerts_waiting{{receiver="hook"}} {2 * FINDINGS}.0' in server.wait_for(
        "all to wait", lambda: text if f"{2 * FINDINGS}.0" in (text := get(f"{base}/metrics")) else None
    )
    # The machine restarts during the outage.
    server.kill()
    server.start_again()
    server.wait_for("the outage to be over", lambda: time.monotonic() - since >= OUTAGE, OUTAGE + 30)
    hooked = RecordingServer(port=hook_port)
    started.append(alertmanager(tmp_path / "alertmanager", alertmanager_port, ear))
    limit = 120.0

    def all_hooked() -> bool:
        return len({heard.headers["webhook-id"] for heard in list(hooked.heard)}) == 2 * FINDINGS

    server.wait_for("the webhook to have received everything", all_hooked, limit)
    ids = Counter(heard.headers["webhook-id"] for heard in hooked.heard)
    kinds: dict[str, list[str]] = defaultdict(list)
    for heard in hooked.heard:
        Webhook(f"whsec_{SECRET}").verify(heard.body, dict(heard.headers))
        assert b"P0" not in heard.body
        kinds[heard.json["data"]["finding"]["id"]].append(heard.json["type"])
    assert set(ids.values()) == {1}
    assert len(kinds) == FINDINGS
    assert all(its == ["finding.opened", "finding.closed"] for its in kinds.values())

    def states() -> dict[str, list[str]]:
        seen: dict[str, list[str]] = defaultdict(list)
        for note in told(ear, "/alertmanager"):
            for alert in note["alerts"]:
                seen[alert["labels"]["finding"]].append(alert["status"])
        return seen

    server.wait_for(
        "every alert to have fired and been resolved",
        lambda: sum(its[-1] == "resolved" for its in states().values()) == FINDINGS,
        limit,
    )
    assert states().keys() == kinds.keys()
    assert all(its == ["firing", "resolved"] for its in states().values())
    assert get_json(f"http://127.0.0.1:{alertmanager_port}/api/v2/alerts?active=true") == []
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()
    hooked.stop()


def test_findings_are_sent_to_a_topic_in_ocsf_format(kafka: Kafka, tmp_path: Path, started: list[Server]) -> None:
    kafka.create_topic("access-ocsf", 1)
    kafka.create_topic("detections", 3)
    write_events(tmp_path / "events.jsonl", "Q")
    port = free_port()
    config = {
        "source": {"kafka": {"bootstrap_servers": [kafka.bootstrap], "topics": ["access-ocsf"], "group_id": "ocsf"}},
        "rules": [str(the_rule(tmp_path))],
        "alerts": {"receivers": [{"kind": "kafka", "name": "lake", "topic": "detections", "names": True}]},
        "http": {"listen": f"127.0.0.1:{port}"},
    }
    (tmp_path / "custodes.yaml").write_text(yaml.safe_dump(config))
    server = Server(tmp_path / "monitor", [CUSTODES, "run", "-c", tmp_path / "custodes.yaml"])
    started.append(server)
    server.wait_for("it to be ready", lambda: get(f"http://127.0.0.1:{port}/-/ready"))
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, linger_ms=20)
    for line in (tmp_path / "events.jsonl").read_bytes().splitlines():
        producer.send("access-ocsf", line)
    producer.close()
    letters = KafkaConsumer(
        "detections", bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=200
    )
    by_finding: dict[bytes, list[dict[str, Any]]] = defaultdict(list)

    def all_written() -> bool:
        for letter in letters:
            by_finding[letter.key].append(json.loads(letter.value))
        return sum(map(len, by_finding.values())) >= 2 * FINDINGS

    server.wait_for("all to be in the topic", all_written, 90)
    letters.close()
    assert len(by_finding) == FINDINGS
    for key, events in by_finding.items():
        assert [event["activity_id"] for event in events] == [1, 2]
        assert {event["finding_info"]["uid"] for event in events} == {key.decode()}
    names = {event["evidences"][0]["actor"]["user"]["name"] for events in by_finding.values() for event in events}
    assert names == {f"Q{n:04}" for n in range(FINDINGS)}
    assert server.stop() == 0
