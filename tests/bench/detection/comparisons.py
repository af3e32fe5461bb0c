"""Other detection methods; each scores an actor's day, higher for stranger days.

They have an advantage over production use: each knows the half years without insiders when it chooses its threshold.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import fmean, pstdev

import numpy as np
from sklearn.ensemble import IsolationForest

from detection.features import DAY, Features
from detection.half_years import Season

ActorDays = Mapping[tuple[str, int], Features]
Scores = dict[tuple[str, int], float]

_OWN_DAYS, _LEAST_DAYS = 28, 7
_TREES = 200
_KEEP_DAYS = 7
"""Days of one actor with at most this gap are one finding."""


def by_count(clean: ActorDays, full: ActorDays) -> tuple[Scores, Scores]:
    """One threshold for all actors: distinct subjects per day."""
    return _counts(clean), _counts(full)


def _counts(days: ActorDays) -> Scores:
    return {key: float(day.subjects) for key, day in days.items()}


def by_z_score(clean: ActorDays, full: ActorDays) -> tuple[Scores, Scores]:
    """Standard deviations of the distinct subjects above the actor's own last 28 days."""
    return _z_scores(clean), _z_scores(full)


def _z_scores(days: ActorDays) -> Scores:
    by_actor: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for (actor, day), features in days.items():
        by_actor[actor].append((day, features.subjects))
    scores = {}
    for actor, theirs in by_actor.items():
        theirs.sort()
        for at, (day, subjects) in enumerate(theirs):
            before = [count for when, count in theirs[:at] if when >= day - _OWN_DAYS]
            if len(before) >= _LEAST_DAYS:
                scores[actor, day] = (subjects - fmean(before)) / max(pstdev(before), 1.0)
    return scores


def by_isolation(clean: ActorDays, full: ActorDays) -> tuple[Scores, Scores]:
    """Isolation forest: how easily a day is separated from all days by its features (Liu, Ting, Zhou, 2008)."""
    forest = IsolationForest(n_estimators=_TREES, random_state=0, n_jobs=1).fit(_table(clean.values()))
    changed = [key for key in full if full[key] != clean.get(key)]
    known = dict(zip(clean, -forest.score_samples(_table(clean.values())), strict=True))
    others = dict(zip(changed, -forest.score_samples(_table(full[key] for key in changed)), strict=True))
    return known, {key: others.get(key, known.get(key, 0.0)) for key in full}


METHODS = {
    "one threshold on daily counts": by_count,
    "z-score of each actor": by_z_score,
    "isolation forest": by_isolation,
}


def _table(days: Iterable[Features]) -> np.ndarray:
    return np.array(list(days), dtype=float)


def compared(seasons: Sequence[Season], allowed: int) -> dict[str, Counter[str]]:
    """Returns, by method, the number of insiders found of each kind with the given number of false findings."""
    hits = {}
    for name, method in METHODS.items():
        scored = [method(one.days, {**one.days, **one.days_found}) for one in seasons]
        threshold = _lowest([clean for clean, _ in scored], allowed)
        hits[name] = Counter(
            deed.kind
            for one, (clean, full) in zip(seasons, scored, strict=True)
            for deed in one.deeds
            if any(
                full.get((actor, day), 0.0) >= threshold > clean.get((actor, day), 0.0)
                for actor in deed.actors
                for day in {time // DAY for time in deed.times}
            )
        )
    return hits


def _false_in(scores: Scores, threshold: float) -> int:
    """Counts findings in a half year without insiders: days above a threshold, adjacent days of an actor joined."""
    by_actor: dict[str, list[int]] = defaultdict(list)
    for (actor, day), score in scores.items():
        if score >= threshold:
            by_actor[actor].append(day)
    return sum(_runs(days) for days in by_actor.values())


def _runs(days: list[int]) -> int:
    days.sort()
    return 1 + sum(later - day > _KEEP_DAYS for day, later in pairwise(days))


def _lowest(scores: Sequence[Scores], allowed: int) -> float:
    """Returns the lowest threshold with at most the allowed number of false findings."""
    values = sorted({score for one in scores for score in one.values()})
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) // 2
        if sum(_false_in(one, values[middle]) for one in scores) <= allowed:
            high = middle
        else:
            low = middle + 1
    return values[low] if low < len(values) else values[-1] + 1
