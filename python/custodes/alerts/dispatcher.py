"""Dispatchers: one thread per receiver, which delivers outbox entries in order and retries until they are accepted."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Protocol

from custodes.alerts.delivery_log import DeliveryLog, LeaseLostError
from custodes.alerts.http_client import DeliveryRejectedError
from custodes.alerts.message import MessageWriter
from custodes.alerts.receivers import MessageSender
from custodes.findings.store import StoreError
from custodes.log_events import (
    AlertExpired,
    AlertRefused,
    AlertsDelayed,
    AlertsRecovered,
    ReceiverNotReleased,
    cause_of,
)
from custodes.retry import Retry
from custodes.rules.model import LEVELS

_EVERY_SECONDS = 1.0
_MOST_WAIT_SECONDS = 60.0
_TRIES = 3
"""Number of attempts before a refused alert is set aside."""
_AT_ONCE = 100


class Notifier(Protocol):
    """Delivers new entries to one receiver. A dispatcher calls it."""

    def step(self, now: int) -> bool:
        """Delivers what is new at ``now``, in microseconds, and returns whether there is more.

        Raises ``OSError`` if the receiver is unreachable, :class:`~custodes.alerts.delivery_log.LeaseLostError`, and
        the database's errors.
        """

    def close(self) -> None: ...


class OrderedNotifier:
    """A receiver that gets every outbox entry once, in order."""

    def __init__(
        self, ledger: DeliveryLog, sender: MessageSender, writer: MessageWriter, level: str, give_up_after: timedelta
    ) -> None:
        """``level`` is the least severe level that is sent."""
        self._ledger = ledger
        self._sender = sender
        self._writer = writer
        self._least = LEVELS.index(level)
        self._most_age = give_up_after // timedelta(microseconds=1)
        self._refusals = 0

    def step(self, now: int) -> bool:
        news = self._ledger.untold(_AT_ONCE)
        for one in news:
            if LEVELS.index(one.finding.level) < self._least:
                self._ledger.told(one)
                continue
            try:
                self._sender.send(self._writer.message(one))
            except DeliveryRejectedError as error:
                self._refusals += 1
                if self._refusals < _TRIES:
                    raise OSError(str(error)) from error
                self._ledger.give_up(one, str(error), now)
                AlertRefused(finding=one.finding.id, error=str(error)).emit()
            except OSError as error:
                if now - one.at < self._most_age:
                    raise
                self._ledger.give_up(one, f"given up after {error}", now)
                AlertExpired(finding=one.finding.id, error=str(error)).emit()
            else:
                self._ledger.told(one)
            self._refusals = 0
        return len(news) == _AT_ONCE

    def close(self) -> None:
        self._sender.close()


class Dispatcher:
    """Serves one receiver, in its own thread."""

    def __init__(
        self,
        name: str,
        told: Notifier,
        ledger: DeliveryLog,
        clock: Callable[[], float] = time.time,
        jitter: float = 0.2,
    ) -> None:
        """``clock`` is in epoch seconds. Delays vary by the fraction ``jitter``, so that dispatchers do not retry in
        step."""
        self.name = name
        self._told, self._ledger = told, ledger
        self._clock = clock
        self._jitter = jitter
        self._wake = threading.Event()
        self._stop = False
        self._thread = threading.Thread(target=self._run, name=f"alerts-{name}")
        self._retry = Retry(2 * _EVERY_SECONDS, _MOST_WAIT_SECONDS)
        self.waiting = 0
        """Number of entries not delivered yet."""
        self.undelivered = 0
        """Number of entries set aside."""

    @property
    def failures(self) -> int:
        """Number of failed attempts since the last one that succeeded."""
        return self._retry.failures

    def start(self) -> None:
        """Registers the receiver and starts the thread. Raises the database's errors."""
        self._ledger.register()
        self._thread.start()

    def wake(self) -> None:
        """Signals that the outbox has a new entry."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stop:
            self._wake.wait(self.wait_seconds())
            self._wake.clear()
            if not self._stop:
                self.step()

    def wait_seconds(self) -> float:
        """Seconds until the next step, unless :meth:`wake` is called."""
        if not self.failures:
            return _EVERY_SECONDS
        return self._retry.delay * (1 + random.uniform(-self._jitter, self._jitter))  # noqa: S311 - no secret hangs on it

    def step(self) -> None:
        """Delivers pending entries if this process holds the lease."""
        try:
            while not self._stop and self._ledger.hold(self._micros()) and self._told.step(self._micros()):
                pass
            self._count()
        except LeaseLostError:
            return
        except (OSError, StoreError) as error:
            if not self.failures:
                AlertsDelayed(receiver=self.name, error=cause_of(error)).emit()
            before = self.waiting
            self._count()
            if self.waiting < before:
                # Some were delivered or put aside, so the next is tried soon.
                self._retry.succeeded()
            self._retry.failed()
            return
        if self._retry.succeeded():
            AlertsRecovered(receiver=self.name).emit()

    def _count(self) -> None:
        with suppress(StoreError):
            self.waiting, self.undelivered = self._ledger.waiting(), self._ledger.undelivered_count()

    def _micros(self) -> int:
        return int(self._clock() * 1e6)

    def close(self) -> None:
        """Stops the thread; undelivered entries wait for the next start."""
        self._stop = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._told.close()
        try:
            self._ledger.release()
        except StoreError as error:
            ReceiverNotReleased(receiver=self.name, error=str(error)).emit()
