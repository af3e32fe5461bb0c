"""The evidence log in its folder, with its signing key."""

from __future__ import annotations

from pathlib import Path

from custodes._core import EvidenceLog
from custodes.encryption.keys import NO_KEYS, Keys
from custodes.evidence.entries import SALT, LogEntry, key_of, read, written
from custodes.state import LocalFolder
from custodes.state.secret_file import secret_kept_in

PUBLIC_KEY = "key.pub"


class EvidenceStore:
    """The log of one process. Safe to use from any thread."""

    def __init__(self, folder: Path, key: Path, name: str | None = None, keys: Keys = NO_KEYS) -> None:
        """``key`` is the file with the secret that signs heads, preferably outside the folder of the log. ``keys``
        encrypt entries.

        Raises :class:`~custodes.state.FolderInUseError`, :class:`~custodes._core.EvidenceDamagedError`, ``OSError``,
        and ``ValueError`` for an invalid key.
        """
        self._folder = LocalFolder(folder)
        try:
            name = name or f"custodes/{self._folder.owner()}"
            self.log = EvidenceLog(folder, name, secret_kept_in(key), keys.files)
        except BaseException:
            self._folder.close()
            raise
        (folder / PUBLIC_KEY).write_text(f"{self.log.key}\n")
        self.path = folder

    def add(self, finding_id: str, entries: list[LogEntry], time: int) -> None:
        """Appends entries about a finding; ``time`` is in microseconds. Raises ``OSError``, in which case none was
        appended."""
        self.log.append(key_of(finding_id), [written(entry) for entry in entries], time)

    def about(self, finding_id: str) -> list[LogEntry]:
        """Returns the entries about a finding, earliest first. Raises ``OSError``."""
        return [read(entry[SALT:]) for _, entry in self.log.entries(key_of(finding_id))]

    def count(self, finding_id: str) -> int:
        """Returns the number of entries about a finding, including erased ones."""
        return sum(last - first + 1 for first, last in self.log.runs(key_of(finding_id)))

    def close(self) -> None:
        self._folder.close()


def open_for_reading(folder: Path, keys: Keys) -> EvidenceLog:
    """Opens a log that another process may be writing. Raises as :class:`EvidenceStore` does."""
    return EvidenceLog.read(folder, (folder / PUBLIC_KEY).read_text().strip(), keys.files)
