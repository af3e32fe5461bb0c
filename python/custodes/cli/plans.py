"""Plans with the mapping and the limits of a configuration."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from custodes.config.mapping import Mapping, load_mapping
from custodes.config.model import Config
from custodes.rules import build_plan


def plan_writer(settings: Config, mapping: Mapping) -> Callable[..., str]:
    """Returns :func:`build_plan` with the mapping and the limits of a configuration."""
    return partial(
        build_plan,
        mapping=mapping,
        allowed_lateness=settings.event_time.allowed_lateness,
        max_future_skew=settings.event_time.max_future_skew,
        earliest=settings.event_time.earliest,
        max_record_bytes=settings.max_record_bytes,
        most_open=settings.findings.most_open,
        history=settings.history is not None,
    )


def validating_plan(settings: Config) -> str:
    """Returns a plan without rules: an engine with it rejects the records that the monitor would reject.

    Raises :class:`FaultsError`.
    """
    mapping = load_mapping(settings.mapping, settings.event_time.zone)
    return plan_writer(settings.model_copy(update={"history": None}), mapping)([])
