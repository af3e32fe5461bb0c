"""Sends a file's lines to a topic as fast as librdkafka can, or current events at a steady rate."""

from __future__ import annotations

import sys
import time

from confluent_kafka import Producer


def producer(brokers: str, codec: str, linger_ms: int) -> Producer:
    return Producer(
        {
            "bootstrap.servers": brokers,
            "compression.type": codec,
            "linger.ms": linger_ms,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 1_000_000,
        }
    )


def file(brokers: str, topic: str, codec: str, path: str) -> None:
    """Sends each line with its actor as the key, so that Kafka Streams does not need to repartition."""
    sender = producer(brokers, codec, 50)
    with open(path, "rb") as lines:  # noqa: PTH123 - nothing but the name is known here
        for number, line in enumerate(lines):
            actor = line.partition(b'"actor":"')[2].partition(b'"')[0]
            while True:
                try:
                    sender.produce(topic, line[:-1], key=actor)
                    break
                except BufferError:
                    sender.poll(0.05)
            if number % 1000 == 0:
                sender.poll(0)
    sender.flush()


def steady(brokers: str, topic: str, rate: int, seconds: float) -> None:
    """Sends ``rate`` unremarkable events per second."""
    sender = producer(brokers, "zstd", 5)
    begun = time.time()
    sent = 0
    while (now := time.time()) < begun + seconds:
        while sent < (now - begun) * rate:
            event = f'{{"time":{now:.6f},"actor":"P{sent * 7919 % 50_000}","subject":"{sent}","action":"read"}}'
            sender.produce(topic, event.encode())
            sent += 1
        sender.poll(0.002)
    sender.flush()


if __name__ == "__main__":
    if sys.argv[1] == "file":
        file(*sys.argv[2:6])
    else:
        steady(sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5]))
