"""Services of pages and API, as a FastAPI dependency."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from custodes.accounts.audit import AuditEntry, AuditTrail
from custodes.accounts.secrets import Secrets
from custodes.accounts.self_monitoring import SelfMonitor
from custodes.accounts.store import AccountStore
from custodes.console.auth.pseudonyms import LinkedPseudonyms
from custodes.console.auth.session import Caller, PurposeGrants
from custodes.console.jobs.backtests import BacktestJob
from custodes.console.jobs.surroundings import SurroundingsJob
from custodes.evidence.contributing_events import ContributingEvents, Contribution
from custodes.evidence.log_store import EvidenceStore
from custodes.findings import Finding
from custodes.findings.silences import SilenceStore
from custodes.findings.triage import TriageStore
from custodes.findings.views import SavedViewStore
from custodes.history import History
from custodes.rules import Rule
from custodes.runtime.monitor import Monitor


@dataclass(frozen=True)
class Services:
    """Stores and jobs that request handlers use."""

    monitor: Monitor
    secrets: Secrets
    accounts: AccountStore
    audit: AuditTrail
    watch: SelfMonitor
    triage: TriageStore
    silences: SilenceStore
    views: SavedViewStore
    history: History | None
    contributions: ContributingEvents | None
    evidence_store: EvidenceStore | None
    surroundings: SurroundingsJob | None
    backtests: BacktestJob | None
    grants: PurposeGrants = field(default_factory=PurposeGrants)

    def naming(self, visitor: Caller) -> LinkedPseudonyms:
        """Returns the names that this visitor sees: plain without accounts, else pseudonyms."""
        return LinkedPseudonyms(self.secrets, is_plain=visitor.role is None)

    def record_access(
        self, request: Request, visitor: Caller, action: str, resource: str, subject: str | None, purpose: str | None
    ) -> None:
        """Writes an entry to the audit trail, before the access or action."""
        self.record_access_by_name(request, visitor.name, action, resource, subject, purpose)

    def record_access_by_name(
        self, request: Request, name: str, action: str, resource: str, subject: str | None, purpose: str | None
    ) -> None:
        """Writes an audit entry under ``name``, for callers that are not signed in."""
        address = request.client.host if request.client else None
        at = int(time.time() * 1e6)
        self.audit.record(AuditEntry(at, name, action, f"custodes.{resource}", subject, purpose, address))
        self.watch.catch_up(at)

    def contribution_of(self, finding: Finding) -> Contribution | None:
        """Returns the events behind a finding; ``None`` without history, or if its rule is no longer active."""
        return self.contributions.of(finding) if self.contributions else None

    @property
    def rules(self) -> Sequence[Rule]:
        """Active rules, including those that monitor the users of Custodes."""
        return (*self.monitor.rules, *self.watch.rules)


def services_of(request: Request) -> Services:
    """Returns the application's services."""
    services: Services = request.app.state.services
    return services


Provided = Annotated[Services, Depends(services_of)]
"""Route parameter for the services."""
