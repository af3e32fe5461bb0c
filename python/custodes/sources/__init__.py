"""Sources of access events, which deliver batches of bytes for the engine."""

from custodes.sources.event_times import EventTimes
from custodes.sources.file import FileSource
from custodes.sources.file_faults import FileFault
from custodes.sources.messages import (
    EventSource,
    FetchedBatches,
    GapCause,
    LineChunk,
    LogIdentity,
    RecordList,
    RepartitionRecords,
    ResumableSource,
    SourceMessage,
    StatelessSource,
    StreamExpected,
    StreamGap,
    StreamIdle,
    StreamJoined,
    StreamLeft,
    StreamPosition,
    positions,
)

__all__ = [
    "EventSource",
    "EventTimes",
    "FetchedBatches",
    "FileFault",
    "FileSource",
    "GapCause",
    "LineChunk",
    "LogIdentity",
    "RecordList",
    "RepartitionRecords",
    "ResumableSource",
    "SourceMessage",
    "StatelessSource",
    "StreamExpected",
    "StreamGap",
    "StreamIdle",
    "StreamJoined",
    "StreamLeft",
    "StreamPosition",
    "positions",
]
