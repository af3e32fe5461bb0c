"""Sources: where access events come from, as batches of bytes the engine takes whole."""

from custodes.sources.arrivals import (
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
from custodes.sources.file import FileSource

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
