"""Measures, sequences, expressions, aliases, correlations of correlations: compared with second, slow implementations.

Events arrive in any order within the allowed lateness, in batches of all sizes, on one thread or two, with restarts.
"""

from __future__ import annotations

import itertools
import json
import random
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
from custodes._core import Engine
from custodes.config.mapping import load_mapping
from custodes.findings import Finding, FindingAccumulator
from custodes.rules import Rule, Ruleset, build_plan, load_rules
from restarts import findings_over_restarts
from rule_texts import detection
from streams import StreamRecord, shuffled

START = 1_767_600_000
KEY = "000102030405060708090a0b0c0d0e0f"
MAPPING = load_mapping("custodes")
DETECTIONS = (
    detection("Looks", "{action: [read, search]}")
    + detection("Exports", "{action: [export, search]}")
    + detection("Wipes", "{action: delete}")
)
ACTIONS = {"looks": {"read", "search"}, "exports": {"export", "search"}, "wipes": {"delete"}}


def correlation(title: str, **said: Any) -> str:
    """Returns a rule whose runs are joined over 7 s."""
    fields = "\n".join(f"  {key.replace('_', '-')}: {value}" for key, value in said.items())
    return f"---\ntitle: {title}\nname: {title}\ncorrelation:\n{fields}\ncustodes: {{keep_open: 7s, resolution: 2s}}\n"


def amounts(window: Sequence[oracle.Occurrence]) -> list[float]:
    return [float(text) for _, values in window for text in values]


def summed(window: Sequence[oracle.Occurrence]) -> float | None:
    known = amounts(window)
    return sum(max(one, 0) for one in known) if known else None


def averaged(window: Sequence[oracle.Occurrence]) -> float | None:
    known = amounts(window)
    return sum(known) / len(known) if known else None


def percentile(window: Sequence[oracle.Occurrence]) -> float | None:
    known = sorted(amounts(window))
    if len(known) < 2:
        return known[0] if known else None
    return statistics.quantiles(known, n=4, method="inclusive")[2]


def median(window: Sequence[oracle.Occurrence]) -> float | None:
    known = amounts(window)
    return statistics.median(known) if known else None


def can_follow(window: Sequence[oracle.Occurrence], names: Sequence[str]) -> bool:
    """Checks by exhaustive search whether events of these rules exist at non-decreasing times."""
    times = [sorted({time for time, met in window if name in met}) for name in names]
    at = min(itertools.chain.from_iterable(times), default=0)
    for of_one in times:
        later = [time for time in of_one if time >= at]
        if not later:
            return False
        at = later[0]
    return True


def longest(names: Sequence[str]) -> Callable[[Sequence[oracle.Occurrence]], float | None]:
    """Returns the length of the longest subsequence of the rules that matched in order."""

    def measure(window: Sequence[oracle.Occurrence]) -> float | None:
        for size in range(len(names), 0, -1):
            if any(can_follow(window, chosen) for chosen in itertools.combinations(names, size)):
                return size
        return None

    return measure


def holding(test: Callable[[set[str]], bool]) -> Callable[[Sequence[oracle.Occurrence]], float | None]:
    """Returns 1 if the rules matched by some of the events make an expression true."""
    return lambda window: 1 if window and test({name for _, met in window for name in met}) else None


