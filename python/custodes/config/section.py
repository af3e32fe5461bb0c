"""Base class and field types of configuration sections."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema

from custodes.config.durations import format_duration, parse_duration


def _duration(value: Any) -> Any:
    return value if isinstance(value, timedelta) else parse_duration(value)


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(ms|[smhdw])$", "examples": ["10s", "5m", "28d"]}),
]


class Section(BaseModel):
    """A section: unknown keys are refused, and values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)
