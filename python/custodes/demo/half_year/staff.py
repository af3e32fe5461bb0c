"""The agency's staff: departments, and employees with their habits."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from custodes.demo.half_year.calendar import DAYS

RESOURCES = ("person.identity", "vehicle.owner", "hotel.checkin", "phone.subscriber", "household.register")


@dataclass(frozen=True)
class Department:
    """Employees with the same job."""

    name: str
    size: float
    """Share of the staff."""
    rate: float
    """Number of subjects per employee and day."""
    resources: tuple[int, ...]
    """Resources in use, most frequent first."""
    hours: tuple[tuple[float, float], ...]
    """Shifts, one per employee; an hour beyond 24 is on the next morning."""
    follows_up: float
    """Probability that a subject returns."""
    closes_months: bool = False
    works_weekends: float = 0.05
    """Share of the staff on duty on days off."""


_DAY = ((8.0, 17.0), (9.0, 18.0))
DEPARTMENTS = (
    Department("traffic", 0.24, 42, (1, 0, 4), _DAY, 0.2),
    Department("registry", 0.22, 55, (0, 4), ((8.5, 17.5),), 0.1, closes_months=True),
    Department("patrol", 0.20, 25, (0, 1, 2), ((6.0, 14.0), (14.0, 22.0), (22.0, 30.0)), 0.15, works_weekends=0.5),
    Department("investigation", 0.14, 14, (0, 3, 2, 1, 4), ((9.0, 19.0),), 0.6),
    Department("permits", 0.12, 30, (0, 2), _DAY, 0.15, closes_months=True),
    Department("night desk", 0.05, 18, (0, 1), ((21.0, 29.0),), 0.1, works_weekends=0.6),
    Department("archive", 0.03, 8, (0, 4, 1), _DAY, 0.3),
)
BY_NAME = {department.name: department for department in DEPARTMENTS}


@dataclass
class Person:
    """An employee with an account."""

    account: str
    identity: str
    """The employee's own identity number, which is in the records too."""
    region: int
    department: Department
    pace: float
    """Workload relative to colleagues."""
    shift: tuple[float, float]
    address: str
    forgets_purpose: float
    """Probability of a missing purpose."""
    first: int = 0
    last: int = DAYS
    away: set[int] = field(default_factory=set)
    moves: tuple[int, Department, tuple[float, float]] | None = None
    """Day of a transfer, with the new department and shift."""
    mood: float = 0.0
    """Factor of the current week."""

    def begins(self, day: int, rng: random.Random) -> None:
        """Advances to a day: applies the weekly factor and a transfer that is due."""
        if day % 7 == 0:
            self.mood = 0.6 * self.mood + rng.gauss(0, 0.1)
        if self.moves is not None and day == self.moves[0]:
            _, self.department, self.shift = self.moves

    def is_on_duty(self, day: int, is_workday: bool, rng: random.Random) -> bool:
        if not self.first <= day < self.last or day in self.away or rng.random() < 0.02:
            return False
        return is_workday or rng.random() < self.department.works_weekends


def hire(rng: random.Random, people: int, identities: list[str]) -> list[Person]:
    """Simulated staff."""
    shares = [department.size for department in DEPARTMENTS]
    staff = []
    for at, department in enumerate(rng.choices(DEPARTMENTS, shares, k=people)):
        person = Person(
            account=f"P{at:04}",
            identity=identities[at],
            region=rng.randrange(5),
            department=department,
            pace=min(max(rng.lognormvariate(0, 0.3), 0.4), 2.0),
            shift=rng.choice(department.hours),
            address=f"10.{DEPARTMENTS.index(department)}.{at // 200}.{at % 200 + 1}",
            forgets_purpose=rng.choice((0.0, 0.02, 0.05, 0.2)),
        )
        for _ in range(2):
            first = rng.randrange(DAYS)
            person.away.update(range(first, first + rng.randrange(5, 15)))
        fate = rng.random()
        if fate < 0.04:
            person.first = rng.randrange(30, 150)
        elif fate < 0.07:
            person.last = rng.randrange(30, DAYS)
        elif fate < 0.10:
            to = rng.choice([one for one in DEPARTMENTS if one is not department])
            person.moves = (rng.randrange(30, 150), to, rng.choice(to.hours))
        staff.append(person)
    return staff
