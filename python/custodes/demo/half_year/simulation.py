"""Half a year of the agency from one seed: equal seeds give equal events, with or without insiders."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate

from custodes.demo.agency import AgencyDay
from custodes.demo.half_year.calendar import DAYS, Calendar
from custodes.demo.half_year.casework import HOUR_MS, RecordAccess, Workday
from custodes.demo.half_year.insiders import KINDS, Deed, InsiderScenario, ScenarioContext
from custodes.demo.half_year.staff import DEPARTMENTS, RESOURCES, hire

_REGIONS = ("110101", "310104", "410105", "440305", "510107")
_DAY_MS = 24 * HOUR_MS
_BATCHES = (("svc-archive", 900), ("svc-billing", 2500))
"""Service accounts, and the number of records each reads per day."""


class Population:
    """Subjects with records, some of them looked up more often than others."""

    def __init__(self, rng: random.Random, size: int) -> None:
        self.people = [[_identity(rng, region) for _ in range(size // len(_REGIONS))] for region in _REGIONS]
        self._known = [[rng.choice(people) for _ in range(300)] for people in self.people]
        self._weights = list(accumulate(1 / (rank + 5) for rank in range(300)))

    def anybody(self, rng: random.Random) -> str:
        return rng.choice(self.people[rng.randrange(len(self.people))])

    def comes(self, rng: random.Random, region: int) -> str:
        """Draws a subject, mostly from the region, sometimes one seen before."""
        if rng.random() < 0.12:
            region = rng.randrange(len(self.people))
        if rng.random() < 0.05:
            return rng.choices(self._known[region], cum_weights=self._weights)[0]
        return rng.choice(self.people[region])

    def in_a_row(self, rng: random.Random, many: int) -> list[str]:
        birth = f"{rng.choice(_REGIONS)}{rng.randint(1940, 2007)}{rng.randint(1, 12):02}{rng.randint(1, 28):02}"
        first = rng.randint(1, 900 - many)
        return [with_check_digit(f"{birth}{number:03}") for number in range(first, first + many)]


def _identity(rng: random.Random, region: str) -> str:
    year, month, day = rng.randint(1940, 2007), rng.randint(1, 12), rng.randint(1, 28)
    return with_check_digit(f"{region}{year}{month:02}{day:02}{rng.randint(1, 999):03}")


_FACTORS = tuple(2 ** (17 - place) % 11 for place in range(17))


def with_check_digit(digits: str) -> str:
    """Computes the check digit of GB 11643: ISO 7064, MOD 11-2."""
    total = sum(int(digit) * factor for digit, factor in zip(digits, _FACTORS, strict=True))
    return digits + "10X98765432"[total % 11]


class HalfYear:
    """Generates the days, in order."""

    def __init__(self, seed: int, people: int = 300, subjects: int = 60_000, insiders: bool = True) -> None:
        self._rng = rng = random.Random(seed)  # noqa: S311 - a simulation must repeat, not keep secrets
        self._population = Population(rng, subjects)
        self.staff = hire(rng, people, [self._population.anybody(rng) for _ in range(people)])
        self._calendar = Calendar(rng, [department.name for department in DEPARTMENTS[:5]])
        self._desks = [Workday(person, random.Random(rng.random())) for person in self.staff]  # noqa: S311
        self.canary = _identity(rng, _REGIONS[0])
        # Insiders have their own random source, so all other events are the same without them.
        world = ScenarioContext(random.Random(rng.random()), self.staff, self._calendar, self._population, self.canary)  # noqa: S311
        everybody = [kind(world) for kind in KINDS]
        self._insiders: list[InsiderScenario] = everybody if insiders else []

    @property
    def deeds(self) -> list[Deed]:
        """Acts to be found, complete after the last day."""
        return [insider.deed for insider in self._insiders]

    def tables(self) -> dict[str, str]:
        """Returns the look-up tables as CSV."""
        accounts = "".join(f"{one.account},{one.identity}\n" for one in self.staff)
        return {"watched": f"person\n{self.canary}\n", "actors": f"account,person\n{accounts}"}

    def days(self) -> Iterator[AgencyDay]:
        """Yields one day after the other, in order of time."""
        for work, deeds in self.days_apart():
            yield AgencyDay(work.date, sorted([*work.events, *deeds.events]))

    def days_apart(self) -> Iterator[tuple[AgencyDay, AgencyDay]]:
        """Generates work and insiders' look-ups of a day."""
        work, deeds = _Pending(), _Pending()
        for day in range(DAYS):
            date = self._calendar.date(day)
            begins = int(date.timestamp()) * 1000
            work.add(self._batches(begins))
            work.add(_written(begins, look) for look in self._work(day))
            deeds.add(_written(begins, look) for look in self._insiders_looks(day, begins))
            ends = (begins + _DAY_MS) * 1000
            yield AgencyDay(date, work.take(ends)), AgencyDay(date, deeds.take(ends))

    def _work(self, day: int) -> Iterator[RecordAccess]:
        is_workday = self._calendar.is_workday(day)
        for desk in self._desks:
            person = desk.person
            person.begins(day, self._rng)
            if person.is_on_duty(day, is_workday, self._rng):
                department = person.department
                load = self._calendar.load(day, department.name, department.closes_months)
                yield from desk.day(day, load, lambda region: self._population.comes(self._rng, region))

    def _insiders_looks(self, day: int, begins: int) -> Iterator[RecordAccess]:
        for insider in self._insiders:
            for look in insider.day(day):
                insider.deed.times.append((begins + look.at) * 1000)
                insider.deed.actors.add(look.person.account)
                yield look

    def _batches(self, begins: int) -> Iterator[tuple[int, bytes]]:
        for account, many in _BATCHES:
            for number in range(many):
                time = begins + HOUR_MS + number * 2_000
                subject = self._population.people[number % 5][number * 7 % 1000]
                line = (
                    f'{{"time":{time},"actor":"{account}","subject":"{subject}","resource":"{RESOURCES[0]}",'
                    f'"action":"read","peer_group":"service","client_ip":"10.9.0.1","app":"batch"}}\n'
                )
                yield time * 1000, line.encode()


class _Pending:
    """Holds events back that may belong to the next day: a night shift is generated on the day it begins."""

    def __init__(self) -> None:
        self._events: list[tuple[int, bytes]] = []

    def add(self, events: Iterable[tuple[int, bytes]]) -> None:
        self._events.extend(events)

    def take(self, until: int) -> list[tuple[int, bytes]]:
        """Returns the events before ``until``, in order of time."""
        self._events.sort(key=lambda event: event[0])
        end = bisect_left(self._events, until, key=lambda event: event[0])
        taken, self._events = self._events[:end], self._events[end:]
        return taken


def _written(begins: int, look: RecordAccess) -> tuple[int, bytes]:
    """Returns microseconds since the epoch and the line of a look-up on a day that begins at a time in milliseconds."""
    time, person = begins + look.at, look.person
    purpose = "" if look.purpose is None else f',"purpose":"{look.purpose}"'
    line = (
        f'{{"time":{time},"actor":"{person.account}","subject":"{look.subject}",'
        f'"resource":"{RESOURCES[look.resource]}","action":"{look.action}","peer_group":"{person.department.name}",'
        f'"client_ip":"{person.address}","app":"desk"{purpose}}}\n'
    )
    return time * 1000, line.encode()
