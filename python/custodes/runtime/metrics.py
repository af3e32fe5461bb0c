"""Prometheus metrics: a closed set of series, independent of the data. The help texts are the reference."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import generate_latest

from custodes import __version__
from custodes._core import REASONS, Outcome
from custodes.findings import Finding
from custodes.rules import Rule
from custodes.runtime.stats import TaskStats
from custodes.sources import GapCause
from custodes.sources.file_faults import FileFaultReason

disable_created_metrics()  # type: ignore[no-untyped-call]

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Every metric of one monitor, in its own registry. All label values exist from the start."""

    def __init__(self, rules: Sequence[Rule], source: str) -> None:
        self.registry = registry = CollectorRegistry()
        self._rules = rules
        self.open_findings = Gauge(
            "custodes_open_findings",
            "Ongoing findings without a closing verdict.",
            ["rule", "level"],
            registry=registry,
        )
        self.findings = Counter(
            "custodes_findings", "Findings opened since start.", ["rule", "level"], registry=registry
        )
        self.peak_ratio = Gauge(
            "custodes_window_peak_ratio",
            "Largest count of any group within the last timespan, divided by the threshold: "
            "a finding opens at 1, and 0.9 is close.",
            ["rule"],
            registry=registry,
        )
        self.groups = Gauge(
            "custodes_engine_groups", "Groups with events in a current window.", ["rule"], registry=registry
        )
        self.suppressed = Gauge(
            "custodes_findings_suppressed",
            "Groups that reached the threshold without a finding, because the rule has `findings.most_open` findings: "
            "only groups at a multiple of the threshold open further ones.",
            ["rule"],
            registry=registry,
        )
        self.evicted_groups = Counter(
            "custodes_evicted_groups",
            "Groups evicted early because window state outgrew `engine.memory`; "
            "never a group with a finding or above half of a threshold.",
            ["rule"],
            registry=registry,
        )
        self.evicted_values = Counter(
            "custodes_evicted_values",
            "Distinct values evicted early; a value that returns is counted again.",
            ["rule"],
            registry=registry,
        )
        self.memory_limit = Gauge(
            "custodes_engine_memory_limit_bytes", "Limit of the memory for window state, in bytes.", registry=registry
        )
        self._create_event_counters(registry)
        self.lag = Gauge(
            "custodes_source_lag_records",
            "Records in the source that are not read yet; NaN until the end of each partition is known.",
            registry=registry,
        )
        self.streams = Gauge(
            "custodes_source_streams", "Partitions or files being read; at 0 nothing is read.", registry=registry
        )
        self.connected = Gauge(
            "custodes_source_connected",
            "1 while the source is connected; 0 while no broker answers.",
            registry=registry,
        )
        self.watermark_lag = Gauge(
            "custodes_watermark_lag_seconds",
            "Seconds between the watermark and the clock. NaN before the first event.",
            registry=registry,
        )
        self.batch_seconds = Histogram(
            "custodes_batch_seconds",
            "Seconds from the arrival of a batch until its findings are stored.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self.engine_bytes = Gauge("custodes_engine_bytes", "Memory held by window state, in bytes.", registry=registry)
        self.snapshot_age = Gauge(
            "custodes_snapshot_age_seconds",
            "Seconds since the last snapshot. NaN before the first snapshot.",
            registry=registry,
        )
        self.snapshot_failures = Gauge(
            "custodes_snapshot_failures",
            "Failed snapshots since the last one that succeeded; a restart replays events since that one.",
            registry=registry,
        )
        self.snapshots_damaged = Gauge(
            "custodes_snapshots_damaged", "Snapshots that were unreadable at the last start.", registry=registry
        )
        self.missed = Counter(
            "custodes_events_missed",
            "Records deleted from the source before they were read; `/api/v1/gaps` lists them.",
            registry=registry,
        )
        self.new_logs = Counter(
            "custodes_source_new_logs",
            "How often a partition got another log: `recreated` with its topic, or `truncated` because the broker lost "
            "records at the end; `/api/v1/gaps` lists the places.",
            ["cause"],
            registry=registry,
        )
        for cause in (GapCause.recreated, GapCause.truncated):
            self.new_logs.labels(cause)
        self.history_waiting = Gauge(
            "custodes_history_waiting_rows",
            "Rows of the history not written yet; far above 250000 while the disk refuses writes.",
            registry=registry,
        )
        self.history_failing = Gauge(
            "custodes_history_failing",
            "1 while the disk refuses the history; findings are unaffected.",
            registry=registry,
        )
        self.history_lost = Gauge(
            "custodes_history_lost_rows",
            "Rows dropped from the history since start because the disk refused writes for too long; findings are "
            "unaffected.",
            registry=registry,
        )
        self.evidence_entries = Gauge("custodes_evidence_entries", "Entries of the evidence log.", registry=registry)
        self.evidence_waiting = Gauge(
            "custodes_evidence_waiting_findings",
            "Findings whose latest state is not in the evidence log yet.",
            registry=registry,
        )
        self.evidence_failures = Gauge(
            "custodes_evidence_failures",
            "Failed attempts to write evidence since the last success; the events stay in the history.",
            registry=registry,
        )
        self.evidence_unanchored = Gauge(
            "custodes_evidence_anchors_failing",
            "Anchors to which the last head of the evidence log could not be published.",
            registry=registry,
        )
        self.alerts_waiting = Gauge(
            "custodes_alerts_waiting",
            "Notifications not yet sent to a receiver.",
            ["receiver"],
            registry=registry,
        )
        self.alert_failures = Gauge(
            "custodes_alert_failures",
            "Failed attempts to reach a receiver since the last success; its notifications wait.",
            ["receiver"],
            registry=registry,
        )
        self.alerts_undelivered = Gauge(
            "custodes_alerts_undelivered",
            "Alerts set aside because their receiver refused them or could not be reached within `give_up_after`.",
            ["receiver"],
            registry=registry,
        )
        self.findings_waiting = Gauge(
            "custodes_findings_waiting",
            "Changes of findings that wait for the database.",
            registry=registry,
        )
        self.findings_refused = Gauge(
            "custodes_findings_refused",
            "Findings and notifications that the database refused for their content, since the start; not stored.",
            registry=registry,
        )
        self.letters_waiting = Gauge(
            "custodes_dead_letters_waiting",
            "Rejected records that wait for the dead-letter file or topic.",
            registry=registry,
        )
        self.up_to_date = Gauge(
            "custodes_last_poll_timestamp_seconds",
            "Time of the last poll, in epoch seconds; it stands still while the monitor hangs.",
            registry=registry,
        )
        build = Gauge("custodes_build_info", "Version of Custodes.", ["version"], registry=registry)
        build.labels(__version__).set(1)
        self.reload_failed = Gauge(
            "custodes_reload_failed",
            "1 after a failed reload, while the previous configuration is in force; otherwise 0.",
            registry=registry,
        )
        self.table_entries = Gauge(
            "custodes_table_entries", "Entries of a look-up table.", ["table"], registry=registry
        )
        self.table_failed = Gauge(
            "custodes_table_failed",
            "1 after a failed read of a changed look-up table, while its previous content is in force; otherwise 0.",
            ["table"],
            registry=registry,
        )
        self.table_rows_rejected = Counter(
            "custodes_table_rows_rejected",
            "Records in the topic of a look-up table that are not valid rows; the log names them.",
            ["table"],
            registry=registry,
        )
        self._also: Sequence[Rule] = ()
        self._add(rules)
        for reason in (*REASONS, *FileFaultReason):
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
            self.suppressed.labels(rule.title)
            self.evicted_groups.labels(rule.title)
            self.evicted_values.labels(rule.title)

    def tell_also_of(self, rules: Sequence[Rule]) -> None:
        """Adds rules that stay in force across reloads."""
        self._also = rules
        self._add(rules)

    def _create_event_counters(self, registry: CollectorRegistry) -> None:
        """Creates the counters of events and of records that are no event."""
        self.events = Counter("custodes_events", "Events counted.", ["source"], registry=registry)
        self.rejected = Counter(
            "custodes_events_rejected",
            "Records not counted, by reason; each is kept as a dead letter.",
            ["reason"],
            registry=registry,
        )
        self.late = Counter(
            "custodes_events_late",
            "Events whose time the watermark has passed; they count in the windows that still cover them.",
            registry=registry,
        )
        self.unmatched = Counter(
            "custodes_events_unmatched",
            "Counted events that met no condition of any rule.",
            registry=registry,
        )
        self.no_access = Counter(
            "custodes_events_no_access",
            "Counted events that are no access, such as logins and heartbeats; no rule sees them.",
            registry=registry,
        )
        self.repaired = Counter(
            "custodes_events_repaired",
            "Counted events with bytes that are not UTF-8; each such byte was replaced by U+FFFD.",
            registry=registry,
        )
        self.skipped_nulls = Counter(
            "custodes_list_nulls_skipped", "Nulls skipped in lists of values.", registry=registry
        )

    def change_rules(self, rules: Sequence[Rule]) -> None:
        """Replaces the rules; the series of removed rules end."""
        labels = {(rule.title, rule.level) for rule in rules}
        for title, level in {(rule.title, rule.level) for rule in self._rules} - labels:
            self.open_findings.remove(title, level)
            self.findings.remove(title, level)
        for title in {rule.title for rule in self._rules} - {rule.title for rule in rules}:
            for series in (
                self.peak_ratio, self.groups, self.suppressed, self.evicted_groups, self.evicted_values
            ):  # fmt: skip
                series.remove(title)
        self._rules = rules
        self._add(rules)

    def batch(self, outcome: Outcome, seconds: float) -> None:
        """Records the outcome of a batch."""
        self._events.inc(outcome.events)
        self.late.inc(outcome.late)
        self.unmatched.inc(outcome.unmatched)
        self.no_access.inc(outcome.no_access)
        self.repaired.inc(outcome.repaired)
        self.skipped_nulls.inc(outcome.skipped_nulls)
        for reject in outcome.rejects:
            self.rejected.labels(reject.reason).inc()
        self.batch_seconds.observe(seconds)

    def table_read(self, table: str, entries: int | None) -> None:
        """Records a read of a look-up table; ``None`` for a failed one."""
        self.table_failed.labels(table).set(1 if entries is None else 0)
        self.table_rows_rejected.labels(table)
        if entries is not None:
            self.table_entries.labels(table).set(entries)

    def table_gone(self, table: str) -> None:
        """Ends the series of a removed look-up table."""
        for series in (self.table_entries, self.table_failed, self.table_rows_rejected):
            series.remove(table)

    def row_rejected(self, table: str) -> None:
        """Counts a record that is not a valid row of a look-up table."""
        self.table_rows_rejected.labels(table).inc()

    def news(self, kind: str, finding: Finding) -> None:
        """Records that a finding ``opened`` or ``closed``, without waiting for the next :meth:`state`.

        A silenced finding counts as opened, never as open.
        """
        if kind in {"opened", "closed"}:
            self.open_findings.labels(finding.rule, finding.level).inc(1 if kind == "opened" else -1)
        if kind in {"opened", "silenced"}:
            self.findings.labels(finding.rule, finding.level).inc()

    def state(
        self, figures: TaskStats, open_findings: dict[str, int], streams: int, lag: int | None, now: float
    ) -> None:
        """Sets all gauges from current figures; ``open_findings`` is by rule id, ``now`` in epoch seconds."""
        for rule in (*self._rules, *self._also):
            self.open_findings.labels(rule.title, rule.level).set(open_findings.get(rule.id, 0))
        for rule in self._rules:
            self.peak_ratio.labels(rule.title).set(figures.peak_ratio.get(rule.id, 0))
            self.groups.labels(rule.title).set(figures.groups.get(rule.id, 0))
            self.suppressed.labels(rule.title).set(figures.unlisted.get(rule.id, 0))
        self.engine_bytes.set(figures.bytes)
        self.streams.set(streams)
        self.lag.set(float("nan") if lag is None else lag)
        if figures.watermark is not None:
            self.watermark_lag.set(now - figures.watermark / 1e6)

    def snapshots(self, taken_at: float | None, failures: int, now: float) -> None:
        """Sets the snapshot gauges; times in epoch seconds."""
        self.snapshot_failures.set(failures)
        if taken_at is not None:
            self.snapshot_age.set(now - taken_at)

    def exposition(self) -> bytes:
        """Returns all series in the Prometheus text format."""
        return generate_latest(self.registry)
