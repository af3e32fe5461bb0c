"""Time from sending the event that opens a finding until the API and the metrics show it, under load."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from kafka import KafkaProducer
from processes import CUSTODES, HERE, PEER_PYTHON, table

from servers import Kafka, Server, free_port, get, get_json

RULE = """
title: Read
name: read
logsource: {product: custodes}
detection:
    selection: {action: read}
    condition: selection
---
title: Burst
id: 00000000-0000-4000-8000-00000000000b
level: high
correlation:
    type: event_count
    rules: [read]
    group-by: [actor]
    timespan: 10s
    condition: {gte: 60}
"""


def findings_total(address: str) -> int:
    lines = get(f"http://{address}/metrics").splitlines()
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines if line.startswith("custodes_findings_total{"))


def sample(producer: KafkaProducer, address: str, number: int) -> tuple[float, float]:
    """Sends a burst of one actor; returns the seconds until the API and until the metrics show its finding."""
    actor = f"X{number}"
    event = {"time": time.time(), "actor": actor, "subject": "1", "action": "read"}
    for _ in range(59):
        producer.send("access", json.dumps(event).encode())
    producer.flush()
    known = findings_total(address)
    sent = time.perf_counter()
    producer.send("access", json.dumps({**event, "time": time.time()}).encode())
    producer.flush()
    api = metrics = 0.0
    while not (api and metrics):
        newest = get_json(f"http://{address}/api/v1/findings?limit=5")["findings"]
        if not api and any(finding["group"]["actor"] == actor for finding in newest):
            api = time.perf_counter() - sent
        if not metrics and findings_total(address) > known:
            metrics = time.perf_counter() - sent
        if time.perf_counter() - sent > 10:
            sys.exit(f"the finding of {actor} did not show within 10 s")
    return api, metrics


def histogram(seconds: list[float]) -> str:
    bounds = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 10.0)
    rows, low = [], 0.0
    for high in bounds:
        count = sum(low <= one < high for one in seconds)
        if count:
            rows.append(
                (f"{low * 1000:.0f} to {high * 1000:.0f} ms", str(count), "█" * round(40 * count / len(seconds)))
            )
        low = high
    return table(("", "samples", ""), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=int, default=50_000)
    parser.add_argument("--samples", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="custodes-bench-") as name:
        folder = Path(name)
        broker = Kafka(folder / "kafka")
        broker.create_topic("access", 1)
        address = f"127.0.0.1:{free_port()}"
        source = {"bootstrap_servers": [broker.bootstrap], "topics": ["access"], "group_id": "latency"}
        config = {"source": {"kafka": source}, "rules": ["rules.yml"], "http": {"listen": address}}
        (folder / "rules.yml").write_text(RULE)
        (folder / "custodes.yaml").write_text(yaml.safe_dump(config))
        server = Server(folder / "run", [CUSTODES, "run", "-c", folder / "custodes.yaml"])
        server.wait_for("it to be ready", lambda: get(f"http://{address}/-/ready"))
        seconds = 20 + options.samples / 2
        send: list[str | Path] = [PEER_PYTHON, HERE / "peers" / "send.py", "steady", broker.bootstrap, "access"]
        load = subprocess.Popen([*send, str(options.rate), str(seconds)])
        producer = KafkaProducer(bootstrap_servers=broker.bootstrap, acks=1)
        time.sleep(10)  # until the load is steady
        pairs = [sample(producer, address, number) for number in range(options.samples)]
        status = get_json(f"http://{address}/api/v1/status")
        load.terminate()
        load.wait()
        producer.close()
        server.stop()
        broker.stop()
    print(
        f"{options.samples} findings at {status['events_per_second']:,.0f} events per second, {status['late']} late.\n"
    )
    rows = []
    for where, seconds_ in (("/api/v1/findings", [a for a, _ in pairs]), ("/metrics", [m for _, m in pairs])):
        ordered = sorted(seconds_)
        at = [ordered[min(int(len(ordered) * q), len(ordered) - 1)] * 1000 for q in (0.5, 0.9, 0.99)]
        rows.append((where, *(f"{ms:.0f} ms" for ms in at), f"{ordered[-1] * 1000:.0f} ms"))
    print(table(("visible in", "p50", "p90", "p99", "maximum"), rows))
    print(histogram([a for a, _ in pairs]))


if __name__ == "__main__":
    main()
