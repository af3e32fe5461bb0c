"""The agency's calendar: working days, holidays, month ends, a campaign."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

FIRST_DAY = datetime(2026, 1, 5, tzinfo=UTC)
"""A Monday."""
DAYS = 182


@dataclass(frozen=True)
class Campaign:
    """Weeks in which a department has much more work than usual, by order."""

    department: str
    first: int
    last: int
    factor: float


class Calendar:
    """Days are numbered from 0, which is :data:`FIRST_DAY`."""

    def __init__(self, rng: random.Random, departments: list[str]) -> None:
        self.holidays = {*range(40, 45), *rng.sample(range(60, DAYS), 4)}
        first = rng.randrange(60, 120)
        self.campaign = Campaign(rng.choice(departments), first, first + rng.randrange(9, 16), rng.uniform(1.6, 2.2))

    def date(self, day: int) -> datetime:
        return FIRST_DAY + timedelta(days=day)

    def is_workday(self, day: int) -> bool:
        return self.date(day).weekday() < 5 and day not in self.holidays

    def load(self, day: int, department: str, closes_months: bool) -> float:
        """Returns the workload of a day, relative to other days."""
        load = 1.0
        if closes_months and (self.date(day) + timedelta(days=3)).month != self.date(day).month:
            load *= 1.6
        campaign = self.campaign
        if department == campaign.department and campaign.first <= day <= campaign.last:
            load *= campaign.factor
        if self.date(day).weekday() == 0:
            load *= 1.15
        return load
