"""State that outlives the process: snapshots, their storage, and their schedule."""

from custodes.state.checkpoints import Checkpoints
from custodes.state.claims import StateStore
from custodes.state.folder import Folder, FolderInUseError, LocalFolder
from custodes.state.recovery import RecoveredState, recover, tell_of_dropped
from custodes.state.snapshots import (
    CorruptSnapshotError,
    IncompatibleSnapshotError,
    MissingKeyError,
    Snapshot,
    Snapshots,
    VersionError,
)

__all__ = [
    "Checkpoints",
    "CorruptSnapshotError",
    "Folder",
    "FolderInUseError",
    "IncompatibleSnapshotError",
    "LocalFolder",
    "MissingKeyError",
    "RecoveredState",
    "Snapshot",
    "Snapshots",
    "StateStore",
    "VersionError",
    "recover",
    "tell_of_dropped",
]
