"""Fields that rules read and that no event of a sample has are warnings with the nearest field."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from custodes.authoring.sample import missing_fields
from custodes.config.mapping import load_mapping
from custodes.rules import read_rules, shipped_pack

RULES = """\
title: Reads
name: reads
logsource: {product: custodes}
detection:
  s: {actoin: read, user.roles: admin}
  t: {subject|fieldref: user.naem}
  u: {when|hour|gte: 20}
  condition: s or not t or u
---
title: Values
correlation:
  type: value_count
  rules: [reads]
  group-by: [actor, peergroup]
  timespan: 1h
  condition: {field: [subject, tabel], gte: 3}
"""
EVENT = {
    "time": "2026-01-05T08:00:00Z",
    "actor": "A",
    "subject": "S1",
    "action": "read",
    "peer_group": "traffic",
    "user": {"name": "Anna", "roles": ["admin"]},
    "tables": [{"table": "person"}],
}


def warnings_for(folder: Path, rules: str, *events: object) -> list[str]:
    (folder / "rules.yml").write_text(rules)
    (folder / "sample.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    warnings = missing_fields(read_rules([folder / "rules.yml"]), load_mapping("custodes"), folder / "sample.jsonl")
    return [str(warning).removeprefix(f"{folder}/") for warning in warnings]


def test_each_missing_field_has_its_place_and_the_nearest_field(tmp_path: Path) -> None:
    earlier = {**EVENT, "time": "2025-01-05T08:00:00Z"}
    found = warnings_for(tmp_path, RULES, EVENT, earlier, "no record")
    assert [warning.partition(" (known: ")[0] for warning in found] == [
        "rules.yml:5: no event of the sample has the field 'actoin' (did you mean 'action'?)",
        "rules.yml:6: no event of the sample has the field 'user.naem' (did you mean 'user.name'?)",
        "rules.yml:7: no event of the sample has the field 'when'",
        "rules.yml:14: no event of the sample has the field 'peergroup' (did you mean 'peer_group'?)",
        "rules.yml:16: no event of the sample has the field 'tabel'",
    ]


def test_a_field_of_any_event_is_enough(tmp_path: Path) -> None:
    rare = {**EVENT, "actoin": "x", "when": 5, "peergroup": "x", "tabel": "x"}
    other = {**EVENT, "user": {"naem": "x"}}
    assert warnings_for(tmp_path, RULES, rare, other) == []


def test_a_field_that_the_mapping_derives(tmp_path: Path) -> None:
    rules = RULES.replace("actoin", "subject_region").replace("user.naem", "user.name").replace("when", "time")
    rules = rules.replace("peergroup", "peer_group").replace("[subject, tabel]", "subject")
    assert warnings_for(tmp_path, rules, EVENT) == [
        "rules.yml:5: no event of the sample has the field 'subject_region' (the mapping derives it from subject)"
    ]
    assert warnings_for(tmp_path, rules, {**EVENT, "subject": "410105199001011234"}) == []


@pytest.mark.parametrize("events", [[], ["x"], [{"actor": "A"}]])
def test_a_sample_without_events(tmp_path: Path, events: list[object]) -> None:
    assert warnings_for(tmp_path, RULES, *events) == ["sample.jsonl: no event of the sample can be read"]


def test_the_shipped_rules_and_a_compressed_sample(tmp_path: Path) -> None:
    (tmp_path / "sample.jsonl.gz").write_bytes(gzip.compress(json.dumps(EVENT).encode() + b"\n"))
    loaded = read_rules(shipped_pack())
    messages = [
        warning.message for warning in missing_fields(loaded, load_mapping("custodes"), tmp_path / "sample.jsonl.gz")
    ]
    assert "no event of the sample has the field 'client_ip'" in messages
    assert not any("'actor'" in message or "'peak'" in message for message in messages)
