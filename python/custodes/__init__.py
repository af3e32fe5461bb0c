"""Custodes watches the people who are trusted to look at other people's records."""

from importlib.metadata import version

__version__ = version("custodes")