THREE = ("looks", "exports", "wipes")
COUNT = {"rules": "[looks]", "group_by": "[actor]", "timespan": "12s"}
ORDER = {"rules": "[looks, exports, wipes]", "group_by": "[actor]", "timespan": "12s"}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sum": (
        {"type": "value_sum", **COUNT, "condition": "{field: count, gte: 10.5}"},
        {"distinct": "count", "measure": summed, **oracle.gte(10.5)},
    ),
    "small sum": (
        {"type": "value_sum", **COUNT, "condition": "{field: count, lte: 4}"},
        {"distinct": "count", "measure": summed, **oracle.judged("lte", 4)},
    ),
    "average": (
        {"type": "value_avg", **COUNT, "condition": "{field: count, gt: 2.5}"},
        {"distinct": "count", "measure": averaged, **oracle.judged("gt", 2.5)},
    ),
    "percentile": (
        {"type": "value_percentile", **COUNT, "condition": "{field: count, percentile: 75, gte: 4}"},
        {"distinct": "count", "measure": percentile, **oracle.judged("gte", 4)},
    ),
    "median": (
        {"type": "value_median", **COUNT, "condition": "{field: count, lt: 0}"},
        {"distinct": "count", "measure": median, **oracle.judged("lt", 0)},
    ),
    "in order": (
        {"type": "temporal_ordered", **ORDER},
        {"distinct": "met", "measure": longest(THREE), **oracle.gte(3)},
    ),
    "two in order": (
        {"type": "temporal_ordered", **ORDER, "condition": "{gte: 2}"},
        {"distinct": "met", "measure": longest(THREE), **oracle.gte(2)},
    ),
    "not two in order": (
        {"type": "temporal_ordered", **ORDER, "condition": "{lt: 2}"},
        {"distinct": "met", "measure": longest(THREE), **oracle.judged("lt", 2)},
    ),
    "any of two": (
        {"type": "temporal", **ORDER, "condition": "wipes and (looks or exports)"},
        {"distinct": "met", "measure": holding(lambda met: "wipes" in met and len(met) > 1), **oracle.gte(1)},
    ),
    "one without the other": (
        {"type": "temporal", **ORDER, "condition": "not (looks and exports) and (wipes or exports and not looks)"},
        {
            "distinct": "met",
            "measure": holding(lambda met: bool(met & {"wipes", "exports"}) and not {"looks", "exports"} <= met),
            **oracle.judged("gte", 1),
        },
    ),
    "one of two, then the third": (
        {"type": "temporal_ordered", **ORDER, "condition": "(wipes or exports) and looks"},
        {
            "distinct": "met",
            "measure": lambda window: 1 if any(can_follow(window, (one, "looks")) for one in THREE[1:]) else None,
            **oracle.gte(1),
        },
    ),
}  # fmt: skip

events = st.lists(
    st.fixed_dictionaries(
        {
            "time": st.integers(0, 60),
            "actor": st.sampled_from(["a", "b"]),
            "action": st.sampled_from(["read", "search", "export", "delete"]),
            "count": st.none() | st.integers(-3, 9) | st.sampled_from([0.5, "2.25", [1, 4]]),
            "delay": st.integers(0, 9),
        }
    ),
    max_size=40,
)


