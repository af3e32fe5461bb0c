"""Writes the dashboards beside it: `make docs`. Import the JSON files, or have Grafana provision the folder.

Both ask for a Prometheus data source when they are imported. `findings` is for whoever wants to know what was found,
`operations` for whoever keeps Custodes going: from top to bottom as one looks at three in the morning.
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
class Ask:
    """What a panel shows."""

    title: str
    meaning: str
    expr: str
    legend: str = "{{instance}}"
    unit: str = "short"
    bad_from: float | None = None
    """From here on it is red."""


def _query(ask: Ask) -> Dataquery:
    return Dataquery().expr(ask.expr).legend_format(ask.legend).ref_id("A")


def _thresholds(ask: Ask) -> ThresholdsConfig:
    steps = [Threshold(value=None, color="green")]
    if ask.bad_from is not None:
        steps.append(Threshold(value=ask.bad_from, color="red"))
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _stat(ask: Ask) -> Stat:
    panel = Stat().title(ask.title).description(ask.meaning).datasource(SOURCE).unit(ask.unit).span(4).height(4)
    return panel.thresholds(_thresholds(ask)).with_target(_query(ask))


def _graph(ask: Ask) -> TimeSeries:
    panel = TimeSeries().title(ask.title).description(ask.meaning).datasource(SOURCE).unit(ask.unit).span(12).height(8)
    return panel.min(0).fill_opacity(10).thresholds(_thresholds(ask)).with_target(_query(ask))


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
    """What was found."""
    board = _dashboard(
        "custodes-findings", "Custodes: findings", "What was found; who it is, is in the console.", by_rule=True
    )
    board = _with(
        board,
        "Now",
        [
            _stat(
                Ask(
                    "Critical and high",
                    "Findings whose condition holds now, of the levels that page.",
                    f'sum(custodes_open_findings{{{RULES},level=~"critical|high"}})',
                    bad_from=1,
                )
            ),
            _stat(
                Ask(
                    "Medium and low",
                    "Findings whose condition holds now, of the levels that make tickets.",
                    f'sum(custodes_open_findings{{{RULES},level=~"medium|low"}})',
                )
            ),
            _stat(
                Ask(
                    "Opened today",
                    "Findings opened in the last 24 hours.",
                    f"sum(increase(custodes_findings_total{{{RULES}}}[24h]))",
                )
            ),
            _stat(
                Ask(
                    "Closest to firing",
                    "The largest count of any group, as a share of its threshold, of rules that do not fire.",
                    f"max((custodes_window_peak_ratio{{{RULES}}} < 1) or vector(0))",
                    unit="percentunit",
                )
            ),
            _stat(
                Ask(
                    "Not listed",
                    "Groups over the threshold without a finding of their own, because their rule has so many.",
                    f"sum(custodes_findings_unlisted{{{RULES}}})",
                    bad_from=1,
                )
            ),
            _stat(
                Ask(
                    "Alerts not delivered",
                    "News of findings that somebody was to be told and was not yet.",
                    f"sum(custodes_alerts_waiting{{{MONITORS}}} + custodes_alerts_undelivered{{{MONITORS}}}) "
                    "or vector(0)",
                    bad_from=1,
                )
            ),
        ],
    )
    return _with(
        board,
        "Over time",
        [
            _graph(
                Ask(
                    "Open findings",
                    "By rule and level.",
                    f"sum by (rule, level) (custodes_open_findings{{{RULES}}}) > 0",
                    "{{rule}} ({{level}})",
                )
            ),
            _graph(
                Ask(
                    "Opened, an hour",
                    "How many findings each rule opens.",
                    f"sum by (rule) (increase(custodes_findings_total{{{RULES}}}[1h])) > 0",
                    "{{rule}}",
                )
            ),
            _graph(
                Ask(
                    "How close to firing",
                    "The largest count of any group within the timespan, as a share of the threshold. "
                    "A rule that is always at 0.9 is set too low or catches somebody careful.",
                    f"max by (rule) (custodes_window_peak_ratio{{{RULES}}})",
                    "{{rule}}",
                    "percentunit",
                    1,
                )
            ),
            _graph(
                Ask(
                    "Groups",
                    "Actors, or whatever a rule counts by, with events in a live window.",
                    f"sum by (rule) (custodes_engine_groups{{{RULES}}})",
                    "{{rule}}",
                )
            ),
        ],
    )


def operations() -> Dashboard:
    """How Custodes is."""
    board = _dashboard(
        "custodes-operations", "Custodes: operations", "Whether anybody is watching, and how well.", by_rule=False
    )
    board = _with(
        board,
        "Is it watching?",
        [
            _stat(
                Ask(
                    "Since its last round",
                    "Standing still means that it hangs.",
                    f"max(time() - custodes_last_poll_timestamp_seconds{{{MONITORS}}})",
                    unit="s",
                    bad_from=60,
                )
            ),
            _stat(
                Ask(
                    "Brokers", "1 while each monitor hears its broker.", f"min(custodes_source_connected{{{MONITORS}}})"
                )
            ),
            _stat(Ask("Partitions read", "0: nothing is read.", f"sum(custodes_source_streams{{{MONITORS}}})")),
            _stat(
                Ask(
                    "Records not read yet",
                    "The lag behind the source.",
                    f"sum(custodes_source_lag_records{{{MONITORS}}})",
                    bad_from=100_000,
                )
            ),
            _stat(
                Ask(
                    "Watermark behind",
                    "How far what is decided lies behind the clock.",
                    f"max(custodes_watermark_lag_seconds{{{MONITORS}}})",
                    unit="s",
                    bad_from=300,
                )
            ),
            _stat(
                Ask(
                    "Never seen",
                    "Records that were gone before they were read, in the last day.",
                    f"sum(increase(custodes_events_missed_total{{{MONITORS}}}[24h]))",
                    bad_from=1,
                )
            ),
        ],
    )
    board = _with(
        board,
        "The stream",
        [
            _graph(
                Ask(
                    "Events a second",
                    "Counted, by source.",
                    f"sum by (source) (rate(custodes_events_total{{{MONITORS}}}[1m]))",
                    "{{source}}",
                    "eps",
                )
            ),
            _graph(
                Ask(
                    "Rejected a second",
                    "By reason; each is a dead letter.",
                    f"sum by (reason) (rate(custodes_events_rejected_total{{{MONITORS}}}[5m])) > 0",
                    "{{reason}}",
                    "eps",
                )
            ),
            _graph(Ask("Lag", "Records not read yet.", f"custodes_source_lag_records{{{MONITORS}}}")),
            _graph(
                Ask(
                    "Late",
                    "Events that came after the watermark had passed them.",
                    f"rate(custodes_events_late_total{{{MONITORS}}}[5m])",
                    unit="eps",
                )
            ),
            _graph(
                Ask(
                    "From arrival to stored, p99",
                    "Of batches.",
                    "histogram_quantile(0.99, sum by (le, instance) "
                    f"(rate(custodes_batch_seconds_bucket{{{MONITORS}}}[5m])))",
                    unit="s",
                )
            ),
            _graph(
                Ask(
                    "Watermark behind",
                    "Decisions lag as far.",
                    f"custodes_watermark_lag_seconds{{{MONITORS}}}",
                    unit="s",
                )
            ),
        ],
    )
    return _with(
        board,
        "What must not be lost",
        [
            _graph(
                Ask(
                    "Windows",
                    "Memory they hold, as a share of what they may.",
                    f"custodes_engine_bytes{{{MONITORS}}} / custodes_engine_memory_limit_bytes{{{MONITORS}}}",
                    unit="percentunit",
                    bad_from=0.9,
                )
            ),
            _graph(
                Ask(
                    "Forgotten",
                    "Groups forgotten before their time, a second.",
                    f"sum by (rule) (rate(custodes_forgotten_groups_total{{{MONITORS}}}[5m])) > 0",
                    "{{rule}}",
                )
            ),
            _graph(
                Ask(
                    "Age of the last snapshot",
                    "A restart hears again what came since.",
                    f"custodes_snapshot_age_seconds{{{MONITORS}}}",
                    unit="s",
                    bad_from=300,
                )
            ),
            _graph(
                Ask(
                    "Waiting for the database",
                    "Changes of findings.",
                    f"custodes_findings_waiting{{{MONITORS}}}",
                    bad_from=1,
                )
            ),
            _graph(
                Ask(
                    "Waiting to be written",
                    "Rows of the history.",
                    f"custodes_history_waiting_rows{{{MONITORS}}}",
                    bad_from=1_000_000,
                )
            ),
            _graph(
                Ask(
                    "Evidence",
                    "Findings that the log does not have as they are.",
                    f"custodes_evidence_waiting_findings{{{MONITORS}}}",
                    bad_from=100,
                )
            ),
            _graph(
                Ask(
                    "Alerts not delivered",
                    "News that wait, by receiver.",
                    f"sum by (receiver) (custodes_alerts_waiting{{{MONITORS}}})",
                    "{{receiver}}",
                    bad_from=1,
                )
            ),
            _graph(
                Ask(
                    "Dead letters waiting",
                    "Records that were refused and not kept yet.",
                    f"custodes_dead_letters_waiting{{{MONITORS}}}",
                    bad_from=1,
                )
            ),
        ],
    )


def dashboards() -> dict[str, str]:
    """Each file's name and its text."""
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
