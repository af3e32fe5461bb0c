"""A reload applies changed rules; with a fault, nothing changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from custodes.cli.reload import ConfigReloader
from custodes.config.load import load_config
from custodes.rules import load_rules
from custodes.sources.lookup_tables import LookupTables
from harness import MonitorHarness
from rule_texts import detection

CORRELATION = """\
---
title: Many reads
correlation: {type: event_count, rules: [reads], group-by: [actor], timespan: 1h, condition: {gte: 3}}
"""
RULES = detection("Reads", "{action: read}") + CORRELATION


class Reloads:
    """A harness whose configuration is in a folder."""

    def __init__(self, folder: Path) -> None:
        self.rules = folder / "rules.yml"
        self.rules.write_text(RULES)
        config = folder / "custodes.yaml"
        config.write_text(f"source: {{file: {{paths: ['-']}}}}\nrules: ['{self.rules}']\n")
        self.bench = MonitorHarness(folder, load_rules([self.rules]))
        self.reload = ConfigReloader(config, load_config(config), self.bench.monitor, LookupTables())

    def __call__(self) -> list[str]:
        """Reloads while the monitor runs, and returns the faults."""
        faults: list[str] = []
        thread = threading.Thread(target=lambda: faults.extend(map(str, self.reload())))
        thread.start()
        while thread.is_alive():
            self.bench.monitor.step(0)
            thread.join(0.01)
        return faults

    @property
    def titles(self) -> list[str]:
        return [rule.title for rule in self.bench.monitor.rules]

    @property
    def has_failed(self) -> bool:
        (family,) = self.bench.monitor.metrics.reload_failed.collect()
        return bool(family.samples[0].value)


@pytest.fixture
def reloads(tmp_path: Path) -> Iterator[Reloads]:
    reloads = Reloads(tmp_path)
    yield reloads
    reloads.bench.close()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("group-by", "group_by"),
        ("[reads]", "[]"),
        ("[reads]", "[reads, reads]"),
        ("{gte: 3}", "{gte: 5, lte: 3}"),
        ("{gte: 3}", "{}"),
        ("{action: read}", "{action: []}"),
        ("{action: read}", "{actor: ''}"),
        ("{action: read}", "{5: x}"),
        ("logsource", "logsorce"),
        ("title: Many", "custdoes: {}\ntitle: Many"),
    ],
)
def test_rules_that_bind_nothing_are_not_applied(reloads: Reloads, before: str, after: str) -> None:
    assert before in RULES
    reloads.rules.write_text(RULES.replace(before, after))
    (fault, *_) = reloads()
    assert fault.startswith(f"{reloads.rules}:")
    assert (reloads.titles, reloads.has_failed) == (["Many reads"], True)
    reloads.rules.write_text(RULES.replace("Many reads", "Very many reads"))
    assert reloads() == []
    assert (reloads.titles, reloads.has_failed) == (["Very many reads"], False)


def test_malformed_metadata_is_logged_and_the_rules_are_applied(
    reloads: Reloads, capfd: pytest.CaptureFixture[str]
) -> None:
    reloads.rules.write_text(f"tags: [bad]{RULES.removeprefix('---')}")
    assert reloads() == []
    assert (reloads.titles, reloads.has_failed) == (["Many reads"], False)
    assert "the tag 'bad' has no namespace" in "".join(capfd.readouterr())
