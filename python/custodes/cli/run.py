"""``custodes run``: the monitor, until it is told to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import structlog
import typer

from custodes import __version__
from custodes._core import DEBUG_BUILD
from custodes.cli.log import set_up_log
from custodes.cli.memory import keep_freed_memory
from custodes.cli.reload import Reload, compile_rules
from custodes.config import Fault, FaultsError
from custodes.config.load import load_config
from custodes.config.model import Config
from custodes.console import ConsoleServer, build_app
from custodes.feed import Feed
from custodes.findings import Finding
from custodes.findings.store import FindingStore
from custodes.metrics import Metrics
from custodes.monitor import Monitor
from custodes.rules import Rule
from custodes.sources import FileSource, Source
from custodes.sources.dead_letters import DeadLetters, FileDeadLetters
from custodes.sources.kafka import KafkaDeadLetters, KafkaSource
from custodes.state import Checkpoints, FolderInUseError, LocalFolder, Recovered, Snapshots, VersionError, recover


def run(
    config: Annotated[Path, typer.Option("-c", "--config", help="Configuration file.")] = Path("custodes.yaml"),
    listen: Annotated[
        str | None, typer.Option(help="HOST:PORT to serve on, over the configuration's.", show_default=False)
    ] = None,
) -> None:
    """Run the monitor: read events, keep findings, serve console, API and metrics."""
    keep_freed_memory()
    settings = load_config(config)
    set_up_log(settings.log.level, settings.log.format)
    log = structlog.get_logger("custodes")
    rules, plan = compile_rules(settings)
    folder = _state_folder(settings)
    snapshots = Snapshots(folder, settings.state.keep)
    recovered = _recover(snapshots, plan, rules, settings)
    store = FindingStore(settings.findings.database)
    store.close_left_open(recovered.left_open)
    dead_letters = _dead_letters(settings)
    source = _source(settings, folder)
    checkpoints = Checkpoints(snapshots, settings.state.interval.total_seconds())
    if recovered.snapshot is not None:
        source.resume(recovered.snapshot.places)
        checkpoints.went_on_from(recovered.snapshot.places, recovered.snapshot.taken_at)
    feed = Feed()

    def on_news(kind: str, finding: Finding) -> None:
        log.info(f"finding {kind}", id=finding.id, rule=finding.rule, level=finding.level, peak=finding.peak)

    metrics = Metrics(rules, source.name)
    metrics.snapshots_damaged.set(recovered.damaged)
    monitor = Monitor(
        recovered.engine, rules, source, store, dead_letters, metrics, feed, checkpoints=checkpoints, on_news=on_news
    )
    reload = Reload(config, settings, monitor)
    reload.on_signal()
    server = ConsoleServer(build_app(monitor, reload), listen or settings.http.listen, feed)
    stop = stop_on_signals()
    server.start()
    log.info("custodes started", version=__version__, rules=len(rules), source=source.name, url=server.url)
    if DEBUG_BUILD:
        log.warning("the engine is a debug build and many times slower; install a release build")
    try:
        monitor.run(stop)
        # A file has an end, but its findings can still be looked at.
        stop.wait()
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        log.critical("the monitor failed; what was not committed will be read again", error=cause)
        log.debug("where it failed", exc_info=True)
        raise typer.Exit(1) from error
    finally:
        server.stop()
        source.close()
        dead_letters.close()
        store.close()
        checkpoints.close()
        folder.close()
    log.info("custodes stopped", events=monitor.status.events)


def stop_on_signals() -> threading.Event:
    """An event that SIGINT and SIGTERM set."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _state_folder(settings: Config) -> LocalFolder:
    path = settings.state.folder
    try:
        return LocalFolder(path)
    except FolderInUseError as error:
        raise FaultsError([Fault(str(error), hint="set state.folder")]) from error
    except OSError as error:
        raise FaultsError([Fault(f"{path} cannot be used: {error.strerror}", hint="set state.folder")]) from error


def _recover(snapshots: Snapshots, plan: str, rules: Sequence[Rule], settings: Config) -> Recovered:
    try:
        return recover(snapshots, plan, rules, settings.engine.threads)
    except VersionError as error:
        hint = "run the Custodes that wrote it, or move it away"
        raise FaultsError([Fault(str(error), file=str(settings.state.folder), hint=hint)]) from error


def _source(settings: Config, folder: LocalFolder) -> Source:
    if settings.source.kafka is not None:
        idle_after = settings.event_time.idle_after.total_seconds()
        return KafkaSource(settings.source.kafka, idle_after, worker=f"custodes-{folder.owner()}")
    paths = settings.source.file.paths if settings.source.file else []
    return FileSource(paths)


def _dead_letters(settings: Config) -> DeadLetters:
    kafka = settings.source.kafka
    if kafka is not None and kafka.dead_letter_topic is not None:
        return KafkaDeadLetters(kafka, kafka.dead_letter_topic)
    return FileDeadLetters(settings.dead_letter.file)
