"""Snapshots with 10 million live pairs: their effect on a batch's time, and the time from restart to first count."""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml
from kafka import KafkaProducer
from processes import CUSTODES, table

from custodes._core import Engine
from custodes.cli.memory import keep_freed_memory
from custodes.config.mapping import load_mapping
from custodes.rules import build_plan, load_rules
from custodes.sources import StreamPosition
from custodes.state import Checkpoints, LocalFolder, Snapshots
from servers import Kafka, Server, free_port, get

RULE = """
title: Access
name: access
logsource: {product: custodes}
detection: {selection: {action: read}, condition: selection}
---
title: Many people
id: 22222222-2222-4222-8222-222222222222
level: high
correlation:
    type: value_count
    rules: [access]
    group-by: [actor]
    timespan: 24h
    condition: {field: subject, gte: 1000000}
"""
BATCH = 5000
SUBJECTS = 10


def lines(rng: random.Random, first: int, count: int, at: float) -> list[bytes]:
    """Generates events with ten subjects each, by about a hundred thousand actors: ten new pairs per event."""
    return [
        json.dumps(
            {
                "time": round(at + n * 0.01, 3),
                "actor": f"P{rng.randrange(300_000):06}",
                "subject": [f"S{first + n}-{s}" for s in range(SUBJECTS)],
                "action": "read",
            }
        ).encode()
        for n in range(count)
    ]


def batch_times(engine: Engine, checkpoints: Checkpoints | None, batches: list[bytes]) -> list[float]:
    """Returns the seconds of each round: a batch, and the checkpoint step after it."""
    times = []
    for at, batch in enumerate(batches):
        begun = time.perf_counter()
        engine.process_lines(batch)
        if checkpoints is not None:
            checkpoints.step(engine, [StreamPosition(0, "bench/0", at)])
        times.append(time.perf_counter() - begun)
    return times


def pauses(folder: Path, pairs: int) -> str:
    (folder / "rule.yml").write_text(RULE)
    engine = Engine(build_plan(load_rules([folder / "rule.yml"]), load_mapping("custodes")))
    rng, now = random.Random(1), 1_767_600_000.0
    for first in range(0, pairs // SUBJECTS, 50_000):
        engine.process_lines(b"\n".join(lines(rng, first, 50_000, now + first * 0.01)) + b"\n")
    now += pairs // SUBJECTS * 0.01
    batches = [
        b"\n".join(lines(rng, n * BATCH, BATCH, now + n * BATCH * 0.01)) + b"\n"
        for n in range(120)
    ]  # fmt: skip
    thread = ThreadPoolExecutor(1)
    checkpoints = Checkpoints(Snapshots(LocalFolder(folder / "pauses"), keep=2), 0.0, thread=thread)
    without = batch_times(engine, None, batches[:60])
    # Snapshots follow each other directly, unlike with any interval in production.
    with_them = batch_times(engine, checkpoints, batches[60:])
    thread.shutdown()
    rows = []
    for name, times in (("without", without), ("with, back to back", with_them)):
        p99 = statistics.quantiles(times, n=100)[98]
        rows.append((name, *(f"{1000 * figure:.1f}" for figure in (statistics.median(times), p99, max(times)))))
    megabytes = engine.stats().bytes / 1e6
    return f"{megabytes:.0f} MB of windows.\n\n" + table(("snapshots", "median ms", "p99 ms", "longest ms"), rows)


def restart(folder: Path, pairs: int, runs: int) -> str:
    kafka = Kafka(folder / "kafka")
    kafka.create_topic("restart", 1, max_message_bytes="10000000")
    port = free_port()
    config = {
        "source": {"kafka": {"bootstrap_servers": [kafka.bootstrap], "topics": ["restart"], "group_id": "restart"}},
        "rules": [str(folder / "rule.yml")],
        "http": {"listen": f"127.0.0.1:{port}"},
    }
    (folder / "custodes.yaml").write_text(yaml.safe_dump(config))
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, linger_ms=20, batch_size=1 << 18)
    rng, now = random.Random(2), time.time() - pairs // SUBJECTS * 0.01 - 100
    if now < time.time() - 80_000:
        raise SystemExit("the rule's day cannot hold this number of pairs")

    def send(first: int, count: int) -> None:
        for line in lines(rng, first, count, now + first * 0.01):
            producer.send("restart", line)
        producer.flush()

    def worker() -> Server:
        return Server(folder / "worker", [CUSTODES, "run", "-c", folder / "custodes.yaml"])

    def counted() -> int:
        # The status is up to one second old.
        metrics = get(f"http://127.0.0.1:{port}/metrics").splitlines()
        return int(next(float(line.split()[-1]) for line in metrics if line.startswith("custodes_events_total")))

    server = worker()
    for first in range(0, pairs // SUBJECTS, 50_000):
        send(first, 50_000)
    server.wait_for("all pairs", lambda: counted() >= pairs // SUBJECTS, 600)
    times = []
    for run in range(runs):
        server.process.kill() if run % 2 else server.stop(60)
        server.process.wait()
        send(pairs // SUBJECTS + run, 1)
        begun = time.perf_counter()
        server = worker()
        server.wait_for("the first event", lambda: counted() >= 1, 60)
        times.append(time.perf_counter() - begun)
        # Wait for a snapshot that contains that event before the next end.
        time.sleep(5)
    server.stop(60)
    producer.close()
    kafka.stop()
    return f"From the start of the process to the first event counted: {statistics.median(times):.2f} s " + (
        f"({min(times):.2f} to {max(times):.2f}, {runs} restarts)."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="custodes-bench-") as name:
        print(f"{options.pairs:,} live (group, value) pairs.\n")
        keep_freed_memory()  # as `custodes run` does
        print(pauses(Path(name), options.pairs))
        print(restart(Path(name), options.pairs, options.runs))


if __name__ == "__main__":
    main()
