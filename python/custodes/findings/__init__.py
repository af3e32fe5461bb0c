"""Findings: what people triage. The engine reports changes; these are kept, joined and listed here.

The store (``custodes.findings.store``) is imported by its own name: it brings a database along.
"""

from custodes.findings.accumulator import FindingAccumulator
from custodes.findings.gaps import MissedRecords
from custodes.findings.model import Finding, rfc3339
from custodes.findings.shortfalls import Shortfall

__all__ = ["Finding", "FindingAccumulator", "MissedRecords", "Shortfall", "rfc3339"]
