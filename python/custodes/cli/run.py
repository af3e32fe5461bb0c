"""``custodes run``: runs the monitor until it is stopped."""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from custodes import __version__
from custodes._core import DEBUG_BUILD
from custodes.accounts.store import AccountStore
from custodes.cli.bootstrap import (
    assemble,
    open_alerts,
    open_evidence,
    open_history,
    secrets_of,
    watch_alerts,
    watch_evidence,
)
from custodes.cli.encryption import keys_of
from custodes.cli.identity_provider import provider_of
from custodes.cli.log import set_up_log
from custodes.cli.memory import keep_freed_memory
from custodes.cli.reload import ConfigReloader, compile_rules
from custodes.config import Fault, FaultsError, parse_listen
from custodes.config.load import load_config
from custodes.config.model import Config
from custodes.config.normal_forms import ComparesNames
from custodes.console import LOOPBACK, ConsoleServer, build_app
from custodes.console.middleware.rate_limit import RateLimits
from custodes.console.sign_in.oidc import FederatedSignIn
from custodes.database.unusable import unusable
from custodes.encryption.keys import Keys
from custodes.evidence.contributing_events import ContributingEvents
from custodes.findings import Finding
from custodes.findings.store import FindingStore, StoreError
from custodes.history import History
from custodes.log_events import (
    CustodesStarted,
    CustodesStopped,
    DebugBuildInUse,
    FindingChanged,
    MonitorFailed,
    MonitorFailureTraced,
)
from custodes.rules import Ruleset
from custodes.runtime.change_notifier import ChangeNotifier
from custodes.runtime.metrics import Metrics
from custodes.runtime.monitor import Monitor
from custodes.sources.dead_letters import DeadLetters, FileDeadLetters
from custodes.sources.kafka import KafkaDeadLetters
from custodes.sources.lookup_tables import LookupTables


def run(
    config: Annotated[Path, typer.Option("-c", "--config", help="Configuration file.")] = Path("custodes.yaml"),
    listen: Annotated[
        str | None, typer.Option(help="HOST:PORT to serve on, instead of http.listen.", show_default=False)
    ] = None,
) -> None:
    """Run the monitor: read events, store findings, serve console, API and metrics."""
    keep_freed_memory()
    settings = load_config(config)
    set_up_log(settings.log.level, settings.log.format)
    tables = LookupTables()
    ruleset = compile_rules(settings, tables)
    with ExitStack() as closing:
        try:
            monitor, server = _build(config, settings, ruleset, tables, listen or settings.http.listen, closing)
        except StoreError as error:
            raise unusable(settings.findings.database, error) from error
        stop = stop_on_signals()
        tables.watch(stop)
        server.start()
        closing.callback(server.stop)
        source = monitor.status.source
        CustodesStarted(version=__version__, rules=len(ruleset.rules), source=source, url=server.url).emit()
        if DEBUG_BUILD:
            DebugBuildInUse().emit()
        try:
            monitor.run(stop)
            # After the end of a file, the console still serves its findings.
            stop.wait()
        except FaultsError as error:
            MonitorFailed(error=str(error)).emit()
            raise
        except Exception as error:
            cause = f"{type(error).__name__}: {error}"
            MonitorFailed(error=cause).emit()
            MonitorFailureTraced().emit()
            raise typer.Exit(1) from error
    CustodesStopped(events=monitor.status.events).emit()


