"""Custodes watches the people who are trusted to look at other people's records."""

from custodes import _core

__version__ = _core.VERSION
