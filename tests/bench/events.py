"""Realistic events for benchmarks: Zipf-distributed actors and subjects, about 250 bytes per line, ordered by time."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path

START = datetime(2026, 1, 5, 8, tzinfo=UTC)
_RESOURCES = ("person.identity", "vehicle.owner", "hotel.checkin")
_DEPARTMENTS = ("traffic", "registry", "patrol", "investigation", "permits", "archive")


def write_events(path: Path, count: int, *, actors: int = 20_000, subjects: int = 500_000, seed: int = 7) -> None:
    """Writes ``count`` events at about 100 per second of event time."""
    rng = random.Random(seed)
    actor_weights = list(accumulate(1 / (n + 50) ** 0.8 for n in range(actors)))
    subject_weights = list(accumulate(1 / (n + 1000) ** 0.7 for n in range(subjects)))
    actor_range, subject_range = range(actors), range(subjects)
    time = START
    with path.open("w", encoding="utf-8") as file:
        for begin in range(0, count, 10_000):
            size = min(10_000, count - begin)
            chosen_actors = rng.choices(actor_range, cum_weights=actor_weights, k=size)
            chosen_subjects = rng.choices(subject_range, cum_weights=subject_weights, k=size)
            lines = []
            for actor, subject in zip(chosen_actors, chosen_subjects, strict=True):
                time += timedelta(milliseconds=rng.randrange(20))
                lines.append(
                    f'{{"time":"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03}Z","actor":"P{actor:05}",'
                    f'"subject":"41010519{subject % 60 + 40:02}{subject % 12 + 1:02}{subject:06}",'
                    f'"resource":"{_RESOURCES[subject % 3]}","action":"read",'
                    f'"peer_group":"{_DEPARTMENTS[actor % 6]}","purpose":"case-2026-{(actor * subject) % 999_983:06}",'
                    f'"client_ip":"10.{actor % 200}.{actor % 250}.{actor % 240 + 1}","app":"desk","count":1}}\n'
                )
            file.writelines(lines)
