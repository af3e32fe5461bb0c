"""What pages and API are made from."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from fastapi import Request

from custodes.accounts.audit import AuditTrail, Look
from custodes.accounts.secrets import Secrets
from custodes.accounts.self_monitoring import SelfWatch
from custodes.accounts.store import AccountStore
from custodes.console.auth.pseudonyms import Naming
from custodes.console.auth.session import Grants, Visitor
from custodes.console.jobs.backtests import Backtests
from custodes.console.jobs.surroundings import Surroundings
from custodes.evidence.contributing_events import Behind, EventsBehind
from custodes.evidence.log_store import Vault
from custodes.findings import Finding
from custodes.findings.silences import SilenceStore
from custodes.findings.triage import TriageStore
from custodes.findings.views import ViewStore
from custodes.history import History
from custodes.rules import Rule
from custodes.runtime.monitor import Monitor


@dataclass(frozen=True)
class Parts:
    """Everything a request may need."""

    monitor: Monitor
    secrets: Secrets
    accounts: AccountStore
    audit: AuditTrail
    watch: SelfWatch
    triage: TriageStore
    silences: SilenceStore
    views: ViewStore
    history: History | None
    behind: EventsBehind | None
    vault: Vault | None
    surroundings: Surroundings | None
    backtests: Backtests | None
    grants: Grants = field(default_factory=Grants)

    def naming(self, visitor: Visitor) -> Naming:
        """How people are called where this visitor sees them."""
        return Naming(self.secrets, is_plain=visitor.role is None)

    def note_look(
        self, request: Request, visitor: Visitor, action: str, resource: str, subject: str | None, purpose: str | None
    ) -> None:
        """Puts down what is about to be seen or done."""
        self.put_down(request, visitor.name, action, resource, subject, purpose)

    def put_down(
        self, request: Request, name: str, action: str, resource: str, subject: str | None, purpose: str | None
    ) -> None:
        """As :meth:`note_look`, of somebody who is not signed in, by the name that was given."""
        address = request.client.host if request.client else None
        at = int(time.time() * 1e6)
        self.audit.record(Look(at, name, action, f"custodes.{resource}", subject, purpose, address))
        self.watch.catch_up(at)

    def events_behind(self, finding: Finding) -> Behind | None:
        """What is behind a finding; ``None`` where no history is kept, or its rule is not in force any more."""
        return self.behind.of(finding) if self.behind else None

    @property
    def rules(self) -> Sequence[Rule]:
        """The rules in force, and those by which Custodes watches its own users."""
        return (*self.monitor.rules, *self.watch.rules)
