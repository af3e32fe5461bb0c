"""Each malformed rule file gives a fault with a line, never an exception."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from custodes.config import Fault, FaultsError
from custodes.rules import load_rules

DETECTION = {
    "title": "t",
    "name": "t",
    "logsource": {"product": "x"},
    "detection": {"s": {"a|contains": "b"}, "condition": "s"},
    "level": "low",
}
CORRELATION = {
    "title": "c",
    "correlation": {
        "type": "value_count",
        "rules": ["t"],
        "group-by": ["actor"],
        "timespan": "1h",
        "condition": {"gte": 1, "field": "subject"},
    },
    "custodes": {"keep_open": "1h"},
}
words = st.sampled_from(["", "s", "t", "1h", "9" * 30 + "y", "*", "a|b"])
keys = st.sampled_from(["s", "a|re", "gte", "x"])
junk = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**12) | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=2),
    max_leaves=4,
)


def places(data: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Returns the positions of all values in ``data``, itself first."""
    children = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [at, *(place for key, value in children for place in places(value, (*at, key)))]


@given(st.data(), st.sampled_from([0, 1]), junk)
@settings(max_examples=400)
def test_any_value_at_any_place_of_a_rule(data: st.DataObject, which: int, value: Any) -> None:
    documents = json.loads(json.dumps([DETECTION, CORRELATION]))
    *way, last = data.draw(st.sampled_from(places(documents[which])[1:]))
    spot = documents[which]
    for key in way:
        spot = spot[key]
    spot[last] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rule.yml"
        path.write_text("\n---\n".join(json.dumps(document) for document in documents))
        faults: list[Fault] = []
        try:
            load_rules([path])
        except FaultsError as error:
            faults = error.faults
    assert all(fault.line and fault.message for fault in faults)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [*a]", "1: an alias that contains itself"),
        ("? [a]\n: b", "1: a key must be plain text"),
        ("a: [", "not YAML"),
        ("- a", "1: a rule is a YAML mapping"),
    ],
)
def test_odd_yaml(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "rule.yml").write_text(text)
    with pytest.raises(FaultsError, match=message):
        load_rules([tmp_path / "rule.yml"])


def test_aliases_do_not_explode(tmp_path: Path) -> None:
    layers = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    (tmp_path / "rule.yml").write_text("a0: &a0 x\n" + layers)
    with pytest.raises(FaultsError):
        load_rules([tmp_path / "rule.yml"])
