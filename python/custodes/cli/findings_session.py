"""What commands about findings share: the database, and the trail of what was looked at."""

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
from custodes.config.model import Config
from custodes.findings import Finding
from custodes.findings.store import FindingStore
from custodes.findings.triage import TriageStore

ConfigPath = Annotated[Path, typer.Option("-c", "--config", help="Configuration file: it says where the database is.")]

_LEAST_BEGINNING = 4
"""Letters of an id that are enough, where they mean one alone."""


@dataclass(frozen=True)
class FindingsSession:
    """What a command about findings works with."""

    settings: Config
    store: FindingStore
    triage: TriageStore
    audit: AuditTrail

    def note(self, action: str, subject: str | None, purpose: str | None) -> None:
        """Puts down what is about to be seen or done."""
        at = int(time.time() * 1e6)
        self.audit.record(AuditEntry(at, getpass.getuser(), action, "custodes.finding", subject, purpose, "terminal"))

    def find(self, beginning: str) -> Finding:
        """Raises :class:`FaultsError` where it is none, or could be several."""
        found = self.store.beginning_with(beginning) if len(beginning) >= _LEAST_BEGINNING else []
        if len(found) != 1:
            what = "is the beginning of several" if found else "is no finding's, nor at least four letters of one"
            raise FaultsError([Fault(f"'{beginning}' {what}", hint="custodes findings list says which there are")])
        return found[0]


@contextmanager
def open_session(config: Path) -> Iterator[FindingsSession]:
    """Opens the database that the configuration names."""
    set_up_log("warning")
    settings = load_config(config)
    store = FindingStore(settings.findings.database, keys_of(settings))
    try:
        yield FindingsSession(settings, store, TriageStore(store.engine), AuditTrail(store.engine))
    finally:
        store.close()
