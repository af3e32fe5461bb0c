"""The demo: a made-up agency, its planted insiders, and a source that plays them."""

from custodes.demo.agency import Agency, Insider
from custodes.demo.source import DemoSource

__all__ = ["Agency", "DemoSource", "Insider"]
