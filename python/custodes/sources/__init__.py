"""Sources: where access events come from, as batches of bytes the engine takes whole."""

from custodes.sources.file import FileSource
from custodes.sources.messages import (
    Arrival,
    BeginsAnew,
    Fetched,
    Gap,
    Idle,
    Joined,
    Left,
    Lines,
    Parcels,
    Place,
    Records,
    ResumableSource,
    Source,
    positions,
)

__all__ = [
    "Arrival",
    "BeginsAnew",
    "Fetched",
    "FileSource",
    "Gap",
    "Idle",
    "Joined",
    "Left",
    "Lines",
    "Parcels",
    "Place",
    "Records",
    "ResumableSource",
    "Source",
    "positions",
]
