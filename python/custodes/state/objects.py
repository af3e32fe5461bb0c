"""State in a directory that all workers reach, or in an object store (S3, Google Cloud Storage, Azure), by its URL.

Under the URL lie `agreed/NAME`, `tasks/TASK/claims/EPOCH` and `tasks/TASK/snapshots/EPOCH/NAME`. All that is asked
of the store is to create a thing only if it is not there. A claim is such a thing: who creates the next epoch has the
task. It lists what its claimant found, so that what an earlier one writes later is in nobody's list and is passed over.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import from_url

from custodes.state.folder import OutputFile

SCHEMES = ("file", "s3", "gs", "az")
_TRIES = 20
"""To create the next epoch, while others do the same."""
_CLAIMS_KEPT = 8
_PATIENCE = timedelta(seconds=10)


class ObjectStates:
    """A state store. Used from one thread, its folders from another."""

    def __init__(self, url: str) -> None:
        """Credentials come from the environment, as the store's own tools take them.

        Raises ``ValueError`` for a URL that is none of :data:`SCHEMES`, and ``OSError``.
        """
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            raise ValueError(f"'{url}' is no URL of a state store: use {', '.join(f'{one}://' for one in SCHEMES)}")
        self._root: Path | None = None
        with _failures():
            if parts.scheme == "file":
                self._root = Path(unquote(parts.path))
                # It will hold names, and the key of the fingerprints.
                self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._store = from_url(url)
            else:
                self._store = from_url(
                    url,
                    client_options={"connect_timeout": "3s", "timeout": "30s", "allow_http": True},
                    retry_config={"max_retries": 3, "retry_timeout": _PATIENCE},
                )

    def agree(self, name: str, proposal: str) -> str:
        key = f"agreed/{name}"
        return proposal if self._create(key, proposal.encode()) else self.read(key).decode()

    def claim(self, task: str) -> ObjectFolder:
        claims = f"tasks/{task}/claims"
        for _ in range(_TRIES):
            epochs = self._epochs(claims)
            last = epochs[-1] if epochs else 0
            found = self._left(task, last)
            if not self._create(f"{claims}/{last + 1:012}", json.dumps(found).encode()):
                continue
            epochs = self._epochs(claims)
            there = self._snapshots(task)
            if epochs[-1] != last + 1 or (found and not there & set(found)):
                # Somebody else has it by now, or whoever had it went on until then.
                continue
            for key in there - set(found):
                if _epoch(key) <= last:
                    self.delete(key)
            for epoch in epochs[:-_CLAIMS_KEPT]:
                self.delete(f"{claims}/{epoch:012}")
            return ObjectFolder(self, f"tasks/{task}/snapshots/{last + 1:012}", sorted(there & set(found)))
        raise OSError(f"others claim {task} again and again")

    def _left(self, task: str, epoch: int) -> list[str]:
        """The snapshots of whoever has an epoch: those it found, and its own."""
        if epoch == 0:
            return []
        there = self._snapshots(task)
        try:
            found = json.loads(self.read(f"tasks/{task}/claims/{epoch:012}"))
        except FileNotFoundError:
            return []
        left = sorted(key for key in there if key in found or _epoch(key) == epoch)
        # One whose finds were gone before it could take them up has not begun.
        return left if left or not found else self._left(task, epoch - 1)

    def _epochs(self, claims: str) -> list[int]:
        return sorted(int(key.rpartition("/")[2]) for key in self._keys(claims))

    def _snapshots(self, task: str) -> set[str]:
        return set(self._keys(f"tasks/{task}/snapshots"))

    def _keys(self, prefix: str) -> Iterator[str]:
        with _failures():
            for some in self._store.list(prefix):
                yield from (one["path"] for one in some)

    def _create(self, key: str, value: bytes) -> bool:
        """Returns whether it was not there."""
        with _failures():
            try:
                self._store.put(key, value, mode="create")
            except AlreadyExistsError:
                return False
        self._settle(key)
        return True

    def read(self, key: str) -> bytes:
        with _failures():
            return bytes(self._store.get(key).bytes())

    def write(self, key: str, content: BinaryIO) -> None:
        """Writes it whole or not at all."""
        with _failures():
            self._store.put(key, content)
        self._settle(key)

    def delete(self, key: str) -> None:
        """Has it gone: whoever claims at the same time clears the same things away."""
        with suppress(FileNotFoundError), _failures():
            self._store.delete(key)

    def _settle(self, key: str) -> None:
        """Has a file and its name survive a power cut; object stores see to that themselves."""
        if self._root is None:
            return
        path = self._root / key
        for place in (path, *path.parents):
            descriptor = os.open(place, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if place == self._root:
                break

    def close(self) -> None:
        """There is nothing to let go of."""


class ObjectFolder:
    """A task's files under one claim."""

    def __init__(self, states: ObjectStates, place: str, found: list[str]) -> None:
        self._states, self._place = states, place
        self._keys = {key.rpartition("/")[2]: key for key in found}
        self._unfinished: dict[str, BinaryIO] = {}

    def names(self) -> list[str]:
        return sorted({*self._keys, *self._unfinished})

    def open(self, name: str) -> BinaryIO:
        return io.BytesIO(self._states.read(self._keys[name]))

    def create(self, name: str) -> OutputFile:
        # A file without a name: nobody else reads it, and nothing is left of it.
        content = self._unfinished[name] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with its name
        return _Unfinished(content)

    def rename(self, name: str, to: str) -> None:
        """Writes a file to where those who come after find it."""
        content = self._unfinished.pop(name)
        key = f"{self._place}/{to}"
        with content:
            content.seek(0)
            self._states.write(key, content)
        self._keys[to] = key

    def remove(self, name: str) -> None:
        if content := self._unfinished.pop(name, None):
            content.close()
        elif key := self._keys.pop(name, None):
            self._states.delete(key)

    def sync(self) -> None:
        """A file is safe once it has its name."""


class _Unfinished:
    """A file on its way."""

    def __init__(self, content: BinaryIO) -> None:
        self._content = content

    def write(self, data: bytes) -> None:
        self._content.write(data)

    def sync(self) -> None:
        self._content.flush()

    def close(self) -> None:
        """It is closed when it is named, or removed."""


def _epoch(snapshot: str) -> int:
    return int(snapshot.split("/")[-2])


@contextmanager
def _failures() -> Iterator[None]:
    """What the store raises, as ``OSError``: it may be over the next time."""
    try:
        yield
    except AlreadyExistsError:
        raise
    except BaseError as error:
        raise OSError(str(error).partition("\n")[0]) from error
