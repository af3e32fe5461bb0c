"""HTTP client for configured receivers, restricted so that it cannot be made to reach another target."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping

import httpx

_TIMEOUT_SECONDS = 10.0
_NEVER_TAKEN = frozenset({400, 405, 413, 415, 422})
"""Status codes after which a retry of the same message is pointless."""


class DeliveryRejectedError(Exception):
    """The receiver permanently refuses this message."""


class HttpClient:
    """Posts to one URL. Does not follow redirects, and refuses link-local addresses such as cloud metadata services."""

    def __init__(self, url: str) -> None:
        """Raises ``ValueError`` for an invalid URL."""
        self._url = httpx.URL(url)
        if self._url.scheme not in {"http", "https"} or not self._url.host:
            raise ValueError(f"'{_shown(self._url)}' is not an http or https URL")
        # The resolved address must be the connected address, so proxies from the environment are ignored.
        self._client = httpx.Client(timeout=_TIMEOUT_SECONDS, follow_redirects=False, trust_env=False)

    def post(self, content: bytes, headers: Mapping[str, str]) -> None:
        """Returns once accepted. Raises :class:`DeliveryRejectedError`, and ``OSError`` for errors worth a retry."""
        host = self._url.host
        address = _address(host, self._url.port or (443 if self._url.scheme == "https" else 80))
        request = self._client.build_request(
            "POST",
            self._url.copy_with(host=address),
            content=content,
            headers={"Host": self._url.netloc.decode(), "User-Agent": "custodes", **headers},
            extensions={"sni_hostname": host},
        )
        try:
            answer = self._client.send(request)
        except httpx.HTTPError as error:
            raise OSError(f"{host}: {str(error) or type(error).__name__}") from error
        if answer.status_code in _NEVER_TAKEN:
            raise DeliveryRejectedError(f"{host} answers {answer.status_code}: {answer.text[:200]}")
        if not answer.is_success:
            raise OSError(f"{host} answers {answer.status_code}")

    def close(self) -> None:
        self._client.close()


def _address(host: str, port: int) -> str:
    """Resolves a host. Raises ``OSError`` if it cannot be resolved or resolves to a forbidden address."""
    found = [str(one[4][0]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for text in found:
        address = ipaddress.ip_address(text.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved:
            raise OSError(f"{host} resolves to {text}, to which alerts are never sent")
    return found[0]


def _shown(url: httpx.URL) -> str:
    """Returns a URL without parts that may be secret."""
    return f"{url.scheme}://{url.host}"
