"""Every log event, defined once: its name, level, fields and consequence.

An event's name is stable and made from its class name (``SnapshotFailed`` is logged as ``snapshot_failed``), its fields
are typed, and its consequence says what Custodes does about it. ``docs/reference/log.md`` is generated from these
classes, whose docstrings are its text.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal, dataclass_transform

Level = Literal["debug", "info", "warning", "error", "critical"]


@dataclass_transform(kw_only_default=True, frozen_default=True)
class LogEvent:
    """Base of all log events. A subclass declares its fields as annotations and becomes a frozen dataclass."""

    name: ClassVar[str]
    level: ClassVar[Level]
    consequence: ClassVar[str]

    def __init_subclass__(cls, *, level: Level, consequence: str = "") -> None:
        cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        cls.level = level
        cls.consequence = consequence
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)

    def emit(self) -> None:
        """Writes the event to the log. Fields of a mapping, such as a stream's position, are logged one by one."""
        import structlog  # noqa: PLC0415 - a tenth of the start of a command that logs nothing

        fields: dict[str, object] = {}
        for field in fields_of(type(self)):
            value = getattr(self, field.name)
            if isinstance(value, Mapping):
                fields.update(value)
            else:
                fields[field.name] = value
        if self.consequence:
            fields["consequence"] = self.consequence
        getattr(structlog.get_logger("custodes"), self.level)(self.name, **fields)


def all_events() -> Iterator[type[LogEvent]]:
    """Returns every event that is defined, in the order of this file."""
    yield from LogEvent.__subclasses__()


def fields_of(event: type[LogEvent]) -> tuple[dataclasses.Field[object], ...]:
    """Returns the fields of an event, in their order."""
    return dataclasses.fields(event)  # type: ignore[arg-type] # every subclass is made a dataclass


def cause_of(error: BaseException) -> str:
    """Returns the first line of an error's message, or its type where it has no message."""
    return (str(error) or type(error).__name__).partition("\n")[0]


# The process


class CustodesStarted(LogEvent, level="info"):
    """The monitor has started and serves its console."""

    version: str
    rules: int
    source: str
    url: str


class CustodesStopped(LogEvent, level="info"):
    """The monitor has stopped after a signal or at the end of its source."""

    events: int


class DebugBuildInUse(LogEvent, level="warning", consequence="counting is many times slower; install a release build"):
    """The engine was compiled without optimisation."""


class MonitorFailed(LogEvent, level="critical", consequence="process exits; uncommitted events are replayed at start"):
    """An unforeseen error ended the monitor. ``monitor_failure_traced`` has the place, at level debug."""

    error: str


class MonitorFailureTraced(LogEvent, level="debug"):
    """The traceback of the error that ended the monitor."""

    exc_info: bool = True


class ConfigurationReloaded(LogEvent, level="info"):
    """A reload put a changed configuration or changed rules in force."""

    rules: int


class ReloadFailed(LogEvent, level="error", consequence="previous configuration stays in force"):
    """A reload found a fault in the configuration or the rules. One event is logged per fault."""

    fault: str


class RestartNeeded(LogEvent, level="warning", consequence="these keys take effect at the next start"):
    """A reload found changed keys that a running process cannot apply."""

    keys: Sequence[str]


class ShippedRuleSkipped(LogEvent, level="warning", consequence="the rule is not evaluated; the other rules are"):
    """A shipped rule does not fit the configuration, for example because the mapping lacks a field it needs."""

    fault: str


class RuleFileWarning(LogEvent, level="warning", consequence="the rule is evaluated; the value is ignored"):
    """A rule file has a fault that does not change what the rule counts, for example a malformed tag."""

    warning: str


# Findings and the database


class FindingChanged(LogEvent, level="info"):
    """A finding opened, closed or was merged. The group is not logged: the log names no person."""

    kind: str
    id: str
    rule: str
    severity: str
    peak: float


class DatabaseFailed(
    LogEvent, level="error", consequence="findings wait in memory, counting continues, retry within 1 s"
):
    """The findings database refused a transaction. Logged once until it succeeds again."""

    error: str


class DatabaseRecovered(LogEvent, level="info"):
    """Findings are stored again."""


class FindingRefused(
    LogEvent, level="error", consequence="the finding is not stored and not reported; all others are; see shortfalls"
):
    """The findings database refuses a finding for its content. Logged once per finding and process."""

    id: str
    rule: str
    error: str


class NotificationRefused(LogEvent, level="error", consequence="no receiver gets it; the finding is stored"):
    """The findings database refuses the notification about a finding for its content."""

    finding: str
    error: str


class FindingsSuppressed(
    LogEvent, level="error", consequence="only groups with a multiple of the threshold open further findings"
):
    """A rule has as many open findings as ``findings.most_open`` allows."""

    rule: str


