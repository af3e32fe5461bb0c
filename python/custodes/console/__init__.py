"""The HTTP server: console pages, API, metrics and probes."""

from custodes.console.app import LOOPBACK, build_app
from custodes.console.server import ConsoleServer

__all__ = ["LOOPBACK", "ConsoleServer", "build_app"]
