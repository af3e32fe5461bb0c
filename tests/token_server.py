"""A token endpoint (OAuth 2.0, client credentials), whose tokens Kafka's brokers verify by its public key."""

from __future__ import annotations

import base64
import http.server
import json
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, unquote_plus

from joserfc import jwt
from joserfc.jwk import RSAKey


class TokenServer:
    """Issues tokens for one client. Tests change :attr:`secret` and :attr:`is_up` while it runs."""

    def __init__(self, client_id: str, secret: str, lifetime: int = 300) -> None:
        self.client_id, self.secret, self.lifetime = client_id, secret, lifetime
        self.is_up = True
        self.issued = 0
        """Number of tokens issued."""
        self._key = RSAKey.generate_key(2048, {"kid": "test", "use": "sig", "alg": "RS256"})
        server = self

        class TokenHandler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                status, answer = server.answer(self.headers.get("Authorization", ""), form)
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), TokenHandler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/token"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def write_keys(self, path: Path) -> Path:
        """Writes the public key as JWKS; returns the path."""
        path.write_text(json.dumps({"keys": [self._key.as_dict(private=False)]}))
        return path

    def answer(self, authorization: str, form: dict[str, list[str]]) -> tuple[int, dict[str, object]]:
        if not self.is_up:
            return 503, {"error": "temporarily_unavailable"}
        scheme, _, credentials = authorization.partition(" ")
        name, _, secret = base64.b64decode(credentials).decode().partition(":")
        if scheme != "Basic" or (unquote_plus(name), unquote_plus(secret)) != (self.client_id, self.secret):
            return 401, {"error": "invalid_client", "error_description": "unknown client or wrong secret"}
        if form.get("grant_type") != ["client_credentials"]:
            return 400, {"error": "unsupported_grant_type"}
        self.issued += 1
        now = int(time.time())
        claims = {
            "sub": self.client_id, "aud": "kafka", "iss": "test", "iat": now, "exp": now + self.lifetime,
            "scope": form.get("scope", ["default"]),
        }  # fmt: skip
        token = jwt.encode({"alg": "RS256", "kid": "test"}, claims, self._key)
        return 200, {"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime}

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
