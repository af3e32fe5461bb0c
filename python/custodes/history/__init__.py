"""The history: who looked up whom, every event, as Parquet files that are kept for a while.

What counts needs no history. People do: to see the events behind a finding, what else an actor did, and who looked at
one subject's record.
"""

from custodes.history.asking import Access, History, Peers, Profile
from custodes.history.shelf import Shelf
from custodes.history.writing import HistoryWriter

__all__ = ["Access", "History", "HistoryWriter", "Peers", "Profile", "Shelf"]
