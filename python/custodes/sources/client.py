"""kafka-python's clients with the user's settings for them."""

from __future__ import annotations

from typing import Any

from kafka import KafkaConsumer, KafkaProducer

from custodes.config import Fault
from custodes.config.faults import did_you_mean
from custodes.config.model import KafkaSourceSettings as KafkaSettings

CONNECT_MS = 3000
"""How long one attempt to find a broker takes; between two the monitor can be told to stop."""
FETCH_BYTES = 4 << 20
"""Most bytes of a partition in one fetch: enough that a round trip is nothing beside counting them."""


def client(kind: Any, settings: KafkaSettings, **own: Any) -> Any:
    """A consumer or producer with those of the user's settings that it knows; what is ours to set stays ours."""
    usual = {"max_partition_fetch_bytes": FETCH_BYTES}
    chosen = {name: value for name, value in (usual | settings.client).items() if name in kind.DEFAULT_CONFIG}
    return kind(**{**chosen, "bootstrap_servers": settings.bootstrap_servers, **own})


def unknown_settings(settings: KafkaSettings) -> list[Fault]:
    """Faults of ``client:``, whose keys only kafka-python knows."""
    known = {*KafkaConsumer.DEFAULT_CONFIG, *KafkaProducer.DEFAULT_CONFIG}
    return [
        Fault(f"unknown key 'source.kafka.client.{name}'", hint=did_you_mean(name, known))
        for name in settings.client
        if name not in known
    ]
