"""Worker state in a shared directory or an object store (S3, Google Cloud Storage, Azure), by URL.

Keys under the URL: `agreed/NAME`, `tasks/TASK/claims/EPOCH` and `tasks/TASK/snapshots/EPOCH/NAME`. The only requirement
on the store is create-if-absent. A claim is such an object: the worker that creates the next epoch has the task. A
claim lists the snapshots that its claimant found, so a snapshot that an earlier claimant writes later is in no list and
is ignored.
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
"""Number of attempts to create the next epoch while others do the same."""
_CLAIMS_KEPT = 8
_PATIENCE = timedelta(seconds=10)


class ObjectStates:
    """A state store. It is used from one thread, its folders from another."""

    def __init__(self, url: str) -> None:
        """Credentials come from the environment, as with the store's own tools.

        Raises ``ValueError`` for a URL with an unknown scheme (:data:`SCHEMES`), and ``OSError``.
        """
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            raise ValueError(
                f"'{url}' is not the URL of a state store: use {', '.join(f'{one}://' for one in SCHEMES)}"
            )
        self._root: Path | None = None
        with _failures():
            if parts.scheme == "file":
                self._root = Path(unquote(parts.path))
                # It will contain names, and the key of the fingerprints.
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
                # Another worker has claimed it meanwhile, or its previous owner wrote until then.
                continue
            for key in there - set(found):
                if _epoch(key) <= last:
                    self.delete(key)
            for epoch in epochs[:-_CLAIMS_KEPT]:
                self.delete(f"{claims}/{epoch:012}")
            return ObjectFolder(self, f"tasks/{task}/snapshots/{last + 1:012}", sorted(there & set(found)))
        raise OSError(f"other workers keep claiming {task}")

    def _left(self, task: str, epoch: int) -> list[str]:
        """Returns the snapshots of an epoch: those its claimant found, and its own."""
        if epoch == 0:
            return []
        there = self._snapshots(task)
        try:
            found = json.loads(self.read(f"tasks/{task}/claims/{epoch:012}"))
        except FileNotFoundError:
            return []
        left = sorted(key for key in there if key in found or _epoch(key) == epoch)
        # A claimant whose snapshots were removed before it could adopt them has not begun.
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
        """Returns whether the object was absent and has been created."""
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
        """Writes an object completely or not at all."""
        with _failures():
            self._store.put(key, content)
        self._settle(key)

    def delete(self, key: str) -> None:
        """Removes an object; a concurrent claimant may have removed it already."""
        with suppress(FileNotFoundError), _failures():
            self._store.delete(key)

    def _settle(self, key: str) -> None:
        """Makes a local file and its name survive a power cut; object stores do this themselves."""
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
        """Does nothing: no connection stays open."""


class ObjectFolder:
    """The files of a task under one claim."""

    def __init__(self, states: ObjectStates, place: str, found: list[str]) -> None:
        self._states, self._place = states, place
        self._keys = {key.rpartition("/")[2]: key for key in found}
        self._unfinished: dict[str, BinaryIO] = {}

    def names(self) -> list[str]:
        return sorted({*self._keys, *self._unfinished})

    def open(self, name: str) -> BinaryIO:
        return io.BytesIO(self._states.read(self._keys[name]))

    def create(self, name: str) -> OutputFile:
        # A temporary file without a name: no other process reads it, and it disappears with the process.
        content = self._unfinished[name] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with its name
        return _Unfinished(content)

    def rename(self, name: str, to: str) -> None:
        """Uploads a file under the name that later claimants read."""
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
        """Does nothing: an object is durable once it has its name."""


class _Unfinished:
    """A file being written."""

    def __init__(self, content: BinaryIO) -> None:
        self._content = content

    def write(self, data: bytes) -> None:
        self._content.write(data)

    def sync(self) -> None:
        self._content.flush()

    def close(self) -> None:
        """Does nothing: the file is closed when it is renamed or removed."""


def _epoch(snapshot: str) -> int:
    return int(snapshot.split("/")[-2])


@contextmanager
def _failures() -> Iterator[None]:
    """Raises the store's errors as ``OSError``, which callers retry."""
    try:
        yield
    except AlreadyExistsError:
        raise
    except BaseError as error:
        raise OSError(str(error).partition("\n")[0]) from error
