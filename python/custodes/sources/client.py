"""Construction of kafka-python's clients with the configured settings."""

from __future__ import annotations

from typing import Any

from kafka import KafkaConsumer, KafkaProducer

from custodes.config import Fault
from custodes.config.faults import did_you_mean
from custodes.config.model import KafkaSourceSettings as KafkaSettings

CONNECT_MS = 3000
"""Milliseconds of one attempt to find a broker. The monitor can be stopped between two attempts."""
FETCH_BYTES = 4 << 20
"""Maximum bytes of a partition in one fetch, large enough that counting takes much longer than the round trip."""


def client(kind: Any, settings: KafkaSettings, **own: Any) -> Any:
    """Returns a consumer or producer with the configured settings that it supports; ``own`` takes precedence."""
    usual = {"max_partition_fetch_bytes": FETCH_BYTES}
    chosen = {name: value for name, value in (usual | settings.client).items() if name in kind.DEFAULT_CONFIG}
    return kind(**{**chosen, "bootstrap_servers": settings.bootstrap_servers, **own})


def unknown_settings(settings: KafkaSettings) -> list[Fault]:
    """Returns faults of keys under ``client:`` that kafka-python does not have."""
    known = {*KafkaConsumer.DEFAULT_CONFIG, *KafkaProducer.DEFAULT_CONFIG}
    return [
        Fault(f"unknown key 'source.kafka.client.{name}'", hint=did_you_mean(name, known))
        for name in settings.client
        if name not in known
    ]
