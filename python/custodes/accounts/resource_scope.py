"""Resource scopes: the resources an account may access, in addition to the permissions of its role."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

_PATTERN = re.compile(r"[^\s\[\]]{1,200}")


@dataclass(frozen=True)
class ResourceScope:
    """The resources whose events and people an account may see."""

    patterns: tuple[str, ...] = ()
    """Name patterns, with ``*`` for any text and ``?`` for one character; an empty list means every resource."""

    def __post_init__(self) -> None:
        """Raises ``ValueError`` for an invalid pattern."""
        for pattern in self.patterns:
            if not _PATTERN.fullmatch(pattern):
                raise ValueError(
                    f"'{pattern}' is not a resource pattern: use a name, with * for any text, without spaces and []"
                )

    @classmethod
    def of(cls, patterns: Iterable[str]) -> ResourceScope:
        """A ``*`` among the patterns means every resource."""
        wanted = tuple(sorted(set(patterns)))
        return cls(() if "*" in wanted else wanted)

    @classmethod
    def read(cls, text: str | None) -> ResourceScope:
        """Reads the form that :attr:`text` wrote."""
        return cls(tuple((text or "").split()))

    @property
    def text(self) -> str | None:
        """Form for the database; ``None`` for every resource."""
        return " ".join(self.patterns) or None

    @property
    def is_everything(self) -> bool:
        return not self.patterns

    def covers(self, resource: str | None) -> bool:
        """Returns whether a resource is in scope; only an unrestricted scope has events without a resource."""
        if self.is_everything:
            return True
        return resource is not None and any(fnmatchcase(resource, pattern) for pattern in self.patterns)


UNRESTRICTED = ResourceScope()
