"""``custodes replay``: runs the engine on files and prints the findings."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.table import Table
from rich.text import Text

from custodes._core import DEBUG_BUILD, Engine, Outcome
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
from custodes.cli.output import LEVEL_STYLES, display_path, print_warnings, stderr, stdout
from custodes.cli.progress import reading
from custodes.config.threads import usable_cores
from custodes.findings import Finding, FindingAccumulator, rfc3339
from custodes.rules import Rule, build_plan, read_rules, shipped_pack
from custodes.sources.dead_letters import DeadLetters, FileDeadLetters, Letter, NoDeadLetters
from custodes.sources.replay import check_readable, replay_files

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
        run.read(events, on_bytes)
    letters.close()
    style = output or (OutputFormat.table if stdout.is_terminal else OutputFormat.ndjson)
    _write(run.ledger.findings(), style)
    run.report(stats)


class _Replay:
    """State and statistics of one replay."""

    def __init__(self, rules: Sequence[Rule], engine: Engine, letters: DeadLetters) -> None:
        self.rules = rules
        self.engine = engine
        self.ledger = FindingAccumulator(rules)
        self.letters = letters
        self.events = 0
        self.late = 0
        self.bytes = 0
        self.rejected: Counter[str] = Counter()
        self.shown: list[str] = []
        self.seconds = 0.0

    def read(self, paths: Sequence[Path], on_bytes: Callable[[int], None]) -> None:
        def count(size: int) -> None:
            self.bytes += size
            on_bytes(size)

        begun = time.perf_counter()
        for outcome, place in replay_files(self.engine, paths, count):
            self._apply(outcome, place)
        self.seconds = time.perf_counter() - begun

    def _apply(self, outcome: Outcome, place: dict[str, str | int]) -> None:
        self.events += outcome.events
        self.late += outcome.late
        self.ledger.apply(outcome.changes)
        if outcome.rejects:
            self.letters.write([Letter(reject, place) for reject in outcome.rejects])
        for reject in outcome.rejects:
            self.rejected[reject.reason] += 1
            if len(self.shown) < _SHOWN_REJECTS:
                file = display_path(Path(str(place["file"])))
                self.shown.append(f"{file}:{reject.position}: {reject.reason}: {reject.detail}")

    def report(self, stats: bool) -> None:
        if self.rejected:
            total = self.rejected.total()
            for line in self.shown:
                stderr.print(Text(line))
            if total > len(self.shown):
                stderr.print(f"… and {total - len(self.shown):,} more; --dead-letters FILE keeps them all")
        if not stats:
            return
        engine = self.engine.stats()
        rate = self.events / self.seconds if self.seconds else 0.0
        rejected = ", ".join(f"{n:,} {reason}" for reason, n in sorted(self.rejected.items()))
        rows: list[tuple[str, str]] = [
            ("events", f"{self.events:,}"),
            ("rejected", rejected or "0"),
            ("late", f"{self.late:,}"),
            ("findings", f"{len(self.ledger.findings()):,}"),
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
        for name, value in rows:
            stderr.print(Text(f"{name:<14} {value}"))


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
