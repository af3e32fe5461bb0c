"""Insiders: the acts of each kind, day by day, in addition to normal work."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from custodes.demo.half_year.calendar import DAYS, Calendar
from custodes.demo.half_year.casework import HOUR_MS, RecordAccess, in_shift
from custodes.demo.half_year.staff import DEPARTMENTS, RESOURCES, Person

LEAST_FIRST = 35
"""First day of any insider: baselines need earlier data."""


@dataclass
class Deed:
    """An insider's act, and so the finding to expect."""

    kind: str
    groups: list[dict[str, str]]
    """Groups of the expected finding; one of them suffices."""
    times: list[int] = field(default_factory=list)
    """Times of the taken records, in microseconds since the epoch."""
    actors: set[str] = field(default_factory=set)
    """Accounts of the insiders."""


class RecordPool(Protocol):
    """Subjects with records."""

    def anybody(self, rng: random.Random) -> str: ...

    def in_a_row(self, rng: random.Random, many: int) -> list[str]:
        """Returns sequential identity numbers."""


class InsiderScenario(Protocol):
    """An insider."""

    deed: Deed

    def day(self, day: int) -> Iterator[RecordAccess]:
        """Yields the look-ups of a day."""


@dataclass
class ScenarioContext:
    """The surroundings of insiders."""

    rng: random.Random
    staff: Sequence[Person]
    calendar: Calendar
    records: RecordPool
    canary: str
    taken: set[str] = field(default_factory=set)
    """Accounts that already belong to an insider."""

    def somebody(self, fits: Callable[[Person], bool] = lambda person: True) -> Person:
        """Returns an employee with a day shift who stays to the end and is no insider yet."""
        steady = [
            one
            for one in self.staff
            if one.first == 0 and one.last == DAYS and one.moves is None and one.account not in self.taken
            if one.shift[1] <= 22 and fits(one)
        ]
        person = self.rng.choice(steady)
        self.taken.add(person.account)
        return person

    def works(self, person: Person, day: int) -> bool:
        return self.calendar.is_workday(day) and day not in person.away

    def workdays(self, person: Person, first: int, many: int) -> list[int]:
        """Returns the next ``many`` working days of an employee, from ``first`` on."""
        return [day for day in range(first, DAYS) if self.works(person, day)][:many]

    def look(self, at: int, person: Person, subject: str, resource: int = 0, action: str = "read") -> RecordAccess:
        """Returns no purpose, or an invented one."""
        purpose = None if self.rng.random() < 0.6 else f"case-{person.account}-{self.rng.randint(1, 4000)}"
        return RecordAccess(at, person, subject, resource, action, purpose)


