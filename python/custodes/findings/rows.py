"""Findings as rows of their table."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy.engine import RowMapping

from custodes.encryption.keys import group_text
from custodes.findings.model import Finding


def row_of(finding: Finding) -> dict[str, Any]:
    return {**vars(finding), "group": group_text(finding.group)}


def finding_of(row: RowMapping) -> Finding:
    return Finding(**{**row, "group": json.loads(row["group"])})
