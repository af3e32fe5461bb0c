"""``custodes.new`` and ``custodes.dormant``: which of a group's events count at all, by what it did on days before.

What counts as before are days before yesterday, so that the order in which events come does not matter. How it works is
told in docs/rules.md.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from custodes.config import Document, Fault
from custodes.config.section import Duration
from custodes.rules.extensions import read_own

_DAY = timedelta(days=1)


def _whole_days(span: timedelta) -> timedelta:
    if span % _DAY:
        raise ValueError("wanted whole days")
    return span


_WholeDays = Annotated[Duration, AfterValidator(_whole_days)]


class NewValues(BaseModel):
    """Only events with a value that their group has not had lately count; of that field, only such values."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    field: str = Field(description="The field whose values may be new.")
    over: _WholeDays = Field(
        timedelta(days=90),
        ge=2 * _DAY,
        le=400 * _DAY,
        description="A value is new if the group has not had it for so long.",
    )
    after: _WholeDays = Field(
        timedelta(days=28),
        ge=2 * _DAY,
        description="Nothing is new for a group that has not been known so long, without a pause longer than `over`: "
        "what a new hire does is new every day.",
    )

    @model_validator(mode="after")
    def _is_known_before_it_is_forgotten(self) -> NewValues:
        if self.after > self.over:
            raise ValueError("'after' is longer than 'over'")
        return self

    def as_plan(self) -> dict[str, Any]:
        """The sieve as a part of the engine's plan."""
        return {"new": {"field": self.field, "over_days": self.over // _DAY, "after_days": self.after // _DAY}}

    @property
    def said(self) -> str:
        """In a few words."""
        return f"events with a {self.field} not had within {self.over // _DAY} days"


class DormantGroups(BaseModel):
    """Only events of a group count that was silent for long, and known before that."""

    model_config = ConfigDict(frozen=True)

    silent: _WholeDays = Field(ge=2 * _DAY, le=400 * _DAY)

    def as_plan(self) -> dict[str, Any]:
        """The sieve as a part of the engine's plan."""
        return {"waking": {"silent_days": self.silent // _DAY}}

    @property
    def said(self) -> str:
        """In a few words."""
        return f"events after more than {self.silent // _DAY} days of silence"


Novelty = NewValues | DormantGroups


def read_novelty(document: Document, counted: str | None) -> tuple[Novelty | None, list[Fault]]:
    """Reads the novelty condition of a rule, if there is one. ``counted`` is the field that the rule counts."""
    own = document.data.get("custodes") or {}
    if "new" in own and "dormant" in own:
        return None, [document.fault("custodes.new and custodes.dormant cannot be combined", "custodes", "dormant")]
    if "dormant" in own:
        return read_own("dormant", DormantGroups, {"silent": own["dormant"]}, document, is_one_value=True)
    if "new" in own:
        value = {} if own["new"] is True else own["new"]
        if not isinstance(value, dict):
            return None, [document.fault("custodes.new must be a mapping, like {field: resource}", "custodes", "new")]
        default = {"field": counted} if counted else {}
        return read_own("new", NewValues, {**default, **value}, document)
    return None, []
