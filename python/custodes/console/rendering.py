"""Renders templates, with the values that all pages share."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from custodes import __version__
from custodes.accounts.roles import Permission
from custodes.config import format_duration
from custodes.console.auth.session import visitor_of
from custodes.console.localization import current, local, say
from custodes.console.services import services_of
from custodes.findings.wording import amount

_pages = Environment(
    loader=PackageLoader("custodes.console"),
    autoescape=select_autoescape(),
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)


def moment(micros: int | None) -> Markup:
    """Formats a time as a ``<time>`` element."""
    if micros is None:
        return Markup("–")
    time = local(micros)
    exactly = time.astimezone(UTC).isoformat(timespec="seconds").removesuffix("+00:00")
    return Markup('<time datetime="{}Z">{}</time>').format(exactly, time.strftime("%Y-%m-%d %H:%M"))


def second(micros: int) -> str:
    """Formats a time to the second, with the reader's time zone."""
    return f"{local(micros):%Y-%m-%d %H:%M:%S} {current().zone}"


_pages.globals["_"] = say
_pages.globals["language"] = lambda: current().language
_pages.globals["zone"] = lambda: current().zone
_pages.filters["moment"] = moment
_pages.filters["second"] = second
_pages.filters["amount"] = amount
_pages.filters["duration"] = format_duration


def render(template: str, **values: Any) -> str:
    """Renders a template to text."""
    return _pages.get_template(template).render(version=__version__, **values)


def page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Renders a whole page for the caller of ``request``."""
    visitor, services = visitor_of(request), services_of(request)
    common = {
        "visitor": visitor,
        "may": {permission.value: visitor.may(permission) for permission in Permission},
        "token": services.secrets.form_token(visitor.key),
        "here": request.url.path,
        "naming": services.naming(visitor),
    }
    return HTMLResponse(render(template, **common, **values), status)
