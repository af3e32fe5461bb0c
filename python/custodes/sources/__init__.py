"""Sources: where access events come from, as batches of bytes the engine takes whole."""

from custodes.sources.file import FileSource
from custodes.sources.messages import (
    EventSource,
    FetchedBatches,
    LineChunk,
    RecordList,
    RepartitionRecords,
    ResumableSource,
    SourceMessage,
    StatelessSource,
    StreamGap,
    StreamIdle,
    StreamJoined,
    StreamLeft,
    StreamPosition,
    positions,
)

__all__ = [
    "EventSource",
    "FetchedBatches",
    "FileSource",
    "LineChunk",
    "RecordList",
    "RepartitionRecords",
    "ResumableSource",
    "SourceMessage",
    "StatelessSource",
    "StreamGap",
    "StreamIdle",
    "StreamJoined",
    "StreamLeft",
    "StreamPosition",
    "positions",
]
