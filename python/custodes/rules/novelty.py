"""``custodes.new`` and ``custodes.dormant``: filters for events by the activity of their group on earlier days.

Only days before yesterday are used, so that the result does not depend on the order of events. docs/rules.md describes
the filters.
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
        raise ValueError("must be whole days")
    return span


_WholeDays = Annotated[Duration, AfterValidator(_whole_days)]


class NewValues(BaseModel):
    """Counts only events with a value that their group did not have recently, and of that field only such values."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    field: str = Field(description="Field whose values can be new.")
    over: _WholeDays = Field(
        timedelta(days=90),
        ge=2 * _DAY,
        le=400 * _DAY,
        description="Time without a value after which it is new again for the group.",
    )
    after: _WholeDays = Field(
        timedelta(days=28),
        ge=2 * _DAY,
        description="Time for which a group must be known, without a pause longer than `over`, before a value counts "
        "as new: for a new hire, every value would be.",
    )

    @model_validator(mode="after")
    def _is_known_before_it_is_forgotten(self) -> NewValues:
        if self.after > self.over:
            raise ValueError("'after' is longer than 'over'")
        return self

    def as_plan(self) -> dict[str, Any]:
        """Returns the filter as a part of the engine's plan."""
        return {"new": {"field": self.field, "over_days": self.over // _DAY, "after_days": self.after // _DAY}}

    @property
    def summary(self) -> str:
        """The filter in a few words."""
        return f"events with a {self.field} not seen within {self.over // _DAY} days"


class DormantGroups(BaseModel):
    """Counts only events of a group that was known and then silent for a long time."""

    model_config = ConfigDict(frozen=True)

    silent: _WholeDays = Field(ge=2 * _DAY, le=400 * _DAY)

    def as_plan(self) -> dict[str, Any]:
        """Returns the filter as a part of the engine's plan."""
        return {"waking": {"silent_days": self.silent // _DAY}}

    @property
    def summary(self) -> str:
        """The filter in a few words."""
        return f"events after more than {self.silent // _DAY} days of silence"


Novelty = NewValues | DormantGroups


def read_novelty(document: Document, counted: str | None) -> tuple[Novelty | None, list[Fault]]:
    """Reads the filter of a rule, if there is one. ``counted`` is the field that the rule counts."""
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
