"""Listen addresses."""

from __future__ import annotations


def parse_listen(listen: str) -> tuple[str, int]:
    """Splits ``HOST:PORT``; an IPv6 host may be in brackets. Raises ``ValueError`` with the expected form."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"'{listen}' is not an address to listen on; write HOST:PORT, like 127.0.0.1:8610")
    return host.strip("[]"), int(port)
