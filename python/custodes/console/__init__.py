"""Everything served over HTTP: the live page, the API, metrics and probes."""

from custodes.console.app import build_app
from custodes.console.server import ConsoleServer

__all__ = ["ConsoleServer", "build_app"]
