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
from custodes.sources.mapping import Mapping, load_mapping

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
    "Mapping",
    "Parcels",
    "Place",
    "Records",
    "ResumableSource",
    "Source",
    "load_mapping",
    "positions",
]
