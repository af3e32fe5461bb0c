"""Need to know: which resources an account may look into, beyond what its role lets it do at all."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

_PATTERN = re.compile(r"[^\s\[\]]{1,200}")


@dataclass(frozen=True)
class ResourceScope:
    """The resources whose events, and whose people, somebody may see."""

    patterns: tuple[str, ...] = ()
    """Each a name, in which ``*`` is any text and ``?`` any one character; none: every resource."""

    def __post_init__(self) -> None:
        """Raises ``ValueError`` for what is no pattern."""
        for pattern in self.patterns:
            if not _PATTERN.fullmatch(pattern):
                raise ValueError(f"'{pattern}' names no resources: a name, with * for any text, without spaces and []")

    @classmethod
    def of(cls, patterns: Iterable[str]) -> ResourceScope:
        """``*`` among them is everything."""
        wanted = tuple(sorted(set(patterns)))
        return cls(() if "*" in wanted else wanted)

    @classmethod
    def read(cls, text: str | None) -> ResourceScope:
        """As :attr:`text` wrote it."""
        return cls(tuple((text or "").split()))

    @property
    def text(self) -> str | None:
        """For a database; ``None`` of everything."""
        return " ".join(self.patterns) or None

    @property
    def is_everything(self) -> bool:
        return not self.patterns

    def covers(self, resource: str | None) -> bool:
        """Whether it is one of them. What names no resource is for those who may look into everything."""
        if self.is_everything:
            return True
        return resource is not None and any(fnmatchcase(resource, pattern) for pattern in self.patterns)


UNRESTRICTED = ResourceScope()
