"""A monitor as a process on one topic, for tests against a real broker."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from kafka import KafkaProducer

from sample_events import RULES
from servers import CUSTODES, Kafka, Server, free_port, get, get_json


class MonitorProcess:
    """`custodes run` on one topic, restartable in the same folder."""

    def __init__(self, kafka: Kafka, topic: str, folder: Path, **settings: Any) -> None:
        port = free_port()
        self.servers: list[Server] = []
        self.topic = topic
        self.base = f"http://127.0.0.1:{port}"
        self.folder = folder / "monitor"
        self._config = folder / "custodes.yaml"
        source: dict[str, Any] = {"bootstrap_servers": [kafka.bootstrap], "topics": [topic], "group_id": topic}
        source["client"] = {"metadata_max_age_ms": 2000}
        config = {
            "source": {"kafka": source},
            "rules": ["rules.yml"],
            "state": {"interval": "1s"},
            "event_time": {"idle_after": "2s"},
            "http": {"listen": f"127.0.0.1:{port}"},
            **settings,
        }
        (folder / "rules.yml").write_text(RULES)
        self._settings = config
        self._config.write_text(yaml.safe_dump(config))

    def read_from(self, brokers: list[str], **client: Any) -> None:
        """Overrides the brokers and the client settings."""
        source = self._settings["source"]["kafka"]
        source["bootstrap_servers"] = brokers
        source["client"] |= client
        self._config.write_text(yaml.safe_dump(self._settings))

    def start(self) -> Server:
        self.servers.append(Server(self.folder, [CUSTODES, "run", "-c", self._config]))
        return self.servers[-1]

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = get_json(f"{self.base}/api/v1/status")
        return status

    def peaks(self) -> set[int]:
        return {one["peak"] for one in get_json(f"{self.base}/api/v1/findings")["findings"]}

    def has_counted(self, events: int) -> bool:
        return self.metric("custodes_events_total") >= events

    def has_snapshot_since(self, since: float) -> bool:
        return time.time() - self.metric("custodes_snapshot_age_seconds") > since

    def end(self) -> None:
        for server in self.servers:
            server.kill()

    def metric(self, name: str) -> float:
        lines = get(f"{self.base}/metrics").splitlines()
        return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def send(kafka: Kafka | list[str], topic: str, events: Iterable[dict[str, Any]], partition: int = 0) -> None:
    """Sends to a broker, or to a cluster given by its brokers."""
    brokers = kafka.bootstrap if isinstance(kafka, Kafka) else kafka
    producer = KafkaProducer(bootstrap_servers=brokers, acks="all")
    for event in events:
        producer.send(topic, json.dumps(event).encode(), partition=partition)
    producer.flush()
    producer.close()


def reads(count: int, actor: str, since: float) -> list[dict[str, Any]]:
    return [{"time": since + n, "actor": actor, "subject": f"S{n}", "action": "read"} for n in range(count)]
