"""Reads from a real broker on the same machine: `custodes run` from poll to findings, the minimum work of a Python
consumer, and Kafka Streams."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import yaml
from events import write_events
from processes import CUSTODES, HERE, PEER_PYTHON, PEERS, median_ratio, table

from servers import Kafka, Server, free_port, get

PARTITIONS = 2
"""One partition for each thread of Kafka Streams."""


def counted(address: str) -> int:
    lines = get(f"http://{address}/metrics").splitlines()
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines if line.startswith("custodes_events_total"))


def custodes_rate(broker: Kafka, topic: str, events: int, folder: Path) -> float:
    """Events per second from the first counted batch to the last, with findings stored and offsets committed."""
    address = f"127.0.0.1:{free_port()}"
    name = uuid.uuid4().hex
    home = folder / name
    home.mkdir()
    config = {
        "source": {"kafka": {"bootstrap_servers": [broker.bootstrap], "topics": [topic], "group_id": name}},
        "rules": [str(HERE / "rules.yml")],
        "http": {"listen": address},
        # This compares counting; docs/operate.md has the cost of the history.
        "history": None,
    }
    (home / "custodes.yaml").write_text(yaml.safe_dump(config))
    server = Server(home, [CUSTODES, "run", "-c", "custodes.yaml"])
    try:
        first = server.wait_for("the first batch", lambda: counted(address))
        begun = now = time.perf_counter()
        seen, rate = first, 0.0
        # Polling takes CPU time from the measured process, so it is rare; the last answer before the
        # end is used.
        while seen < events:
            rate = (seen - first) / (now - begun) if now > begun else 0.0
            time.sleep(0.2)
            seen, now = counted(address), time.perf_counter()
        return rate
    finally:
        server.stop()


def loads_rate(broker: Kafka, topic: str, events: int) -> float:
    command: list[str | Path] = [PEER_PYTHON, HERE / "peers" / "loads.py", broker.bootstrap, topic, str(events)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def streams_rate(broker: Kafka, topic: str, events: int) -> float | None:
    """Returns the events per second of Kafka Streams with one rule, or ``None`` if it is not installed."""
    if not (streams := PEERS / "streams" / "classes").exists():
        return None
    path = f"{streams}:{PEERS / 'streams' / '*'}"
    command = ["java", "-cp", path, "HopCount", broker.bootstrap, topic, str(events), uuid.uuid4().hex]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="custodes-bench-") as name:
        folder = Path(name)
        write_events(folder / "events.jsonl", options.events)
        broker = Kafka(folder / "kafka")
        rows = []
        for codec in ("none", "zstd", "lz4"):
            topic = f"access-{codec}"
            broker.create_topic(topic, PARTITIONS)
            send: list[str | Path] = [PEER_PYTHON, HERE / "peers" / "send.py", "file", broker.bootstrap, topic, codec]
            subprocess.run([*send, folder / "events.jsonl"], check=True)
            custodes_rate(broker, topic, options.events, folder)  # Meanwhile the broker's JIT compiler warms up.
            ours, theirs, streams = [], [], []
            for _ in range(options.runs):
                ours.append(custodes_rate(broker, topic, options.events, folder))
                theirs.append(loads_rate(broker, topic, options.events))
                streams.append(streams_rate(broker, topic, options.events // 10) if codec == "none" else None)
            rows.append((codec, f"{statistics.median(ours):,.0f}", *beside(theirs, ours), *beside(streams, ours)))
        broker.stop()
    print(
        f"{options.events:,} events of one topic, {PARTITIONS} partitions, a backlog read to its end, medians of "
        f"{options.runs}. Kafka Streams counts one of the three rules and a tenth of the events.\n"
    )
    peers = ("confluent-kafka and orjson.loads", "times as fast", "Kafka Streams, one rule", "times as fast")
    print(table(("codec", "custodes, three rules", *peers), rows))


def beside(theirs: Sequence[float | None], ours: Sequence[float]) -> tuple[str, str]:
    """Returns a peer's figure and the ratio of ours to it."""
    known = [rate for rate in theirs if rate is not None]
    if len(known) < len(ours):
        return "", ""
    middle, least, most = median_ratio(known, ours)
    return f"{statistics.median(known):,.0f}", f"{middle:.1f} ({least:.1f} to {most:.1f})"


if __name__ == "__main__":
    main()
