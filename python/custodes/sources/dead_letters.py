"""Dead letters: records that were not counted, kept with their place and the reason."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson

from custodes._core import Reject
from custodes.encryption.keys import NO_KEYS, Keys

_VALUE = "value_base64"


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
    """One JSON object a line with the record in base64, appended; encrypted where there are keys."""

    def __init__(self, path: Path, keys: Keys = NO_KEYS) -> None:
        self._file = path.open("ab", buffering=0)
        self._keys = keys

    def write(self, letters: Sequence[Letter]) -> None:
        end = self._file.seek(0, 2)
        text = memoryview(b"".join(_line(letter, self._keys) for letter in letters))
        try:
            while text:
                text = text[self._file.write(text) :]
        except OSError:
            # Half a line would spoil the next.
            self._file.truncate(end)
            raise

    def close(self) -> None:
        self._file.close()


def _line(letter: Letter, keys: Keys) -> bytes:
    entry = {
        **letter.place,
        "position": letter.reject.position,
        "reason": letter.reject.reason,
        "detail": keys.wrap(letter.reject.detail),
        _VALUE: base64.b64encode(keys.files.encrypt(letter.reject.value)).decode(),
    }
    return orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)


def read_line(line: bytes, keys: Keys) -> dict[str, Any]:
    """A line of a file as it was meant, with the record as text; what of it is no UTF-8 is replaced.

    Raises ``ValueError`` for what is no such line, and ``OSError`` for what is not as it was encrypted, or under a key
    that is not there.
    """
    try:
        entry: dict[str, Any] = orjson.loads(line)
        value = base64.b64decode(entry.pop(_VALUE), validate=True)
        detail = keys.unwrap(entry["detail"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError("it is no line of dead letters") from error
    return entry | {"detail": detail, "value": keys.files.decrypt(value).decode(errors="replace")}
