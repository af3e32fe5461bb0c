"""Fixtures shared by all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from clients import add_accounts
from custodes.accounts.store import AccountStore
from harness import MonitorHarness
from recording_server import RecordingServer
from servers import Kafka, PostgreSQL, Webhook

# Assertions in this module show differences like those of a test.
pytest.register_assert_rewrite("look_ups")
settings.register_profile("custodes", deadline=None, print_blob=True)
settings.load_profile("custodes")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """Starts one broker for the whole run; each test has its own topics."""
    broker = Kafka(tmp_path_factory.mktemp("kafka"))
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQL]:
    """Starts one database server for the whole run; each test has its own database."""
    server = PostgreSQL(tmp_path_factory.mktemp("postgresql"))
    yield server
    server.stop()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[MonitorHarness]:
    """A monitor whose source returns events given by the test."""
    bench = MonitorHarness(tmp_path)
    yield bench
    bench.close()


@pytest.fixture
def accounts(bench: MonitorHarness) -> AccountStore:
    """An account of each role, in the monitor's database."""
    return add_accounts(bench)


@pytest.fixture
def ear() -> Iterator[RecordingServer]:
    ear = RecordingServer()
    yield ear
    ear.stop()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    receiver = Webhook()
    yield receiver
    receiver.stop()
