"""``custodes findings``: read and triage findings in a terminal or a pipe."""

from __future__ import annotations

import getpass
import time
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from custodes.cli.findings_session import ConfigPath, open_session
from custodes.cli.options import AsJson
from custodes.cli.output import LEVEL_STYLES, stdout, write_json
from custodes.config import Fault, FaultsError, parse_duration
from custodes.findings import Finding, rfc3339
from custodes.findings.silences import Silence, SilenceStore
from custodes.findings.triage import ConflictError, Triage, TriageChange, TriageState, Verdict

app = typer.Typer(
    help="Read and triage findings. The output contains names; your access is written to the audit trail.",
    no_args_is_help=True,
)

FindingIds = Annotated[list[str], typer.Argument(help="Ids of findings, or unambiguous prefixes.")]
NoteOption = Annotated[str, typer.Option("--note", "-m", help="Reason or comment.")]


@app.command("list")
def list_(
    state: Annotated[TriageState, typer.Option(help="Triage state.")] = "open",
    every: Annotated[bool, typer.Option("--all", help="All triage states.")] = False,
    level: Annotated[str | None, typer.Option(help="Only findings of this level.", show_default=False)] = None,
    actor: Annotated[str | None, typer.Option(help="Only findings of this actor.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Largest number of findings listed.")] = 50,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
    config: ConfigPath = Path("custodes.yaml"),
) -> None:
    """List findings, newest first."""
    with open_session(config) as session:
        selected = None if every else state
        group = {"actor": actor} if actor else {}
        found = session.store.page(limit, state=selected, level=level, group=group).findings
        triages = session.triage.of(one.id for one in found)
        session.note("read", actor, f"terminal, {len(found)} findings")
    if json:
        for one in found:
            write_json(_as_dict(one, triages[one.id]))
        return
    table = Table(box=None, header_style="bold")
    for name in ("id", "level", "opened", "rule", "who", "peak", "state"):
        table.add_column(name, overflow="fold")
    for one in found:
        table.add_row(
            one.id[:8],
            Text(one.level, LEVEL_STYLES[one.level]),
            rfc3339(one.opened_at),
            Text(one.rule),
            Text(one.who),
            f"{one.peak:,} ({one.times_threshold:.1f}×)",
            _triage_text(triages[one.id]),
        )
    stdout.print(table)


@app.command()
def show(finding: str, json: AsJson = False, config: ConfigPath = Path("custodes.yaml")) -> None:
    """Show one finding and its triage history."""
    with open_session(config) as session:
        one = session.find(finding)
        triage, notes = session.triage.of([one.id])[one.id], session.triage.history(one.id)
        session.note("read", one.group.get("actor"), f"finding {one.id}")
    if json:
        write_json(_as_dict(one, triage) | {"history": [note.as_dict() for note in notes]})
        return
    stdout.print(Text.assemble((one.level, LEVEL_STYLES[one.level]), f" {one.rule}: {one.who}"))
    expected = "" if one.expected is None else f", expected {one.expected:,.1f}"
    stdout.print(f"peak {one.peak:,}, {one.times_threshold:.1f} times the threshold of {one.threshold:,}{expected}")
    ended = "ongoing" if one.closed_at is None else f"ended {rfc3339(one.closed_at)}"
    stdout.print(f"opened {rfc3339(one.opened_at)}, {ended}")
    stdout.print(f"{_triage_text(triage)}    {one.id}")
    for note in notes:
        stdout.print(Text(f"  {rfc3339(note.at)} {note.by} {note.kind}{f': {note.text}' if note.text else ''}"))


@app.command()
def ack(findings: FindingIds, note: NoteOption = "", config: ConfigPath = Path("custodes.yaml")) -> None:
    """Acknowledge findings and assign them to yourself."""
    _change(findings, TriageChange(state="acknowledged", assignee=getpass.getuser(), note=note), config)


@app.command()
def close(
    findings: FindingIds,
    verdict: Annotated[Verdict, typer.Option("--as", help="Verdict.")],
    note: NoteOption = "",
    config: ConfigPath = Path("custodes.yaml"),
) -> None:
    """Close findings with a verdict; every verdict except confirmed requires a note."""
    try:
        change = TriageChange(state="closed", verdict=verdict, note=note)
    except ValueError as error:
        raise FaultsError([Fault(str(error), hint="add --note 'an audit of the archive'")]) from error
    _change(findings, change, config)


@app.command()
def reopen(findings: FindingIds, note: NoteOption = "", config: ConfigPath = Path("custodes.yaml")) -> None:
    """Reopen findings."""
    _change(findings, TriageChange(state="open", note=note), config)


@app.command()
def silence(
    finding: Annotated[str, typer.Argument(help="A finding of the rule and group to silence.")],
    reason: Annotated[str, typer.Option("--reason", "-m", help="Reason for the silence.")],
    for_: Annotated[str, typer.Option("--for", help="Duration, at most 90d.")] = "1d",
    config: ConfigPath = Path("custodes.yaml"),
) -> None:
    """Silence a rule for a group: findings that open meanwhile are closed as explained; no alert is sent."""
    with open_session(config) as session:
        one = session.find(finding)
        now = int(time.time() * 1e6)
        try:
            until = now + parse_duration(for_) // timedelta(microseconds=1)
            planned = Silence(one.rule_id, one.group, now, until, getpass.getuser(), reason)
        except ValueError as error:
            raise FaultsError([Fault(str(error))]) from error
        number = SilenceStore(session.store.engine).add(planned)
        session.note("silence", one.id, reason)
    stdout.print(Text(f"silence {number}: {one.rule}, {one.who}, until {rfc3339(until)}"))


@app.command()
def silences(json: AsJson = False, config: ConfigPath = Path("custodes.yaml")) -> None:
    """List silences with end and reason."""
    with open_session(config) as session:
        held = SilenceStore(session.store.engine).all(int(time.time() * 1e6))
    if json:
        write_json([one.as_dict() for one in held])
        return
    for one in held:
        group = ", ".join(f"{name} {value}" for name, value in one.group.items()) or "everyone"
        rule, until = one.rule_id or "all rules", rfc3339(one.until)
        stdout.print(Text(f"{one.number}: {rule}, {group}, until {until}, by {one.by}: {one.reason}"))


@app.command()
def unsilence(number: int, config: ConfigPath = Path("custodes.yaml")) -> None:
    """End a silence."""
    with open_session(config) as session:
        try:
            SilenceStore(session.store.engine).end(number, int(time.time() * 1e6))
        except KeyError as error:
            raise FaultsError([Fault(f"no active silence {number}", hint="custodes findings silences")]) from error
        session.note("unsilence", str(number), None)
    stdout.print(f"silence {number} has ended")


def _change(ids: list[str], change: TriageChange, config: Path) -> None:
    with open_session(config) as session:
        found = [session.find(one) for one in ids]
        for one in found:
            try:
                after = session.triage.change(one.id, change, getpass.getuser(), int(time.time() * 1e6))
            except ConflictError as error:
                raise RuntimeError(f"{one.id[:8]}: {error}; try again") from error
            session.note(change.action, one.id, change.note or None)
            stdout.print(Text(f"{one.id[:8]} {_triage_text(after)}"))


def _triage_text(triage: Triage) -> str:
    assignee = f", {triage.assignee}" if triage.assignee else ""
    return f"{(triage.verdict or triage.state).replace('_', ' ')}{assignee}"


def _as_dict(finding: Finding, triage: Triage) -> dict[str, Any]:
    return finding.as_dict() | {"triage": triage.as_dict()}
