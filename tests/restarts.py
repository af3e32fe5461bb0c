"""An engine that is saved and restored during a stream."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

from custodes._core import Engine, restore
from custodes.findings import Finding, FindingAccumulator
from custodes.rules import Rule


def findings_over_restarts(
    rules: Sequence[Rule], plan: str, stream: Sequence[dict[str, Any]], rng: random.Random
) -> list[Finding]:
    """Returns the findings of a stream in batches of all sizes, on one thread or two, with random restarts."""
    ledger, engine = FindingAccumulator(rules), Engine(plan, rng.choice([1, 2]))
    rest = list(stream)
    while rest:
        size = rng.randint(1, 40)
        some, rest = rest[:size], rest[size:]
        ledger.apply(engine.process_lines(b"".join(json.dumps(event).encode() + b"\n" for event in some)).changes)
        ledger.apply(engine.updates())
        if rng.random() < 0.3:
            frame = engine.save_frame()
            parts = [b"".join(engine.save_part(part, {})) for part in range(engine.parts())]
            restored = restore(plan, frame, parts)
            dropped = restored.dropped
            assert (dropped.windows, dropped.decisions, dropped.orphans) == ([], [], [])
            engine = restored.engine
    ledger.apply(engine.finish().changes)
    return ledger.findings()
