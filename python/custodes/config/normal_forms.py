"""Normal forms: spellings of one identity, and words for one action."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from functools import cache, cached_property
from importlib.resources import as_file, files
from typing import Any, Protocol

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


class ComparesNames(Protocol):
    """Something that compares names in normal form."""

    forms: NormalForms


class NormalForms:
    """Normal forms of values, as the engine compares them."""

    def __init__(
        self, forms: Mapping[str, IdentityForm] = DEFAULT_FORMS, actions: Mapping[str, Action] | None = None
    ) -> None:
        """``actions`` are the words of the log; the built-in ones by default."""
        self._forms = forms
        self._actions = built_in_actions() if actions is None else actions

    def normal(self, field: str, text: str) -> str:
        """Returns the normal form of a field's value; the value itself for a field without a form."""
        form = self._forms.get(field)
        if form is not None:
            return form.normalise(text)
        return self._action(text) if field == "action" else text

    def form(self, fields: Iterable[str]) -> str | None:
        """Returns the first of some fields that has a form; ``None`` if none has one."""
        return next((field for field in fields if field in self._forms or field == "action"), None)

    def _action(self, word: str) -> Action:
        form = IdentityForm().normalise(word)
        return self._words.get(form, Action.other) if form else Action.read

    @cached_property
    def _words(self) -> dict[str, Action]:
        known = {action.value: action for action in Action} | dict(self._actions)
        return {IdentityForm().normalise(word): action for word, action in known.items()}


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
