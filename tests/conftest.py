"""Fixtures every kind of test shares."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from servers import Kafka, PostgreSQL, Webhook

# Its assertions say what differs, as a test's own do.
pytest.register_assert_rewrite("look_ups")
settings.register_profile("custodes", deadline=None, print_blob=True)
settings.load_profile("custodes")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """One broker for the whole run; each test has topics of its own."""
    broker = Kafka(tmp_path_factory.mktemp("kafka"))
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQL]:
    """One database server for the whole run; each test has a database of its own."""
    server = PostgreSQL(tmp_path_factory.mktemp("postgresql"))
    yield server
    server.stop()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    receiver = Webhook()
    yield receiver
    receiver.stop()
