"""From a real broker on the same machine: `custodes run` from poll to findings, and the least anybody else does."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import yaml
from events import write_events
from processes import CUSTODES, HERE, PEER_PYTHON, median_ratio, table

from servers import Kafka, Server, free_port, get


def counted(address: str) -> int:
    lines = get(f"http://{address}/metrics").splitlines()
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines if line.startswith("custodes_events_total"))


def custodes_rate(broker: Kafka, topic: str, events: int, folder: Path) -> float:
    """Events a second from the first batch counted to the last, findings stored and offsets committed."""
    address = f"127.0.0.1:{free_port()}"
    name = uuid.uuid4().hex
    home = folder / name
    home.mkdir()
    config = {
        "source": {"kafka": {"bootstrap_servers": [broker.bootstrap], "topics": [topic], "group_id": name}},
        "rules": [str(HERE / "rules.yml")],
        "http": {"listen": address},
    }
    (home / "custodes.yaml").write_text(yaml.safe_dump(config))
    server = Server(home, [CUSTODES, "run", "-c", "custodes.yaml"])
    try:
        first = server.wait_for("the first batch", lambda: counted(address))
        begun = now = time.perf_counter()
        seen, rate = first, 0.0
        # Asking takes the process that is measured its time, so it is done seldom, and the last answer before the
        # end is what counts.
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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="custodes-bench-") as name:
        folder = Path(name)
        write_events(folder / "events.jsonl", options.events)
        broker = Kafka(folder / "kafka")
        for codec in ("none", "zstd", "lz4"):
            topic = f"access-{codec}"
            broker.create_topic(topic, 1)
            send: list[str | Path] = [PEER_PYTHON, HERE / "peers" / "send.py", "file", broker.bootstrap, topic, codec]
            subprocess.run([*send, folder / "events.jsonl"], check=True)
            ours, theirs = [], []
            for _ in range(options.runs):
                ours.append(custodes_rate(broker, topic, options.events, folder))
                theirs.append(loads_rate(broker, topic, options.events))
            middle, least, most = median_ratio(theirs, ours)
            rows.append(
                (
                    codec,
                    f"{statistics.median(ours):,.0f}",
                    f"{statistics.median(theirs):,.0f}",
                    f"{middle:.1f} ({least:.1f} to {most:.1f})",
                )
            )
        broker.stop()
    print(f"{options.events:,} events in one partition, a backlog read to its end, medians of {options.runs}.\n")
    print(table(("codec", "custodes, three rules", "confluent-kafka and orjson.loads", "times as fast"), rows))


if __name__ == "__main__":
    main()
