"""Fixtures every kind of test shares."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from servers import Kafka, Webhook

settings.register_profile("custodes", deadline=None, print_blob=True)
settings.load_profile("custodes")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """One broker for the whole run; each test has topics of its own."""
    broker = Kafka(tmp_path_factory.mktemp("kafka"))
    yield broker
    broker.stop()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    receiver = Webhook()
    yield receiver
    receiver.stop()