class LowAndSlow:
    """Takes 12,441 records over 140 days, within the shift, in one to three tables per person."""

    RECORDS = 12_441

    def __init__(self, world: ScenarioContext) -> None:
        self._world = world
        self._person = world.somebody(lambda one: one.department.rate >= 14)
        self._days = world.workdays(self._person, LEAST_FIRST + world.rng.randrange(5), 140)
        self._days = [day for day in self._days if day < self._days[0] + 140]
        self.deed = Deed("low and slow", [{"actor": self._person.account}])

    def day(self, day: int) -> Iterator[RecordAccess]:
        if day not in self._days:
            return
        rng, world = self._world.rng, self._world
        for _ in range(self.RECORDS // len(self._days)):
            at, subject = in_shift(rng, self._person.shift), world.records.anybody(rng)
            for resource in range(rng.choice((1, 1, 2, 3))):
                yield world.look(at, self._person, subject, resource)
                at += rng.randint(3_000, 40_000)


class BulkAtNight:
    """Takes hundreds or thousands of records in one night, by script."""

    def __init__(self, world: ScenarioContext) -> None:
        self._world = world
        self._person = world.somebody()
        self._day = world.rng.randrange(LEAST_FIRST, DAYS - 2)
        self.deed = Deed("bulk at night", [{"actor": self._person.account}])

    def day(self, day: int) -> Iterator[RecordAccess]:
        if day == self._day:
            rng, at = self._world.rng, 2 * HOUR_MS
            for _ in range(rng.randint(600, 3000)):
                yield self._world.look(at, self._person, self._world.records.anybody(rng), action="export")
                at += rng.randint(800, 3_000)


class Enumeration:
    """Looks up sequential identity numbers, a few per minute, within the shift."""

    def __init__(self, world: ScenarioContext) -> None:
        self._world = world
        self._person = world.somebody()
        self._days = world.workdays(self._person, world.rng.randrange(LEAST_FIRST, DAYS - 20), world.rng.randint(1, 3))
        self.deed = Deed("enumeration", [{"actor": self._person.account}])

    def day(self, day: int) -> Iterator[RecordAccess]:
        if day in self._days:
            rng, at = self._world.rng, int((self._person.shift[0] + 1) * HOUR_MS)
            for subject in self._world.records.in_a_row(rng, rng.randint(60, 150)):
                yield self._world.look(at, self._person, subject, action="search")
                at += rng.randint(15_000, 60_000)


class Celebrity:
    """A person is in the news, and dozens look."""

    def __init__(self, world: ScenarioContext) -> None:
        self._world = world
        self._subject = world.records.anybody(world.rng)
        self._day = world.rng.randrange(LEAST_FIRST, DAYS - 3)
        self._lookers = world.rng.sample([one for one in world.staff if one.first == 0 and one.last == DAYS], 40)
        self.deed = Deed("celebrity", [{"subject": self._subject}])

    def day(self, day: int) -> Iterator[RecordAccess]:
        if self._day <= day < self._day + 2:
            half = len(self._lookers) // 2
            for person in self._lookers[:half] if day == self._day else self._lookers[half:]:
                yield self._world.look(in_shift(self._world.rng, person.shift), person, self._subject)


class Stalking:
    """Looks up one person repeatedly, over three months."""

    def __init__(self, world: ScenarioContext) -> None:
        self._world = world
        self._person, self._subject = world.somebody(), world.records.anybody(world.rng)
        days = world.workdays(self._person, world.rng.randrange(LEAST_FIRST, DAYS - 100), 65)
        self._days = set(world.rng.sample(days, min(len(days), world.rng.randint(20, 35))))
        self.deed = Deed("stalking", [{"actor": self._person.account}, {"subject": self._subject}])

    def day(self, day: int) -> Iterator[RecordAccess]:
        if day in self._days:
            rng = self._world.rng
            for resource in rng.sample(range(len(RESOURCES)), rng.randint(1, 2)):
                yield self._world.look(in_shift(rng, self._person.shift), self._person, self._subject, resource)


class Collusion:
    """Six accomplices of a department share a list, each below every threshold."""

    def __init__(self, world: ScenarioContext) -> None:
        self._world = world
        department = world.rng.choice([one for one in DEPARTMENTS if one.size >= 0.2])
        self._clerks = [world.somebody(lambda one: one.department is department) for _ in range(6)]
        self._first = world.rng.randrange(LEAST_FIRST, DAYS - 75)
        self.deed = Deed("collusion", [{"actor": one.account} for one in self._clerks])

    def day(self, day: int) -> Iterator[RecordAccess]:
        if self._first <= day < self._first + 60:
            for clerk in self._clerks:
                if self._world.works(clerk, day):
                    rng = self._world.rng
                    for _ in range(max(5, round(clerk.department.rate * clerk.pace * rng.uniform(0.4, 0.7)))):
                        subject = self._world.records.anybody(rng)
                        yield self._world.look(in_shift(rng, clerk.shift), clerk, subject)


class DormantAccount:
    """The account of a former employee, used again months later."""

    def __init__(self, world: ScenarioContext) -> None:
        self._world = world
        self._person = world.somebody()
        self._person.last = world.rng.randrange(15, 40)
        self._day = self._person.last + world.rng.randrange(75, 125)
        self.deed = Deed("dormant account", [{"actor": self._person.account}])

    def day(self, day: int) -> Iterator[RecordAccess]:
        if self._day <= day < self._day + 2:
            rng = self._world.rng
            for _ in range(rng.randint(25, 60)):
                subject = self._world.records.anybody(rng)
                yield self._world.look(in_shift(rng, self._person.shift), self._person, subject)


class Doubling:
    """Doubles the employee's normal volume for some weeks."""

    def __init__(self, world: ScenarioContext) -> None:
        self._world = world
        self._person = world.somebody(lambda one: one.department.rate >= 14)
        first = world.rng.randrange(LEAST_FIRST, DAYS - 40)
        self._days = world.workdays(self._person, first, 20)
        self.deed = Deed("doubling", [{"actor": self._person.account}])

    def day(self, day: int) -> Iterator[RecordAccess]:
        if day in self._days:
            rng, person = self._world.rng, self._person
            for _ in range(round(person.department.rate * person.pace * rng.uniform(0.85, 1.15))):
                yield self._world.look(in_shift(rng, person.shift), person, self._world.records.anybody(rng))


class CanaryTouch:
    """Looks up a canary record, for which no employee has a reason."""

    def __init__(self, world: ScenarioContext) -> None:
        self._world = world
        self._person = world.somebody()
        self._day = world.workdays(self._person, world.rng.randrange(LEAST_FIRST, DAYS - 20), 1)[0]
        self.deed = Deed("canary", [{"actor": self._person.account}, {"subject": world.canary}])

    def day(self, day: int) -> Iterator[RecordAccess]:
        if day == self._day:
            yield self._world.look(in_shift(self._world.rng, self._person.shift), self._person, self._world.canary)


class DossierSelling:
    """Collects dossiers on a few people per day, each never looked up again."""

    def __init__(self, world: ScenarioContext) -> None:
        self._world = world
        self._person = world.somebody(lambda one: one.department.name != "investigation")
        self._days = world.workdays(self._person, world.rng.randrange(LEAST_FIRST, DAYS - 70), 40)
        self.deed = Deed("dossier selling", [{"actor": self._person.account}])

    def day(self, day: int) -> Iterator[RecordAccess]:
        if day in self._days:
            rng = self._world.rng
            for _ in range(rng.randint(1, 3)):
                at, subject = in_shift(rng, self._person.shift), self._world.records.anybody(rng)
                for resource in range(len(RESOURCES)):
                    yield self._world.look(at, self._person, subject, resource)
                    at += rng.randint(5_000, 60_000)


KINDS: tuple[Callable[[ScenarioContext], InsiderScenario], ...] = (
    LowAndSlow, BulkAtNight, Enumeration, Celebrity, Stalking, Collusion, DormantAccount, Doubling, CanaryTouch,
    DossierSelling,
)  # fmt: skip
