"""The log: content of an unexpected error's traceback."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

import custodes
from custodes.cli.log import set_up_log
from custodes.log_events import CustodesStopped, RecordsMissed, all_events, fields_of


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_traceback_has_source_lines_but_no_values(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_log(style=style)
    log = structlog.get_logger("custodes.test")

    def look(actor: str) -> None:
        raise ValueError(f"no {len(actor)}")

    try:
        look("P0042-the-insider")
    except ValueError:
        log.exception("it failed")
    told = capsys.readouterr().err
    assert "it failed" in told
    assert "raise ValueError" in told
    assert "P0042" not in told.replace('look("P0042-the-insider")', "").replace('look(\\"P0042-the-insider\\")', "")


def test_an_event_is_logged_by_its_name_with_its_fields_and_last_its_consequence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_up_log(style="json")
    RecordsMissed(records=7, place={"topic": "access", "partition": 3}).emit()
    logged = json.loads(capsys.readouterr().err)
    assert logged["event"] == "records_missed"
    assert logged["level"] == "error"
    assert (logged["records"], logged["topic"], logged["partition"]) == (7, "access", 3)
    assert logged["consequence"] == RecordsMissed.consequence


def test_an_event_below_the_configured_level_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_log(level="warning", style="json")
    CustodesStopped(events=1).emit()
    assert capsys.readouterr().err == ""


def test_every_event_has_a_name_of_its_own_a_meaning_and_no_field_that_names_a_person() -> None:
    events = list(all_events())
    assert len(events) > 40
    assert len({event.name for event in events}) == len(events)
    for event in events:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", event.name)
        assert event.__doc__ is not None, event.name
        assert event.__doc__.endswith("."), event.name
        assert {"actor", "subject", "group"}.isdisjoint(field.name for field in fields_of(event)), event.name
        if event.level in ("warning", "error", "critical"):
            assert event.consequence, f"{event.name} does not say what follows"


def test_nothing_is_logged_but_defined_events() -> None:
    package = Path(custodes.__file__).parent
    writers = [
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"^\s*(import structlog|from structlog)", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert sorted(writers) == ["cli/log.py", "log_events.py"]
