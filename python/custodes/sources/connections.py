"""kafka-python's connections, changed in five places, of which three are not public, so its version is pinned.

* A connection receives in large pieces (:mod:`.receiving`), and a broker's last answer is read before its end.
* Each connection has the password that its file has at the time; kafka-python keeps one for the life of a client.
* The failures of connections are kept, because kafka-python only logs them and tries again.
* A client whose owner could not be built can be ended with its network thread.
* A producer with records that no broker takes can be ended with its thread.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from functools import partial
from typing import Any

from kafka.errors import KafkaTimeoutError, SaslAuthenticationFailedError
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

from custodes.sources.receiving import receive_from
from custodes.sources.sign_in import BrokerSignInError, SignIn

_END_MS = 2000
"""Milliseconds to wait for the network thread of a client that ends."""
_RECENT_SECONDS = 60.0
"""Age up to which the failure of a connection explains why there is none; brokers are tried at least this often."""
_KEPT_FAILURES = 8
"""Number of failures kept per broker: the last one is often a time limit, and an earlier one tells more."""


class ConnectionFailures:
    """The recent failures of a client's connections, for its messages. Safe to use from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._by_broker: defaultdict[Any, deque[tuple[float, BaseException]]] = defaultdict(
            lambda: deque(maxlen=_KEPT_FAILURES)
        )

    def connected(self, broker: Any) -> None:
        with self._lock:
            self._by_broker.pop(broker, None)

    def failed(self, broker: Any, error: BaseException) -> None:
        with self._lock:
            self._by_broker[broker].append((self._clock(), error))

    def recent(self) -> list[BaseException]:
        """Returns the failures of the brokers that did not answer since, latest first."""
        since = self._clock() - _RECENT_SECONDS
        with self._lock:
            found = [failure for failures in self._by_broker.values() for failure in failures]
        return [error for at, error in sorted(found, key=lambda failure: failure[0], reverse=True) if at >= since]


class BrokerConnections(KafkaConnectionManager):  # type: ignore[misc]
    """kafka-python's manager of connections."""

    def __init__(self, net: Any, sign_in: SignIn, failures: ConnectionFailures, **configs: Any) -> None:
        self._sign_in, self._failures = sign_in, failures
        super().__init__(net, **configs)

    async def _connect(self, node: Any, conn: Any, **how: Any) -> None:
        conn.init_future.add_callback(lambda _: self._failures.connected(node.node_id))
        conn.close_future.add_errback(partial(self._failed, node.node_id))
        try:
            self._sign_in.renew(conn.config)
        except BrokerSignInError as error:
            self.update_backoff(node.node_id)
            conn.close(error)
            return
        await super()._connect(node, conn, **how)

    def _failed(self, broker: Any, error: BaseException) -> None:
        self._failures.failed(broker, error)
        if isinstance(error, SaslAuthenticationFailedError):
            self._sign_in.rejected()

    async def _build_transport(self, node: Any, timeout_at: Any = None) -> Any:
        transport = await super()._build_transport(node, timeout_at=timeout_at)
        receive_from(transport)
        return transport


class BrokerClient(KafkaNetClient):  # type: ignore[misc]
    """kafka-python's client on :class:`BrokerConnections`, for its parameter ``kafka_client``, which is public."""

    def __init__(self, sign_in: SignIn, failures: ConnectionFailures, **configs: Any) -> None:
        net = NetworkSelector(**configs)
        super().__init__(net, BrokerConnections(net, sign_in, failures, **configs), **configs)

    def end(self) -> None:
        """Closes the connections and ends the network thread."""
        self._manager.close()
        self._net.stop(_END_MS)
        self._net.close()


def end_producer(producer: Any, timeout: float = 1.0) -> None:
    """Closes a producer. Records that are not stored within ``timeout`` seconds fail.

    With such records, ``close`` of kafka-python 3.0.12 raises and leaves the thread that sends them, which the end of
    the process and every ``flush`` would wait for.
    """
    try:
        producer.close(timeout=timeout)
    except KafkaTimeoutError:
        producer._sender.force_close()
