"""Log lines on standard error."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import TextIO, cast

import structlog

from custodes.cli.output import stderr


class _Unfailing:
    """Standard error, except that what cannot be written is left out: a full disk must not end the counting."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


def set_up_log(level: str = "info", style: str = "text") -> None:
    """Log lines on standard error, for people or as JSON. Libraries are heard from warning on."""
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(
            colors=stderr.is_terminal and not stderr.no_color,
            # Without what variables hold: that is whom somebody looked up, or a key.
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer]
        if style == "json"
        else [*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Unfailing())),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer])
    )  # fmt: skip
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    if level != "debug":
        # kafka-python tells of every attempt at every broker; what it comes to is logged by the source.
        logging.getLogger("kafka").setLevel(logging.CRITICAL)
