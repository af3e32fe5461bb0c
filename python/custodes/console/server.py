"""Runs the HTTP server in its own thread."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import uvicorn

from custodes.config import Fault, FaultsError, parse_listen
from custodes.runtime.change_notifier import ChangeNotifier


class ConsoleServer:
    """An HTTP server. The constructor binds the port, so that the caller gets the error if it is in use."""

    def __init__(self, app: Any, listen: str, feed: ChangeNotifier, tls: tuple[Path, Path] | None = None) -> None:
        """Binds ``listen``; port 0 selects a free port. ``tls`` names certificate and key file, and enables TLS.

        Raises :class:`FaultsError` if the address cannot be bound, or the TLS files are invalid.
        """
        try:
            host, port = parse_listen(listen)
        except ValueError as error:
            raise FaultsError([Fault(str(error))]) from error
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # asyncio disables Nagle's algorithm only on sockets with an explicit protocol. Otherwise the end of a response
        # waits 40 ms for the browser to acknowledge its beginning.
        self._socket = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            hint = "stop the process that listens there, or choose another address with --listen"
            raise FaultsError([Fault(f"cannot listen on {listen}: {error.strerror}", hint=hint)]) from error
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'http' if tls is None else 'https'}://{shown}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
            server_header=False,
        )
        if tls is not None:
            try:
                config.ssl_certfile, config.ssl_keyfile = (str(file) for file in tls)
                config.load()
            except (OSError, ssl.SSLError) as error:
                self._socket.close()
                raise FaultsError(
                    [Fault(f"TLS certificate or key cannot be loaded: {error}", hint="see http.certificate")]
                ) from error
        self._server = uvicorn.Server(config)
        self._feed = feed
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="http", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Closes open streams and waits until the server has stopped."""
        self._feed.close()
        self._server.should_exit = True
        self._thread.join(timeout=3)
        self._socket.close()
