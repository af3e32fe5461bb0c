"""What stands under a rule's ``custodes`` key: read by pydantic, with faults that say the key and its line."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from custodes.config import Document, Fault
from custodes.config.faults import did_you_mean

_M = TypeVar("_M", bound=BaseModel)


def read_own(
    key: str,
    model: type[_M],
    said: dict[str, Any],
    document: Document,
    faults: list[Fault],
    *,
    is_one_value: bool = False,
) -> _M | None:
    """``custodes.KEY`` as a ``model``; what is wrong with it goes to ``faults``.

    Of ``is_one_value``, the model's fields are no keys of the file: it is a value with a name.
    """
    try:
        return model.model_validate(said)
    except ValidationError as error:
        for detail in error.errors():
            place = ("custodes", key) if is_one_value else ("custodes", key, *detail["loc"])
            is_unknown = detail["type"] == "extra_forbidden"
            hint = did_you_mean(str(place[-1]), list(model.model_fields)) if is_unknown else None
            what = "unknown key" if is_unknown else detail["msg"].removeprefix("Value error, ")
            faults.append(document.fault(f"{'.'.join(map(str, place))}: {what}", *place, hint=hint))
        return None
