"""Whole numbers in rules are exact, however many digits they have."""

from __future__ import annotations

from pathlib import Path

import pytest

from custodes._core import Engine
from custodes.authoring.explain import explain
from custodes.config.mapping import load_mapping
from custodes.rules import build_plan, load_rules
from rule_texts import detection

CASES = Path(__file__).parents[1] / "fixtures" / "rules" / "faults"
ID = 410105199001011234
"""The nearest float is 410105199001011264."""
LIMIT = 2**53


def actors(rules: Path, events: bytes) -> list[str]:
    """Returns the actors of the findings of events, in JSON lines."""
    engine = Engine(build_plan(load_rules([rules]), load_mapping("custodes")))
    return sorted({change.group[0] for change in engine.process_lines(events).changes})


def matching(folder: Path, selection: str, field: str, *numbers: str) -> list[str]:
    """Returns the numbers, in JSON notation, of the events that a selection matches."""
    (folder / "rules.yml").write_text(detection("Numbers", selection))
    lines = [f'{{"time":1767600000,"actor":"{n}","{field}":{number}}}' for n, number in enumerate(numbers)]
    return [numbers[int(actor)] for actor in actors(folder / "rules.yml", "\n".join(lines).encode())]


def test_an_identity_number_without_quotes_finds_that_one_alone() -> None:
    assert actors(CASES / "id-number.yml", (CASES / "id-number.jsonl").read_bytes()) == ["looked-at-the-minister"]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (f"{{n: {LIMIT + 1}}}", [str(LIMIT + 1)]),
        (f"{{n: {-LIMIT - 1}}}", [str(-LIMIT - 1)]),
        (f"{{n: [{LIMIT}, {LIMIT + 2}]}}", [str(LIMIT), str(LIMIT + 2)]),
        (f"{{n|gt: {LIMIT}}}", [str(LIMIT + 1), str(LIMIT + 2)]),
        (f"{{n|gte: {LIMIT + 1}}}", [str(LIMIT + 1), str(LIMIT + 2)]),
        (f"{{n|lt: {LIMIT + 1}, n|gt: 7}}", [str(LIMIT)]),
        (f"{{n|lte: {-LIMIT - 1}}}", [str(-LIMIT - 1)]),
        (f"{{n|neq: {LIMIT + 1}, n|gte: {LIMIT}}}", [str(LIMIT), str(LIMIT + 2)]),
        ("{n: 7}", ["7", "7.0"]),
        ("{n: 7.0}", ["7", "7.0"]),
    ],
)
def test_numbers_beyond_those_of_floats(tmp_path: Path, selection: str, expected: list[str]) -> None:
    numbers = [str(-LIMIT - 1), str(-LIMIT), "7", "7.0", str(LIMIT), str(LIMIT + 1), str(LIMIT + 2)]
    assert matching(tmp_path, selection, "n", *numbers) == expected


@pytest.mark.parametrize("selection", [f"{{subject: {ID}}}", f"{{subject: ['x', {ID}]}}", f"[{ID}]"])
def test_texts_and_numbers_of_an_identity(tmp_path: Path, selection: str) -> None:
    others = (str(ID + 30), f'"{ID + 30}"')
    assert matching(tmp_path, selection, "subject", str(ID), f'"{ID}"', *others) == [str(ID), f'"{ID}"']


def test_numbers_in_filters_and_in_conditions_of_pipelines(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yml"
    numbers = detection("Numbers", "{n: '*'}").removeprefix("---\n")
    events = "\n".join(f'{{"time":1767600000,"actor":"{n}","n":{n}}}' for n in (ID, ID + 30)).encode()
    rules.write_text(
        f"{numbers}---\ntitle: Not this one\nlogsource: {{product: custodes}}\n"
        f"filter: {{rules: any, selection: {{n: {ID}}}, condition: not selection}}\n"
    )
    assert actors(rules, events) == [str(ID + 30)]
    rules.write_text(f"{numbers}---\ntransformations: [{{type: add_condition, conditions: {{n: {ID}}}}}]\n")
    assert actors(rules, events) == [str(ID)]


@pytest.mark.parametrize(
    ("test", "text"),
    [
        (f"subject: {ID}", f"subject = {ID}"),
        (f"n|gte: {LIMIT + 1}", f"n ≥ {LIMIT + 1}"),
        ("n: 12345678", "n = 12345678"),
        ("n|lt: 0.25", "n < 0.25"),
        ("time|hour|gte: 20", "hour of time ≥ 20"),
    ],
)
def test_an_explanation_shows_all_digits(tmp_path: Path, test: str, text: str) -> None:
    path = tmp_path / "rules.yml"
    path.write_text(detection("Numbers", f"{{{test}}}"))
    (rule,) = load_rules([path])
    explanation = explain(rule, load_mapping("custodes"), b'{"time":1767600000,"actor":"A","n":1,"subject":1}')
    assert [part.text for part in explanation.parts] == [text]
