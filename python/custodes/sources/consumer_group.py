"""A member of a Kafka consumer group, shared by all sources that read as one."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any, Protocol

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.errors import FencedInstanceIdError, KafkaError
from kafka.structs import OffsetAndMetadata

from custodes.config import Fault, FaultsError
from custodes.config.model import KafkaSourceSettings as KafkaSettings
from custodes.log_events import BrokersRefused, BrokersUnreachable, CommitFailed, ConsumerCloseFailed, cause_of
from custodes.retry import Retry
from custodes.sources.client import CONNECT_MS, client, setting_faults
from custodes.sources.connection_causes import REFUSALS, cause_of_failure, most_telling
from custodes.sources.connections import ConnectionFailures
from custodes.sources.fetches import (
    ask_ahead,
    ask_for_a_fresh_assignment,
    go_on_joining,
    hears_its_coordinator,
    take_whole,
)

_RETRY_SECONDS = 1.0
"""Seconds between two attempts to connect."""
_RETRY_REFUSED_SECONDS = 5.0
"""Seconds between two attempts after a refusal; longer, because some brokers count failures and lock accounts."""
_PATIENCE_MS = 3000
"""Milliseconds for a commit or the departure from the group. kafka-python's own limit of a minute would stop counting,
and the health probe would have a monitor restarted that only waits for its broker."""
_REPEAT_SECONDS = 60.0
"""Seconds between two log lines about the same cause while a joined member has no connection."""
_FLOWS_FOR = 1.0
_WHILE_FLOWING = 0.01
"""Longest poll, in seconds, while records arrive. A poll that misses the answer to its fetch by a moment sleeps for its
whole timeout, up to 100 ms, although records are there (kafka-python 3.0.12, see docs/sources.md)."""


class PartitionListener(Protocol):
    """Receives the assignments of a member, in the client's own thread, in which the broker cannot be queried."""

    def assigned(self, partitions: list[TopicPartition]) -> None:
        """Called after partitions were assigned."""

    def revoked(self, partitions: list[TopicPartition], *, lost: bool) -> None:
        """Called after partitions were revoked. With ``lost``, another member may have had them for some time."""


