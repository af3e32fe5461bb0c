"""A simulated agency: three hundred employees, and three insiders.

Everything derives from one seed, so a run can be repeated. Each fortnight one insider exports in bulk at night, dozens
look at one celebrity, and one copies slowly, day after day, within the shift.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import orjson

DAY = timedelta(days=1)
FORTNIGHT = 14
FIRST_DAY = datetime(2026, 1, 5, tzinfo=UTC)
"""A Monday."""

_DEPARTMENTS = ("traffic", "registry", "patrol", "investigation", "permits", "archive")
_RESOURCES = ("person.identity", "vehicle.owner", "hotel.checkin")
_ACTORS = 300
_SUBJECTS = 60_000
_LOOKUPS_A_DAY = 24
"""Mean per employee: window state stays below 150 MB, so that the demo runs on a small machine for weeks."""

_CELEBRITY = "110101196903158888"
_BULK_EXPORTER = "P0042"
_SLOW_COPIER = "P0117"


@dataclass
class Insider:
    """A planted insider, with the finding to expect."""

    name: str
    """Short description of the acts."""
    group_by: str
    value: str
    """Group of the expected finding."""
    rule: str
    """Title of the rule that should find it."""
    times: list[int] = field(default_factory=list)
    """Times of the taken records, in microseconds since the epoch."""


@dataclass(frozen=True)
class AgencyDay:
    """The events of one day as JSON Lines, in order of time."""

    date: datetime
    events: list[tuple[int, bytes]]
    """Microseconds since the epoch, and the line."""


class Agency:
    """Generates the agency's events day by day, without end."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a simulation must repeat, not keep secrets
        rates = [min(self._random.lognormvariate(0, 0.35), 1.6) for _ in range(_ACTORS)]
        self._rates = [rate * _LOOKUPS_A_DAY for rate in rates]
        self._rates[int(_BULK_EXPORTER[1:])] = _LOOKUPS_A_DAY / 3  # the nightly exporter works little by day
        self._subjects = [self._identity_number(n) for n in range(_SUBJECTS)]
        self.insiders = [
            Insider("bulk export at night", "actor", _BULK_EXPORTER, "Bulk lookups"),
            Insider("a celebrity looked up by dozens", "subject", _CELEBRITY, "Celebrity snooping"),
            Insider("a slow copier, inside the shift", "actor", _SLOW_COPIER, "Slow copying"),
        ]

    def _identity_number(self, n: int) -> str:
        region = self._random.choice(("110101", "310104", "410105", "440305", "510107"))
        year = self._random.randint(1940, 2007)
        return f"{region}{year}{self._random.randint(1, 12):02}{self._random.randint(1, 28):02}{n % 10_000:04}"

    def days(self, stopped: Callable[[], bool] = lambda: False) -> Iterator[AgencyDay]:
        """Yields day after day from :data:`FIRST_DAY` on; ends early, also within a day, once ``stopped``."""
        for number in count():
            day = self._day(number, stopped)
            if day is None:
                return
            yield day

    def _day(self, number: int, stopped: Callable[[], bool]) -> AgencyDay | None:
        date = FIRST_DAY + number * DAY
        workday = date.weekday() < 5
        events: list[tuple[int, bytes]] = []
        for at, rate in enumerate(self._rates):
            on_duty = workday or at % 7 == number % 7
            lookups = max(0, round(self._random.gauss(rate, rate**0.5))) if on_duty else 0
            if stopped():
                return None
            for _ in range(lookups):
                self._case(events, date, _actor(at), self._random.choice(self._subjects))
        within = number % FORTNIGHT
        bulk, celebrity, slow = self.insiders
        if within == 1:
            for n in range(480):
                time = date + timedelta(hours=2, minutes=10, seconds=3 * n + self._random.random())
                bulk.times.append(self._look(events, time, _BULK_EXPORTER, self._subjects[n * 97], "export"))
        if within == 3:
            for at in self._random.sample(range(_ACTORS), 45):
                time = self._in_shift(date)
                celebrity.times.append(self._look(events, time, _actor(at), _CELEBRITY))
        if workday:
            for subject in self._random.sample(self._subjects, 130):
                slow.times.append(self._look(events, self._in_shift(date), _SLOW_COPIER, subject))
        events.sort(key=lambda event: event[0])
        return AgencyDay(date, events)

    def _in_shift(self, date: datetime) -> datetime:
        """Returns a time between eight and six, with a quieter lunch hour."""
        hour = self._random.triangular(8, 18, 10.5 if self._random.random() < 0.55 else 15)
        return date + timedelta(hours=hour)

    def _case(self, events: list[tuple[int, bytes]], date: datetime, actor: str, subject: str) -> None:
        """Adds a case: one subject, one to three tables, about a minute apart."""
        time = self._in_shift(date)
        purpose = f"case-{date.year}-{self._random.randint(1, 999_999):06}"
        for resource in _RESOURCES[: self._random.choice((1, 1, 2, 3))]:
            self._look(events, time, actor, subject, "read", resource, purpose)
            time += timedelta(seconds=self._random.uniform(5, 90))

    def _look(
        self,
        events: list[tuple[int, bytes]],
        time: datetime,
        actor: str,
        subject: str,
        action: str = "read",
        resource: str = _RESOURCES[0],
        purpose: str | None = None,
    ) -> int:
        micros = (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1) * 1000
        number = int(actor[1:])
        event: dict[str, Any] = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "actor": actor,
            "subject": subject,
            "resource": resource,
            "action": action,
            "peer_group": _DEPARTMENTS[number % len(_DEPARTMENTS)],
            "client_ip": f"10.1.{number // 250}.{number % 250 + 1}",
            "app": "desk",
        }
        if purpose is not None:
            event["purpose"] = purpose
        events.append((micros, orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)))
        return micros


def _actor(at: int) -> str:
    return f"P{at:04}"
