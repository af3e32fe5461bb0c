"""Construction of kafka-python's clients with the configured settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import KafkaTimeoutError
from kafka.net.sasl import SASL_MECHANISMS

from custodes.config import Fault
from custodes.config.faults import did_you_mean
from custodes.config.model import KafkaSourceSettings as KafkaSettings
from custodes.sources.connection_causes import REFUSALS, NoConnectionError, cause_of_failure, most_telling
from custodes.sources.connections import BrokerClient, ConnectionFailures
from custodes.sources.sign_in import BrokerSignInError, sign_in_of

CONNECT_MS = 3000
"""Milliseconds of one attempt to find a broker. The monitor can be stopped between two attempts."""
FETCH_BYTES = 4 << 20
"""Maximum bytes of a partition in one fetch, large enough that counting takes much longer than the round trip."""
_DEFAULTS: dict[str, Any] = {
    "max_partition_fetch_bytes": FETCH_BYTES,
    # Partitions and topics that are added are read from within this time.
    "metadata_max_age_ms": 10_000,
    # In a session, a broker leaves out partitions without news. kafka-python 3.0.12 then does not know the end of a
    # partition that was assigned again, nor fetch from a recreated topic.
    "enable_incremental_fetch_sessions": False,
}
"""Settings of kafka-python that differ from its own defaults; those of the configuration take precedence."""

_OBJECTS = frozenset({"ssl_context", "sasl_oauth_token_provider"})
_TEXTS_WITHOUT_DEFAULT = frozenset(
    {"client_id", "group_id", "group_instance_id", "compression_type", "transactional_id", "proxy_url", "socks5_proxy"}
)
_CHOICES = {
    "security_protocol": frozenset({"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"}),
    "sasl_mechanism": frozenset(SASL_MECHANISMS),
}
"""Settings for which kafka-python takes any text and uses another than the unknown one in silence, or fails late."""


def client(kind: Any, settings: KafkaSettings, *, failures: ConnectionFailures | None = None, **own: Any) -> Any:
    """Returns a consumer, producer or administrator with the configured settings that it supports; ``own`` takes
    precedence. ``failures`` receives the failures of its connections.

    Raises ``KafkaError`` whose message is the cause, if no broker can be reached or the sign-in fails.
    """
    sign_in, failures = sign_in_of(settings.sign_in), failures or ConnectionFailures()
    configured = _DEFAULTS | sign_in.settings | settings.client
    chosen = {name: value for name, value in configured.items() if name in kind.DEFAULT_CONFIG}
    made: list[BrokerClient] = []

    def connect(**configs: Any) -> BrokerClient:
        made.append(BrokerClient(sign_in, failures, **configs))
        return made[-1]

    try:
        return kind(**{**chosen, "bootstrap_servers": settings.bootstrap_servers, **own, "kafka_client": connect})
    except BaseException as error:
        for one in made:
            one.end()
        if isinstance(error, KafkaTimeoutError):
            raise explained(error, failures, settings) from error
        raise


def explained(
    error: KafkaTimeoutError, failures: ConnectionFailures, settings: KafkaSettings
) -> BrokerSignInError | NoConnectionError | KafkaTimeoutError:
    """Returns the error to raise for a time limit that passed because no connection succeeded."""
    failure = most_telling(failures.recent(), settings)
    if failure is None:
        return error
    kind = BrokerSignInError if isinstance(failure, REFUSALS) else NoConnectionError
    return kind(cause_of_failure(failure, settings))


def setting_faults(settings: KafkaSettings) -> list[Fault]:
    """Returns the faults of keys under ``client:``: unknown keys, and values that kafka-python cannot use."""
    known = KafkaProducer.DEFAULT_CONFIG | KafkaConsumer.DEFAULT_CONFIG
    unknown = [
        Fault(f"unknown key 'source.kafka.client.{name}'", hint=did_you_mean(name, known))
        for name in settings.client
        if name not in known
    ]
    return unknown + [
        Fault(f"source.kafka.client.{name} {problem}", hint=hint)
        for name, value in settings.client.items()
        if name in known
        for problem, hint in _problems(name, value, known[name])
    ]


def _problems(name: str, value: Any, default: Any) -> Iterator[tuple[str, str | None]]:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if _is_text(name, default) and not isinstance(value, str) and value is not None:
        what = "a number" if is_number else f"{type(value).__name__}"
        yield f"must be text, and is {what}", "put it in quotes" if is_number or isinstance(value, bool) else None
    elif isinstance(default, bool) and not isinstance(value, bool):
        yield "must be true or false", None
    elif isinstance(default, int | float) and not isinstance(default, bool) and not is_number and name != "acks":
        yield "must be a number", None
    elif name in _CHOICES and isinstance(value, str) and value not in _CHOICES[name]:
        yield f"is '{value}', which is unknown", did_you_mean(value, _CHOICES[name])


def _is_text(name: str, default: Any) -> bool:
    if isinstance(default, str):
        return True
    is_named_so = name.startswith(("ssl_", "sasl_")) or name in _TEXTS_WITHOUT_DEFAULT
    return default is None and is_named_so and name not in _OBJECTS
