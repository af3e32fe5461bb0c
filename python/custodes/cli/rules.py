"""``custodes rules``: what the rules are, and whether they find what they should."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from custodes.authoring import CaseResult, find_test_files, run_tests
from custodes.cli.output import LEVEL_STYLES, stdout, write_json
from custodes.config import format_duration
from custodes.rules import Rule, load_rules, shipped_pack

app = typer.Typer(help="What the rules are, and whether they find what they should.", no_args_is_help=True)


@app.command("list")
def list_(
    rules: Annotated[
        list[Path] | None,
        typer.Argument(help="Rule files or directories. Default: the shipped pack.", show_default=False),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The rules as a JSON array.")] = False,
) -> None:
    """List rules: what each counts, over which time, and when it fires."""
    loaded = load_rules(rules or shipped_pack())
    if json:
        write_json([_as_dict(rule) for rule in loaded])
        return
    table = Table(box=None, header_style="bold")
    for name in ("level", "rule", "counts", "for each", "in"):
        table.add_column(name, overflow="fold")
    table.add_column("fires at", justify="right")
    for rule in loaded:
        table.add_row(
            Text(rule.level, LEVEL_STYLES[rule.level]),
            Text(rule.title),
            Text(f"distinct {rule.distinct}" if rule.distinct else "events"),
            Text(", ".join(rule.group_by) or "everything"),
            format_duration(rule.timespan),
            " and ".join(f"{operator} {bound:,}" for operator, bound in rule.holds.items()),
        )
    stdout.print(table)


def _as_dict(rule: Rule) -> dict[str, object]:
    return {
        "id": rule.id,
        "title": rule.title,
        "level": rule.level,
        "description": rule.description,
        "counts": rule.distinct,
        "group_by": list(rule.group_by),
        "timespan": format_duration(rule.timespan),
        "resolution": format_duration(rule.resolution),
        "keep_open": format_duration(rule.keep_open),
        "condition": rule.holds,
        "file": rule.file,
        "line": rule.line,
    }


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
    """Run rule tests: events that must be found, and events that must not. Exit 1 if any fails."""
    results: list[CaseResult] = []
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


def _show(result: CaseResult) -> None:
    verdict = Text("FAIL", "bold red") if result.failures else Text("ok  ", "green")
    stdout.print(Text.assemble("  ", verdict, f"  {result.name}"))
    for failure in result.failures:
        stdout.print(Text(f"        {result.file}:{result.line}: {failure}"))
