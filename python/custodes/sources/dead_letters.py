"""Dead letters: records that were not counted, kept with their place and the reason."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import orjson

from custodes._core import Reject


@dataclass(frozen=True)
class Letter:
    """A rejected record and where it was: file, or topic and partition."""

    reject: Reject
    place: dict[str, str | int]


class DeadLetters(Protocol):
    """Where rejected records go."""

    def write(self, letters: Sequence[Letter]) -> None:
        """Returns once all are safe. Raises ``OSError``; those that were may come again then."""

    def close(self) -> None: ...


class NoDeadLetters:
    """For runs whose input is at hand anyway."""

    def write(self, letters: Sequence[Letter]) -> None: ...

    def close(self) -> None: ...


class FileDeadLetters:
    """One JSON object a line with the record in base64, appended."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def write(self, letters: Sequence[Letter]) -> None:
        end = self._file.seek(0, 2)
        text = memoryview(b"".join(map(_line, letters)))
        try:
            while text:
                text = text[self._file.write(text) :]
        except OSError:
            # Half a line would spoil the next.
            self._file.truncate(end)
            raise

    def close(self) -> None:
        self._file.close()


def _line(letter: Letter) -> bytes:
    entry = {
        **letter.place,
        "position": letter.reject.position,
        "reason": letter.reject.reason,
        "detail": letter.reject.detail,
        "value_base64": base64.b64encode(letter.reject.value).decode(),
    }
    return orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)
