"""View model of the System page: metrics by section, workers, gaps and shortfalls."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from custodes.console.schema import WorkerOut
from custodes.console.services import Services
from custodes.findings.gaps import MissedRecords
from custodes.findings.shortfalls import Shortfall
from custodes.findings.wording import amount, span

_SHOWN = 20


def _some(value: float) -> bool:
    return value > 0


def _none(value: float) -> bool:
    return value == 0


def _never(value: float) -> bool:
    return False


SECTIONS: dict[str, dict[str, Callable[[float], bool]]] = {
    "Reading": {
        "custodes_source_connected": _none, "custodes_source_streams": _none, "custodes_source_lag_records": _never,
        "custodes_watermark_lag_seconds": _never, "custodes_events_total": _never, "custodes_events_late_total": _never,
        "custodes_events_unmatched_total": _never, "custodes_events_no_access_total": _never,
        "custodes_events_repaired_total": _never, "custodes_list_nulls_skipped_total": _never,
        "custodes_events_rejected_total": _some, "custodes_dead_letters_waiting": _some,
        "custodes_events_missed_total": _some,
    },
    "Counting": {
        "custodes_engine_bytes": _never, "custodes_engine_memory_limit_bytes": _never,
        "custodes_findings_waiting": _some, "custodes_findings_refused": _some, "custodes_reload_failed": _some,
        "custodes_table_entries": _never,
        "custodes_table_failed": _some, "custodes_table_rows_rejected_total": _some,
    },
    "Snapshots": {
        "custodes_snapshot_age_seconds": _never, "custodes_snapshot_failures": _some,
        "custodes_snapshots_damaged": _some,
    },
    "History and evidence": {
        "custodes_history_failing": _some, "custodes_history_waiting_rows": _never, "custodes_history_lost_rows": _some,
        "custodes_evidence_entries": _never, "custodes_evidence_waiting_findings": _never,
        "custodes_evidence_failures": _some, "custodes_evidence_anchors_failing": _some,
    },
    "Alerts": {
        "custodes_alerts_waiting": _never, "custodes_alert_failures": _some, "custodes_alerts_undelivered": _some,
    },
}  # fmt: skip
"""Metrics by section, with the condition under which a value is highlighted as a problem."""


@dataclass(frozen=True)
class MetricValue:
    """One sample of a metric."""

    name: str
    of: str
    """Label values, for example receiver, reason or table; empty without labels."""
    value: str
    means: str
    warns: bool


@dataclass(frozen=True)
class SystemView:
    """The page content."""

    sections: dict[str, list[MetricValue]]
    workers: list[tuple[WorkerOut, str]]
    """Workers, with the time since the last report of each."""
    gaps: list[MissedRecords]
    shortfalls: list[tuple[Shortfall, str]]
    """Shortfalls with the titles of their rules."""


def system_view(services: Services) -> SystemView:
    """Reads the page content. Raises the database's errors."""
    store, now = services.monitor.store, time.time()
    titles = {rule.id: rule.title for rule in services.rules}
    known = list(_figures(services.monitor.metrics.registry))
    return SystemView(
        sections={
            title: [figure for name in names for figure in known if figure.name == name]
            for title, names in SECTIONS.items()
        },
        workers=[(WorkerOut.of(*one), span(now - one[1])) for one in store.workers()],
        gaps=store.gaps(_SHOWN),
        shortfalls=[(one, titles.get(one.rule_id, one.rule_id)) for one in store.shortfalls(_SHOWN)],
    )


def _figures(registry: CollectorRegistry) -> Iterator[MetricValue]:
    warns = {name: is_problem for names in SECTIONS.values() for name, is_problem in names.items()}
    for metric in registry.collect():
        for sample in metric.samples:
            is_problem = warns.get(sample.name)
            # Reasons without rejects are left out.
            if is_problem is None or (sample.labels.get("reason") and not sample.value):
                continue
            yield MetricValue(
                name=sample.name,
                of=", ".join(sample.labels.values()),
                value=_value(sample.name, sample.value),
                means=metric.documentation,
                warns=is_problem(sample.value),
            )


def _value(name: str, value: float) -> str:
    if not math.isfinite(value):
        return "–"
    if name.endswith("_seconds"):
        return span(value)
    if name.endswith("_bytes"):
        return f"{value / 1e6:,.0f} MB"
    return amount(value)