class GroupMember:
    """Joins the group as soon as possible, and polls its partitions."""

    def __init__(
        self,
        settings: KafkaSettings,
        worker: str | None,
        assigned: PartitionListener,
        **own: Any,
    ) -> None:
        """``worker`` names this member, so that it gets its partitions back at once after a restart.

        ``own`` are further settings of the consumer. Raises :class:`FaultsError` for settings that kafka-python does
        not have.
        """
        if faults := setting_faults(settings):
            raise FaultsError(faults)
        self.consumer: Any = None
        """``None`` until a broker has answered, and while brokers refuse."""
        self._settings, self._worker, self._own = settings, worker, own
        self._listener = _RebalanceListener(self, assigned)
        # A static member gets its previous partitions back, without partitions that were added since.
        self._assignment_is_old = worker is not None
        self._flowed_at = -_FLOWS_FOR
        self._failures = ConnectionFailures()
        self._told: tuple[float, str] = (float("-inf"), "")
        self._refused, self._unreachable = Retry(_RETRY_REFUSED_SECONDS), Retry(_RETRY_SECONDS)
        self.has_joined = False
        self.topic_ids: dict[str, str] = {}
        """The id under which the current consumer came to know each topic."""

    def try_to_join(self, join: Callable[[], None], timeout: float) -> None:
        """Calls ``join`` to connect, and logs a failure. A later poll tries again, because brokers and permissions can
        return.

        Soon after a failed attempt, this only waits, for the duration of a poll at most.
        """
        early = max(self._refused.seconds_left, self._unreachable.seconds_left)
        if early > 0:
            time.sleep(min(early, timeout))
            return
        try:
            join()
        except REFUSALS as error:
            self._say_that_they_refuse(error)
        except KafkaError as error:
            self._unreachable.failed()
            self._say_unreachable(cause_of_failure(error, self._settings))

    def connect(self, topics: Iterable[str], one_by_one: Container[str] = ()) -> None:
        """Joins the group, or raises ``KafkaError``. Fetches are whole except for the topics in ``one_by_one``."""
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
            failures=self._failures,
            **self._own,
        )
        self.topic_ids = {}
        take_whole(consumer, one_by_one)
        consumer.subscribe(topics=list(topics), listener=self._listener)
        self.consumer = consumer

    def poll(self, timeout: float) -> Mapping[TopicPartition, list[Any]]:
        """Returns the fetched data by partition, and sends the next fetch at once.

        If the brokers refuse, the partitions are lost, :attr:`consumer` is ``None``, and the member must connect again.
        Raises :class:`FaultsError` if another process has taken this member's place.
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
        except REFUSALS as error:
            self._leave(error)
        except FencedInstanceIdError as error:
            raise self._fenced() from error
        else:
            self._look_at_failures()
        if fetched:
            ask_ahead(self.consumer)
            self._flowed_at = time.monotonic()
        return fetched

    def _leave(self, error: KafkaError) -> None:
        """Closes the consumer after expired credentials or permissions: kafka-python does not retry refused ones."""
        self._say_that_they_refuse(error)
        self._listener.on_partitions_lost(self.consumer.assignment())
        self._close_consumer()

    def leave_to_rejoin(self) -> None:
        """Gives the partitions back and closes the consumer; the next poll joins with a new one."""
        self._listener.on_partitions_revoked(self.consumer.assignment())
        self._close_consumer()

    def _close_consumer(self) -> None:
        consumer, self.consumer = self.consumer, None
        self._assignment_is_old, self.has_joined = self._worker is not None, False
        try:
            consumer.close(timeout_ms=CONNECT_MS)
        except KafkaError as failure:
            ConsumerCloseFailed(error=str(failure)).emit()

    def _say_that_they_refuse(self, error: KafkaError) -> None:
        self._refused.failed()
        BrokersRefused(error=cause_of_failure(error, self._settings)).emit()

    def _say_unreachable(self, cause: str) -> None:
        self._told = time.monotonic(), cause
        BrokersUnreachable(brokers=self._settings.bootstrap_servers, error=cause).emit()

    def _look_at_failures(self) -> None:
        """Logs why there is no connection to the group's coordinator: kafka-python retries in silence."""
        if self.connected:
            return
        failure = most_telling(self._failures.recent(), self._settings)
        if failure is None:
            return
        cause, (told_at, told) = cause_of_failure(failure, self._settings), self._told
        if cause != told or time.monotonic() - told_at > _REPEAT_SECONDS:
            self._say_unreachable(cause)

    def pause_only(self, partitions: set[TopicPartition]) -> None:
        """Pauses these partitions and resumes all others."""
        paused = self.consumer.paused()
        self.consumer.pause(*(partitions - paused))
        self.consumer.resume(*(paused - partitions))

    def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> bool:
        """Returns whether the group accepted the offsets, and logs a failure.

        Raises :class:`FaultsError` if another process has taken this member's place.
        """
        failure = self.try_to_commit(offsets)
        if failure is not None:
            CommitFailed(error=cause_of(failure)).emit()
        return failure is None

    def try_to_commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> KafkaError | None:
        """Returns why the group did not accept the offsets; ``None`` if it did. Raises like :meth:`commit`."""
        try:
            self.consumer.commit(dict(offsets), timeout_ms=_PATIENCE_MS)
        except FencedInstanceIdError as error:
            raise self._fenced() from error
        except KafkaError as error:
            return error
        return None

    def _fenced(self) -> FaultsError:
        """Returns the error that ends this process: both would otherwise take the partitions from each other."""
        fault = f"another process has joined the consumer group {self._settings.group_id} as {self._worker}"
        hint = (
            "its state folder is a copy of this one: stop one of them, and remove the file 'worker' from the folder of "
            "the one that is to be another worker"
        )
        return FaultsError([Fault(fault, hint=hint)])

    @property
    def connected(self) -> bool:
        """Whether the broker that coordinates the group answers."""
        return self.consumer is not None and hears_its_coordinator(self.consumer)

    def close(self) -> None:
        if self.consumer is not None:
            self.consumer.close(timeout_ms=_PATIENCE_MS)


class _RebalanceListener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Forwards assignments to the listener, except those of a closed consumer."""

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
    """Returns partitions as ``topic/number``, for the log."""
    return [f"{partition.topic}/{partition.partition}" for partition in partitions]
