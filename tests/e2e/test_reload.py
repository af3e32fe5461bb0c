"""A reload of rules that bind nothing keeps the rules in force and says so: answer, metric and log."""

from __future__ import annotations

import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from servers import CUSTODES, Server, free_port, get

RULES = """\
title: Reads
name: reads
logsource: {product: custodes}
detection: {selection: {action: read}, condition: selection}
---
title: Many reads
correlation: {type: event_count, rules: [reads], group-by: [actor], timespan: 1h, condition: {gte: 3}}
"""
UNNAMED_FILTER = """\
---
title: Not by services
logsource: {product: custodes}
filter: {rules: [raeds], selection: {actor|startswith: svc-}, condition: not selection}
"""
CASES = sorted((Path(__file__).parents[1] / "fixtures" / "rules" / "crashes").iterdir())


class RunningMonitor:
    """A process that waits for events from a pipe."""

    def __init__(self, folder: Path, rules: str) -> None:
        address = f"127.0.0.1:{free_port()}"
        self.base = f"http://{address}"
        self.rules = folder / "rules.yml"
        self.rules.write_text(rules)
        os.mkfifo(folder / "events")
        (folder / "custodes.yaml").write_text(
            f"source: {{file: {{paths: [events]}}}}\nhttp: {{listen: '{address}'}}\nrules: [rules.yml]\n"
        )
        self.server = Server(folder / "log", [CUSTODES, "run", "-c", folder / "custodes.yaml"])

    def reload(self) -> tuple[int, str]:
        """Returns the status and the text of the answer to a request to reload."""
        request = urllib.request.Request(f"{self.base}/-/reload", method="POST")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()

    def has(self, sample: str) -> bool:
        """Returns whether the metrics have a line."""
        return sample in get(f"{self.base}/metrics").splitlines()


@contextmanager
def running(folder: Path, rules: str = RULES) -> Iterator[RunningMonitor]:
    monitor = RunningMonitor(folder, rules)
    try:
        with (folder / "events").open("wb"):
            monitor.server.wait_for("the metrics", lambda: get(f"{monitor.base}/metrics"))
            yield monitor
    finally:
        monitor.server.kill()


def faulty() -> Iterator[tuple[str, str]]:
    """Yields rule files with one fault each, and a part of its message."""
    yield RULES.replace("group-by", "group_by"), "unknown key 'correlation.group_by' (did you mean 'group-by'?)"
    yield RULES.replace("[reads]", "[]"), "'correlation.rules' is empty"
    yield RULES.replace("[reads]", "[reads, reads]"), "'reads' is in 'correlation.rules' twice"
    yield RULES.replace("{gte: 3}", "{gte: 5, lte: 3}"), "the condition can never hold"
    yield RULES.replace("action: read", "action: []"), "'action' is an empty list"
    yield RULES.replace("action: read", "actor: ''"), "'actor' is never empty"
    yield RULES + UNNAMED_FILTER, "no rule 'raeds' (did you mean 'reads'?)"
    for case in CASES:
        yield case.read_text(), "rules.yml:"


@pytest.mark.timeout(120)
def test_a_reload_with_a_fault_keeps_the_rules_in_force(tmp_path: Path) -> None:
    with running(tmp_path) as monitor:
        assert monitor.has("custodes_reload_failed 0.0")
        for text, message in faulty():
            monitor.rules.write_text(text)
            status, answer = monitor.reload()
            assert (status, message in answer) == (400, True), answer
            assert monitor.has("custodes_reload_failed 1.0")
            assert monitor.has('custodes_engine_groups{rule="Many reads"} 0.0')
        assert "Traceback" not in monitor.server.log.read_text()


@pytest.mark.timeout(60)
def test_a_signal_reports_the_fault(tmp_path: Path) -> None:
    with running(tmp_path) as monitor:
        monitor.rules.write_text(RULES.replace("group-by", "group_by"))
        monitor.server.process.send_signal(signal.SIGHUP)
        monitor.server.wait_for("the fault", lambda: monitor.has("custodes_reload_failed 1.0"))
        log = monitor.server.log.read_text()
        assert "reload_failed" in log
        assert "unknown key 'correlation.group_by'" in log
        assert monitor.has('custodes_engine_groups{rule="Many reads"} 0.0')


@pytest.mark.timeout(60)
def test_warnings_are_logged_at_the_start(tmp_path: Path) -> None:
    with running(tmp_path, f"tags: [bad]\n{RULES}") as monitor:
        log = monitor.server.log.read_text()
        assert "rule_file_warning" in log
        assert "rules.yml:1: the tag 'bad' has no namespace" in log
