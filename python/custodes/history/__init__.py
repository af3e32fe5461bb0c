"""The history: who looked up whom, every event, as Parquet files that are kept for a while.

What counts needs no history. People do: to see the events behind a finding, what else an actor did, and who looked at
one subject's record.
"""

from custodes.history.queries import Access, AccessProfile, History, Peers
from custodes.history.segments import SegmentStore
from custodes.history.writer import HistoryWriter

__all__ = ["Access", "AccessProfile", "History", "HistoryWriter", "Peers", "SegmentStore"]
