"""``custodes replay``: runs the engine on files and prints the findings."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.table import Table
from rich.text import Text

from custodes._core import DEBUG_BUILD, Engine
from custodes.authoring.recorded_events import event_times
from custodes.cli.coverage import coverage_rows, place_and_line, warn_of_losses
from custodes.cli.memory import keep_freed_memory
from custodes.cli.options import (
    Lateness,
    MappingName,
    RulePaths,
    TableFiles,
    Threads,
    TimeZoneName,
    lateness,
    mapping_and_tables,
)
from custodes.cli.output import LEVEL_STYLES, print_warnings, stderr, stdout
from custodes.cli.progress import reading
from custodes.config.threads import usable_cores
from custodes.findings import Finding, FindingAccumulator, rfc3339
from custodes.rules import Rule, build_plan, read_rules, shipped_pack
from custodes.sources import EventTimes, FileFault
from custodes.sources.dead_letters import DeadLetters, FileDeadLetters, Letter, NoDeadLetters
from custodes.sources.replay import check_readable, replay_files
from custodes.sources.replay_coverage import RecordLocation, ReplayCoverage, ReplayedBatch

_SHOWN_REJECTS = 5


class OutputFormat(StrEnum):
    """Output format of findings."""

    ndjson = "ndjson"
    table = "table"


def replay(
    events: Annotated[list[Path], typer.Argument(help="JSON Lines files, plain, .gz or .zst; - reads standard input.")],
    rules: RulePaths = None,
    mapping: MappingName = "custodes",
    zone: TimeZoneName = "UTC",
    table: TableFiles = None,
    output: Annotated[
        OutputFormat | None,
        typer.Option(help="Output format. Default: table on a terminal, ndjson in a pipe.", show_default=False),
    ] = None,
    stats: Annotated[bool, typer.Option(help="Print statistics on standard error.")] = False,
    allowed_lateness: Lateness = "10s",
    threads: Threads = None,
    dead_letters: Annotated[
        Path | None, typer.Option(help="Append rejected records to this file.", show_default=False)
    ] = None,
) -> None:
    """Replay files of events, and print one record per finding at the end of the input."""
    keep_freed_memory()
    files = read_rules(rules or shipped_pack())
    print_warnings(files.warnings)
    loaded = files.rules
    fields, tables = mapping_and_tables(mapping, zone, table)
    plan = build_plan(loaded, fields, allowed_lateness=lateness(allowed_lateness))
    check_readable(events)
    letters: DeadLetters = FileDeadLetters(dead_letters) if dead_letters else NoDeadLetters()
    engine = Engine(plan, threads or usable_cores())
    engine.use_tables(tables)
    run = _Replay(loaded, engine, letters)
    with reading(events) as on_bytes:
        run.read(events, event_times(fields), on_bytes)
    letters.close()
    style = output or (OutputFormat.table if stdout.is_terminal else OutputFormat.ndjson)
    findings = run.ledger.findings()
    if findings:
        _write(findings, style)
    run.report(stats)
    is_complete = warn_of_losses(run.coverage)
    if not findings:
        # "No findings" means something only together with what was read.
        _write(findings, style)
    if not is_complete:
        raise typer.Exit(1)


class _Replay:
    """State and statistics of one replay."""

    def __init__(self, rules: Sequence[Rule], engine: Engine, letters: DeadLetters) -> None:
        self.rules = rules
        self.engine = engine
        self.ledger = FindingAccumulator(rules)
        self.letters = letters
        self.coverage = ReplayCoverage()
        self.bytes = 0
        self.shown: list[str] = []
        self.seconds = 0.0

    def read(self, paths: Sequence[Path], times: EventTimes, on_bytes: Callable[[int], None]) -> None:
        def count(size: int) -> None:
            self.bytes += size
            on_bytes(size)

        begun = time.perf_counter()
        for batch, place in replay_files(self.engine, paths, times, self.coverage, count):
            self._apply(batch, place)
        self.seconds = time.perf_counter() - begun

    def _apply(self, batch: ReplayedBatch, place: RecordLocation) -> None:
        self.ledger.apply(batch.changes)
        if batch.rejects:
            self.letters.write([Letter(reject, place) for reject in batch.rejects])
        for reject in batch.rejects:
            if len(self.shown) < _SHOWN_REJECTS and not isinstance(reject, FileFault):
                self.shown.append(f"{place_and_line(place, reject.position)}: {reject.reason}: {reject.detail}")

    def report(self, stats: bool) -> None:
        for line in self.shown:
            stderr.print(Text(line))
        more = self.coverage.rejected.total() - len(self.coverage.faults) - len(self.shown)
        if more:
            stderr.print(f"… and {more:,} more; --dead-letters FILE keeps them all")
        findings = self.ledger.findings()
        rows: list[tuple[str, str]] = []
        if stats or not findings:
            rows += coverage_rows(self.coverage)
        if stats:
            rows += self._figures(len(findings))
        elif not findings and self.coverage.events:
            rows.append(("rules", self._unmatched()))
        for name, value in rows:
            stderr.print(Text(f"{name:<14} {value}"))

    def _figures(self, findings: int) -> list[tuple[str, str]]:
        engine, events = self.engine.stats(), self.coverage.events
        rate = events / self.seconds if self.seconds else 0.0
        rows = [
            ("findings", f"{findings:,}"),
            ("time", f"{self.seconds:.2f} s"),
            ("rate", f"{rate:,.0f} events/s, {self.bytes / 1e6 / max(self.seconds, 1e-9):,.0f} MB/s"),
            ("newest event", rfc3339(engine.newest) or "none"),
        ]
        rows += [
            (f"rule {rule.title}", f"{figures.matched:,} matched, {figures.opened:,} findings opened")
            for rule, figures in zip(self.rules, engine.rules, strict=True)
        ]
        if DEBUG_BUILD:
            rows.append(("note", "the engine is a debug build and slow; run `make build`"))
        return rows

    def _unmatched(self) -> str:
        """Returns the number of rules, and which of them no event matched."""
        rules = zip(self.rules, self.engine.stats().rules, strict=True)
        unmatched = [rule.title for rule, figures in rules if not figures.matched]
        if not unmatched:
            return f"{len(self.rules):,}, each matched an event"
        if len(unmatched) == len(self.rules):
            return f"{len(self.rules):,}, no event matched any; check the mapping"
        return f"{len(self.rules):,}, no event matched {len(unmatched):,}: {', '.join(unmatched)}"


def _write(findings: Sequence[Finding], style: OutputFormat) -> None:
    if style is OutputFormat.ndjson:
        for finding in findings:
            sys.stdout.buffer.write(orjson.dumps(finding.as_dict(), option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()
        return
    if not findings:
        stdout.print("no findings")
        return
    table = Table(box=None, header_style="bold")
    for name in ("level", "rule", "who"):
        table.add_column(name, overflow="fold")
    for name in ("opened (UTC)", "lasted", "peak", "threshold", "events"):
        table.add_column(name, no_wrap=True, justify="left" if name.startswith("opened") else "right")
    for finding in findings:
        ended = finding.closed_at or finding.held_until
        table.add_row(
            Text(finding.level, LEVEL_STYLES[finding.level]),
            Text(finding.rule),
            Text(finding.who),
            (rfc3339(finding.opened_at) or "")[:16].replace("T", " "),
            str(timedelta(seconds=(ended - finding.opened_at) // 1_000_000)),
            f"{finding.peak:,}",
            f"{finding.threshold:,}",
            f"{finding.count:,}",
        )
    stdout.print(table)
