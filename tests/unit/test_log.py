"""The log: what an unforeseen error leaves there, and what not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from custodes.cli.log import set_up_log


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_traceback_has_lines_of_the_program_and_nothing_of_what_it_held(
    style: str, capsys: pytest.CaptureFixture[str]
) -> None:
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
