"""Configuration: one YAML file, checked whole before anything starts."""

from custodes.config.durations import format_duration, parse_duration
from custodes.config.faults import Fault, FaultsError
from custodes.config.listen import parse_listen
from custodes.config.load import load_config
from custodes.config.model import Config, EventTime, FileSource, KafkaSource
from custodes.config.yamldoc import Document, load_documents

__all__ = [
    "Config",
    "Document",
    "EventTime",
    "Fault",
    "FaultsError",
    "FileSource",
    "KafkaSource",
    "format_duration",
    "load_config",
    "load_documents",
    "parse_duration",
    "parse_listen",
]
