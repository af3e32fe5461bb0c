"""Derived fields, look-up tables, field references and keywords."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import orjson
import pytest

from custodes._core import Engine
from custodes.config import FaultsError
from custodes.config.mapping import Mapping as FieldMapping
from custodes.config.mapping import load_mapping
from custodes.rules import build_plan, load_rules
from custodes.sources.lookup_tables import LookupTables, csv_files

EventFields = Mapping[str, object]
TIME = "2026-01-05T22:30:00Z"


def rule(detection: str, group_by: str = "actor") -> str:
    return f"""
title: R
logsource: {{product: custodes}}
name: r
detection:
{detection}
---
title: Counted
correlation:
    type: event_count
    rules: [r]
    group-by: [{group_by}]
    timespan: 1h
    condition: {{gte: 1}}
"""


def groups(
    folder: Path,
    rules: str,
    *events: EventFields,
    mapping: FieldMapping | None = None,
    tables: dict[str, str] | None = None,
) -> list[list[str]]:
    """Returns the groups of the findings of ``events``."""
    (folder / "rules.yml").write_text(rules)
    mapping = mapping or load_mapping("custodes")
    engine = Engine(build_plan(load_rules([folder / "rules.yml"]), mapping))
    look_ups = LookupTables()
    files = {}
    for name, text in (tables or {}).items():
        files[name] = folder / f"{name}.csv"
        files[name].write_text(text)
    look_ups.load(csv_files(files), mapping.table_uses())
    engine.use_tables(look_ups.in_force)
    lines = b"\n".join(orjson.dumps({"time": TIME, **event}) for event in events)
    outcome = engine.process_lines(lines)
    assert outcome.rejects == []
    return sorted(change.group for change in outcome.changes)


def matching(folder: Path, detection: str, *events: EventFields, **more: object) -> list[str]:
    """Returns the actors of the events that a detection matches."""
    return [group[0] for group in groups(folder, rule(detection), *events, **more)]  # type: ignore[arg-type]


def test_consecutive_identifiers_share_a_block(tmp_path: Path) -> None:
    every = "    any: {action: read}\n    condition: any"
    events = [{"actor": "P1", "subject": f"S{n}", "action": "read"} for n in (1001, 1099, 1100)]
    assert groups(tmp_path, rule(every, "actor, subject_block"), *events) == [["P1", "S10"], ["P1", "S11"]]


def test_a_list_is_derived_element_by_element(tmp_path: Path) -> None:
    every = "    any: {action: read}\n    condition: any"
    event = {"actor": "P1", "subject": ["410105199001011234", "x", "31010419900101123X"], "action": "read"}
    assert groups(tmp_path, rule(every, "subject_region"), event) == [["310104"], ["410105"]]
    assert groups(tmp_path, rule(every, "subject_cohort"), event) == [["31010419900101"], ["41010519900101"]]


def test_fields_from_look_up_tables(tmp_path: Path) -> None:
    watched = "    touched: {subject_watched: true}\n    condition: touched"
    events: list[EventFields] = [
        {"actor": "P1", "subject": "S1"},
        {"actor": "P2", "subject": ["S3", "S2"]},
        {"actor": "P3", "subject": "S"},
    ]
    tables = {"watched": "person,why\nS1,canary\nS2,\n"}
    assert matching(tmp_path, watched, *events, tables=tables) == ["P1", "P2"]
    assert matching(tmp_path, watched, *events) == []


def test_own_record_own_household_and_what_is_not_assigned(tmp_path: Path) -> None:
    tables = {
        "actors": "account,person\nP1,S1\nP2,S2\n",
        "households": "person,household\nS1,H1\nS5,H1\nS2,H2\n",
        "assignments": "actor,subject\nP1,S7\n",
    }
    events: list[EventFields] = [
        {"actor": "P1", "subject": "S1", "n": 1},
        {"actor": "P1", "subject": "s5", "n": 2},
        {"actor": "P1", "subject": "S5", "n": 3},
        {"actor": "P1", "subject": "S7", "n": 4},
        {"actor": "P2", "subject": "S1", "n": 5},
        {"actor": "P3", "subject": "S1", "n": 6},
    ]
    own = "    own:\n        subject|fieldref: actor_person\n    condition: own"
    household = "    same:\n        subject_household|fieldref: actor_household\n    condition: same"
    unassigned = "    all: {actor: '*'}\n    known: {assigned: true}\n    condition: all and not known"
    for detection, wanted in ((own, ["1"]), (household, ["1", "2", "3"]), (unassigned, ["1", "2", "3", "5", "6"])):
        assert [group[0] for group in groups(tmp_path, rule(detection, "n"), *events, tables=tables)] == wanted


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        ("a|fieldref", ["same", "lists"]),
        ("a|fieldref|startswith", ["same", "lists", "start"]),
        ("a|fieldref|endswith", ["same", "lists", "end"]),
    ],
)
def test_field_references(tmp_path: Path, field: str, wanted: list[str]) -> None:
    events: list[EventFields] = [
        {"actor": "same", "a": "Ürün", "b": "ürün"},
        {"actor": "lists", "a": ["x", "ab"], "b": ["AB", "y"]},
        {"actor": "start", "a": "abc", "b": "ab"},
        {"actor": "end", "a": "cab", "b": "ab"},
        {"actor": "none", "a": "ab", "b": "abc"},
        {"actor": "absent", "a": "ab"},
    ]
    found = matching(tmp_path, f"    selection:\n        {field}: b\n    condition: selection", *events)
    assert found == sorted(wanted)


def test_parts_of_a_time_are_those_of_the_zone(tmp_path: Path) -> None:
    tuesday = "    tuesday: {time_weekday: 2, time_date: '2026-01-06'}"
    night = f"    night:\n        time|hour: 6\n{tuesday}\n    condition: all of them"
    assert matching(tmp_path, night, {"actor": "P1"}) == []
    assert matching(tmp_path, night, {"actor": "P1"}, mapping=load_mapping("custodes", "Asia/Shanghai")) == ["P1"]


def test_keywords_match_anywhere_in_any_field(tmp_path: Path) -> None:
    keywords = "    keywords: ['drop table', 'a*z']\n    not_these: ['(x)']\n    condition: keywords and not not_these"
    events: list[EventFields] = [
        {"actor": "1", "query": {"text": ["SELECT 1; Drop Table people"]}},
        {"actor": "2", "note": "drop  table"},
        {"actor": "3", "note": "a\nbcz"},
        {"actor": "4", "note": "drop table", "more": {"x": "(X)"}},
        {"actor": "5 drop table"},
    ]
    assert matching(tmp_path, keywords, *events) == ["1", "3", "5 drop table"]


class TableEvents(list[tuple[str, int | str | None]]):
    """Records reports about tables."""

    def table_read(self, table: str, entries: int | None) -> None:
        self.append((table, entries))

    def table_gone(self, table: str) -> None:
        self.append((table, "gone"))

    def row_rejected(self, table: str) -> None:
        self.append((table, "refused"))


def test_a_changed_table_is_reloaded_and_a_broken_one_is_not(tmp_path: Path) -> None:
    mapping, path = load_mapping("custodes"), tmp_path / "watched.csv"
    path.write_text("person\nS1\n")
    (tmp_path / "rules.yml").write_text(rule("    touched: {subject_watched: true}\n    condition: touched"))
    engine = Engine(build_plan(load_rules([tmp_path / "rules.yml"]), mapping))
    look_ups = LookupTables()
    look_ups.load(csv_files({"watched": path}), mapping.table_uses())
    engine.use_tables(look_ups.in_force)
    heard = TableEvents()
    look_ups.tell(heard)

    def found(actor: str, subject: str) -> bool:
        return bool(engine.process_lines(orjson.dumps({"time": TIME, "actor": actor, "subject": subject})).changes)

    assert (found("P1", "S1"), found("P2", "S2")) == (True, False)
    path.write_text("person\nS2\nS3\n")
    look_ups.look_again()
    assert (found("P3", "S1"), found("P4", "S2")) == (False, True)
    path.write_text('person,x\n"S4\n')
    look_ups.look_again()
    look_ups.look_again()
    assert (found("P5", "S3"), found("P6", "S4")) == (True, False)
    path.unlink()
    look_ups.look_again()
    assert found("P7", "S3")
    path.write_text("person\nS4\n")
    look_ups.look_again()
    assert found("P8", "S4")
    look_ups.load({}, mapping.table_uses())
    assert heard == [("watched", one) for one in (1, 2, None, None, 1, "gone")]


def test_tables_are_updated_together_or_not_at_all(tmp_path: Path) -> None:
    mapping = load_mapping("custodes")
    watched, dead = tmp_path / "watched.csv", tmp_path / "deceased.csv"
    watched.write_text("person\nS1\n")
    dead.write_text("person\nS2\n")
    rules = rule("    touched: [{subject_watched: true}, {subject_deceased: true}]\n    condition: touched")
    (tmp_path / "rules.yml").write_text(rules)
    engine = Engine(build_plan(load_rules([tmp_path / "rules.yml"]), mapping))
    look_ups = LookupTables()
    look_ups.load(csv_files({"watched": watched, "deceased": dead}), mapping.table_uses())
    engine.use_tables(look_ups.in_force)
    actors = iter(range(100))

    def found(*subjects: str) -> list[str]:
        lines = [
            orjson.dumps({"time": TIME, "actor": f"P{next(actors)}-{subject}", "subject": subject})
            for subject in subjects
        ]
        return [change.group[0].partition("-")[2] for change in engine.process_lines(b"\n".join(lines)).changes]

    assert sorted(found("S1", "S2", "S3", "S4")) == ["S1", "S2"]
    watched.write_text("person\nS3\n")
    dead.write_text("person\nS4,too much\n")
    with pytest.raises(FaultsError):
        look_ups.load(csv_files({"watched": watched, "deceased": dead}), mapping.table_uses())
    assert sorted(found("S1", "S2", "S3", "S4")) == ["S1", "S2"]
    look_ups.load(csv_files({"watched": watched}), mapping.table_uses())
    assert sorted(found("S1", "S2", "S3", "S4")) == ["S3"], "a table that is no longer configured is not in force"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "x: {from: subject}",
            "m.yml:3: x: must have exactly one of slice, capture, split, buckets, part, spelling, table",
        ),
        ("x: {from: subject, slice: [a]}", "m.yml:3: x.slice: "),
        ("x: {from: subject, part: fortnight}", "m.yml:3: x.part: "),
        ("x: {from: subject, slice: [0], value: v}", "m.yml:3: x: 'value' is a column of a table"),
        ("x: {of: subject, slice: [0]}", "m.yml:3: x.from: Field required"),
        ("x: {from: y, slice: [0]}\ny: {from: x, slice: [0]}", "m.yml:3: 'x' is derived from itself through x, y"),
        ("x: {from: subject, capture: '('}", "m.yml:3: 'x' regular expression: unclosed group"),
        ("x: {from: [a, b], slice: [0]}", "m.yml:3: 'x' must have one source field"),
        ("x: {from: a, buckets: [2, 1]}", "m.yml:3: 'x' bucket bounds must be ascending"),
    ],
)
def test_invalid_derivations_are_faults(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m.yml").write_text(f"time: time\nactor: actor\n{text}\n")
    with pytest.raises(FaultsError) as caught:
        load_mapping(str(tmp_path / "m.yml"))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("watchd", "person\n", "no derived field uses a table 'watchd' (did you mean 'watched'?)"),
        ("households", "person,house\nS1,H1\n", "households.csv:1: no column 'household'; there are person, house"),
        ("assignments", "actor\nP1\n", "assignments.csv:1: the key has 2 columns, the header has 1"),
        ("watched", "person,why\nS1\n", "watched.csv:2: 1 columns, the header has 2"),
    ],
)
def test_invalid_tables_are_faults(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / f"{name}.csv").write_text(text)
    with pytest.raises(FaultsError) as caught:
        LookupTables().load(csv_files({name: tmp_path / f"{name}.csv"}), load_mapping("custodes").table_uses())
    assert message in str(caught.value)
