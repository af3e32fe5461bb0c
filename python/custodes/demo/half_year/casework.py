"""Look-ups of normal work: cases, some of which return."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from custodes.demo.half_year.staff import Person

HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class RecordAccess:
    """One look-up. ``at`` is in milliseconds since the start of the day, and may lie on the next day."""

    at: int
    person: Person
    subject: str
    resource: int
    action: str = "read"
    purpose: str | None = None


@dataclass(slots=True, order=True)
class _CaseFile:
    due: int
    number: int
    subject: str
    left: int
    """Number of times it returns."""
    pause: int
    """Approximate number of days between returns."""


def in_shift(rng: random.Random, shift: tuple[float, float]) -> int:
    """Returns a time within a shift, with a quieter middle."""
    first, last = shift
    middle = (first + last) / 2
    hour = rng.triangular(first, last, first + 1.5 if rng.random() < 0.55 else last - 2)
    if abs(hour - middle) < 0.5 and rng.random() < 0.6:
        hour += 1.0 if rng.random() < 0.5 else -1.0
    return int(hour * HOUR_MS)


class Workday:
    """The work of one employee."""

    def __init__(self, person: Person, rng: random.Random) -> None:
        self.person = person
        self._rng = rng
        self._cases: list[_CaseFile] = []
        self._number = 0

    def day(self, day: int, load: float, someone: Callable[[int], str]) -> Iterator[RecordAccess]:
        """Yields the look-ups of a day; ``someone`` draws a subject from a region."""
        rng, person = self._rng, self.person
        rate = person.department.rate * person.pace * load * max(0.3, 1 + person.mood + rng.gauss(0, 0.15))
        if day - person.first < 14 and person.first > 0:
            rate *= 0.5 + (day - person.first) / 28
        expected = max(0, round(rng.gauss(rate, rate**0.5)))
        again = []
        while self._cases and self._cases[0].due <= day:
            again.append(heapq.heappop(self._cases))
        for case in again:
            yield from self._deal_with(case.subject, case.number)
            if case.left:
                case.left -= 1
                case.due = day + rng.randint(1, 2 * case.pause)
                heapq.heappush(self._cases, case)
        for _ in range(max(0, expected - len(again))):
            self._number += 1
            subject = someone(person.region)
            if subject == person.identity:
                continue
            yield from self._deal_with(subject, self._number)
            chance = rng.random()
            if chance < person.department.follows_up:
                is_long = chance < person.department.follows_up * 0.06
                left, pause = (rng.randint(3, 6), 9) if is_long else (rng.choice((0, 0, 0, 1)), 4)
                case = _CaseFile(day + rng.randint(1, 2 * pause), self._number, subject, left, pause)
                heapq.heappush(self._cases, case)

    def _deal_with(self, subject: str, number: int) -> Iterator[RecordAccess]:
        """Yields look-ups in one to three tables, within a few minutes."""
        rng, person = self._rng, self.person
        at = in_shift(rng, person.shift)
        purpose = None if rng.random() < person.forgets_purpose else f"case-{person.account}-{number}"
        resources = person.department.resources
        for resource in resources[: rng.choice((1, 1, 1, 2, 2, 3))]:
            yield RecordAccess(at, person, subject, resource, "read" if rng.random() < 0.9 else "search", purpose)
            at += rng.randint(4_000, 90_000)
