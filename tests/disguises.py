"""Disguises of one bulk look-up: what an insider, a broken file or a faulty program can do to 200 records."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

BASE = datetime(2026, 6, 15, 8, tzinfo=UTC)
"""Time of the first look-up, a Monday morning."""
LOOK_UPS = 200
EVERY = timedelta(seconds=15)
ACTOR = "P1042"

Fields = dict[str, Any]


def text_of(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Record:
    """Bytes that arrive at a time."""

    arrival: datetime
    line: bytes


@dataclass(frozen=True)
class Disguise:
    """A change of the records of one bulk look-up."""

    name: str
    kind: str
    change: Callable[[int, Fields], Fields | bytes]
    """Returns the fields or the bytes of look-up number ``n``."""
    delay: timedelta = timedelta(0)
    """Time between a look-up and the arrival of its record."""
    mapping: dict[str, Any] = field(default_factory=dict)
    """Further keys of the mapping."""
    names_nobody: str = ""
    """Why no finding can name the actor, if none can."""


def look_up(n: int) -> Fields:
    time = text_of(BASE + n * EVERY)
    return {"time": time, "actor": ACTOR, "subject": f"S{n}", "action": "read", "resource": "person", "app": "desk"}


def records(disguise: Disguise) -> Iterator[Record]:
    """Yields the records of the insider, as disguised."""
    for n in range(LOOK_UPS):
        changed = disguise.change(n, look_up(n))
        line = changed if isinstance(changed, bytes) else json.dumps(changed, ensure_ascii=False).encode()
        yield Record(BASE + n * EVERY + disguise.delay, line)


def _set(**fields: Any) -> Callable[[int, Fields], Fields]:
    return lambda n, event: {**event, **fields}


def _actor(*spellings: Any) -> Callable[[int, Fields], Fields]:
    return lambda n, event: {**event, "actor": spellings[n % len(spellings)]}


def _without(name: str) -> Callable[[int, Fields], Fields]:
    return lambda n, event: {key: value for key, value in event.items() if key != name}


def _text(change: Callable[[int, str], str]) -> Callable[[int, Fields], bytes]:
    return lambda n, event: change(n, json.dumps(event)).encode()


def _inserted(what: str) -> Callable[[int, Fields], Fields]:
    """The actor with something inserted at another place in each record."""
    return lambda n, event: {**event, "actor": ACTOR[: n % 6] + what + ACTOR[n % 6 :]}


def _any_case(n: int, event: Fields) -> Fields:
    rng = random.Random(n)
    return {**event, "actor": "".join(rng.choice((c.lower(), c.upper())) for c in "Paula.Quinn")}


def _at(offset: Callable[[int], timedelta]) -> Callable[[int, Fields], Fields]:
    return lambda n, event: {**event, "time": text_of(BASE + n * EVERY + offset(n))}


def _time(convert: Callable[[datetime], Any]) -> Callable[[int, Fields], Fields]:
    return lambda n, event: {**event, "time": convert(BASE + n * EVERY)}


FULL_WIDTH = "".join(chr(ord(c) + 0xFEE0) for c in ACTOR)
BOLD = "\U0001d40f" + "".join(chr(0x1D7CE + int(c)) for c in ACTOR[1:])

DISGUISES: list[Disguise] = [
    # The actor's spelling.
    Disguise("another letter case in each record", "actor", _any_case),
    Disguise("spaces around the name", "actor", _actor(ACTOR, f" {ACTOR}", f"{ACTOR} ", f"  {ACTOR}  ")),
    Disguise("tabs and line ends around the name", "actor", _actor(ACTOR, f"\t{ACTOR}", f"{ACTOR}\r\n")),
    Disguise("no-break and ideographic spaces", "actor", _actor(ACTOR, f"{ACTOR}\u00a0", f"\u3000{ACTOR}")),
    Disguise("a zero-width space within the name", "actor", _inserted("\u200b")),
    Disguise("a zero-width joiner within the name", "actor", _inserted("\u200d")),
    Disguise("a word joiner within the name", "actor", _inserted("\u2060")),
    Disguise("a soft hyphen within the name", "actor", _inserted("\u00ad")),
    Disguise("a byte order mark within the name", "actor", _inserted("\ufeff")),
    Disguise("a direction override within the name", "actor", _inserted("\u202e")),
    Disguise("a variation selector within the name", "actor", _inserted("\ufe0f")),
    Disguise("a tag character within the name", "actor", _inserted("\U000e0041")),
    Disguise("a NUL within the name", "actor", _inserted("\0")),
    Disguise("a backspace within the name", "actor", _inserted("\b")),
    Disguise("a C1 control character within the name", "actor", _inserted("\x85")),
    Disguise("a combining grapheme joiner", "actor", _inserted("\u034f")),
    Disguise("a Hangul filler", "actor", _inserted("\u3164")),
    Disguise("full-width letters", "actor", _actor(ACTOR, FULL_WIDTH)),
    Disguise("mathematical letters", "actor", _actor(ACTOR, BOLD)),
    Disguise("composed and decomposed letters", "actor", _actor("Müller", "Mu\u0308ller", "MÜLLER", "mu\u0308ller")),
    Disguise("sharp s", "actor", _actor("Strauß", "STRAUSS", "strauss", "STRAU\u1e9e")),
    Disguise("final sigma", "actor", _actor("ΣΊΣΥΦΟΣ", "σίσυφος", "Σίσυφος")),
    Disguise("Kelvin sign and long s", "actor", _actor("KASS", "\u212aass", "ka\u017fs")),
    Disguise("a number and a text", "actor", _actor("1042", 1042)),
    Disguise("a number with a fraction of zero", "actor", _actor(1042, "1042", 1042.0)),
    Disguise("a list with one name", "actor", _actor(ACTOR, [ACTOR])),
    Disguise("a nested list with one name", "actor", _actor([[ACTOR]], [ACTOR, None])),
    Disguise("JSON escapes", "actor", _text(lambda n, text: text.replace(ACTOR, "".join(
        f"\\u{ord(c):04x}" if (n >> at) & 1 else c for at, c in enumerate(ACTOR))))),
    Disguise("a Cyrillic letter that looks like a Latin one", "actor", _actor(ACTOR, "\u0420" + ACTOR[1:])),
    Disguise("a Greek letter that looks like a Latin one", "actor", _actor(ACTOR, "\u03a1" + ACTOR[1:])),
    Disguise("domain forms", "actor", _actor("anna", "CORP\\anna", "anna@corp.example", "corp.example\\Anna"),
             mapping={"normalise": {"actor": {"domain": "remove"}}}),
    # The action.
    *(Disguise(name, "action", _set(action=word)) for name, word in (
        *((f"the action {word}", word) for word in (
            "select", "SELECT", "View", "lookup", "get", "GetObject", "list", "download", "copy", "COPY TO", "print",
            "search-type", "frobnicate", "查询", "Lesen", "vread")),
        ("the action read in full-width letters", "ｒｅａｄ"), ("the action with a zero-width space", "re\u200bad"),
        ("the action with a space", "Read "), ("the action as an empty text", ""), ("the action as a space", " "),
        ("a long action", "x" * 300))),
    Disguise("no action", "action", _without("action")),
    Disguise("the action null", "action", _set(action=None)),
    Disguise("the action as a list", "action", _set(action=["read", "view"])),
    Disguise("the action as an empty list", "action", _set(action=[])),
    Disguise("the action as a number", "action", _set(action=7)),
    Disguise("the action as a boolean", "action", _set(action=True)),
    Disguise("the action as an object", "action", _set(action={"name": "read"})),
    Disguise("a login with a subject", "action", _set(action="login")),
    Disguise("a different action in each record", "action", lambda n, event: {**event, "action": f"action-{n}"}),
    # The subject.
    Disguise("subjects with null in the list", "subject", lambda n, event: {**event, "subject": [f"S{n}", None]}),
    Disguise("nested lists of subjects", "subject", lambda n, event: {**event, "subject": [[f"S{n}"]]}),
    Disguise("subjects as numbers", "subject", lambda n, event: {**event, "subject": 9007199254740993 + n}),
    Disguise("a list with ten subjects", "subject",
             lambda n, event: {**event, "subject": [f"S{n}-{k}" for k in range(10)]} if n % 10 == 0 else
             {**event, "subject": None}),
    Disguise("all subjects in one record", "subject",
             lambda n, event: {**event, "subject": [f"S{k}" for k in range(200)] if n == 0 else None}),
    Disguise("subjects as objects", "subject", lambda n, event: {**event, "subject": {"id": f"S{n}"}}),
    Disguise("subjects as a list of objects", "subject", lambda n, event: {**event, "subject": [{"id": f"S{n}"}]}),
    Disguise("subjects as booleans", "subject", _set(subject=True)),
    Disguise("one copy with a number of rows", "subject",
             lambda n, event: {**event, "subject": None, "action": "export", "rows": 12_441 if n == 0 else 0}),
    Disguise("rows under their old name", "subject", _set(subject=None, count=100)),
    Disguise("rows as text", "subject", _set(subject=None, rows="100")),
    # The time.
    Disguise("half a minute late", "time", _set(), delay=timedelta(seconds=30)),
    Disguise("14 minutes late", "time", _set(), delay=timedelta(minutes=14)),
    Disguise("two hours late", "time", _set(), delay=timedelta(hours=2)),
    Disguise("three days late", "time", _set(), delay=timedelta(days=3)),
    Disguise("sixty days late", "time", _set(), delay=timedelta(days=60)),
    Disguise("ten minutes in the future", "time", _at(lambda n: timedelta(minutes=9, seconds=50))),
    Disguise("the first record ten minutes in the future", "time",
             _at(lambda n: timedelta(minutes=9, seconds=50) if n == 0 else timedelta(0))),
    Disguise("the year 2031", "time", _at(lambda n: timedelta(days=5 * 365))),
    Disguise("the year 2031 in every other record", "time", _at(lambda n: timedelta(days=5 * 365 * (n % 2)))),
    Disguise("the year 2001", "time", _at(lambda n: -timedelta(days=25 * 365))),
    Disguise("another day in each record", "time", _at(lambda n: -timedelta(days=n % 60))),
    Disguise("another hour in each record", "time", _at(lambda n: -timedelta(hours=n))),
    Disguise("epoch seconds", "time", _time(lambda time: time.timestamp())),
    Disguise("epoch milliseconds", "time", _time(lambda time: int(time.timestamp() * 1000))),
    Disguise("epoch nanoseconds as text", "time", _time(lambda time: str(int(time.timestamp()) * 10**9))),
    Disguise("an offset without a colon", "time", _time(lambda time: time.strftime("%Y-%m-%dT%H:%M:%S+0000"))),
    Disguise("an offset of hours", "time", _time(lambda time: time.strftime("%Y-%m-%d %H:%M:%S+00"))),
    Disguise("no offset", "time", _time(lambda time: time.strftime("%Y-%m-%dT%H:%M:%S"))),
    Disguise("a time in words", "time", _set(time="this morning")),
    Disguise("no time", "time", _without("time")),
    Disguise("the time null", "time", _set(time=None)),
    Disguise("the time as a list", "time", _time(lambda time: [text_of(time)])),
    Disguise("the time as a boolean", "time", _set(time=False)),
    # JSON and bytes.
    Disguise("a key twice", "JSON", _text(lambda n, text: '{"actor":"somebody",' + text[1:])),
    Disguise("half of a surrogate pair", "JSON", _text(lambda n, text: text[:-1] + ',"purpose":"\\ud83d"}')),
    Disguise("half of a surrogate pair in the name", "JSON",
             _text(lambda n, text: text.replace(ACTOR, ACTOR + "\\udc00"))),
    Disguise("bytes that are not UTF-8", "JSON",
             lambda n, event: json.dumps(event).encode()[:-1] + b',"purpose":"\xff\xfe"}'),
    Disguise("a truncated record", "JSON", _text(lambda n, text: text[:-1])),
    Disguise("text after the record", "JSON", _text(lambda n, text: text + " x")),
    Disguise("two records on one line", "JSON", _text(lambda n, text: text + text)),
    Disguise("a fault before the name", "JSON", _text(lambda n, text: '{"purpose":"\\q",' + text[1:])),
    Disguise("NaN", "JSON", _text(lambda n, text: text[:-1] + ',"score":NaN}')),
    Disguise("a comma at the end", "JSON", _text(lambda n, text: text[:-1] + ",}")),
    Disguise("a comment", "JSON", _text(lambda n, text: "/* */" + text)),
    Disguise("a record in a list", "JSON", _text(lambda n, text: f"[{text}]")),
    Disguise("deep nesting", "JSON", _text(lambda n, text: text[:-1] + ',"x":' + "[" * 200 + "]" * 200 + "}")),
    Disguise("a control character in a text", "JSON", _text(lambda n, text: text[:-1] + ',"purpose":"\x01"}')),
    Disguise("a byte order mark before each record", "JSON", _text(lambda n, text: "\ufeff" + text)),
    Disguise("single quotes", "JSON", _text(lambda n, text: text.replace('"', "'")),
             names_nobody="a record in no known format has no fields"),
    # Size.
    Disguise("a long record", "size", lambda n, event: {**event, "purpose": "x" * 60_000}),
    Disguise("a record beyond the limit", "size", lambda n, event: {**event, "purpose": "x" * 70_000}),
    Disguise("a long subject", "size", lambda n, event: {**event, "subject": f"S{n}" * 5_000}),
    # Mixtures.
    Disguise("another disguise in each record", "mixture", lambda n, event: (
        {**event, "actor": f"{ACTOR}\u200b"}, {**event, "actor": ACTOR.lower(), "action": "view"},
        {**event, "actor": [FULL_WIDTH], "subject": [f"S{n}", None]},
        {**event, "action": None, "actor": f" {ACTOR}"})[n % 4]),
    Disguise("every other record refused", "mixture",
             lambda n, event: {**event, "time": "soon"} if n % 2 else event),
    Disguise("no actor", "mixture", _without("actor"), names_nobody="the record names nobody"),
]  # fmt: skip
