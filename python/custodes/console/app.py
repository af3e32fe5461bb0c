"""Builds the HTTP application: authentication, pages, API and probes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from custodes import __version__
from custodes.accounts.audit import AuditTrail
from custodes.accounts.idempotency_store import IdempotencyStore
from custodes.accounts.secrets import Secrets
from custodes.accounts.self_monitoring import SelfMonitor
from custodes.accounts.store import AccountStore
from custodes.accounts.tokens import TokenStore
from custodes.config import Fault
from custodes.console import api
from custodes.console.audit import pages as audit
from custodes.console.auth.session import AuthenticationMiddleware
from custodes.console.cases import pages as cases
from custodes.console.evidence import exports
from custodes.console.findings import pages as findings
from custodes.console.findings import saved_views
from custodes.console.jobs.backtests import BacktestJob
from custodes.console.jobs.surroundings import SurroundingsJob
from custodes.console.localization import LocaleMiddleware
from custodes.console.middleware.etag import EtagMiddleware
from custodes.console.middleware.idempotency import IdempotencyMiddleware
from custodes.console.middleware.rate_limit import RateLimitMiddleware, RateLimits
from custodes.console.middleware.security_headers import SecurityHeadersMiddleware
from custodes.console.overview import pages as overview
from custodes.console.overview.live import LiveOverview
from custodes.console.people import disclosures
from custodes.console.people import pages as people
from custodes.console.preferences import pages as preferences
from custodes.console.rules import pages as rules
from custodes.console.services import Services
from custodes.console.sign_in import oidc
from custodes.console.sign_in import pages as sign_in
from custodes.console.sign_in.oidc import FederatedSignIn
from custodes.console.silences import pages as silences
from custodes.console.system import pages as system
from custodes.console.system import probes
from custodes.evidence.contributing_events import ContributingEvents
from custodes.evidence.log_store import EvidenceStore
from custodes.findings.silences import SilenceStore
from custodes.findings.triage import TriageStore
from custodes.findings.views import SavedViewStore
from custodes.history import History
from custodes.runtime.monitor import Monitor

_HERE = Path(__file__).parent
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def build_app(
    monitor: Monitor,
    *,
    reload: Callable[[], Sequence[Fault]] | None = None,
    history: History | None = None,
    contributions: ContributingEvents | None = None,
    evidence_store: EvidenceStore | None = None,
    secrets: Secrets | None = None,
    provider: FederatedSignIn | None = None,
    rates: RateLimits | None = None,
    hosts: Sequence[str] = LOOPBACK,
) -> FastAPI:
    """Builds the application for one monitor.

    ``reload`` reloads the configuration and returns its faults. ``secrets`` are the installation's; without them,
    pseudonyms change with each restart. ``provider`` is the OpenID Connect provider for federated sign-in. Without
    ``rates``, requests are not limited. ``hosts`` are the accepted host names while there are no accounts.
    """
    engine = monitor.store.peoples
    trail = AuditTrail(engine)
    watch = SelfMonitor(trail, monitor.store, monitor.tell)
    monitor.metrics.tell_also_of(watch.rules)
    services = Services(
        monitor=monitor,
        secrets=secrets or Secrets.fresh(),
        accounts=AccountStore(engine),
        audit=trail,
        watch=watch,
        triage=TriageStore(engine),
        silences=SilenceStore(engine),
        views=SavedViewStore(engine),
        history=history,
        contributions=contributions,
        evidence_store=evidence_store,
        surroundings=None if history is None else SurroundingsJob(history),
        backtests=None if history is None or contributions is None else BacktestJob(history, contributions),
    )
    app = FastAPI(
        title="Custodes",
        version=__version__,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # both pages load scripts from a CDN
        redoc_url=None,
    )
    app.state.services = services
    app.state.live_overview = LiveOverview(services)
    app.state.federated_sign_in = provider
    app.state.reload = reload
    app.mount("/static", StaticFiles(directory=_HERE / "static"), name="static")
    app.add_middleware(IdempotencyMiddleware, answers=IdempotencyStore(engine))
    app.add_middleware(EtagMiddleware)
    if rates is not None:
        app.add_middleware(RateLimitMiddleware, rates=rates)
    app.add_middleware(
        AuthenticationMiddleware,
        accounts=services.accounts,
        tokens=TokenStore(engine),
        keys=services.secrets,
        hosts=frozenset(hosts),
        is_guarded=provider is not None,
    )
    app.add_middleware(LocaleMiddleware)
    app.add_middleware(SecurityHeadersMiddleware)
    for part in (
        sign_in, overview, cases, findings, rules, system, audit, people, disclosures, exports, silences, saved_views,
        preferences,
    ):  # fmt: skip
        app.include_router(part.router)
    if provider is not None:
        app.include_router(oidc.router)
    app.include_router(api.router)
    app.include_router(probes.router)
    if reload is not None:
        app.include_router(probes.reload_router)
    return app
