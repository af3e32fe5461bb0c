"""HTTP servers that record requests and answer as configured."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ReceivedRequest:
    """A recorded request."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class RecordingServer:
    """Records POST requests."""

    def __init__(self, answer: Callable[[ReceivedRequest], int] = lambda heard: 200, port: int = 0) -> None:
        """``answer`` returns the status of each request; one above 300 redirects to ``/elsewhere``."""
        self.heard: list[ReceivedRequest] = []
        self.answer = answer
        ear = self

        class RecordingHandler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                heard = ReceivedRequest(
                    self.path, dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))
                )
                status = ear.answer(heard)
                ear.heard.append(heard)
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", f"{ear.url}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), RecordingHandler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
