"""``custodes top``: status of a running monitor, live on a terminal, or once as text or JSON."""

from __future__ import annotations

import json as json_
import os
import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from custodes.cli.output import LEVEL_STYLES, stdout, write_json
from custodes.config import Fault, FaultsError

_SHOWN = 20
_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True)
class _Display:
    """Displayed data."""

    status: dict[str, Any]
    findings: list[dict[str, Any]]
    """Findings, furthest above the threshold first."""
    rules: list[tuple[str, float, float]]
    """Title, largest count of any group as a share of the threshold, and number of groups."""

    def as_dict(self) -> dict[str, Any]:
        rules = [{"rule": title, "peak_ratio": ratio, "groups": groups} for title, ratio, groups in self.rules]
        return {"status": self.status, "findings": self.findings, "rules": rules}


def top(
    url: Annotated[str, typer.Option(help="URL of the monitor.")] = "http://127.0.0.1:8610",
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between updates.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print once; this is the default in a pipe.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON once.")] = False,
    ca: Annotated[
        Path | None,
        typer.Option(help="Trusted certificates, as PEM. Default: those of the system.", show_default=False),
    ] = None,
) -> None:
    """Show a monitor's rates, lag, rules by closeness to the threshold, and open findings. Ctrl-C ends it.

    With accounts, set CUSTODES_TOKEN to a token (custodes accounts token).
    """
    headers = {"Authorization": f"Bearer {token}"} if (token := os.environ.get("CUSTODES_TOKEN")) else {}
    trusted = ssl.create_default_context(cafile=ca)
    with httpx.Client(
        base_url=url, headers=headers, timeout=_TIMEOUT_SECONDS, verify=trusted, trust_env=False
    ) as client:
        if json:
            write_json(_look(client).as_dict())
            return
        if once or not stdout.is_terminal:
            stdout.print(_shown(_look(client)))
            return
        with Live(_shown(_look(client)), console=stdout, screen=True, auto_refresh=False) as live:
            while True:
                try:
                    time.sleep(every)
                    live.update(_shown(_look(client)), refresh=True)
                except KeyboardInterrupt:
                    return
                except FaultsError as error:
                    live.update(Text(str(error.faults[0]), "red"), refresh=True)


def _look(client: httpx.Client) -> _Display:
    """Queries the monitor. Raises :class:`FaultsError` if it does not answer or refuses."""
    try:
        answers = [client.get(path) for path in ("/api/v1/status", "/api/v1/findings?open=true&limit=1000", "/metrics")]
        for answer in answers:
            answer.raise_for_status()
        status, findings = answers[0].json(), answers[1].json()["findings"]
        rules = _rules(answers[2].text)
    except httpx.HTTPStatusError as error:
        code = error.response.status_code
        hint = "set CUSTODES_TOKEN: custodes accounts token" if code in {401, 421} else None
        raise FaultsError([Fault(f"{client.base_url} answers {code}", hint=hint)]) from error
    except (httpx.HTTPError, json_.JSONDecodeError, KeyError, ValueError) as error:
        cause = str(error) or type(error).__name__
        hint = "check that it is running, and set --url"
        raise FaultsError([Fault(f"no monitor answers at {client.base_url}: {cause}", hint=hint)]) from error
    findings.sort(key=lambda one: -_times(one))
    return _Display(status, findings, rules)


def _rules(exposition: str) -> list[tuple[str, float, float]]:
    columns = {"custodes_window_peak_ratio": 0, "custodes_engine_groups": 1}
    found: dict[str, list[float]] = {}
    for family in text_string_to_metric_families(exposition):
        if family.name in columns:
            for sample in family.samples:
                found.setdefault(sample.labels["rule"], [0.0, 0.0])[columns[family.name]] = sample.value
    return sorted(
        ((title, ratio, groups) for title, (ratio, groups) in found.items()), key=lambda one: (-one[1], one[0])
    )


def _times(finding: dict[str, Any]) -> float:
    return float(finding["peak"] / finding["threshold"]) if finding["threshold"] > 0 else float(finding["peak"])


def _shown(state: _Display) -> RenderableType:
    status = state.status
    delay = "–"
    if status["watermark"] is not None:
        seconds = time.time() - datetime.fromisoformat(status["watermark"]).timestamp()
        delay = f"{seconds:,.0f} s"
    lag = "unknown" if status["lag_records"] is None else f"{status['lag_records']:,}"
    head = Text.assemble(
        (f"custodes {status['version']}", "bold"),
        f"  {status['source']}  ",
        (
            "live" if status["ready"] else "ended" if status["finished"] else "waiting",
            "green" if status["ready"] else "yellow",
        ),
        f"  {datetime.now(UTC):%H:%M:%S} UTC\n",
        f"{status['events']:,} events  {status['events_per_second']:,.0f}/s  lag {lag}  ",
        f"processing delay {delay}  rejected {status['rejected']:,}  late {status['late']:,}  ",
        f"windows {status['engine_bytes'] / 1e6:,.0f} MB\n",
    )
    findings = _table("open findings", ("times", "level", "rule", "who", "peak", "threshold", "opened"))
    for one in state.findings[:_SHOWN]:
        who = ", ".join(f"{name} {value}" for name, value in one["group"].items())
        findings.add_row(
            f"{_times(one):.1f}×", Text(one["level"], LEVEL_STYLES[one["level"]]), Text(one["rule"]), Text(who),
            f"{one['peak']:,}", f"{one['threshold']:,}", one["opened_at"][:16],
        )  # fmt: skip
    rules = _table("rules, closest to threshold first", ("closest", "groups", "rule"))
    for title, ratio, groups in state.rules[:_SHOWN]:
        rules.add_row(
            Text(f"{ratio:.0%}", "red" if ratio >= 1 else "yellow" if ratio >= 0.9 else ""),
            f"{groups:,.0f}",
            Text(title),
        )
    return Group(head, findings, Text(), rules)


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(box=None, header_style="bold", title=title, title_justify="left", title_style="bold")
    for name in columns:
        table.add_column(
            name, justify="right" if name in {"times", "closest", "groups", "peak", "threshold"} else "left"
        )
    return table