class MemoryLimitReached(LogEvent, level="error", consequence="state of the groups idle for longest is evicted"):
    """Window state has outgrown ``limits.memory``; a rule lost groups or distinct values."""

    rule: str
    groups: int
    values: int


class MemoryLimitExceeded(
    LogEvent, level="error", consequence="the limit is raised; nothing near a threshold is evicted"
):
    """Window state is larger than ``limits.memory`` and nothing more may be evicted."""

    bytes: int


class ShortfallEnded(LogEvent, level="info"):
    """A rule's counts are complete again after an eviction or a suppression of findings."""

    kind: str
    rule: str


class DeadLettersFailed(
    LogEvent, level="error", consequence="dead letters wait in memory, counting continues, retry within 30 s"
):
    """Dead letters cannot be written. Logged once until they can be."""

    error: str


class DeadLetterRefused(LogEvent, level="error", consequence="no copy is kept; the record is counted as rejected"):
    """The dead-letter topic takes no record like this one, for example because it is compacted."""

    place: Mapping[str, str | int]
    position: int
    reason: str
    error: str


class DeadLettersRecovered(LogEvent, level="info"):
    """Dead letters are written again."""


# State


class SnapshotRestored(LogEvent, level="info"):
    """The engine was restored from a snapshot."""

    snapshot: int
    streams: int


class SnapshotUnreadable(LogEvent, level="warning", consequence="the snapshot before it is tried"):
    """A snapshot is damaged."""

    snapshot: int
    error: str


class NoSnapshotReadable(LogEvent, level="critical", consequence="windows start empty at the committed offsets"):
    """All snapshots are damaged."""

    damaged: int


class SnapshotFailed(LogEvent, level="error", consequence="previous snapshot kept, retry within 5 s"):
    """A snapshot could not be written. Logged once until one succeeds."""

    error: str


class SnapshotFailedAgain(LogEvent, level="debug", consequence="previous snapshot kept, retry within 5 s"):
    """A further snapshot in a row could not be written."""

    error: str


class SnapshotsRecovered(LogEvent, level="info"):
    """Snapshots are written again."""


class RuleStateDropped(LogEvent, level="warning", consequence="the rule starts with empty state"):
    """A rule was removed or its definition changed since the snapshot."""

    state: Literal["windows", "open findings"]
    rule: str


# Sources


class RecordsMissed(LogEvent, level="error", consequence="the gap is stored; counts of its time are incomplete"):
    """Records were deleted from the source before they were read."""

    records: int
    place: Mapping[str, str | int]


class FileNotRead(LogEvent, level="error", consequence="the rest of the file is not counted; other files are read"):
    """A file, or the rest of it, could not be read."""

    place: Mapping[str, str | int]
    line: int
    reason: str
    detail: str


class TopicRecreated(LogEvent, level="error", consequence="the new topic is read from its start as a new log"):
    """The topic was deleted and recreated; records of the old one that were not read are lost."""

    place: Mapping[str, str | int]
    counted_until: int


class LogTruncated(
    LogEvent, level="error", consequence="counting goes on at the point of truncation, and nothing is counted twice"
):
    """The log was truncated: the broker has lost records that were counted."""

    place: Mapping[str, str | int]
    counted_until: int
    position: int


class PartitionsAssigned(LogEvent, level="info"):
    """The consumer group assigned partitions to this process."""

    partitions: Sequence[str]


class PartitionsRevoked(LogEvent, level="info"):
    """The consumer group revoked partitions from this process."""

    partitions: Sequence[str]


class PartitionsLost(LogEvent, level="info"):
    """Partitions were lost: another member may already have them."""

    partitions: Sequence[str]


class PartitionsNotSaved(
    LogEvent, level="warning", consequence="their next owner restores an earlier snapshot and replays more events"
):
    """Partitions were revoked before a snapshot of them could be written."""

    error: str


class PartitionTakenOver(LogEvent, level="info"):
    """This worker counts a partition from now on."""

    partition: str
    position: int
    from_snapshot: bool


class TakeoverDelayed(LogEvent, level="warning", consequence="retry within 1 s"):
    """A partition was assigned, and its state cannot be claimed or restored yet."""

    partition: str
    error: str


class RepartitionDelayed(LogEvent, level="warning", consequence="retry within 1 s"):
    """Events of a partition cannot be sent to the repartition topic."""

    partition: str
    error: str


class PartitionClaimedElsewhere(LogEvent, level="warning", consequence="this worker stops counting it"):
    """Another worker has claimed a partition of this one."""

    partition: str


