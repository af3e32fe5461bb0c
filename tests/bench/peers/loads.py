"""Minimum work of a Python consumer: confluent-kafka and ``orjson.loads``, no counting.

Prints events per second, from the first message to the last.
"""

from __future__ import annotations

import sys
import time
import uuid

import orjson
from confluent_kafka import Consumer


def main(brokers: str, topic: str, events: int) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": uuid.uuid4().hex,
            "auto.offset.reset": "earliest",
            "fetch.message.max.bytes": 4 << 20,
        }
    )
    consumer.subscribe([topic])
    seen, begun = 0, 0.0
    while seen < events:
        messages = consumer.consume(10_000, 1.0)
        if messages and not begun:
            begun = time.perf_counter()
        for message in messages:
            orjson.loads(message.value())
        seen += len(messages)
    print(seen / (time.perf_counter() - begun))
    consumer.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
