"""``custodes.baseline``: a threshold that follows what is usual for a group, or for its peers.

How it works is told in docs/design/baselines.md.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from custodes.config import Document, Fault
from custodes.config.section import Duration
from custodes.rules.extensions import read_own

_DAY = timedelta(days=1)


class BaselineOf(StrEnum):
    """For whom something is usual."""

    self = "self"
    peers = "peers"
    both = "both"


class Baseline(BaseModel):
    """What is usual, and how much more is too much. The rule's own threshold stays the least that fires."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    of: BaselineOf = Field(
        BaselineOf.self,
        description="`self`: a `quantile` of the group's own days. `peers`: the median over its peer group. `both`: "
        "how much the group does beside its peers, times what they do now.",
    )
    over: Duration = Field(timedelta(days=28), ge=_DAY, le=400 * _DAY, description="How far back, in days.")
    quantile: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Which quantile of its own days is usual for a group; 0.5 is the median. More for long windows, "
        "which a fortnight's absence makes small.",
    )
    factor: float = Field(3.0, gt=0, allow_inf_nan=False, description="How many times the usual is too much.")
    stranger_factor: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="How many times what is usual among its peers is too much for a group whose own usual is not known "
        "yet. Default: twice the factor.",
    )
    peers: str | None = Field(
        "peer_group", description="The field that says whose peers a group is among; null: all groups are peers."
    )
    least_days: int = Field(
        7,
        ge=1,
        description="With fewer days of its own, a group is held against its peers; with a timespan of more than a day "
        "also until there are as many days of its own as that has.",
    )
    least_peers: int = Field(5, ge=1, description="With fewer of them on a day, nothing is usual among peers.")
    cold: int | None = Field(
        None, ge=1, description="The threshold while nothing is known; null: nothing fires until something is."
    )

    def as_plan(self) -> dict[str, Any]:
        """The baseline as a part of the engine's plan."""
        return {
            "of": "own" if self.of is BaselineOf.self else self.of.value,
            "over_days": self.over // _DAY,
            "quantile": self.quantile,
            "factor": self.factor,
            "stranger_factor": self.stranger_factor or 2 * self.factor,
            "peers": self.peers,
            "least_days": self.least_days,
            "least_peers": self.least_peers,
            "cold": self.cold,
        }

    @property
    def said(self) -> str:
        """In a few words."""
        whose = {BaselineOf.self: "its own usual", BaselineOf.peers: "what is usual among its peers"}
        said = f"{self.factor:g} times {whose.get(self.of, 'its own usual beside its peers')}"
        return said if self.cold is None else f"{said}, or {self.cold:,} while nothing is usual yet"


def read_baseline(document: Document) -> tuple[Baseline | None, list[Fault]]:
    """Reads the baseline of a rule, if there is one."""
    value = (document.data.get("custodes") or {}).get("baseline")
    if value is None:
        return None, []
    if not isinstance(value, dict):
        problem = "custodes.baseline must be a mapping, like {of: self, factor: 3}"
        return None, [document.fault(problem, "custodes", "baseline")]
    return read_own("baseline", Baseline, value, document)
