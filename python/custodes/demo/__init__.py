"""The demo: a simulated agency with planted insiders, and a source that plays its events."""

from custodes.demo.agency import Agency, Insider
from custodes.demo.source import DemoSource

__all__ = ["Agency", "DemoSource", "Insider"]
