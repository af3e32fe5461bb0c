"""What deploy/ ships is valid by the servers' own tools, and every alert has its runbook."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml

from servers import ROOT, program

pytestmark = pytest.mark.services

DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "rules" / "custodes.yml"


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("promtool", ["check", "config", DEPLOY / "prometheus" / "prometheus.yml"]),
        ("promtool", ["check", "rules", RULES]),
        ("promtool", ["test", "rules", DEPLOY / "prometheus" / "rules" / "custodes_test.yml"]),
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
    tested = (RULES.parent / "custodes_test.yml").read_text()
    for rule in rules:
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks.md#{rule['alert'].lower()}"
        assert rule["alert"] in headings
        assert f"alertname: {rule['alert']}\n        exp_alerts:" in tested


def test_alerts_use_only_metrics_there_are() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    used = {name for rule in rules for name in re.findall(r"custodes_[a-z_]+", rule["expr"])}
    documented = set(re.findall(r"`(custodes_[a-z_]+)", (ROOT / "docs" / "reference" / "metrics.md").read_text()))
    assert used
    assert used <= documented
