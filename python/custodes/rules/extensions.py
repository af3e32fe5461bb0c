"""Reading of a rule's ``custodes`` key with pydantic; faults name the key and its line."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from custodes.config import Document, Fault
from custodes.config.faults import did_you_mean

_M = TypeVar("_M", bound=BaseModel)


def read_own(
    key: str, model: type[_M], value: dict[str, Any], document: Document, *, is_one_value: bool = False
) -> tuple[_M | None, list[Fault]]:
    """Reads ``custodes.KEY`` as a ``model``.

    With ``is_one_value``, the key has a single value instead of a mapping with the model's fields as keys.
    """
    try:
        return model.model_validate(value), []
    except ValidationError as error:
        faults = []
        for detail in error.errors():
            place = ("custodes", key) if is_one_value else ("custodes", key, *detail["loc"])
            is_unknown = detail["type"] == "extra_forbidden"
            hint = did_you_mean(str(place[-1]), list(model.model_fields)) if is_unknown else None
            problem = "unknown key" if is_unknown else detail["msg"].removeprefix("Value error, ")
            faults.append(document.fault(f"{'.'.join(map(str, place))}: {problem}", *place, hint=hint))
        return None, faults
