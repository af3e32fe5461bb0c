"""``custodes demo``: events of a simulated agency through the real pipeline, without Kafka."""

from __future__ import annotations

import tempfile
import threading
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live
from rich.progress import Progress
from rich.text import Text

from custodes._core import Engine, Tables
from custodes.cli.bootstrap import watch_evidence
from custodes.cli.log import set_up_log
from custodes.cli.output import LEVEL_STYLES, stderr, stdout, write_json
from custodes.cli.run import hosts_without_accounts, stop_on_signals
from custodes.config import Fault, FaultsError
from custodes.config.mapping import load_mapping
from custodes.console import ConsoleServer, build_app
from custodes.demo import Agency, DemoSource, Insider
from custodes.demo.agency import AgencyDay
from custodes.demo.half_year import DAYS, HalfYear, write
from custodes.evidence.anchors import Anchors
from custodes.evidence.contributing_events import ContributingEvents
from custodes.evidence.log_store import EvidenceStore
from custodes.evidence.recorder import EvidenceRecorder
from custodes.evidence.retention import Retention
from custodes.findings import Finding, rfc3339
from custodes.findings.store import FindingStore
from custodes.history import History, HistoryWriter, SegmentStore
from custodes.rules import Ruleset, build_plan, load_rules, shipped_pack
from custodes.runtime.change_notifier import ChangeNotifier
from custodes.runtime.metrics import Metrics
from custodes.runtime.monitor import Monitor
from custodes.runtime.task import SingleTask
from custodes.sources.dead_letters import NoDeadLetters

_KEPT = timedelta(days=35)
"""Retention of the agency's look-ups."""


