"""Findings as rows of their table."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy.engine import RowMapping

from custodes.encryption.keys import group_text
from custodes.findings.model import Finding


def row_of(finding: Finding) -> dict[str, Any]:
    """The column of ``expected`` has the older name ``usual``."""
    group = group_text(finding.group)
    values = {**vars(finding), "group": group, "group_digest": group, "spelling": group_text(finding.spelling)}
    return {"usual" if name == "expected" else name: value for name, value in values.items()}


def finding_of(row: RowMapping) -> Finding:
    fields = {name: value for name, value in row.items() if name != "group_digest"}
    return Finding.read(fields | {name: json.loads(row[name]) for name in ("group", "spelling")})
