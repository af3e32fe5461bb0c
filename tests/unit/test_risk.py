"""Risk: several weak findings of one actor add up; points decay, and repetition counts less."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from custodes.findings import Finding
from custodes.findings.risk import HALF_LIFE_DAYS, risks

DAY = 86_400_000_000
NOW = 1_767_600_000_000_000


def finding(actor: str, rule: str, level: str = "low", days_ago: float = 0, peak: int = 10) -> Finding:
    opened = NOW - round(days_ago * DAY)
    return Finding(
        id=f"{actor}-{rule}-{days_ago}", rule_id=rule, rule=rule.title(), level=level, group={"actor": actor},
        opened_at=opened, closed_at=None, held_from=opened, held_until=opened, peak=peak, count=peak, threshold=10,
        keep_open=0,
    )  # fmt: skip


def scores(*findings: Finding) -> dict[str, float]:
    return {risk.actor: round(risk.score, 3) for risk in risks(findings, NOW)}


def test_points_depend_on_level_and_ratio_to_threshold() -> None:
    told = scores(
        finding("a", "x"), finding("b", "x", "medium"), finding("c", "x", "high", peak=20), finding("d", "x", peak=900)
    )
    assert told == {"c": 120, "d": 40, "b": 30, "a": 10}
    assert list(told) == ["c", "d", "b", "a"]


def test_different_rules_weigh_more_than_repetitions() -> None:
    told = scores(finding("a", "x"), finding("a", "y"), finding("b", "x"), finding("b", "x", days_ago=0.0))
    assert told == {"a": 20, "b": 12.5}


def test_points_decay_and_future_findings_are_ignored() -> None:
    told = scores(finding("a", "x", days_ago=HALF_LIFE_DAYS), finding("b", "x", days_ago=2 * HALF_LIFE_DAYS))
    assert told == {"a": 5, "b": 2.5}
    assert scores(finding("a", "x", days_ago=-1)) == {}


def test_the_past_risk_uses_only_past_findings() -> None:
    (risk,) = risks([finding("a", "x", days_ago=HALF_LIFE_DAYS), finding("a", "y", days_ago=0)], NOW)
    day = 86_400_000_000
    assert risk.at(NOW) == risk.score == 15
    assert risk.at(NOW - HALF_LIFE_DAYS * day) == 10
    assert risk.at(NOW - (HALF_LIFE_DAYS + 1) * day) == 0


def test_findings_without_actor_are_in_no_case() -> None:
    (risk,) = risks([finding("a", "x"), finding("a", "y", days_ago=1), finding("a", "x", days_ago=2)], NOW)
    assert [one.rule_id for one in risk.findings] == ["x", "y", "x"]
    assert risk.rules == ["X", "Y"]
    of_subject = finding("a", "x")
    assert risks([Finding(**{**vars(of_subject), "group": {"subject": "S1"}})], NOW) == []


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from(["low", "high"]), st.floats(0, 200)), max_size=12))
def test_an_additional_finding_never_lowers_the_risk(told: list[tuple[str, str, float]]) -> None:
    findings = [finding("a", rule, level, days) for rule, level, days in told]
    before = 0.0
    for count in range(1, len(findings) + 1):
        (risk,) = risks(findings[:count], NOW)
        assert risk.score >= before - 1e-9
        before = risk.score