def demo(
    listen: Annotated[str, typer.Option(help="HOST:PORT to serve on.")] = "127.0.0.1:8610",
    speed: Annotated[
        str, typer.Option(help="Simulated seconds per second, or max. At 40000, a day takes two seconds.")
    ] = "40000",
    once: Annotated[bool, typer.Option("--once", help="End after two simulated weeks and print a summary.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the simulated agency.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON; implies --once.")] = False,
    write_to: Annotated[
        Path | None,
        typer.Option(
            "--write",
            metavar="FOLDER",
            help="Instead of monitoring, write half a year of a larger agency to this folder: events, labels of ten "
            "kinds of insiders, look-up tables.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Monitor a simulated agency with planted insiders. Ctrl-C ends it."""
    set_up_log("warning")
    if write_to is not None:
        _write_half_year(seed, write_to)
        return
    agency = Agency(seed)
    stop = stop_on_signals()
    source = DemoSource(agency, _speed(speed), once or json, stop.is_set)
    rules = load_rules(shipped_pack())
    ruleset = Ruleset(rules, partial(build_plan, mapping=load_mapping("custodes"), history=True))
    feed = ChangeNotifier()
    with tempfile.TemporaryDirectory(prefix="custodes-demo-") as folder:
        store = FindingStore(f"sqlite:///{Path(folder) / 'findings.db'}")
        segments = SegmentStore(Path(folder) / "history")
        writer = HistoryWriter(segments, _KEPT)
        history = History(segments, writer)
        contributions = ContributingEvents(history, ruleset, Tables(), store)
        evidence_store = EvidenceStore(Path(folder) / "evidence", Path(folder) / "evidence.key", "custodes/demo")
        retention = Retention(evidence_store, store.peoples, keep=None)
        recorder = EvidenceRecorder(
            evidence_store, store, contributions, writer, retention, Anchors(), clock=source.clock
        )
        screen = _Screen(quiet=json)

        def on_news(kind: str, finding: Finding) -> None:
            recorder.enqueue(finding)
            screen.news(kind, finding)

        metrics = Metrics(rules, source.name)
        watch_evidence(metrics, recorder)
        monitor = Monitor(
            SingleTask(Engine(ruleset.plan()), rules, source), rules, source, store, NoDeadLetters(), metrics, feed,
            history=writer, on_news=on_news, clock=source.clock,
        )  # fmt: skip
        hosts = hosts_without_accounts(store, listen)
        app = build_app(
            monitor, history=history, contributions=contributions, evidence_store=evidence_store, hosts=hosts
        )
        server = ConsoleServer(app, listen, feed)
        server.start()
        recorder.start()
        try:
            screen.watch(monitor, stop, server.url)
        finally:
            server.stop()
            recorder.close(within=0)  # the folder goes with the process
            writer.close()
            store.close()
    results = [_Result(insider, screen.findings) for insider in agency.insiders]
    if json:
        write_json({"events": monitor.status.events, "insiders": [result.as_dict() for result in results]})
    else:
        _summary(results, monitor.status.events)


def _write_half_year(seed: int, folder: Path) -> None:
    half_year = HalfYear(seed)
    events = 0
    with Progress(console=stderr, transient=True) as progress:
        days = progress.add_task("writing", total=DAYS)

        def on_day(day: AgencyDay) -> None:
            nonlocal events
            events += len(day.events)
            progress.advance(days)

        write(half_year, folder, on_day)
    stdout.print(f"{events:,} events, {len(half_year.deeds)} insiders and their labels, in {folder}")


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise FaultsError([Fault(f"--speed: '{text}' is neither a positive number nor max")])
    return speed


class _Screen:
    """Terminal output: one line per finding, with a progress line below."""

    def __init__(self, quiet: bool) -> None:
        self.findings: list[Finding] = []
        self._quiet = quiet

    def news(self, kind: str, finding: Finding) -> None:
        if kind != "opened":
            return
        self.findings.append(finding)
        if not self._quiet:
            line = Text.assemble(
                (f"{finding.level:<7}", LEVEL_STYLES[finding.level]),
                f" {rfc3339(finding.opened_at)}  {finding.rule}: {finding.who}",
                (f"  (threshold {finding.threshold})", "dim"),
            )
            stdout.print(line)

    def watch(self, monitor: Monitor, stop: threading.Event, url: str) -> None:
        """Runs the monitor and updates the progress line, until it ends or is stopped."""
        if not self._quiet:
            stdout.print(f"Monitoring a simulated agency. Open {url} to review its findings.  Ctrl-C ends.")
        worker = threading.Thread(target=monitor.run, args=(stop,), name="monitor")
        worker.start()
        if self._quiet or not stdout.is_terminal:
            worker.join()
        else:
            with Live(_progress(monitor), console=stdout, refresh_per_second=4, transient=True) as live:
                while worker.is_alive():
                    live.update(_progress(monitor))
                    worker.join(0.25)
        if monitor.failure is not None:
            raise RuntimeError(f"the demo failed: {monitor.failure}") from monitor.failure


def _progress(monitor: Monitor) -> Text:
    status = monitor.status
    day = time.strftime("%A %Y-%m-%d %H:%M", time.gmtime(status.at))
    return Text(
        f"{day}  {status.events:,} events  {status.events_per_second:,.0f}/s  {status.open_findings} open findings",
        "dim",
    )


class _Result:
    """Detection result for one insider."""

    def __init__(self, insider: Insider, findings: list[Finding]) -> None:
        self.insider = insider
        group = {insider.group_by: insider.value}
        self.finding = next((f for f in findings if f.shown == group and f.rule == insider.rule), None)

    @property
    def taken_before(self) -> int:
        """Number of records taken before the finding opened; all of them without a finding."""
        if self.finding is None:
            return len(self.insider.times)
        opened_at = self.finding.opened_at
        return sum(time <= opened_at for time in self.insider.times)

    def as_dict(self) -> dict[str, object]:
        return {
            "insider": self.insider.name,
            self.insider.group_by: self.insider.value,
            "found_by": self.finding.rule if self.finding else None,
            "opened_at": rfc3339(self.finding.opened_at) if self.finding else None,
            "look_ups_before": self.taken_before,
            "look_ups": len(self.insider.times),
        }


def _summary(results: list[_Result], events: int) -> None:
    """Prints one line per insider: detecting rule, time, and number of look-ups before it."""
    stdout.print(f"\n{events:,} events. Planted insiders:")
    for result in results:
        insider, finding = result.insider, result.finding
        name = Text(f"  {insider.name}, {insider.group_by} {insider.value}: ")
        if finding is None:
            name.append("not found yet", "bold red")
        else:
            name.append(f"found by {finding.rule}", "green")
            name.append(
                f" at {rfc3339(finding.opened_at)}, after {result.taken_before} of {len(insider.times)} look-ups"
            )
        stdout.print(name)
