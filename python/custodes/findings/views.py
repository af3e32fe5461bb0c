"""Saved views: named queries for findings, per account."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import Engine, delete, func, insert, or_, select
from sqlalchemy.exc import IntegrityError

from custodes.database.tables import views

MOST_NAME = 64
MOST_VIEWS = 100
"""Largest number of views per account."""


@dataclass(frozen=True)
class SavedView:
    """A saved view. An empty field does not filter."""

    name: str
    by: str
    state: str = ""
    """Triage state."""
    level: str = ""
    rule_id: str = ""
    is_shared: bool = False
    """Whether all accounts see it; only its owner can delete it."""
    number: int = 0

    def __post_init__(self) -> None:
        """Raises ``ValueError`` for an invalid view."""
        if not self.name.strip() or len(self.name) > MOST_NAME:
            raise ValueError(f"the name must have 1 to {MOST_NAME} characters")

    @property
    def query(self) -> str:
        """Returns the query of the findings page."""
        return urlencode({"state": self.state, "level": self.level, "rule": self.rule_id})

    def as_dict(self) -> dict[str, Any]:
        """Returns the public fields."""
        return vars(self)


class SavedViewStore:
    """Safe to use from any thread and process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def save(self, view: SavedView) -> int:
        """Stores a view and returns its number. Raises ``ValueError`` for a duplicate name or too many views."""
        row = {name: value for name, value in vars(view).items() if name != "number"} | {"name": view.name.strip()}
        try:
            with self._engine.begin() as connection:
                query = select(func.count()).select_from(views).where(views.c.by == view.by)
                if connection.execute(query).scalar_one() >= MOST_VIEWS:
                    raise ValueError(f"an account can have {MOST_VIEWS} views: delete one first")
                return int(connection.execute(insert(views).values(row).returning(views.c.number)).scalar_one())
        except IntegrityError as error:
            raise ValueError(f"you already have a view named '{view.name.strip()}'") from error

    def of(self, account: str) -> list[SavedView]:
        """Returns the views of an account, by name: its own and the shared ones."""
        query = select(views).where(or_(views.c.by == account, views.c.is_shared)).order_by(views.c.name, views.c.by)
        with self._engine.connect() as connection:
            return [SavedView(**row) for row in connection.execute(query).mappings()]

    def forget(self, account: str, number: int) -> None:
        """Deletes an account's own view. Raises ``KeyError`` if it does not exist."""
        with self._engine.begin() as connection:
            its = (views.c.number == number, views.c.by == account)
            if not connection.execute(delete(views).where(*its)).rowcount:
                raise KeyError(number)
