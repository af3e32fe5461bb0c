"""Findings: the unit of triage. The engine reports changes; this package stores, joins and lists them.

The store (``custodes.findings.store``) is imported by its own name, because it imports the database packages.
"""

from custodes.findings.accumulator import FindingAccumulator
from custodes.findings.gaps import MissedRecords
from custodes.findings.model import Finding, rfc3339
from custodes.findings.shortfalls import Shortfall

__all__ = ["Finding", "FindingAccumulator", "MissedRecords", "Shortfall", "rfc3339"]
