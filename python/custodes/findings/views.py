"""Saved views: which findings somebody comes back to, by a name of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import Engine, delete, func, insert, or_, select
from sqlalchemy.exc import IntegrityError

from custodes.database.tables import views

MOST_NAME = 64
MOST_VIEWS = 100
"""Of one account."""


@dataclass(frozen=True)
class SavedView:
    """One. What is empty leaves nothing out."""

    name: str
    by: str
    state: str = ""
    """What people made of a finding."""
    level: str = ""
    rule_id: str = ""
    is_shared: bool = False
    """Whether everybody has it; only who made it can let go of it."""
    number: int = 0

    def __post_init__(self) -> None:
        """Raises ``ValueError`` for one that cannot be."""
        if not self.name.strip() or len(self.name) > MOST_NAME:
            raise ValueError(f"give it a name of up to {MOST_NAME} characters")

    @property
    def query(self) -> str:
        """The findings page's query that shows it."""
        return urlencode({"state": self.state, "level": self.level, "rule": self.rule_id})

    def as_dict(self) -> dict[str, Any]:
        """The public fields."""
        return vars(self)


class SavedViewStore:
    """Used from any thread and process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def save(self, view: SavedView) -> int:
        """Keeps a view, and returns its number. Raises ``ValueError`` where its maker has one of that name, or too
        many."""
        row = {name: value for name, value in vars(view).items() if name != "number"} | {"name": view.name.strip()}
        try:
            with self._engine.begin() as connection:
                query = select(func.count()).select_from(views).where(views.c.by == view.by)
                if connection.execute(query).scalar_one() >= MOST_VIEWS:
                    raise ValueError(f"{MOST_VIEWS} views are enough: let go of one first")
                return int(connection.execute(insert(views).values(row).returning(views.c.number)).scalar_one())
        except IntegrityError as error:
            raise ValueError(f"you have a view '{view.name.strip()}' already") from error

    def of(self, account: str) -> list[SavedView]:
        """What an account has, by name: its own, and those that are shared."""
        query = select(views).where(or_(views.c.by == account, views.c.is_shared)).order_by(views.c.name, views.c.by)
        with self._engine.connect() as connection:
            return [SavedView(**row) for row in connection.execute(query).mappings()]

    def forget(self, account: str, number: int) -> None:
        """Lets go of an account's own view. Raises ``KeyError`` where there is none."""
        with self._engine.begin() as connection:
            its = (views.c.number == number, views.c.by == account)
            if not connection.execute(delete(views).where(*its)).rowcount:
                raise KeyError(number)
