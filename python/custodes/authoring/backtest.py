"""Backtests: findings that a rule would have had in recorded events, at its own threshold and at others.

All thresholds are evaluated in one pass: rules that differ in nothing else share their windows, so a hundred of them
cost little more than one. For a budget of findings per week, further passes refine the range in which the number of
findings falls below the budget.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta

from custodes._core import Engine, Tables
from custodes.authoring.labels import Label, LabelOutcome
from custodes.authoring.recorded_events import RecordedEvents
from custodes.authoring.sweep_parameter import BacktestError, SweepParameter, SweepPoint
from custodes.findings import Finding, FindingAccumulator
from custodes.rules import Rule
from custodes.rules.ruleset import PlanWriter
from custodes.sources.replay_coverage import ReplayCoverage

_STEP = 2 ** (1 / 4)
"""Factor between two thresholds of the first pass."""
_STEPS_DOWN, _STEPS_UP = 8, 24
_LARGEST = 1 << 40
_AT_ONCE = 200
"""Number of thresholds per refining pass."""
_WEEK = timedelta(weeks=1) // timedelta(microseconds=1)


@dataclass(frozen=True)
class Backtest:
    """Result of running a rule over recorded events."""

    rule: Rule
    coverage: ReplayCoverage
    """Events, rejects, late events and faults of the first pass."""
    weeks: float
    """Duration of the events."""
    findings: Sequence[Finding]
    """Result at the rule's own threshold."""
    thresholds: Sequence[SweepPoint]
    """Results by threshold, including the rule's own; thresholds that any event would meet are left out."""
    verdicts: Sequence[LabelOutcome]
    """Detections by label, at the rule's own threshold."""
    suggested: SweepPoint | None
    """Smallest threshold from which on the budget is kept; ``None`` without a budget, or if none keeps it."""
    own: SweepPoint
    """Findings at the rule's own threshold."""
    lever: SweepParameter = SweepParameter.threshold
    """Unit of ``thresholds``."""


@dataclass(frozen=True)
class _BacktestSettings:
    """The recorded events, and how they are read."""

    past: RecordedEvents
    write: PlanWriter
    tables: Tables
    threads: int

    def engine(self, rules: Sequence[Rule], threads: int = 1) -> Engine:
        engine = Engine(self.write(rules, among_workers={"history": False}), threads)
        engine.use_tables(self.tables)
        return engine

    def earliest(self) -> int | None:
        """Time of the earliest event; ``None`` if there is none."""
        any_event = Rule(
            "any", "any", "low", "", group_by=(), distinct=None, when={"all": []}, holds={"gte": 1}, file="", line=0,
            timespan=timedelta(seconds=1), resolution=timedelta(seconds=1), keep_open=timedelta(days=3650),
        )  # fmt: skip
        times = []
        for part in self.past.parts():
            engine = self.engine([any_event])
            with closing(part.replay(engine, ReplayCoverage())) as batches:
                begin = next(batches)
            times += [change.opened_at for changes in (begin.changes, engine.finish().changes) for change in changes]
        return min(times, default=None)


class _ReplayPass:
    """Runs the events once, under some rules."""

    def __init__(self, rules: Sequence[Rule], setting: _BacktestSettings, on_bytes: Callable[[int], None]) -> None:
        engine = setting.engine(rules, setting.threads)
        ledger = FindingAccumulator(rules)
        self.coverage = ReplayCoverage()
        for batch in setting.past.replay(engine, self.coverage, on_bytes):
            ledger.apply(batch.changes)
        self.found: dict[str, list[Finding]] = {rule.id: [] for rule in rules}
        """Returns findings by rule id."""
        for finding in ledger.findings():
            self.found[finding.rule_id].append(finding)


def backtest(
    rule: Rule,
    past: RecordedEvents,
    write: PlanWriter,
    *,
    tables: Tables | None = None,
    labels: Sequence[Label] = (),
    budget: float | None = None,
    lever: SweepParameter = SweepParameter.threshold,
    threads: int = 1,
    on_pass: Callable[[int], Callable[[int], None]] = lambda number: lambda size: None,
) -> Backtest:
    """Runs a rule over recorded events. ``write`` compiles rules to a plan; ``budget`` is the allowed number of
    findings per week.

    ``on_pass`` is called with the number of each pass, from 1, and returns a callback for the number of bytes read.
    Raises :class:`BacktestError` for a rule that more events can end, and if there are no events.
    """
    if rule.follows:
        raise BacktestError(f"'{rule.title}' counts findings of other rules; backtest those")
    rule, own = replace(rule, silent=False), lever.of(rule)
    setting = _BacktestSettings(past, write, tables or Tables(), threads)
    steps = {max(2, round(own * _STEP**n)) for n in range(-_STEPS_DOWN, _STEPS_UP + 1)}
    first = _ReplayPass([rule, *_variants(rule, lever, steps)], setting, on_pass(1))
    earliest = setting.earliest()
    if earliest is None or first.coverage.latest is None:
        raise BacktestError("the files contain no event that can be counted")
    weeks = max((first.coverage.latest - earliest) / _WEEK, 1e-9)
    findings = first.found.pop(rule.id)
    known = _by_threshold(first.found) | {own: _at(own, findings)}
    number = 1
    while budget is not None and (between := _closer(known, budget * weeks)):
        number += 1
        known |= _by_threshold(_ReplayPass(_variants(rule, lever, between), setting, on_pass(number)).found)
    suggested = None if budget is None else _least_within(known, budget * weeks)
    return Backtest(
        rule,
        first.coverage,
        weeks,
        findings,
        [lever.shown(known[place]) for place in sorted(known)],
        [label.judged_by(findings) for label in labels],
        suggested and lever.shown(suggested),
        lever.shown(known[own]),
        lever,
    )


def _variants(rule: Rule, lever: SweepParameter, places: Iterable[int]) -> list[Rule]:
    """Returns copies of the rule with the parameter at other values."""
    return [lever.move(rule, place) for place in sorted(places)]


def _by_threshold(found: dict[str, list[Finding]]) -> dict[int, SweepPoint]:
    return {int(threshold): _at(int(threshold), findings) for threshold, findings in found.items()}


def _at(threshold: int, findings: Sequence[Finding]) -> SweepPoint:
    return SweepPoint(threshold, len(findings), len({tuple(finding.group.values()) for finding in findings}))


def _least_within(known: dict[int, SweepPoint], budget: float) -> SweepPoint | None:
    """Returns the smallest threshold from which on no known threshold has more findings."""
    within = None
    for threshold in sorted(known, reverse=True):
        if known[threshold].findings > budget:
            break
        within = known[threshold]
    return within


def _closer(known: dict[int, SweepPoint], budget: float) -> list[int]:
    """Returns the next thresholds: between the last with too many findings and the first without."""
    within, least, most = _least_within(known, budget), min(known), max(known)
    if within is None:
        return [round(most * _STEP**n) for n in range(1, _STEPS_UP)] if most < _LARGEST else []
    if within.threshold == least:
        return sorted({round(least / _STEP**n) for n in range(1, _STEPS_DOWN)} - {0, least})
    first = int(within.threshold)
    below = max(threshold for threshold in known if threshold < first)
    step = -(-(first - below) // _AT_ONCE)
    return list(range(below + step, first, step))
