"""Mappings: records of other sources become canonical events."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from custodes._core import Engine
from custodes.config import FaultsError
from custodes.config.mapping import load_mapping

MAPPING = """\
time: [event.created, '@timestamp']
actor: [user.name, user.id]
subject: patients[0].id
resource: "=ehr.patient"
"""


def test_paths_first_present_and_constants(tmp_path: Path) -> None:
    (tmp_path / "ehr.yml").write_text(MAPPING)
    plan = {
        **load_mapping(str(tmp_path / "ehr.yml")).as_plan(),
        "rules": [
            {
                "id": "r",
                "when": {"field": {"name": "resource", "test": {"text": {"parts": [{"literal": "ehr.patient"}]}}}},
                "group_by": ["actor", "subject", "ward.name"],
                "timespan_ms": 60_000,
                "resolution_ms": 1000,
                "keep_open_ms": 0,
                "holds": {"gte": 1},
            }
        ],
    }
    engine = Engine(json.dumps(plan))
    event = {
        "@timestamp": "2026-01-05T08:00:00Z",
        "event": {"created": None},
        "user": {"id": 17},
        "patients": [{"id": "p1"}, {"id": "p2"}],
        "ward": {"name": "3B"},
    }
    outcome = engine.process_lines(json.dumps(event).encode())
    assert [(change.group, change.opened_at) for change in outcome.changes] == [
        (["17", "p1", "3B"], 1_767_600_000_000_000)
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("actor: a", "m.yml:1: no source for 'time'"),
        ("time: t\nactor: []", "m.yml:2: 'actor' must be a path"),
        ("time: t\nactor: {a: b}", "m.yml:2: actor.from: Field required"),
        ("- time", "m.yml:1: must be one flat YAML mapping"),
    ],
)
def test_faults(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m.yml").write_text(text)
    with pytest.raises(FaultsError) as caught:
        load_mapping(str(tmp_path / "m.yml"))
    assert message in str(caught.value)
