"""The HTTP application, put together: the door, the pages, the API and the probes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from custodes import __version__
from custodes.accounts.audit import AuditTrail
from custodes.accounts.idempotency_store import AnswerStore
from custodes.accounts.secrets import Secrets
from custodes.accounts.self_monitoring import SelfWatch
from custodes.accounts.store import AccountStore
from custodes.accounts.tokens import TokenStore
from custodes.config import Fault
from custodes.console.api import api
from custodes.console.auth.session import Door
from custodes.console.evidence.exports import add_handing_on
from custodes.console.findings.saved_views import add_saved_views
from custodes.console.jobs.backtests import Backtests
from custodes.console.jobs.surroundings import Surroundings
from custodes.console.localization import Manners
from custodes.console.middleware.etag import KnownAnswers
from custodes.console.middleware.idempotency import OnceOnly
from custodes.console.middleware.rate_limit import Rates, Sparing
from custodes.console.middleware.security_headers import SecurityHeaders
from custodes.console.pages import add_pages
from custodes.console.people.pages import add_people
from custodes.console.preferences import add_preferences
from custodes.console.services import Parts
from custodes.console.sign_in.oidc import Elsewhere
from custodes.console.sign_in.pages import add_signing
from custodes.console.silences.pages import add_silencing
from custodes.console.system.probes import probes
from custodes.evidence.contributing_events import EventsBehind
from custodes.evidence.log_store import Vault
from custodes.findings.silences import SilenceStore
from custodes.findings.triage import TriageStore
from custodes.findings.views import ViewStore
from custodes.history import History
from custodes.runtime.monitor import Monitor

_HERE = Path(__file__).parent
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def build_app(
    monitor: Monitor,
    *,
    reload: Callable[[], Sequence[Fault]] | None = None,
    history: History | None = None,
    behind: EventsBehind | None = None,
    vault: Vault | None = None,
    secrets: Secrets | None = None,
    provider: Elsewhere | None = None,
    rates: Rates | None = None,
    hosts: Sequence[str] = LOOPBACK,
) -> FastAPI:
    """The application for one monitor.

    ``reload`` reads the configuration again and says what is wrong with it. ``vault`` has the evidence. ``secrets`` are
    the installation's; without them pseudonyms are others after a restart. ``provider`` is where people sign in who
    have no password here. ``rates`` is how often somebody may ask: without, any. ``hosts`` are the names it serves
    under while there are no accounts.
    """
    engine = monitor.store.peoples
    trail = AuditTrail(engine)
    watch = SelfWatch(trail, monitor.store, monitor.tell)
    monitor.metrics.tell_also_of(watch.rules)
    parts = Parts(
        monitor=monitor,
        secrets=secrets or Secrets.fresh(),
        accounts=AccountStore(engine),
        audit=trail,
        watch=watch,
        triage=TriageStore(engine),
        silences=SilenceStore(engine),
        views=ViewStore(engine),
        history=history,
        behind=behind,
        vault=vault,
        surroundings=None if history is None else Surroundings(history),
        backtests=None if history is None or behind is None else Backtests(history, behind),
    )
    app = FastAPI(
        title="Custodes",
        version=__version__,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # both would load scripts from elsewhere
        redoc_url=None,
    )
    app.state.secrets = parts.secrets
    app.mount("/static", StaticFiles(directory=_HERE / "static"), name="static")
    app.add_middleware(OnceOnly, answers=AnswerStore(engine))
    app.add_middleware(KnownAnswers)
    if rates is not None:
        app.add_middleware(Sparing, rates=rates)
    app.add_middleware(
        Door,
        accounts=parts.accounts,
        tokens=TokenStore(engine),
        keys=parts.secrets,
        hosts=frozenset(hosts),
        is_guarded=provider is not None,
    )
    app.add_middleware(Manners)
    app.add_middleware(SecurityHeaders)
    add_signing(app, parts, provider)
    add_pages(app, parts)
    add_people(app, parts)
    add_handing_on(app, parts)
    add_silencing(app, parts)
    add_saved_views(app, parts)
    add_preferences(app, parts)
    app.include_router(api(parts))
    app.include_router(probes(monitor, reload))
    return app
