"""Writes the table of disguises into docs/detection.md: `PYTHONPATH=tests python tests/disguise_table.py`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from custodes.findings import Finding
from custodes.rules import load_rules, shipped_pack
from disguised_runs import insiders_findings
from disguises import DISGUISES, Disguise

PAGE = Path(__file__).parents[1] / "docs" / "detection.md"
BEGIN, END = "<!-- disguises: begin -->\n", "<!-- disguises: end -->\n"


def row(disguise: Disguise, found: Sequence[Finding]) -> str:
    """Returns the line of the table for a disguise and the findings that name the insider."""
    rules = ", ".join(dict.fromkeys(finding.rule for finding in found))
    return f"| {disguise.kind} | {disguise.name} | {rules or f'none: {disguise.names_nobody}'} |"


def main() -> None:
    rules = load_rules(shipped_pack())
    with tempfile.TemporaryDirectory() as folder:
        rows = [row(disguise, insiders_findings(rules, disguise, Path(folder))) for disguise in DISGUISES]
    table = "\n".join(["| kind | disguise | found by |", "| --- | --- | --- |", *rows, ""])
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + table + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main()
