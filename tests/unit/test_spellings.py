"""One person in several spellings: findings, searches, silences, risks and pseudonyms are of one person."""

from __future__ import annotations

import time
from pathlib import Path

from custodes.findings.risk import risks
from custodes.findings.silences import Silence
from harness import MonitorHarness, look_ups

DAY = 86_400


def test_findings_of_one_person_in_several_spellings_belong_together(tmp_path: Path) -> None:
    bench = MonitorHarness(tmp_path)
    for at, actor in enumerate(["anna", "ANNA "]):
        bench.now += at * 2 * DAY
        bench.feed(look_ups([actor], [f"s{n}" for n in range(150)], at=at * 2 * DAY, first=1 + at * 150))
    found = bench.store.page(group={"actor": "Anna"}).findings
    shown = [one.as_dict()["group"]["actor"] for one in found if one.rule == "Bulk lookups"]
    assert sorted(shown) == ["ANNA ", "anna"]
    assert {one.group["actor"] for one in found} == {"ANNA"}
    assert bench.store.page(group={"actor": "ann"}).findings == []
    (risk,) = risks(found, max(one.opened_at for one in found))
    assert risk.actor in shown
    assert len({bench.secrets.pseudonym("actor", one.shown["actor"]) for one in found}) == 1
    now = int(time.time() * 1e6)
    silence = Silence(None, {"actor": "ANNA"}, now, now + DAY, "me", "a reason")
    assert all(silence.covers(one) for one in found)
    assert Silence(None, {"actor": "anna"}, now, now + DAY, "me", "written for 0.2").covers(
        next(one for one in found if one.shown["actor"] == "anna")
    )
    bench.close()
