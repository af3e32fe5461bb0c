"""Sources: where access events come from, as batches of bytes the engine takes whole."""

from custodes.sources.arrivals import Arrival, Fetched, Idle, Joined, Left, Lines, Records, Source
from custodes.sources.file import FileSource
from custodes.sources.mapping import Mapping, load_mapping

__all__ = [
    "Arrival",
    "Fetched",
    "FileSource",
    "Idle",
    "Joined",
    "Left",
    "Lines",
    "Mapping",
    "Records",
    "Source",
    "load_mapping",
]
