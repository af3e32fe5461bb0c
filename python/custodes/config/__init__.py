"""Configuration: one YAML file, checked completely before anything starts.

The schema (``custodes.config.model``) and the loader (``custodes.config.load``) are imported by their own names,
because a replay needs neither.
"""

from custodes.config.durations import format_duration, parse_duration
from custodes.config.faults import Fault, FaultsError
from custodes.config.listen import parse_listen
from custodes.config.yamldoc import Document, load_documents

__all__ = [
    "Document",
    "Fault",
    "FaultsError",
    "format_duration",
    "load_documents",
    "parse_duration",
    "parse_listen",
]
