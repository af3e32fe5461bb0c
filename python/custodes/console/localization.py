"""Language and time zone of each request.

Messages are written in English in the code and the templates, and translated by ``locale/LANGUAGE.po``; a message
without a translation stays English. The language is that of a cookie, else of the browser.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo, available_timezones

from babel import negotiate_locale
from babel.messages.pofile import read_po
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

LANGUAGES = {"en": "English", "zh": "简体中文"}
"""Native name by language code."""
LANGUAGE_COOKIE, ZONE_COOKIE = "custodes-language", "custodes-zone"


@dataclass(frozen=True)
class ReaderLocale:
    """Language and time zone of a reader."""

    language: str = "en"
    zone: str = "UTC"
    """Name of an IANA time zone."""


_locale: ContextVar[ReaderLocale] = ContextVar("locale", default=ReaderLocale())  # noqa: B039 - it does not change


class LocaleMiddleware:
    """Sets the reader's language and time zone for the duration of a request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            _locale.set(_locale_of(Request(scope)))
        await self._app(scope, receive, send)


def _locale_of(request: Request) -> ReaderLocale:
    language = request.cookies.get(LANGUAGE_COOKIE)
    if language not in LANGUAGES:
        accepted = [part.partition(";")[0].strip() for part in request.headers.get("accept-language", "").split(",")]
        # Browsers send languages in order of preference, often with script or region.
        supported = negotiate_locale([*_with_parents(accepted)], LANGUAGES, sep="-")
        language = supported or "en"
    zone = request.cookies.get(ZONE_COOKIE, "UTC")
    return ReaderLocale(language, zone if zone in zones() else "UTC")


def _with_parents(accepted: list[str]) -> list[str]:
    """Adds the base language after each tag: ``zh`` after ``zh-Hans-CN``."""
    return [one for name in accepted for one in (name, name.partition("-")[0]) if one]


def current() -> ReaderLocale:
    """Returns the language and time zone of the current request."""
    return _locale.get()


@cache
def zones() -> frozenset[str]:
    """Returns the names of all time zones."""
    return frozenset(name for name in available_timezones() if "/" in name or name == "UTC")


def local(micros: float) -> datetime:
    """Converts ``micros`` since the epoch to a time in the reader's time zone."""
    return datetime.fromtimestamp(micros / 1e6, UTC).astimezone(ZoneInfo(current().zone))


@cache
def _catalog(language: str) -> dict[str, str]:
    if language == "en":
        return {}
    with (files("custodes.console") / "locale" / f"{language}.po").open("rb") as file:
        return {str(message.id): str(message.string) for message in read_po(file) if message.id and message.string}


def say(message: str, /, **values: object) -> str:
    """Translates a message to the reader's language, and replaces ``%(name)s`` with the named value."""
    text = _catalog(current().language).get(message, message)
    return text % values if values else text
