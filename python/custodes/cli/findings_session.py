"""Database and audit trail, for commands about findings."""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from custodes.accounts.audit import AuditEntry, AuditTrail
from custodes.cli.encryption import keys_of
from custodes.cli.log import set_up_log
from custodes.config import Fault, FaultsError
from custodes.config.load import load_config
from custodes.config.mapping import load_mapping
from custodes.config.model import Config
from custodes.findings import Finding
from custodes.findings.store import FindingStore
from custodes.findings.triage import TriageStore

ConfigPath = Annotated[Path, typer.Option("-c", "--config", help="Configuration file, which names the database.")]

_SHORTEST_PREFIX = 4
"""Shortest accepted prefix of an id."""


@dataclass(frozen=True)
class FindingsSession:
    """Stores for a command about findings."""

    settings: Config
    store: FindingStore
    triage: TriageStore
    audit: AuditTrail

    def note(self, action: str, subject: str | None, purpose: str | None) -> None:
        """Writes an entry to the audit trail, before the access or action."""
        at = int(time.time() * 1e6)
        self.audit.record(AuditEntry(at, getpass.getuser(), action, "custodes.finding", subject, purpose, "terminal"))

    def find(self, prefix: str) -> Finding:
        """Returns the finding with this id prefix. Raises :class:`FaultsError` if none or several match."""
        found = self.store.beginning_with(prefix) if len(prefix) >= _SHORTEST_PREFIX else []
        if len(found) != 1:
            problem = (
                "matches several findings"
                if found
                else "is not the id of a finding, or a prefix with at least four characters"
            )
            raise FaultsError([Fault(f"'{prefix}' {problem}", hint="custodes findings list shows the ids")])
        return found[0]


@contextmanager
def open_session(config: Path) -> Iterator[FindingsSession]:
    """Opens the database that the configuration names."""
    set_up_log("warning")
    settings = load_config(config)
    store = FindingStore(settings.findings.database, keys_of(settings))
    store.forms = load_mapping(settings.mapping, settings.event_time.zone).normal_forms
    try:
        yield FindingsSession(settings, store, TriageStore(store.engine), AuditTrail(store.engine))
    finally:
        store.close()
