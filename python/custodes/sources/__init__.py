"""Sources of access events, which deliver batches of bytes for the engine."""

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
