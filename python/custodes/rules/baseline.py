"""``custodes.baseline``: a threshold that follows the expected count of a group or of its peers.

docs/design/baselines.md describes the computation.
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
    """The source of the expected value."""

    self = "self"
    peers = "peers"
    both = "both"


class Baseline(BaseModel):
    """The expected value, and the factor above it. The rule's own threshold remains the minimum."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    of: BaselineOf = Field(
        BaselineOf.self,
        description="`self`: a `quantile` of the group's own days. `peers`: the median over its peer group. `both`: "
        "the group's usual ratio to its peers, times their current level.",
    )
    over: Duration = Field(
        timedelta(days=28), ge=_DAY, le=400 * _DAY, description="Length of the reference period, in days."
    )
    quantile: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Quantile of the group's own days that is the expected value; 0.5 is the median. Use a higher one "
        "for long windows, whose counts a fortnight's absence lowers.",
    )
    factor: float = Field(
        3.0, gt=0, allow_inf_nan=False, description="Multiple of the expected value that is the threshold."
    )
    stranger_factor: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Multiple of the peers' expected value that is the threshold of a group without an expected value "
        "of its own. Default: twice the factor.",
    )
    peers: str | None = Field(
        "peer_group", description="Field that contains the peer group; null: all groups are peers."
    )
    least_days: int = Field(
        7,
        ge=1,
        description="Minimum number of a group's own days. With fewer, or with fewer days than the timespan has, the "
        "group is compared with its peers.",
    )
    least_peers: int = Field(
        5, ge=1, description="Minimum number of active peers per day for an expected value of peers."
    )
    cold: int | None = Field(
        None,
        ge=1,
        description="Threshold while there is no expected value; null: the rule does not fire until there is one.",
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
    def summary(self) -> str:
        """The expected value in a few words."""
        whose = {BaselineOf.self: "its own expected value", BaselineOf.peers: "the expected value of its peers"}
        text = f"{self.factor:g} times {whose.get(self.of, 'its own expected ratio to its peers')}"
        return text if self.cold is None else f"{text}, or {self.cold:,} while no value is expected yet"


def read_baseline(document: Document) -> tuple[Baseline | None, list[Fault]]:
    """Reads the baseline of a rule, if there is one."""
    value = (document.data.get("custodes") or {}).get("baseline")
    if value is None:
        return None, []
    if not isinstance(value, dict):
        problem = "custodes.baseline must be a mapping, like {of: self, factor: 3}"
        return None, [document.fault(problem, "custodes", "baseline")]
    return read_own("baseline", Baseline, value, document)
