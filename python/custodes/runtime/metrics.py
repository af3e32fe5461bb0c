"""Prometheus metrics: a closed set of series, whatever the data. The help texts are the reference."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import generate_latest

from custodes import __version__
from custodes._core import REASONS, Outcome
from custodes.findings import Finding
from custodes.rules import Rule
from custodes.runtime.stats import TaskStats

disable_created_metrics()  # type: ignore[no-untyped-call]

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Every metric of one monitor, in a registry of its own. All label values exist from the start."""

    def __init__(self, rules: Sequence[Rule], source: str) -> None:
        self.registry = registry = CollectorRegistry()
        self._rules = rules
        self.open_findings = Gauge(
            "custodes_open_findings",
            "Findings whose condition holds and that nobody has closed.",
            ["rule", "level"],
            registry=registry,
        )
        self.findings = Counter(
            "custodes_findings", "Findings opened since start.", ["rule", "level"], registry=registry
        )
        self.peak_ratio = Gauge(
            "custodes_window_peak_ratio",
            "Largest count any group reached within the last timespan, divided by the threshold: "
            "1 and more fires, 0.9 is close.",
            ["rule"],
            registry=registry,
        )
        self.groups = Gauge(
            "custodes_engine_groups", "Groups with events in a live window.", ["rule"], registry=registry
        )
        self.unlisted = Gauge(
            "custodes_findings_unlisted",
            "Groups that reached the threshold without a finding, because the rule has so many open: "
            "only those that stand out are added.",
            ["rule"],
            registry=registry,
        )
        self.forgotten_groups = Counter(
            "custodes_forgotten_groups",
            "Groups forgotten before their time because windows outgrew their memory; "
            "none with a finding, none at more than half of a threshold.",
            ["rule"],
            registry=registry,
        )
        self.forgotten_values = Counter(
            "custodes_forgotten_values",
            "Values of groups forgotten before their time; those that are seen again count again.",
            ["rule"],
            registry=registry,
        )
        self.memory_limit = Gauge(
            "custodes_engine_memory_limit_bytes", "Most memory that windows may hold.", registry=registry
        )
        self.events = Counter("custodes_events", "Events counted.", ["source"], registry=registry)
        self.rejected = Counter(
            "custodes_events_rejected",
            "Records not counted, by reason; each is a dead letter.",
            ["reason"],
            registry=registry,
        )
        self.late = Counter(
            "custodes_events_late",
            "Events that came after the watermark had passed them; they count where their pane is live.",
            registry=registry,
        )
        self.lag = Gauge("custodes_source_lag_records", "Records in the source not read yet.", registry=registry)
        self.streams = Gauge(
            "custodes_source_streams", "Partitions or files being read; 0 means that nothing is.", registry=registry
        )
        self.connected = Gauge(
            "custodes_source_connected",
            "1 while the source hears whoever it has events from; 0 while no broker answers.",
            registry=registry,
        )
        self.watermark_lag = Gauge(
            "custodes_watermark_lag_seconds",
            "How far the watermark is behind the clock. NaN before the first event.",
            registry=registry,
        )
        self.batch_seconds = Histogram(
            "custodes_batch_seconds",
            "Time from a batch's arrival to its findings being stored.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self.engine_bytes = Gauge("custodes_engine_bytes", "Memory held by windows.", registry=registry)
        self.snapshot_age = Gauge(
            "custodes_snapshot_age_seconds",
            "Age of the last snapshot. NaN while there is none.",
            registry=registry,
        )
        self.snapshot_failures = Gauge(
            "custodes_snapshot_failures",
            "Snapshots in a row that could not be written; a restart would hear events again since the last that was.",
            registry=registry,
        )
        self.snapshots_damaged = Gauge(
            "custodes_snapshots_damaged", "Snapshots that could not be read at start.", registry=registry
        )
        self.missed = Counter(
            "custodes_events_missed",
            "Records that were gone from the source before they were read; `/api/v1/gaps` says which.",
            registry=registry,
        )
        self.history_waiting = Gauge(
            "custodes_history_waiting_rows",
            "Rows of the history not written yet; far more than 250000 where the disk refuses them.",
            registry=registry,
        )
        self.history_lost = Gauge(
            "custodes_history_lost_rows",
            "Rows given up since start because the disk refused them for too long; no finding is missing for it.",
            registry=registry,
        )
        self.evidence_entries = Gauge("custodes_evidence_entries", "Entries of the evidence log.", registry=registry)
        self.evidence_waiting = Gauge(
            "custodes_evidence_waiting_findings",
            "Findings that the evidence log does not have as they are.",
            registry=registry,
        )
        self.evidence_failures = Gauge(
            "custodes_evidence_failures",
            "Tries in a row in which evidence could not be written; it waits in the history.",
            registry=registry,
        )
        self.evidence_unanchored = Gauge(
            "custodes_evidence_anchors_failing",
            "Anchors that the last head of the evidence could not be told.",
            registry=registry,
        )
        self.alerts_waiting = Gauge(
            "custodes_alerts_waiting",
            "News of findings that a receiver was not told yet.",
            ["receiver"],
            registry=registry,
        )
        self.alert_failures = Gauge(
            "custodes_alert_failures",
            "Tries in a row in which a receiver could not be told; what it was not told waits.",
            ["receiver"],
            registry=registry,
        )
        self.alerts_undelivered = Gauge(
            "custodes_alerts_undelivered",
            "Alerts put aside because their receiver refused them, or could not be reached for too long.",
            ["receiver"],
            registry=registry,
        )
        self.findings_waiting = Gauge(
            "custodes_findings_waiting",
            "Changes of findings that wait because the database refuses them.",
            registry=registry,
        )
        self.letters_waiting = Gauge(
            "custodes_dead_letters_waiting",
            "Rejected records that wait because they cannot be written where dead letters go.",
            registry=registry,
        )
        self.up_to_date = Gauge(
            "custodes_last_poll_timestamp_seconds",
            "When the monitor's loop last went round; standing still means it hangs.",
            registry=registry,
        )
        build = Gauge("custodes_build_info", "Version of Custodes.", ["version"], registry=registry)
        build.labels(__version__).set(1)
        self.reload_failed = Gauge(
            "custodes_reload_failed",
            "1 where the configuration could not be taken over at the last reload, and the one before is in force.",
            registry=registry,
        )
        self.table_entries = Gauge(
            "custodes_table_entries", "Entries of a look-up table in force.", ["table"], registry=registry
        )
        self.table_failed = Gauge(
            "custodes_table_failed",
            "1 where a look-up table could not be read when it last changed, and the one before is in force.",
            ["table"],
            registry=registry,
        )
        self.table_refused = Counter(
            "custodes_table_refused",
            "Records of a look-up table's topic that are no row of it; the log says which.",
            ["table"],
            registry=registry,
        )
        self._also: Sequence[Rule] = ()
        self._add(rules)
        for reason in REASONS:
            self.rejected.labels(reason)
        self._events = self.events.labels(source)
        self.watermark_lag.set(float("nan"))
        self.snapshot_age.set(float("nan"))

    def _add(self, rules: Sequence[Rule]) -> None:
        for rule in rules:
            self.open_findings.labels(rule.title, rule.level)
            self.findings.labels(rule.title, rule.level)
            self.peak_ratio.labels(rule.title)
            self.groups.labels(rule.title)
            self.unlisted.labels(rule.title)
            self.forgotten_groups.labels(rule.title)
            self.forgotten_values.labels(rule.title)

    def tell_also_of(self, rules: Sequence[Rule]) -> None:
        """Takes in rules that stay whatever the configuration says."""
        self._also = rules
        self._add(rules)

    def change_rules(self, rules: Sequence[Rule]) -> None:
        """Takes in that these are the rules now; the series of others end."""
        labels = {(rule.title, rule.level) for rule in rules}
        for title, level in {(rule.title, rule.level) for rule in self._rules} - labels:
            self.open_findings.remove(title, level)
            self.findings.remove(title, level)
        for title in {rule.title for rule in self._rules} - {rule.title for rule in rules}:
            for series in (
                self.peak_ratio, self.groups, self.unlisted, self.forgotten_groups, self.forgotten_values
            ):  # fmt: skip
                series.remove(title)
        self._rules = rules
        self._add(rules)

    def batch(self, outcome: Outcome, seconds: float) -> None:
        """Takes in what came of a batch."""
        self._events.inc(outcome.events)
        self.late.inc(outcome.late)
        for reject in outcome.rejects:
            self.rejected.labels(reject.reason).inc()
        self.batch_seconds.observe(seconds)

    def table_read(self, table: str, entries: int | None) -> None:
        """Takes in that a look-up table was read; ``None`` where it could not be."""
        self.table_failed.labels(table).set(1 if entries is None else 0)
        self.table_refused.labels(table)
        if entries is not None:
            self.table_entries.labels(table).set(entries)

    def table_gone(self, table: str) -> None:
        """Takes in that a look-up table is in force no more; its series end."""
        for series in (self.table_entries, self.table_failed, self.table_refused):
            series.remove(table)

    def row_refused(self, table: str) -> None:
        """Takes in that something in a look-up table is no row."""
        self.table_refused.labels(table).inc()

    def news(self, kind: str, finding: Finding) -> None:
        """Takes in that a finding has ``opened`` or ``closed``, without waiting for the next :meth:`state`.

        What was expected, and what ends after somebody has closed it, counts as open for nobody.
        """
        if kind in {"opened", "closed"}:
            self.open_findings.labels(finding.rule, finding.level).inc(1 if kind == "opened" else -1)
        if kind in {"opened", "silenced"}:
            self.findings.labels(finding.rule, finding.level).inc()

    def state(self, figures: TaskStats, open_findings: dict[str, int], streams: int, lag: int, now: float) -> None:
        """Takes in how things stand; ``open_findings`` is by rule id, ``now`` in seconds."""
        for rule in (*self._rules, *self._also):
            self.open_findings.labels(rule.title, rule.level).set(open_findings.get(rule.id, 0))
        for rule in self._rules:
            self.peak_ratio.labels(rule.title).set(figures.peak_ratio.get(rule.id, 0))
            self.groups.labels(rule.title).set(figures.groups.get(rule.id, 0))
            self.unlisted.labels(rule.title).set(figures.unlisted.get(rule.id, 0))
        self.engine_bytes.set(figures.bytes)
        self.streams.set(streams)
        self.lag.set(lag)
        if figures.watermark is not None:
            self.watermark_lag.set(now - figures.watermark / 1e6)

    def snapshots(self, taken_at: float | None, failures: int, now: float) -> None:
        """Takes in how snapshots stand; times in epoch seconds."""
        self.snapshot_failures.set(failures)
        if taken_at is not None:
            self.snapshot_age.set(now - taken_at)

    def exposition(self) -> bytes:
        """The text format Prometheus scrapes."""
        return generate_latest(self.registry)
