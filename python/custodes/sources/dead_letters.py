"""Dead letters: records that were not counted, kept with their place and the reason."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Protocol

import orjson

from custodes._core import Reject


class DeadLetters(Protocol):
    """Where rejected records go. ``put`` may only queue; after ``flush`` they are safe."""

    def put(self, reject: Reject, place: dict[str, str | int]) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class NoDeadLetters:
    """For runs whose input is at hand anyway."""

    def put(self, reject: Reject, place: dict[str, str | int]) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class FileDeadLetters:
    """One JSON object a line with the record in base64, appended."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab")

    def put(self, reject: Reject, place: dict[str, str | int]) -> None:
        entry = {
            **place,
            "position": reject.position,
            "reason": reject.reason,
            "detail": reject.detail,
            "value_base64": base64.b64encode(reject.value).decode(),
        }
        self._file.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()
