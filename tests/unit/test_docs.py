"""Checks of the documentation: links, targets, tests, examples, the site."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

from custodes.authoring import find_test_files, run_tests

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted(p for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_up_to_date() -> None:
    for name, text in generator().pages().items():
        written = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
        assert written == text, f"docs/reference/{name} is out of date; run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_make_targets_named_in_the_docs_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"`make ([a-z-]+)`", page.read_text(encoding="utf-8")))
        assert named <= targets, page.name


def test_each_fault_has_a_test_a_metric_an_alert_and_a_runbook() -> None:
    tests = {
        name
        for path in ROOT.glob("tests/**/test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    metrics = set(re.findall(r"`(custodes_\w+)`", (ROOT / "docs/reference/metrics.md").read_text())) | {"up"}
    alerts = (ROOT / "deploy/prometheus/rules/custodes.yml").read_text()
    rows = [line for line in (ROOT / "docs/faults.md").read_text().splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 20
    for row in rows:
        fault, _, metric, alert, test = (cell.strip() for cell in row.strip("|").split("|"))
        assert metric.strip("`") in metrics, fault
        name = re.findall(r"^\[(\w+)\]\(runbooks\.md#(\w+)\)$", alert)[0]
        assert name[0].lower() == name[1], fault
        (rule,) = re.findall(rf"- alert: {name[0]}\n((?:(?!- alert:)[\s\S])*)", alerts)
        assert metric.strip("`") in rule or fault == "killed" or "worker" in fault, f"{name[0]} asks for no {metric}"
        assert test.split()[0].strip("`") in tests, fault


def test_the_examples_hold() -> None:
    files = find_test_files([ROOT / "docs" / "examples"])
    assert files
    assert [result for path in files for result in run_tests(path) if result.failures] == []


def test_the_site_builds_and_loads_nothing_from_other_hosts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.glob("**/*.html"))
    assert len(pages) > 30
    for page in pages:
        loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=\"?(https?:[^\"\s>]+)", page.read_text())
        assert loaded == [], page


def test_the_commands_after_the_demo_work_as_the_readme_writes_them(tmp_path: Path) -> None:
    """As pasted into a shell in the checkout, after ``make demo`` has made the environment."""
    blocks = re.findall(r"((?:^    .*\n)+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    (replay,) = [textwrap.dedent(block) for block in blocks if "custodes replay" in block]
    (run,) = [textwrap.dedent(block) for block in blocks if "custodes run" in block]
    check = "".join(line for line in run.splitlines(keepends=True) if not line.startswith("custodes run"))
    for name in (".venv", "deploy"):
        (tmp_path / name).symlink_to(ROOT / name)
    environment = {name: value for name, value in os.environ.items() if name not in ("PATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", replay + check],
        cwd=tmp_path,
        env={**environment, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert re.search(r"^events +1$", done.stderr, re.MULTILINE), done.stderr
    # No broker runs here, so reaching it is the only fault that the check reports.
    assert "cannot reach Kafka at localhost:9092" in done.stderr
    assert "command not found" not in done.stderr
    assert "Traceback" not in done.stderr
