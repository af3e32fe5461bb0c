"""Files in deploy/ are valid by the servers' own tools, and every alert has a runbook."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards import dashboards
from servers import ROOT, program

pytestmark = pytest.mark.services

DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "rules" / "custodes.yml"
RULE_TESTS = sorted(RULES.parent.glob("*_test.yml"))


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("promtool", ["check", "config", DEPLOY / "prometheus" / "prometheus.yml"]),
        ("promtool", ["check", "rules", RULES]),
        ("promtool", ["test", "rules", *RULE_TESTS]),
        ("amtool", ["check-config", DEPLOY / "alertmanager" / "alertmanager.yml"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_valid(tool: str, arguments: list[str]) -> None:
    done = subprocess.run([program(tool), *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_runbook_and_a_unit_test() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbooks.md").read_text(), re.MULTILINE)
    tested = "".join(path.read_text() for path in RULE_TESTS)
    for rule in rules:
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks.md#{rule['alert'].lower()}"
        assert rule["alert"] in headings
        assert f"alertname: {rule['alert']}\n        exp_alerts:" in tested


def test_the_service_is_valid_and_hardened() -> None:
    unit = DEPLOY / "systemd" / "custodes.service"
    command = [str(program("systemd-analyze")), "security", "--offline=yes", "--threshold=20", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    verify = [str(program("systemd-analyze")), "verify", str(unit)]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    # The executable is not installed here; other messages would be faults.
    told = [line for line in done.stderr.splitlines() if "is not executable: No such file" not in line]
    assert [line for line in told if "custodes.service" in line] == []


def panels() -> list[tuple[str, dict[str, Any]]]:
    return [
        (name, panel)
        for name, text in dashboards().items()
        for panel in json.loads(text)["panels"]
        if panel["type"] != "row"
    ]


def test_dashboards_are_up_to_date() -> None:
    for name, text in dashboards().items():
        assert (DEPLOY / "grafana" / name).read_text() == text, "run make docs"
    assert len({json.loads(text)["uid"] for text in dashboards().values()}) == 2


def test_dashboards_use_existing_metrics(tmp_path: Path) -> None:
    """Every expression is valid for Prometheus' parser and uses existing metrics."""
    rules = []
    for number, (_, panel) in enumerate(panels()):
        assert panel["description"]
        assert panel["datasource"]["uid"] == "${datasource}"
        (target,) = panel["targets"]
        rules.append({"record": f"panel:{number}", "expr": target["expr"]})
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    command = [str(program("promtool")), "check", "rules", str(tmp_path / "panels.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    used = {name for rule in rules for name in re.findall(r"custodes_[a-z_]+", rule["expr"])}
    documented = set(re.findall(r"`(custodes_[a-z_]+)", (ROOT / "docs" / "reference" / "metrics.md").read_text()))
    assert {name.removesuffix("_bucket") for name in used} <= documented


def test_no_panels_overlap() -> None:
    for name in dashboards():
        cells: set[tuple[int, int]] = set()
        for panel in [panel for where, panel in panels() if where == name]:
            at = panel["gridPos"]
            assert at["x"] + at["w"] <= 24
            its = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert not its & cells, panel["title"]
            cells |= its


def test_alerts_use_only_existing_metrics() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    used = {name for rule in rules for name in re.findall(r"custodes_[a-z_]+", rule["expr"])}
    documented = set(re.findall(r"`(custodes_[a-z_]+)", (ROOT / "docs" / "reference" / "metrics.md").read_text()))
    assert used
    assert used <= documented
