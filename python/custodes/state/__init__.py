"""State that outlives the process: snapshots, where they are kept and when they are taken."""

from custodes.state.checkpoints import Checkpoints
from custodes.state.claims import StateStore
from custodes.state.folder import Folder, FolderInUseError, LocalFolder
from custodes.state.recovery import Recovered, recover, tell_of_dropped
from custodes.state.snapshots import LockedError, RefusedError, Snapshot, Snapshots, UnreadableError, VersionError

__all__ = [
    "Checkpoints",
    "Folder",
    "FolderInUseError",
    "LocalFolder",
    "LockedError",
    "Recovered",
    "RefusedError",
    "Snapshot",
    "Snapshots",
    "StateStore",
    "UnreadableError",
    "VersionError",
    "recover",
    "tell_of_dropped",
]