def as_stream(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns events in a possible order of arrival, with times in seconds."""
    bare = [{key: value for key, value in event.items() if key != "delay"} for event in listed]
    return [{**event, "time": START + event["time"]} for event in shuffled(bare, [one["delay"] for one in listed])]


def known_to_oracle(stream: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            **event,
            "time": event["time"] * 1_000_000,
            "met": [name for name, actions in ACTIONS.items() if event["action"] in actions],
        }
        for event in stream
    ]


def told(found: Sequence[Finding], rule: Rule) -> list[Any]:
    return sorted(
        (tuple(one.shown.values()), one.opened_at, one.closed_at, one.peak, one.count)
        for one in found
        if one.rule == rule.title
    )


def expected(events: Sequence[dict[str, Any]], rule: oracle.OracleRule) -> list[Any]:
    return [(one.group, one.opened_at, one.closed_at, one.peak, one.count) for one in oracle.findings(events, rule)]


def load(text: str, folder: pytest.TempPathFactory) -> list[Rule]:
    path: Path = folder.mktemp("rules") / "rules.yml"
    path.write_text(DETECTIONS + text)
    return load_rules([path])


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Rule]:
    text = "".join(correlation(title, **said) for title, (said, _) in CASES.items())
    return {rule.title: rule for rule in load(text, tmp_path_factory)}


@pytest.mark.parametrize("title", list(CASES))
@given(listed=events, rng=st.randoms(use_true_random=False))
def test_measures_equal_the_oracle(
    rules: dict[str, Rule], title: str, listed: list[dict[str, Any]], rng: random.Random
) -> None:
    stream, rule, same = as_stream(listed), rules[title], CASES[title][1]
    found = findings_over_restarts([rule], build_plan([rule], MAPPING), stream, rng)
    wanted = set().union(*ACTIONS.values()) if same["distinct"] == "met" else ACTIONS["looks"]
    asked = oracle.OracleRule(
        ["actor"], 12, resolution=2, keep_open=7, where=lambda event: event["action"] in wanted, **same
    )
    assert told(found, rule) == expected(known_to_oracle(stream), asked)


FOLLOWING = (
    correlation("Busy", type="event_count", **COUNT, condition="{gte: 3}").replace("keep_open: 7s", "keep_open: 2s")
    + correlation("Rare", type="event_count", rules="[exports]", group_by="[actor]", timespan="4s", condition="{eq: 1}")
    + correlation("Again", type="event_count", rules="[Busy, Rare]", group_by="[actor]", timespan="30s",
                  condition="{gte: 3}")
    + correlation("Wiped_after", type="temporal_ordered", rules="[Busy, wipes]", group_by="[actor]", timespan="20s")
    + correlation("Several", type="value_count", rules="[Busy]", timespan="30s", condition="{field: actor, gte: 2}")
    + correlation("Much", type="value_sum", rules="[Busy]", group_by="[actor]", timespan="30s",
                  condition="{field: peak, gte: 7}")
    + correlation("Third level", type="temporal", rules="[Again, Wiped_after, Rare]", group_by="[actor]",
                  timespan="40s", generate="true", condition="Again and (Wiped_after or not Rare)")
)  # fmt: skip
kept = partial(oracle.OracleRule, resolution=2, keep_open=7)


@pytest.fixture(scope="module")
def followers(tmp_path_factory: pytest.TempPathFactory) -> list[Rule]:
    return load(FOLLOWING, tmp_path_factory)


def openings(found: Sequence[oracle.OracleFinding], name: str) -> list[dict[str, Any]]:
    return [{"time": one.opened_at, "actor": one.group[0], "peak": one.peak, "met": [name]} for one in found]


@given(listed=events, rng=st.randoms(use_true_random=False))
def test_correlations_of_correlations_equal_the_oracle(
    followers: list[Rule], listed: list[dict[str, Any]], rng: random.Random
) -> None:
    stream = as_stream(listed)
    found = findings_over_restarts(followers, build_plan(followers, MAPPING), stream, rng)
    source = known_to_oracle(stream)
    looks = oracle.OracleRule(
        ["actor"], 12, resolution=2, keep_open=2, where=lambda event: "looks" in event["met"], **oracle.gte(3)
    )
    exports = kept(["actor"], 4, where=lambda event: "exports" in event["met"], **oracle.judged("eq", 1))
    busy = openings(oracle.findings(source, looks), "busy")
    rare = openings(oracle.findings(source, exports), "rare")
    again = kept(["actor"], 30, **oracle.gte(3))
    wiped = kept(["actor"], 20, distinct="met", measure=longest(("busy", "wipes")), **oracle.gte(2))
    wipes = [{**event, "met": ["wipes"]} for event in source if "wipes" in event["met"]]
    agains = oracle.findings(busy + rare, again)
    wipeds = oracle.findings(busy + wipes, wiped)
    several = kept([], 30, distinct="actor", **oracle.gte(2))
    much = kept(["actor"], 30, distinct="peak", measure=summed, **oracle.gte(7))
    third = kept(
        ["actor"], 40, distinct="met", **oracle.judged("gte", 1),
        measure=holding(lambda met: "again" in met and ("wiped" in met or "rare" not in met)),
    )  # fmt: skip
    of_third = openings(agains, "again") + openings(wipeds, "wiped") + rare
    wanted = {
        "Again": agains,
        "Wiped_after": wipeds,
        "Several": oracle.findings(busy, several),
        "Much": oracle.findings(busy, much),
        "Third level": oracle.findings(of_third, third),
    }
    for rule in followers:
        if rule.title in wanted:
            same = [(one.group, one.opened_at, one.closed_at, one.peak, one.count) for one in wanted[rule.title]]
            assert told(found, rule) == same, rule.title


ALIASED = correlation(
    "Met", type="temporal", rules="[looks, exports]", group_by="[who]", timespan="12s",
    aliases="{who: {looks: actor, exports: owner}}",
) + correlation(
    "Counted", type="event_count", rules="[looks, exports]", group_by="[who, action]", timespan="12s",
    aliases="{who: {looks: actor, exports: owner}}", condition="{gte: 2}",
)  # fmt: skip


@pytest.fixture(scope="module")
def aliased(tmp_path_factory: pytest.TempPathFactory) -> list[Rule]:
    return [rule for rule in load(ALIASED, tmp_path_factory) if rule.branches]


@given(listed=events, owners=st.lists(st.sampled_from(["a", "b", ["a", "b"], None]), min_size=40, max_size=40),
       rng=st.randoms(use_true_random=False))  # fmt: skip
def test_groups_by_aliases_equal_the_oracle(
    aliased: list[Rule], listed: list[dict[str, Any]], owners: list[Any], rng: random.Random
) -> None:
    stream = [{**event, "owner": owner} for event, owner in zip(as_stream(listed), owners, strict=False)]
    found = findings_over_restarts(aliased, build_plan(aliased, MAPPING), stream, rng)
    source = []
    for event in known_to_oracle(stream):
        by_name = {"looks": [event["actor"]], "exports": oracle.texts(event["owner"]), "wipes": []}
        for who in {who for name in event["met"] for who in by_name[name]}:
            met = [name for name in event["met"] if who in by_name[name]]
            source.append({**event, "who": who, "met": met})
    both = kept(["who"], 12, distinct="met", **oracle.gte(2))
    counted = kept(["who", "action"], 12, **oracle.gte(2))
    for rule, same in zip(aliased, (both, counted), strict=True):
        assert told(found, rule) == expected(source, same)


@given(listed=events, owners=st.lists(st.sampled_from(["a", "b", ["a", "b"]]), min_size=40, max_size=40))
def test_shares_give_the_result_of_one_engine(
    rules: dict[str, Rule], aliased: list[Rule], listed: list[dict[str, Any]], owners: list[Any]
) -> None:
    """Repartitioned events contain all fields that are measured or used for grouping."""
    stream = [{**event, "owner": owner} for event, owner in zip(as_stream(listed), owners, strict=False)]
    every = [*(rules[title] for title in CASES), *aliased]
    whole, records = (
        Engine(build_plan(every, MAPPING)),
        [StreamRecord(at, json.dumps(one).encode()) for at, one in enumerate(stream)],
    )
    alone = FindingAccumulator(every)
    alone.apply(whole.process_records(records).changes)
    alone.apply(whole.finish().changes)
    ruleset = Ruleset(every, partial(build_plan, mapping=MAPPING))
    handing_on, together = Engine(ruleset.plan_where_read(KEY, 3)), FindingAccumulator(every)
    batches = handing_on.process_records(records).repartition_batches
    for share in range(3):
        counting = Engine(ruleset.plan_by_share(KEY, share, 3))
        for batch in batches:
            if batch.partition == share:
                outcome = counting.process_repartition_batch(batch.events)
                assert outcome.rejects == []
                together.apply(outcome.changes)
        together.apply(counting.finish().changes)
    assert [told(together.findings(), rule) for rule in every] == [told(alone.findings(), rule) for rule in every]


def test_aggregates_are_evicted_except_near_the_threshold(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    said = {"rules": "[looks]", "group_by": "[subject]", "timespan": "1d"}
    for kind in ("value_sum", "value_avg"):
        rule = load(correlation("Much", type=kind, **said, condition="{field: count, gte: 100}"), tmp_path_factory)[-1]
        engine, ledger = Engine(build_plan([rule], MAPPING)), FindingAccumulator([rule])

        def look(at: int, subject: str, count: int) -> bytes:
            event = {"time": START + at, "actor": "a", "action": "read", "subject": subject, "count": count}
            return json.dumps(event).encode() + b"\n"

        engine.process_lines(look(0, "close", 60) + b"".join(look(n // 100, f"S{n}", 5) for n in range(20_000)))
        engine.process_lines(look(3600, "later", 1))
        before = engine.used_bytes()
        assert engine.evict(before // 2) is not None
        assert engine.used_bytes() <= before // 2
        engine.process_lines(look(3700, "close", 140 if kind == "value_avg" else 40))
        ledger.apply(engine.finish().changes)
        found = [(one.shown, one.opened_at // 1_000_000 - START, one.count) for one in ledger.findings()]
        assert found == [({"subject": "close"}, 3700, 2)]
