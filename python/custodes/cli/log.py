"""Configures logging to standard error."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import TextIO, cast

import structlog

from custodes.cli.output import stderr


class _Unfailing:
    """Standard error that ignores write errors: a full disk must not stop the monitor."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


def set_up_log(level: str = "info", style: str = "text") -> None:
    """Configures log lines as text or JSON. Libraries log at level warning and above."""
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(
            colors=stderr.is_terminal and not stderr.no_color,
            # Tracebacks without values of variables, which may be names or keys.
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
        # kafka-python logs every connection attempt; the source logs the outcome.
        logging.getLogger("kafka").setLevel(logging.CRITICAL)