class GroupIsShared(
    LogEvent,
    level="warning",
    consequence="groups spread over partitions are counted in parts; configure workers, see docs/scale.md",
):
    """Other members of the consumer group have some of the partitions, and no workers are configured."""

    partitions: int
    of: int


class TopicsMissing(LogEvent, level="warning", consequence="retry within 1 s"):
    """Topics to read do not exist yet."""

    topics: Sequence[str]


class BrokersUnreachable(LogEvent, level="warning", consequence="retry within 1 s"):
    """No broker answers."""

    brokers: Sequence[str]
    error: str


class BrokersRefused(LogEvent, level="error", consequence="retry within 10 s"):
    """The brokers or the token endpoint refuse the credentials, a secret cannot be read, or a permission is missing."""

    error: str


class CommitFailed(LogEvent, level="warning", consequence="the offsets are committed with the next snapshot"):
    """Offsets could not be committed."""

    error: str


class ConsumerCloseFailed(LogEvent, level="debug"):
    """A consumer that the brokers had refused could not be closed in order."""

    error: str


class SlowDecoding(LogEvent, level="warning", consequence="records of the topic are decoded one by one, which is slow"):
    """A topic's fetches cannot be handed to the engine whole."""

    topic: str
    reason: str


class SlowDecodingEverywhere(
    LogEvent, level="warning", consequence="all records are decoded one by one, which is slow; see docs/sources.md"
):
    """The installed kafka-python has no whole fetches that Custodes knows."""


# Look-up tables


class LookupTableRead(LogEvent, level="info"):
    """A changed look-up table is in force."""

    table: str


class LookupTableFailed(LogEvent, level="warning", consequence="its previous content stays in force"):
    """A changed look-up table cannot be read."""

    faults: Sequence[str]


class LookupTopicFailed(LogEvent, level="warning", consequence="retry within 5 s"):
    """The topic of a look-up table cannot be read."""

    topic: str
    error: str


class LookupRowRejected(LogEvent, level="warning", consequence="the row is left out and counted"):
    """A record in the topic of a look-up table is no row of it."""

    place: str
    offset: int
    problem: str


# History


class HistoryFailed(LogEvent, level="error", consequence="events wait in memory, counting continues"):
    """The history cannot be written. Logged once until it can be."""

    error: str


class HistoryRecovered(LogEvent, level="info"):
    """The history is written again."""


class HistoryCompactionFailed(LogEvent, level="warning", consequence="queries read more files; nothing is lost"):
    """Segments of the history could not be merged."""

    error: str


class HistoryCompactionAtNormalPriority(
    LogEvent, level="warning", consequence="merging segments competes with counting for the processor"
):
    """A system call filter or another limit of the system does not permit a lower priority for the thread that merges
    segments of the history. Logged once per process."""

    error: str


class HistoryNotFlushed(LogEvent, level="warning", consequence="these events are replayed at the next start"):
    """Events could not be written to the history before the process ended."""

    error: str


class HistorySegmentDamaged(LogEvent, level="error", consequence="renamed to *.damaged and left out of every answer"):
    """A segment of the history cannot be read."""

    file: str
    error: str


# Evidence


class EvidenceFailed(LogEvent, level="error", consequence="the events stay in the history, retry within 1 s"):
    """Evidence cannot be written to its log. Logged once until it can be."""

    error: str


class EvidenceRecovered(LogEvent, level="info"):
    """Evidence is written again."""


class EvidenceErased(LogEvent, level="info"):
    """Evidence was erased at the end of its retention; its hashes stay in the log."""

    findings: int
    entries: int


class AnchorFailed(LogEvent, level="error", consequence="retry within 60 s"):
    """The newest head of the evidence log could not be published to an anchor."""

    where: str
    error: str


# Alerts


class AlertRefused(LogEvent, level="error", consequence="put aside; see `custodes alerts undelivered`"):
    """A receiver refused an alert several times."""

    finding: str
    error: str


class AlertExpired(LogEvent, level="error", consequence="put aside; see `custodes alerts undelivered`"):
    """An alert could not be delivered within ``give_up_after``."""

    finding: str
    error: str


class AlertsDelayed(LogEvent, level="error", consequence="alerts wait in order, retry within 60 s"):
    """A receiver cannot be reached. Logged once until it can be."""

    receiver: str
    error: str


class AlertsRecovered(LogEvent, level="info"):
    """Alerts of a receiver are delivered again."""

    receiver: str


class ReceiverNotReleased(LogEvent, level="debug", consequence="another process takes it over when the lease expires"):
    """The lease of a receiver could not be released at the end."""

    receiver: str
    error: str


# People


class AuditRecorded(LogEvent, level="info"):
    """An account looked at a person's data or changed something. The audit trail has the details."""

    account: str
    action: str
    resource: str
