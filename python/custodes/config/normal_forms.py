"""Normal forms: spellings of one identity, and words for one action."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cache
from importlib.resources import as_file, files
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from custodes._core import normalise
from custodes.config.faults import Fault
from custodes.config.yamldoc import Document, load_documents

ACTIONS_FILE = "actions"
"""File of the words that all mappings know."""


class LetterCase(StrEnum):
    """Whether letter case tells identities apart."""

    fold = "fold"
    keep = "keep"


class Removal(StrEnum):
    """What becomes of a part of an identity."""

    keep = "keep"
    remove = "remove"


class IdentityForm(BaseModel):
    """How the values of an identity field are normalised, besides NFKC and the removal of invisible characters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    case: LetterCase = Field(LetterCase.fold, description="`keep` if `ab` and `AB` are different identities.")
    separators: Removal = Field(
        Removal.keep, description="`remove` removes spaces and hyphens between digits: `410105-1990` is `4101051990`."
    )
    domain: Removal = Field(
        Removal.keep, description="`remove` removes a domain: `CORP\\anna` and `anna@corp.example` are `anna`."
    )

    def normalise(self, text: str) -> str:
        """Returns the normal form of a text."""
        return normalise(self.model_dump_json(), text)


class Action(StrEnum):
    """What an access does. ``none`` is no access and not counted."""

    read = "read"
    search = "search"
    export = "export"
    print = "print"
    change = "change"
    delete = "delete"
    other = "other"
    none = "none"


DEFAULT_FORMS: Mapping[str, IdentityForm] = {"actor": IdentityForm(), "subject": IdentityForm()}
"""Forms of a mapping that does not define any."""


@cache
def built_in_actions() -> dict[str, Action]:
    """Returns the known words of logs, with their actions."""
    with as_file(files("custodes.mappings") / f"{ACTIONS_FILE}.yml") as path:
        [document] = load_documents(path)
    words = [(str(word), Action(action)) for action, listed in document.data.items() for word in listed]
    repeated = [word for word, count in Counter(word for word, _ in words).items() if count > 1]
    if repeated:
        raise ValueError(f"{path.name}: {', '.join(repeated)} twice")
    return dict(words)


def read_forms(document: Document, key: str, faults: list[Fault]) -> dict[str, IdentityForm]:
    """Reads the forms of a mapping; fields that it does not name keep the default."""
    forms = dict(DEFAULT_FORMS)
    for field, said in _items(document, key, "a mapping of fields, like `actor: {domain: remove}`", faults):
        try:
            forms[field] = IdentityForm.model_validate({} if said is None else said)
        except ValidationError as error:
            for detail in error.errors():
                place = detail["loc"][:1]
                problem = f"{'.'.join([key, field, *map(str, place)])}: {detail['msg']}"
                faults.append(document.fault(problem, key, field, *place))
    return forms


def read_actions(document: Document, key: str, faults: list[Fault]) -> dict[str, Action]:
    """Reads the words of a mapping; they take precedence over the built-in ones."""
    actions = dict(built_in_actions())
    for word, said in _items(document, key, "a mapping of words, like `abfrage: search`", faults):
        if isinstance(said, str) and said in set(Action):
            actions[word] = Action(said)
        else:
            problem = f"{key}.{word}: '{said}' is not an action"
            faults.append(document.fault(problem, key, word, hint=f"the actions are {', '.join(Action)}"))
    return actions


def _items(document: Document, key: str, wanted: str, faults: list[Fault]) -> Iterator[tuple[str, Any]]:
    said = document.data.get(key)
    if isinstance(said, dict):
        yield from ((str(name), value) for name, value in said.items())
    elif said is not None:
        faults.append(document.fault(f"'{key}' must be {wanted}", key))
