"""Every disguise of a bulk look-up gives a finding of the shipped rules, of level medium or above, of the actor."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from custodes.rules import Rule, load_rules, shipped_pack
from disguise_table import PAGE, row
from disguised_runs import insiders_findings
from disguises import ACTOR, DISGUISES, EVERY, LOOK_UPS, Disguise

AS_WRITTEN = Disguise("none", "none", lambda n, event: event)
MOST_EXCEPTIONS = 3


@pytest.fixture(scope="module")
def rules() -> Sequence[Rule]:
    return load_rules(shipped_pack())


def test_colleagues_have_no_findings_and_the_plain_look_up_has(rules: Sequence[Rule], tmp_path: Path) -> None:
    found = insiders_findings(rules, AS_WRITTEN, tmp_path)
    assert "Bulk lookups" in {finding.rule for finding in found}
    assert {finding.shown["actor"] for finding in found} == {ACTOR}


@pytest.mark.parametrize("disguise", DISGUISES, ids=lambda disguise: f"{disguise.kind}: {disguise.name}"[:60])
def test_a_disguise_does_not_hide_the_insider(disguise: Disguise, rules: Sequence[Rule], tmp_path: Path) -> None:
    found = insiders_findings(rules, disguise, tmp_path)
    assert bool(found) == (not disguise.names_nobody), disguise.name
    assert row(disguise, found) in PAGE.read_text(encoding="utf-8").splitlines(), "run tests/disguise_table.py"


def test_there_are_many_disguises_and_few_exceptions() -> None:
    assert len(DISGUISES) >= 80
    assert len({disguise.name for disguise in DISGUISES}) == len(DISGUISES)
    assert sum(bool(disguise.names_nobody) for disguise in DISGUISES) <= MOST_EXCEPTIONS
    assert timedelta(hours=1) > LOOK_UPS * EVERY