def _build(
    config: Path, settings: Config, ruleset: Ruleset, tables: LookupTables, listen: str, closing: ExitStack
) -> tuple[Monitor, ConsoleServer]:

    keys = keys_of(settings)
    store = FindingStore(settings.findings.database, keys)
    closing.callback(store.close)
    dead_letters = _dead_letters(settings, keys)
    closing.callback(dead_letters.close)
    writer, history = None, None
    if settings.history is not None:
        segments, writer = open_history(settings.history, keys, closing)
        history = History(segments, writer)
    before_snapshots = writer.flush if writer else lambda: None
    parts = assemble(settings, ruleset, tables.in_force, store, listen, keys, closing, before_snapshots)
    contributions = None if history is None else ContributingEvents(history, ruleset, tables.in_force, store)
    recorder = None
    if contributions is not None and writer is not None:
        recorder = open_evidence(settings, store, contributions, writer, keys, closing)

    def on_news(kind: str, finding: Finding) -> None:
        FindingChanged(kind=kind, id=finding.id, rule=finding.rule, severity=finding.level, peak=finding.peak).emit()
        if recorder is not None:
            recorder.enqueue(finding)
        for dispatcher in dispatchers:
            dispatcher.wake()

    secrets = secrets_of(settings)
    comparing: list[ComparesNames] = [store, secrets, *([history] if history else [])]
    for one in comparing:
        one.forms = ruleset.forms
    metrics = Metrics(ruleset.rules, parts.source.name)
    dispatchers = open_alerts(settings, store, secrets, lambda: monitor.rules, parts.worker)
    watch_alerts(metrics, dispatchers)
    for dispatcher in dispatchers:
        closing.callback(dispatcher.close)
    if recorder is not None:
        watch_evidence(metrics, recorder)
        recorder.start()
    metrics.findings_refused.set_function(lambda: store.refused.findings + store.refused.notifications)
    metrics.snapshots_damaged.set(parts.damaged)
    tables.tell(metrics)
    closing.callback(tables.close)
    feed = ChangeNotifier()
    monitor = Monitor(
        parts.work, ruleset.rules, parts.source, store, dead_letters, metrics, feed,
        memory=settings.engine.memory, history=writer, on_news=on_news, on_status=parts.on_status,
    )  # fmt: skip
    parts.attach(monitor)
    for dispatcher in dispatchers:
        dispatcher.start()
    reload = ConfigReloader(config, settings, monitor, tables, contributions, comparing)
    reload.on_signal()
    provider = _federated_sign_in(settings)
    rates = RateLimits(settings.http.requests_per_minute, settings.http.sign_ins_per_minute)
    app = build_app(
        monitor,
        reload=reload,
        history=history,
        contributions=contributions,
        evidence_store=None if recorder is None else recorder.evidence_store,
        secrets=secrets,
        provider=provider,
        rates=rates,
        hosts=hosts_without_accounts(store, listen, provider),
    )
    http = settings.http
    tls = (http.certificate, http.certificate_key) if http.certificate and http.certificate_key else None
    return monitor, ConsoleServer(app, listen, feed, tls)


def _federated_sign_in(settings: Config) -> FederatedSignIn | None:
    provider, oidc = provider_of(settings), settings.http.oidc
    return None if provider is None or oidc is None else FederatedSignIn(provider, oidc.title)


def hosts_without_accounts(store: FindingStore, listen: str, provider: FederatedSignIn | None = None) -> list[str]:
    """Returns the accepted host names while there are no accounts: those of this machine.

    Raises :class:`FaultsError` if other machines could connect without signing in.
    """
    host, _ = parse_listen(listen)
    if host not in LOOPBACK and provider is None and not AccountStore(store.engine).exist():
        raise FaultsError(
            [
                Fault(
                    f"other machines can reach {listen}, and no sign-in is required",
                    hint="listen on 127.0.0.1, set http.oidc, or: custodes accounts add NAME --role investigator",
                )
            ]
        )
    return list(LOOPBACK)


def stop_on_signals() -> threading.Event:
    """Returns an event that SIGINT and SIGTERM set."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _dead_letters(settings: Config, keys: Keys) -> DeadLetters:
    kafka = settings.source.kafka
    if kafka is not None and kafka.dead_letter_topic is not None:
        return KafkaDeadLetters(kafka, kafka.dead_letter_topic)
    return FileDeadLetters(settings.dead_letter.file, keys)
