"""In which language, and by which clock, somebody reads.

Messages are written in English where they are shown, and looked up in ``locale/LANGUAGE.po``; what is not there stays
English. Whoever asks says by cookie, else by browser, what they read.
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
"""By code, what each calls itself."""
LANGUAGE_COOKIE, ZONE_COOKIE = "custodes-language", "custodes-zone"


@dataclass(frozen=True)
class ReaderLocale:
    """How somebody reads."""

    language: str = "en"
    zone: str = "UTC"
    """An IANA time zone's name."""


_manner: ContextVar[ReaderLocale] = ContextVar("manner", default=ReaderLocale())  # noqa: B039 - it does not change


class LocaleMiddleware:
    """Finds out, for each request, how whoever asks reads; it holds for all that is done for that request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            _manner.set(_manner_of(Request(scope)))
        await self._app(scope, receive, send)


def _manner_of(request: Request) -> ReaderLocale:
    wanted = request.cookies.get(LANGUAGE_COOKIE)
    if wanted not in LANGUAGES:
        said = [part.partition(";")[0].strip() for part in request.headers.get("accept-language", "").split(",")]
        # A browser names them in the order in which they are liked, and more exactly than we know them.
        known = negotiate_locale([*_with_parents(said)], LANGUAGES, sep="-")
        wanted = known or "en"
    zone = request.cookies.get(ZONE_COOKIE, "UTC")
    return ReaderLocale(wanted, zone if zone in zones() else "UTC")


def _with_parents(said: list[str]) -> list[str]:
    """``zh-Hans-CN`` is ``zh``, too."""
    return [one for name in said for one in (name, name.partition("-")[0]) if one]


def current() -> ReaderLocale:
    """How whoever is being answered reads."""
    return _manner.get()


@cache
def zones() -> frozenset[str]:
    """The time zones there are."""
    return frozenset(name for name in available_timezones() if "/" in name or name == "UTC")


def local(micros: float) -> datetime:
    """A time by the reader's clock; ``micros`` are since the epoch."""
    return datetime.fromtimestamp(micros / 1e6, UTC).astimezone(ZoneInfo(current().zone))


@cache
def _catalog(language: str) -> dict[str, str]:
    if language == "en":
        return {}
    with (files("custodes.console") / "locale" / f"{language}.po").open("rb") as file:
        return {str(message.id): str(message.string) for message in read_po(file) if message.id and message.string}


def say(message: str, /, **values: object) -> str:
    """A message in the reader's language; ``%(name)s`` in it stands for one of ``values``."""
    text = _catalog(current().language).get(message, message)
    return text % values if values else text
