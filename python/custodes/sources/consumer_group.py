"""A member of a Kafka consumer group: what all sources that read as one have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any, Protocol

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.errors import AuthorizationError, KafkaError, SaslAuthenticationFailedError
from kafka.structs import OffsetAndMetadata

from custodes.config import FaultsError
from custodes.config.model import KafkaSourceSettings as KafkaSettings
from custodes.log_events import BrokersRefused, BrokersUnreachable, CommitFailed, ConsumerCloseFailed, cause_of
from custodes.retry import Retry
from custodes.sources.client import CONNECT_MS, client, unknown_settings
from custodes.sources.fetches import (
    FetchClient,
    ask_ahead,
    ask_for_a_fresh_assignment,
    go_on_joining,
    hears_its_coordinator,
    take_whole,
)

_RETRY_SECONDS = 1.0
"""Between two attempts to connect."""
_RETRY_REFUSED_SECONDS = 5.0
"""Where brokers refuse, which some count and lock accounts for."""
_REFUSALS = (SaslAuthenticationFailedError, AuthorizationError)
_FLOWS_FOR = 1.0
_WHILE_FLOWING = 0.01
"""While events come, a poll is short: one that finds its fetch answered a moment too early sleeps through its
timeout, up to 100 ms, beside what has come (kafka-python 3.0.12, see docs/sources.md)."""


class PartitionListener(Protocol):
    """Who hears which partitions are its own: in the client's own thread, where nothing can be asked of a broker."""

    def assigned(self, partitions: list[TopicPartition]) -> None:
        """These are, from now on."""

    def revoked(self, partitions: list[TopicPartition], *, lost: bool) -> None:
        """These are not any more; with ``lost`` they may have been another member's for a while."""


class GroupMember:
    """Joins the group when it can, and reads what it is given."""

    def __init__(
        self,
        settings: KafkaSettings,
        worker: str | None,
        assigned: PartitionListener,
        *,
        patience_ms: int | None = None,
        **own: Any,
    ) -> None:
        """``worker`` names this member, so that it has its partitions back at once after a restart.

        ``patience_ms`` is how long a commit or the leaving may take, by default what kafka-python takes; ``own`` are
        further settings of the consumer. Raises :class:`FaultsError` for settings that kafka-python doesn't know.
        """
        if faults := unknown_settings(settings):
            raise FaultsError(faults)
        self.consumer: Any = None
        """``None`` until a broker has answered, and while they refuse."""
        self._settings, self._worker, self._own = settings, worker, own
        self._patience_ms = patience_ms
        self._listener = _RebalanceListener(self, assigned)
        # A static member is given back what it had, which may not be all there is by now.
        self._assignment_is_old = worker is not None
        self._flowed_at = -_FLOWS_FOR
        self._refused, self._unreachable = Retry(_RETRY_REFUSED_SECONDS), Retry(_RETRY_SECONDS)
        self.has_joined = False

    def try_to_join(self, join: Callable[[], None], timeout: float) -> None:
        """Has ``join`` connect, or says that it can't; it is left to a later poll: brokers come back, and rights too.

        Where that was tried a moment ago it only waits, for as long as a poll may.
        """
        early = max(self._refused.seconds_left, self._unreachable.seconds_left)
        if early > 0:
            time.sleep(min(early, timeout))
            return
        try:
            join()
        except _REFUSALS as error:
            self._say_that_they_refuse(error)
        except KafkaError as error:
            self._unreachable.failed()
            BrokersUnreachable(brokers=self._settings.bootstrap_servers, error=cause_of(error)).emit()

    def connect(self, topics: Iterable[str], one_by_one: Container[str] = ()) -> None:
        """Joins the group, or raises ``KafkaError``. Fetches of the topics not in ``one_by_one`` come whole."""
        member = {"group_instance_id": self._worker} if self._worker else {}
        consumer = client(
            KafkaConsumer,
            self._settings.model_copy(update={"client": member | self._settings.client}),
            group_id=self._settings.group_id,
            client_id="custodes",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_records=self._settings.max_poll_records,
            bootstrap_timeout_ms=CONNECT_MS,
            kafka_client=FetchClient,
            **self._own,
        )
        take_whole(consumer, one_by_one)
        consumer.subscribe(topics=list(topics), listener=self._listener)
        self.consumer = consumer

    def poll(self, timeout: float) -> Mapping[TopicPartition, list[Any]]:
        """By partition, what has come; the next fetch is asked for at once.

        Where the brokers refuse, it has no partitions and no :attr:`consumer` after, and must connect again.
        """
        if time.monotonic() - self._flowed_at < _FLOWS_FOR:
            timeout = min(timeout, _WHILE_FLOWING)
        if self._assignment_is_old and self.has_joined:
            self._assignment_is_old = False
            ask_for_a_fresh_assignment(self.consumer)
        go_on_joining(self.consumer)
        fetched: Mapping[TopicPartition, list[Any]] = {}
        try:
            fetched = self.consumer.poll(timeout_ms=int(timeout * 1000), max_records=self._settings.max_poll_records)
        except _REFUSALS as error:
            self._leave(error)
        if fetched:
            ask_ahead(self.consumer)
            self._flowed_at = time.monotonic()
        return fetched

    def _leave(self, error: KafkaError) -> None:
        """Credentials or rights have ended, and kafka-python never tries again with those it was refused with."""
        self._say_that_they_refuse(error)
        self._listener.on_partitions_lost(self.consumer.assignment())
        consumer, self.consumer = self.consumer, None
        self._assignment_is_old, self.has_joined = self._worker is not None, False
        try:
            consumer.close(timeout_ms=CONNECT_MS)
        except KafkaError as failure:
            ConsumerCloseFailed(error=str(failure)).emit()

    def _say_that_they_refuse(self, error: KafkaError) -> None:
        self._refused.failed()
        BrokersRefused(error=cause_of(error)).emit()

    def pause_only(self, partitions: set[TopicPartition]) -> None:
        """Nothing more is asked for of these, and of all others again."""
        paused = self.consumer.paused()
        self.consumer.pause(*(partitions - paused))
        self.consumer.resume(*(paused - partitions))

    def commit(self, offsets: Mapping[TopicPartition, int]) -> bool:
        """Returns whether the group took them."""
        told = {partition: OffsetAndMetadata(offset, "", -1) for partition, offset in offsets.items()}
        try:
            self.consumer.commit(told, timeout_ms=self._patience_ms)
        except KafkaError as error:
            CommitFailed(error=cause_of(error)).emit()
            return False
        return True

    @property
    def connected(self) -> bool:
        """Whether it hears the broker that keeps the group."""
        return self.consumer is not None and hears_its_coordinator(self.consumer)

    def close(self) -> None:
        if self.consumer is not None:
            self.consumer.close(timeout_ms=self._patience_ms)


class _RebalanceListener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Tells who wants to know, but not of what is over."""

    def __init__(self, member: GroupMember, assigned: PartitionListener) -> None:
        self._member, self._assigned = member, assigned

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._member.has_joined = True
        self._assigned.assigned(list(assigned))

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        if self._member.consumer is not None:
            self._assigned.revoked(list(revoked), lost=False)

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        if self._member.consumer is not None:
            self._assigned.revoked(list(lost), lost=True)


def partition_names(partitions: Iterable[TopicPartition]) -> list[str]:
    """Partitions as a log line names them."""
    return [f"{partition.topic}/{partition.partition}" for partition in partitions]
