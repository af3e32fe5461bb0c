"""Writes the Grafana dashboards to this folder (`make docs`). Import the JSON files or provision the folder.

Grafana asks for a Prometheus data source at import. `findings` is for investigators and managers, `operations` for the
on-call engineer, with the panels in the order of an incident check.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    Row,
    ThresholdsConfig,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)

HERE = Path(__file__).parent
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
RULES = 'instance=~"$instance",rule=~"$rule"'
MONITORS = 'instance=~"$instance"'


@dataclass(frozen=True)
class PanelSpec:
    """Content of a panel."""

    title: str
    description: str
    expr: str
    legend: str = "{{instance}}"
    unit: str = "short"
    red_from: float | None = None
    """Threshold from which the panel is red."""


def _query(spec: PanelSpec) -> Dataquery:
    return Dataquery().expr(spec.expr).legend_format(spec.legend).ref_id("A")


def _thresholds(spec: PanelSpec) -> ThresholdsConfig:
    steps = [Threshold(value=None, color="green")]
    if spec.red_from is not None:
        steps.append(Threshold(value=spec.red_from, color="red"))
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _stat(spec: PanelSpec) -> Stat:
    panel = Stat().title(spec.title).description(spec.description).datasource(SOURCE).unit(spec.unit).span(4).height(4)
    return panel.thresholds(_thresholds(spec)).with_target(_query(spec))


def _graph(spec: PanelSpec) -> TimeSeries:
    panel = (
        TimeSeries()
        .title(spec.title)
        .description(spec.description)
        .datasource(SOURCE)
        .unit(spec.unit)
        .span(12)
        .height(8)
    )
    return panel.min(0).fill_opacity(10).thresholds(_thresholds(spec)).with_target(_query(spec))


def _dashboard(uid: str, title: str, description: str, *, by_rule: bool) -> Dashboard:
    instances = QueryVariable("instance").label("Monitor").query("label_values(custodes_build_info, instance)")
    board = (
        Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["custodes"])
        .time("now-6h", "now")
        .refresh("30s")
        .timezone("browser")
        .link(DashboardLink("Custodes").type(DashboardLinkType.DASHBOARDS).tags(["custodes"]).keep_time(True))
        .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(_all_of(instances))
    )
    if by_rule:
        rules = QueryVariable("rule").label("Rule").query("label_values(custodes_open_findings, rule)")
        board = board.with_variable(_all_of(rules))
    return board


def _all_of(variable: QueryVariable) -> QueryVariable:
    variable = variable.datasource(SOURCE).multi(True).include_all(True).all_value(".*")
    return variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)


def _with(board: Dashboard, row: str, panels: Sequence[Stat | TimeSeries]) -> Dashboard:
    board = board.with_row(Row(row))
    for panel in panels:
        board = board.with_panel(panel)
    return board


def findings() -> Dashboard:
    """Dashboard of findings."""
    board = _dashboard(
        "custodes-findings", "Custodes: findings", "Findings by rule. The console shows the actors.", by_rule=True
    )
    board = _with(
        board,
        "Current state",
        [
            _stat(
                PanelSpec(
                    "Critical and high",
                    "Open findings of the levels that page.",
                    f'sum(custodes_open_findings{{{RULES},level=~"critical|high"}})',
                    red_from=1,
                )
            ),
            _stat(
                PanelSpec(
                    "Medium and low",
                    "Open findings of the levels that create tickets.",
                    f'sum(custodes_open_findings{{{RULES},level=~"medium|low"}})',
                )
            ),
            _stat(
                PanelSpec(
                    "Opened in 24 hours",
                    "Findings opened in the last 24 hours.",
                    f"sum(increase(custodes_findings_total{{{RULES}}}[24h]))",
                )
            ),
            _stat(
                PanelSpec(
                    "Closest to threshold",
                    "Largest ratio of a group's count to its threshold, among rules that do not fire.",
                    f"max((custodes_window_peak_ratio{{{RULES}}} < 1) or vector(0))",
                    unit="percentunit",
                )
            ),
            _stat(
                PanelSpec(
                    "Unlisted groups",
                    "Groups above the threshold without a finding, because their rule has reached findings.most_open.",
                    f"sum(custodes_findings_suppressed{{{RULES}}})",
                    red_from=1,
                )
            ),
            _stat(
                PanelSpec(
                    "Alerts not delivered",
                    "Alerts that are queued or were dropped.",
                    f"sum(custodes_alerts_waiting{{{MONITORS}}} + custodes_alerts_undelivered{{{MONITORS}}}) "
                    "or vector(0)",
                    red_from=1,
                )
            ),
        ],
    )
    return _with(
        board,
        "Over time",
        [
            _graph(
                PanelSpec(
                    "Open findings",
                    "By rule and level.",
                    f"sum by (rule, level) (custodes_open_findings{{{RULES}}}) > 0",
                    "{{rule}} ({{level}})",
                )
            ),
            _graph(
                PanelSpec(
                    "Opened per hour",
                    "Findings opened, by rule.",
                    f"sum by (rule) (increase(custodes_findings_total{{{RULES}}}[1h])) > 0",
                    "{{rule}}",
                )
            ),
            _graph(
                PanelSpec(
                    "Closest to threshold",
                    "Largest ratio of a group's count to the threshold. A rule always at 0.9 has a low threshold, "
                    "or an actor stays just below it.",
                    f"max by (rule) (custodes_window_peak_ratio{{{RULES}}})",
                    "{{rule}}",
                    "percentunit",
                    1,
                )
            ),
            _graph(
                PanelSpec(
                    "Groups",
                    "Groups (such as actors) with events in a live window.",
                    f"sum by (rule) (custodes_engine_groups{{{RULES}}})",
                    "{{rule}}",
                )
            ),
        ],
    )


def operations() -> Dashboard:
    """Dashboard of Custodes' own health."""
    board = _dashboard(
        "custodes-operations", "Custodes: operations", "Health and throughput of the monitors.", by_rule=False
    )
    board = _with(
        board,
        "Health",
        [
            _stat(
                PanelSpec(
                    "Time since the last round",
                    "A main loop that is stuck for a minute fires CustodesStuck.",
                    f"max(time() - custodes_last_poll_timestamp_seconds{{{MONITORS}}})",
                    unit="s",
                    red_from=60,
                )
            ),
            _stat(
                PanelSpec(
                    "Broker connection",
                    "1 if all monitors are connected to their brokers.",
                    f"min(custodes_source_connected{{{MONITORS}}})",
                )
            ),
            _stat(
                PanelSpec(
                    "Assigned partitions",
                    "0 means that no events are read.",
                    f"sum(custodes_source_streams{{{MONITORS}}})",
                )
            ),
            _stat(
                PanelSpec(
                    "Lag",
                    "Unread records of the source.",
                    f"sum(custodes_source_lag_records{{{MONITORS}}})",
                    red_from=100_000,
                )
            ),
            _stat(
                PanelSpec(
                    "Watermark delay",
                    "Delay of the watermark against the wall clock.",
                    f"max(custodes_watermark_lag_seconds{{{MONITORS}}})",
                    unit="s",
                    red_from=300,
                )
            ),
            _stat(
                PanelSpec(
                    "Missed records",
                    "Records that were deleted before they were read, in 24 hours.",
                    f"sum(increase(custodes_events_missed_total{{{MONITORS}}}[24h]))",
                    red_from=1,
                )
            ),
        ],
    )
    board = _with(
        board,
        "Stream",
        [
            _graph(
                PanelSpec(
                    "Events per second",
                    "Counted events, by source.",
                    f"sum by (source) (rate(custodes_events_total{{{MONITORS}}}[1m]))",
                    "{{source}}",
                    "eps",
                )
            ),
            _graph(
                PanelSpec(
                    "Rejected records per second",
                    "By reason. Each is stored as a dead letter.",
                    f"sum by (reason) (rate(custodes_events_rejected_total{{{MONITORS}}}[5m])) > 0",
                    "{{reason}}",
                    "eps",
                )
            ),
            _graph(PanelSpec("Lag", "Unread records.", f"custodes_source_lag_records{{{MONITORS}}}")),
            _graph(
                PanelSpec(
                    "Late events",
                    "Events that arrived after the watermark had passed their time.",
                    f"rate(custodes_events_late_total{{{MONITORS}}}[5m])",
                    unit="eps",
                )
            ),
            _graph(
                PanelSpec(
                    "Batch latency, p99",
                    "Time from arrival of a batch to its storage.",
                    "histogram_quantile(0.99, sum by (le, instance) "
                    f"(rate(custodes_batch_seconds_bucket{{{MONITORS}}}[5m])))",
                    unit="s",
                )
            ),
            _graph(
                PanelSpec(
                    "Watermark delay",
                    "Findings that are evaluated at the watermark have this delay.",
                    f"custodes_watermark_lag_seconds{{{MONITORS}}}",
                    unit="s",
                )
            ),
        ],
    )
    return _with(
        board,
        "State and storage",
        [
            _graph(
                PanelSpec(
                    "Window memory",
                    "Memory of window state as a share of its limit.",
                    f"custodes_engine_bytes{{{MONITORS}}} / custodes_engine_memory_limit_bytes{{{MONITORS}}}",
                    unit="percentunit",
                    red_from=0.9,
                )
            ),
            _graph(
                PanelSpec(
                    "Evicted groups",
                    "Groups evicted early, per second.",
                    f"sum by (rule) (rate(custodes_evicted_groups_total{{{MONITORS}}}[5m])) > 0",
                    "{{rule}}",
                )
            ),
            _graph(
                PanelSpec(
                    "Age of the last snapshot",
                    "A restart replays later events.",
                    f"custodes_snapshot_age_seconds{{{MONITORS}}}",
                    unit="s",
                    red_from=300,
                )
            ),
            _graph(
                PanelSpec(
                    "Findings queue",
                    "Changes of findings that wait for the database.",
                    f"custodes_findings_waiting{{{MONITORS}}}",
                    red_from=1,
                )
            ),
            _graph(
                PanelSpec(
                    "History queue",
                    "Rows that wait to be written.",
                    f"custodes_history_waiting_rows{{{MONITORS}}}",
                    red_from=1_000_000,
                )
            ),
            _graph(
                PanelSpec(
                    "Evidence queue",
                    "Findings whose evidence is not complete yet.",
                    f"custodes_evidence_waiting_findings{{{MONITORS}}}",
                    red_from=100,
                )
            ),
            _graph(
                PanelSpec(
                    "Alerts not delivered",
                    "Queued alerts, by receiver.",
                    f"sum by (receiver) (custodes_alerts_waiting{{{MONITORS}}})",
                    "{{receiver}}",
                    red_from=1,
                )
            ),
            _graph(
                PanelSpec(
                    "Dead-letter queue",
                    "Rejected records that wait to be written.",
                    f"custodes_dead_letters_waiting{{{MONITORS}}}",
                    red_from=1,
                )
            ),
        ],
    )


def dashboards() -> dict[str, str]:
    """Returns the text of each dashboard file by name."""
    boards = {"findings.json": findings(), "operations.json": operations()}
    return {
        name: json.dumps(json.loads(JSONEncoder(sort_keys=True).encode(board.build())), indent=1, sort_keys=True) + "\n"
        for name, board in boards.items()
    }


def main() -> None:
    for name, text in dashboards().items():
        (HERE / name).write_text(text)


if __name__ == "__main__":
    main()
