"""Whatever the names of actor and subject, every finding is stored, also after a restart."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from any_names import (
    assert_a_refused_finding_stops_no_other,
    assert_a_refused_notification_stops_no_other,
    assert_every_finding_is_stored,
    names,
    rules_in,
)
from custodes.database.text import shortened, storable
from custodes.encryption.keys import NO_KEYS, Keys

NUMBERS = itertools.count()
EVENTS = st.lists(st.tuples(names(), names()), min_size=1, max_size=3)


@pytest.mark.parametrize("keys", [NO_KEYS, Keys([("first", b"1" * 32)])], ids=["plain", "encrypted"])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(events=EVENTS)
def test_sqlite_stores_findings_about_any_names(tmp_path: Path, keys: Keys, events: list[tuple[str, str]]) -> None:
    url = f"sqlite:///{tmp_path / f'{next(NUMBERS)}.db'}"
    assert_every_finding_is_stored(url, rules_in(tmp_path), events, keys)


def test_a_refused_finding_stops_no_other(tmp_path: Path) -> None:
    assert_a_refused_finding_stops_no_other(f"sqlite:///{tmp_path / 'findings.db'}", rules_in(tmp_path))


def test_a_refused_notification_stops_no_other(tmp_path: Path) -> None:
    assert_a_refused_notification_stops_no_other(f"sqlite:///{tmp_path / 'findings.db'}", rules_in(tmp_path))


@given(text=st.text(st.characters()))
def test_storable_text_is_utf_8_without_nul_and_otherwise_the_same(text: str) -> None:
    stored = storable(text)
    stored.encode()
    assert "\0" not in stored
    assert stored == "".join("\ufffd" if char == "\0" or "\ud800" <= char <= "\udfff" else char for char in text)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(name=names().map(storable), other=names().map(storable))
def test_a_shortened_name_fits_and_stays_distinct(name: str, other: str) -> None:
    short = shortened(name, 400)
    assert len(short.encode()) <= 400
    assert (shortened(other, 400) == short) == (other == name)
