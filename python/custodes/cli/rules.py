"""``custodes rules``: lists, tests, explains and backtests rules."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from custodes.authoring import RuleTestResult, find_test_files, run_tests
from custodes.authoring.backtest import Backtest, backtest
from custodes.authoring.explain import Explanation, explain
from custodes.authoring.group_status import GroupState, ReplayedRule
from custodes.authoring.labels import read_labels
from custodes.authoring.plot import plot
from custodes.authoring.recorded_events import EventFiles, event_times
from custodes.authoring.sweep_parameter import BacktestError, SweepParameter, SweepPoint
from custodes.cli.coverage import late_warning, warn_of_losses
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
from custodes.cli.output import LEVEL_STYLES, stdout, write_json
from custodes.cli.progress import reading
from custodes.config import Fault, FaultsError, format_duration
from custodes.config.faults import did_you_mean
from custodes.config.threads import usable_cores
from custodes.findings import rfc3339
from custodes.rules import Rule, build_plan, load_rules, shipped_pack
from custodes.rules.schema import rule_schema
from custodes.sources.replay import check_readable

app = typer.Typer(help="List, test, explain and backtest rules.", no_args_is_help=True)


@app.command("list")
def list_(
    rules: Annotated[
        list[Path] | None,
        typer.Argument(help="Rule files or directories. Default: the shipped pack.", show_default=False),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The rules as a JSON array.")] = False,
) -> None:
    """List rules with counted quantity, timespan and condition."""
    loaded = load_rules(rules or shipped_pack())
    if json:
        write_json([_as_dict(rule) for rule in loaded])
        return
    table = Table(box=None, header_style="bold")
    for name in ("level", "rule", "counts", "for each", "in"):
        table.add_column(name, overflow="fold")
    table.add_column("fires at", overflow="fold")
    for rule in loaded:
        table.add_row(
            Text(rule.level, LEVEL_STYLES[rule.level]),
            Text(rule.title),
            Text(rule.counts),
            Text(", ".join(rule.group_by) or "everything"),
            format_duration(rule.timespan),
            Text(rule.fires),
        )
    stdout.print(table)


def _as_dict(rule: Rule) -> dict[str, object]:
    return {
        "id": rule.id,
        "title": rule.title,
        "level": rule.level,
        "description": rule.description,
        "counts": rule.counts,
        "group_by": list(rule.group_by),
        "timespan": format_duration(rule.timespan),
        "resolution": format_duration(rule.resolution),
        "keep_open": format_duration(rule.keep_open),
        "condition": rule.holds,
        "silent": rule.silent,
        "baseline": rule.baseline.model_dump(mode="json") if rule.baseline else None,
        "false_positives": list(rule.false_positives),
        "tuning": rule.tuning,
        "references": list(rule.references),
        "runbook": rule.runbook,
        "file": rule.file,
        "line": rule.line,
    }


@app.command()
def schema() -> None:
    """Print the JSON Schema of rule files, for editors."""
    write_json(rule_schema())


@app.command("test")
def run_rule_tests(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Test files, or directories of *.test.yml. Default: the shipped pack's.", show_default=False
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The results as a JSON array.")] = False,
) -> None:
    """Run rule tests: events that must be detected, and events that must not. Exit 1 if a test fails."""
    results: list[RuleTestResult] = []
    for path in find_test_files(files or sorted({rule.parent for rule in shipped_pack()})):
        if not json:
            stdout.print(Text(str(path), "bold"))
        for result in run_tests(path):
            results.append(result)
            if not json:
                _show(result)
    failed = sum(bool(result.failures) for result in results)
    if json:
        write_json([result.as_dict() for result in results])
    else:
        stdout.print(f"{len(results)} tests, {failed} failed" if failed else f"{len(results)} tests passed")
    if failed:
        raise typer.Exit(1)


def _show(result: RuleTestResult) -> None:
    verdict = Text("FAIL", "bold red") if result.failures else Text("ok  ", "green")
    stdout.print(Text.assemble("  ", verdict, f"  {result.name}"))
    for failure in result.failures:
        stdout.print(Text(f"        {result.file}:{result.line}: {failure}"))


@app.command("explain")
def run_explain(
    rule: Annotated[str, typer.Argument(help="The rule's title or id.")],
    event: Annotated[Path, typer.Option(help="File with events as JSON Lines; - reads standard input.")],
    rules: RulePaths = None,
    past: Annotated[
        list[Path] | None,
        typer.Option(
            help="Files with earlier events: shows the count and threshold of the event's group; repeatable.",
            show_default=False,
        ),
    ] = None,
    mapping: MappingName = "custodes",
    zone: TimeZoneName = "UTC",
    table: TableFiles = None,
    allowed_lateness: Lateness = "10s",
    json: Annotated[bool, typer.Option("--json", help="A JSON array with one object per event.")] = False,
) -> None:
    """Explain why an event counts for a rule, or why it does not."""
    loaded = load_rules(rules or shipped_pack())
    chosen = _choose(rule, loaded)
    fields, tables = mapping_and_tables(mapping, zone, table)
    check_readable([event, *(past or [])])
    text = sys.stdin.buffer.read() if str(event) == "-" else event.read_bytes()
    lines = [line for line in text.splitlines() if line.strip()]
    explained = [explain(chosen, fields, line, tables) for line in lines]
    standings: list[list[GroupState]] = [[] for _ in lines]
    if past:
        with reading(past) as on_bytes:
            late = lateness(allowed_lateness)
            before = ReplayedRule(chosen, loaded, fields, tables, past, lateness=late, on_bytes=on_bytes)
        standings = [before.take(line, one) for line, one in zip(lines, explained, strict=True)]
        warn_of_losses(before.coverage)
    if json:
        results = zip(explained, standings, strict=True)
        write_json([{**one.as_dict(), "standings": [vars(status) for status in stood]} for one, stood in results])
        return
    for number, (one, stood) in enumerate(zip(explained, standings, strict=True), 1):
        _show_explanation(chosen, number, one, stood)


def _show_explanation(rule: Rule, number: int, one: Explanation, standings: list[GroupState]) -> None:
    verdict = Text("counts", "bold green") if one.counts else Text("does not count", "bold red")
    stdout.print(Text.assemble(f"event {number} ", verdict, f" for {rule.title}"))
    if one.rejected is not None:
        stdout.print(Text(f"  rejected: {one.rejected}"))
        return
    for part in one.parts:
        mark = Text("✓ ", "green") if part.holds else Text("✗ ", "red")
        has = "" if part.values is None else f"  ({', '.join(part.values) or 'nothing'})"
        stdout.print(Text.assemble("  " * (part.depth + 1), mark, part.text, (has, "dim")))
    for field, values in one.group.items():
        stdout.print(Text(f"  for each {field}: {', '.join(values) or 'nothing, so it is in no group'}"))
    if one.counted is not None:
        stdout.print(Text(f"  counts {rule.counts}: {', '.join(one.counted) or 'nothing, so it adds none'}"))
    stdout.print(Text(f"  within {format_duration(rule.timespan)} fires at {rule.fires}"))
    for status in standings:
        group = ", ".join(f"{name} {value}" for name, value in status.group.items()) or "everything"
        threshold = (
            "not known yet, because there is no baseline yet" if status.threshold is None else f"{status.threshold:,}"
        )
        expected = "" if status.expected is None else f" (expected: {status.expected:,.1f})"
        stdout.print(Text(f"  {group}: from {status.before:,} to {status.after:,}, threshold {threshold}{expected}"))


@app.command("backtest")
def run_backtest(
    rule: Annotated[str, typer.Argument(help="The rule's title or id.")],
    events: Annotated[
        list[Path], typer.Option(help="JSON Lines files of past events, plain, .gz or .zst; repeatable.")
    ],
    rules: RulePaths = None,
    labels: Annotated[
        Path | None,
        typer.Option(help='Known cases, one per line: {"kind": …, "group": …, "times": […]}.', show_default=False),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            min=0, help="Largest acceptable number of findings per week: suggests a threshold.", show_default=False
        ),
    ] = None,
    vary: Annotated[
        SweepParameter, typer.Option(help="Parameter to vary: the threshold, or the factor of the baseline.")
    ] = SweepParameter.threshold,
    mapping: MappingName = "custodes",
    zone: TimeZoneName = "UTC",
    table: TableFiles = None,
    allowed_lateness: Lateness = "10s",
    threads: Threads = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--plot", help="Write a chart of findings per week by threshold to this SVG file.", show_default=False
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The result as one JSON object.")] = False,
) -> None:
    """Show what a rule would have found in past events, at its current threshold and at others."""
    keep_freed_memory()
    if Path("-") in events:
        raise FaultsError([Fault("--events: events are read more than once; give files")])
    check_readable(events)
    chosen = _choose(rule, load_rules(rules or shipped_pack()))
    fields, tables = mapping_and_tables(mapping, zone, table)
    known = read_labels(labels) if labels else []
    write = partial(build_plan, mapping=fields, allowed_lateness=lateness(allowed_lateness))
    with ExitStack() as bars:

        def on_pass(number: int) -> Callable[[int], None]:
            bars.close()
            return bars.enter_context(reading(events, "reading" if number == 1 else "refining"))

        try:
            past = EventFiles(events, event_times(fields))
            result = backtest(
                chosen, past, write, tables=tables, labels=known, budget=budget, lever=vary,
                threads=threads or usable_cores(), on_pass=on_pass,
            )  # fmt: skip
        except BacktestError as error:
            raise FaultsError([Fault(str(error))]) from error
    if picture is not None:
        picture.write_text(plot(result, budget), encoding="utf-8")
    if json:
        write_json(_result_as_dict(result, budget))
    else:
        _show_result(result, budget)
    if not warn_of_losses(result.coverage):
        raise typer.Exit(1)


def _choose(name: str, rules: list[Rule]) -> Rule:
    for rule in rules:
        if name in (rule.title, rule.id):
            return rule
    raise FaultsError([Fault(f"no rule '{name}'", hint=did_you_mean(name, [rule.title for rule in rules]))])


def _result_as_dict(result: Backtest, budget: float | None) -> dict[str, object]:
    def at(one: SweepPoint) -> dict[str, object]:
        return {**vars(one), "a_week": round(one.a_week(result.weeks), 3)}

    return {
        "rule": _as_dict(result.rule),
        "lever": result.lever.value,
        "files": result.coverage.files,
        "events": result.coverage.events,
        "rejected": result.coverage.rejected.total(),
        "rejected_by_reason": dict(result.coverage.rejected),
        "late": result.coverage.late,
        "late_warning": late_warning(result.coverage),
        "unread": [
            {**place, "line": fault.position, "reason": fault.reason, "detail": fault.detail}
            for place, fault in result.coverage.faults
        ],
        "weeks": round(result.weeks, 3),
        "own": at(result.own),
        "budget": budget,
        "suggested": None if result.suggested is None else at(result.suggested),
        "thresholds": [at(one) for one in result.thresholds],
        "labels": [
            {
                "kind": verdict.label.kind,
                "group": verdict.label.group,
                "found_at": rfc3339(verdict.opened_at),
                "taken": verdict.taken,
                "records": len(verdict.label.times),
            }
            for verdict in result.verdicts
        ],
        "findings": [finding.as_dict() for finding in result.findings],
    }


def _show_result(result: Backtest, budget: float | None) -> None:
    own, weeks = result.own, result.weeks
    count = result.coverage.rejected.total()
    rejected = f", {count:,} rejected" if count else ""
    stdout.print(Text(f"{result.rule.title}: {result.coverage.events:,} events over {weeks:.1f} weeks{rejected}"))
    table = Table(box=None, header_style="bold")
    for name in (result.lever.value, "findings", "a week", "groups"):
        table.add_column(name, justify="right")
    table.add_column()
    for one in _worth_showing(result):
        notes = ["the rule's own"] if one.threshold == own.threshold else []
        notes += ["suggested"] if one == result.suggested else []
        row = (f"{one.threshold:,}", f"{one.findings:,}", f"{one.a_week(weeks):,.1f}", f"{one.groups:,}")
        table.add_row(*row, ", ".join(notes), style="bold" if notes else None)
    stdout.print(table)
    if budget is not None and result.suggested is None:
        stdout.print(f"No {result.lever.value} results in at most {budget:g} findings per week.")
    for verdict in result.verdicts:
        records = f"{verdict.taken:,} of {len(verdict.label.times):,} records"
        group = ", ".join(f"{name} {value}" for name, value in verdict.label.group.items())
        found = verdict.opened_at is not None
        outcome = f"found {rfc3339(verdict.opened_at)}, after {records}" if found else f"missed, with {records}"
        stdout.print(Text(f"{verdict.label.kind} ({group}): {outcome}", "" if found else "bold red"))


def _worth_showing(result: Backtest) -> Iterator[SweepPoint]:
    """Yields the smallest threshold for each number of findings, and the current and suggested thresholds."""
    before = None
    for one in result.thresholds:
        if one.findings != before or one in (result.own, result.suggested):
            yield one
        before = one.findings
