"""Dead letters: records that were not counted, with their position and the reason."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson

from custodes.encryption.keys import NO_KEYS, Keys

_VALUE = "value_base64"


class RejectedRecord(Protocol):
    """A record, or the rest of a file, that was not counted."""

    @property
    def position(self) -> int: ...
    @property
    def reason(self) -> str: ...
    @property
    def detail(self) -> str: ...
    @property
    def value(self) -> bytes: ...


@dataclass(frozen=True)
class Letter:
    """A rejected record and its origin: file, or topic and partition."""

    reject: RejectedRecord
    place: dict[str, str | int]


class DeadLetters(Protocol):
    """Destination of rejected records."""

    def write(self, letters: Sequence[Letter]) -> None:
        """Returns once all letters are stored. Raises ``OSError``; some letters can then be stored and be written
        again."""

    def close(self) -> None: ...


class NoDeadLetters:
    """Discards letters, for runs whose input is still available."""

    def write(self, letters: Sequence[Letter]) -> None: ...

    def close(self) -> None: ...


class FileDeadLetters:
    """Appends one JSON object per line with the record in base64; encrypted if there are keys."""

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
            # An incomplete line would damage the next one.
            self._file.truncate(end)
            raise

    def close(self) -> None:
        self._file.close()


def _utf8(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _line(letter: Letter, keys: Keys) -> bytes:
    entry = {
        # The name of a file need not be UTF-8.
        **{name: _utf8(value) if isinstance(value, str) else value for name, value in letter.place.items()},
        "position": letter.reject.position,
        "reason": letter.reject.reason,
        "detail": keys.wrap(letter.reject.detail),
        _VALUE: base64.b64encode(keys.files.encrypt(letter.reject.value)).decode(),
    }
    return orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)


@dataclass(frozen=True)
class KeptLetter:
    """A dead letter that was read back from its file or topic."""

    place: Mapping[str, str | int]
    """Origin of the record: file, or topic and partition."""
    position: int
    """Offset or line number in the origin."""
    reason: str
    value: bytes
    is_cut: bool = False
    """Whether only the first bytes of the record were kept."""

    @property
    def identity(self) -> str:
        """Name of the rejected record, equal for all copies of it.

        A restart can write a letter twice. The checksum distinguishes records of a topic that was created again.
        """
        origin = "/".join(str(part) for part in (*self.place.values(), self.position))
        return f"{origin}/{zlib.crc32(self.value):08x}"

    @property
    def origin(self) -> tuple[str, int] | None:
        """Topic and partition of the record; ``None`` if it was read from a file."""
        topic, partition = self.place.get("topic"), self.place.get("partition")
        return (topic, partition) if isinstance(topic, str) and isinstance(partition, int) else None


def read_letter(line: bytes, keys: Keys) -> tuple[KeptLetter, str]:
    """Returns a line of a file as a letter, with its detail.

    Raises ``ValueError`` for an invalid line, and ``OSError`` if a line cannot be decrypted.
    """
    try:
        entry: dict[str, Any] = orjson.loads(line)
        value = base64.b64decode(entry.pop(_VALUE), validate=True)
        detail = keys.unwrap(entry.pop("detail"))
        position, reason = int(entry.pop("position")), str(entry.pop("reason"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError("not a line of dead letters") from error
    return KeptLetter(entry, position, reason, keys.files.decrypt(value)), detail


def read_line(line: bytes, keys: Keys) -> dict[str, Any]:
    """Returns a line of a file as readable text, with the record decoded; invalid UTF-8 is replaced.

    Raises like :func:`read_letter`.
    """
    letter, detail = read_letter(line, keys)
    return {
        **letter.place,
        "position": letter.position,
        "reason": letter.reason,
        "detail": detail,
        "value": letter.value.decode(errors="replace"),
    }
