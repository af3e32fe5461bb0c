"""Builds the components of a monitor from the configuration: a single process, or one of several workers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial

from kafka.errors import KafkaError

from custodes._core import Engine, EvidenceDamagedError, Tables
from custodes.accounts.pseudonyms import Pseudonyms
from custodes.accounts.secrets import Secrets
from custodes.alerts.alertmanager import AlertmanagerNotifier
from custodes.alerts.delivery_log import DeliveryLog
from custodes.alerts.dispatcher import Dispatcher, Notifier, OrderedNotifier
from custodes.alerts.message import MessageWriter
from custodes.alerts.receivers import sender_of
from custodes.config import Fault, FaultsError
from custodes.config.alerts import AlertmanagerReceiver, Receiver
from custodes.config.model import Config, HistorySettings, WorkersSettings
from custodes.config.model import KafkaSourceSettings as KafkaSettings
from custodes.encryption.keys import Keys
from custodes.evidence.anchors import Anchors, anchor_at
from custodes.evidence.contributing_events import ContributingEvents
from custodes.evidence.log_store import EvidenceStore
from custodes.evidence.recorder import EvidenceRecorder
from custodes.evidence.retention import Retention
from custodes.findings.store import FindingStore
from custodes.history import HistoryWriter, SegmentStore
from custodes.log_events import PartitionsNotSaved, cause_of
from custodes.rules import Rule, Ruleset
from custodes.runtime.metrics import Metrics
from custodes.runtime.monitor import Monitor, Status
from custodes.runtime.partitioned_tasks import PartitionedTasks, SnapshotSettings
from custodes.runtime.task import SingleTask, TaskSet
from custodes.sources import EventSource, EventTimes, FileSource, ResumableSource
from custodes.sources.kafka import KafkaSource
from custodes.sources.kafka_worker import PartitionedKafkaSource
from custodes.sources.repartition import DeliveryFailedError, RepartitionTopic
from custodes.state import (
    Checkpoints,
    FolderInUseError,
    IncompatibleSnapshotError,
    LocalFolder,
    MissingKeyError,
    Snapshots,
    recover,
)
from custodes.state.claims import StateStore
from custodes.state.objects import ObjectStates
from custodes.state.topic import StateTopic


@dataclass
class MonitorComponents:
    """Components that differ between a single process and one of several workers."""

    worker: str
    """Worker name; it stays the same after a restart."""
    work: TaskSet
    source: EventSource
    damaged: int = 0
    """Number of snapshots that could not be read."""
    on_status: Callable[[Status], None] = lambda status: None
    attach: Callable[[Monitor], None] = lambda monitor: None
    """Connects the components to their monitor."""


def open_history(settings: HistorySettings, keys: Keys, closing: ExitStack) -> tuple[SegmentStore, HistoryWriter]:
    """Opens the segments of the history, and their writer. Raises :class:`FaultsError`."""
    try:
        segments = SegmentStore(settings.folder, keys)
    except FolderInUseError as error:
        raise FaultsError([Fault(str(error), hint="set history.folder")]) from error
    except OSError as error:
        raise FaultsError(
            [Fault(f"{settings.folder} cannot be used: {error.strerror or error}", hint="set history.folder")]
        ) from error
    writer = HistoryWriter(segments, settings.keep)
    closing.callback(writer.close)
    return segments, writer


def open_evidence(
    settings: Config,
    store: FindingStore,
    contributions: ContributingEvents,
    writer: HistoryWriter,
    keys: Keys,
    closing: ExitStack,
) -> EvidenceRecorder | None:
    """Opens the evidence recorder; ``None`` if no evidence is kept. Raises :class:`FaultsError`."""
    evidence = settings.evidence
    if evidence is None:
        return None
    try:
        evidence_store = EvidenceStore(
            evidence.folder, evidence.key or settings.state.folder / "evidence.key", evidence.name, keys
        )
    except FolderInUseError as error:
        raise FaultsError([Fault(str(error), hint="set evidence.folder")]) from error
    except EvidenceDamagedError as error:
        hint = "run custodes evidence verify for details; keep the folder, and set evidence.folder to a new one"
        raise FaultsError([Fault(str(error), str(evidence.folder), hint=hint)]) from error
    except (OSError, ValueError) as error:
        raise FaultsError(
            [Fault(f"evidence cannot be kept: {error}", str(evidence.folder), hint="see evidence")]
        ) from error
    retention = Retention(evidence_store, store.peoples, evidence.keep)
    anchors = Anchors([anchor_at(where) for where in evidence.anchors])
    recorder = EvidenceRecorder(
        evidence_store, store, contributions, writer, retention, anchors, is_alone=settings.workers is None
    )
    closing.callback(recorder.close)
    return recorder


def watch_evidence(metrics: Metrics, recorder: EvidenceRecorder) -> None:
    """Connects the metrics to the evidence recorder."""
    metrics.evidence_entries.set_function(lambda: recorder.evidence_store.log.size)
    metrics.evidence_waiting.set_function(lambda: recorder.waiting)
    metrics.evidence_failures.set_function(lambda: recorder.failures)
    metrics.evidence_unanchored.set_function(lambda: recorder.unanchored)


def secrets_of(settings: Config) -> Secrets:
    """Loads or creates the secrets of the installation. Raises :class:`FaultsError`."""
    path = settings.http.secret or settings.state.folder / "secret.key"
    try:
        return Secrets.kept_in(path)
    except (OSError, ValueError) as error:
        raise FaultsError([Fault(f"the secret cannot be read or created: {error}", hint="set http.secret")]) from error


def writer_of(
    settings: Config, receiver: Receiver, secrets: Secrets, rules: Callable[[], Sequence[Rule]]
) -> MessageWriter:
    """Returns the message writer of a receiver; ``rules`` returns the active rules."""
    console = settings.alerts.console
    return MessageWriter(Pseudonyms(secrets, receiver.names), rules, None if console is None else console.rstrip("/"))


def open_alerts(
    settings: Config, store: FindingStore, secrets: Secrets, rules: Callable[[], Sequence[Rule]], holder: str
) -> list[Dispatcher]:
    """Creates a dispatcher for each receiver. Raises :class:`FaultsError`."""
    dispatchers, faults = [], []
    for one in settings.alerts.receivers:
        writer = writer_of(settings, one, secrets, rules)
        ledger = DeliveryLog(store.peoples, one.name, holder)
        try:
            notifier: Notifier
            if isinstance(one, AlertmanagerReceiver):
                notifier = AlertmanagerNotifier(one, ledger, writer)
            else:
                notifier = OrderedNotifier(
                    ledger, sender_of(one, settings.source.kafka), writer, one.level, one.give_up_after
                )
        except (OSError, ValueError) as error:
            faults.append(Fault(f"alerts.receivers: {one.name}: {error}"))
            continue
        dispatchers.append(Dispatcher(one.name, notifier, ledger))
    if faults:
        raise FaultsError(faults)
    return dispatchers


def watch_alerts(metrics: Metrics, dispatchers: Sequence[Dispatcher]) -> None:
    """Connects the metrics to the dispatchers."""
    for one in dispatchers:
        metrics.alerts_waiting.labels(one.name).set_function(partial(getattr, one, "waiting"))
        metrics.alert_failures.labels(one.name).set_function(partial(getattr, one, "failures"))
        metrics.alerts_undelivered.labels(one.name).set_function(partial(getattr, one, "undelivered"))


def assemble(
    settings: Config,
    ruleset: Ruleset,
    tables: Tables,
    store: FindingStore,
    url: str,
    keys: Keys,
    closing: ExitStack,
    before_snapshots: Callable[[], None],
) -> MonitorComponents:
    """Opens the components and registers them with ``closing``. ``url`` is the address of this process;
    ``before_snapshots`` is called before each snapshot, and may raise ``OSError``.

    Raises :class:`FaultsError` if a configured component cannot be opened.
    """
    folder = _state_folder(settings)
    closing.callback(folder.close)
    worker = f"custodes-{folder.owner()}"
    if settings.workers is not None and settings.source.kafka is not None:
        return _shared(
            settings, settings.source.kafka, settings.workers, ruleset, tables, store, worker, url, keys, closing,
            before_snapshots,
        )  # fmt: skip
    snapshots = Snapshots(folder, settings.state.keep, keys)
    try:
        recovered = recover(snapshots, ruleset.plan(), ruleset.rules, settings.engine.threads, tables)
    except IncompatibleSnapshotError as error:
        way = (
            "add its key to encryption.keys"
            if isinstance(error, MissingKeyError)
            else "run the version of Custodes that wrote it"
        )
        hint = f"{way}, or move the snapshot away"
        raise FaultsError([Fault(str(error), file=str(settings.state.folder), hint=hint)]) from error
    store.close_left_open(recovered.left_open)
    source = _source(settings, ruleset, worker)
    checkpoints = Checkpoints(snapshots, settings.state.interval.total_seconds(), begins=before_snapshots)
    closing.callback(checkpoints.close)
    closing.callback(source.close)
    if recovered.snapshot is not None:
        source.resume(recovered.snapshot.places)
        checkpoints.went_on_from(recovered.snapshot.places, recovered.snapshot.taken_at)
    work = SingleTask(recovered.engine, ruleset.rules, source, checkpoints)
    return MonitorComponents(worker, work, source, recovered.damaged)


def _shared(
    settings: Config,
    kafka: KafkaSettings,
    workers: WorkersSettings,
    ruleset: Ruleset,
    tables: Tables,
    store: FindingStore,
    worker: str,
    url: str,
    keys: Keys,
    closing: ExitStack,
    before_snapshots: Callable[[], None],
) -> MonitorComponents:
    idle_after = settings.event_time.idle_after.total_seconds()
    source = PartitionedKafkaSource(kafka, workers, idle_after, worker)
    states, handing = _states(kafka, workers), RepartitionTopic(kafka, workers.repartition_topic)
    work = PartitionedTasks(
        worker,
        source,
        ruleset,
        handing,
        store,
        SnapshotSettings(states, settings.state.interval.total_seconds(), settings.state.keep, before_snapshots, keys),
        idle_after=idle_after,
        threads=settings.engine.threads,
        tables=tables,
    )
    for part in (states, handing, work, source):
        closing.callback(part.close)

    def on_status(status: Status) -> None:
        tasks = [task.name for task in work.tasks()]
        store.tell_of_worker(worker, status.at, json.dumps({**asdict(status), "url": url, "tasks": tasks}))

    def attach(monitor: Monitor) -> None:
        def before_leaving(streams: Sequence[int]) -> None:
            if monitor.has_ended:
                # The monitor has saved all state.
                return
            try:
                monitor.save(list(work.of(streams)))
            except (KafkaError, OSError, DeliveryFailedError) as error:
                # The next owner resumes from an earlier snapshot and replays more records.
                PartitionsNotSaved(error=cause_of(error)).emit()
            work.give_up(streams)

        source.before_leaving = before_leaving
        work.missed = monitor.tell_of

    return MonitorComponents(worker, work, source, on_status=on_status, attach=attach)


def _states(kafka: KafkaSettings, workers: WorkersSettings) -> StateStore:
    if workers.state_store is None:
        return StateTopic(kafka, workers.state_topic)
    try:
        return ObjectStates(workers.state_store)
    except (OSError, ValueError) as error:
        raise FaultsError([Fault(str(error), hint="set workers.state_store")]) from error


def _state_folder(settings: Config) -> LocalFolder:
    path = settings.state.folder
    try:
        return LocalFolder(path)
    except FolderInUseError as error:
        raise FaultsError([Fault(str(error), hint="set state.folder")]) from error
    except OSError as error:
        raise FaultsError([Fault(f"{path} cannot be used: {error.strerror}", hint="set state.folder")]) from error


def _source(settings: Config, ruleset: Ruleset, worker: str) -> ResumableSource:
    if settings.source.kafka is not None:
        return KafkaSource(settings.source.kafka, settings.event_time.idle_after.total_seconds(), worker)
    times = EventTimes(Engine(ruleset.write([])))
    return FileSource(settings.source.file.paths if settings.source.file else [], times)
