"""The history: every access event, as Parquet files, for a limited time.

Counting does not need the history. Investigators do: it shows the events of a finding, the other activity of an actor,
and all look-ups of a subject.
"""

from custodes.history.queries import Access, AccessProfile, History, Peers
from custodes.history.segments import SegmentStore
from custodes.history.writer import HistoryWriter

__all__ = ["Access", "AccessProfile", "History", "HistoryWriter", "Peers", "SegmentStore"]
