"""Looks at the TLS key of every new connection before anything is sent over it.

Without this, somebody who has a certificate that is trusted, and no attested key, would be found out by the answer's
proof: when the prompt has been read. httpx tells of a new connection by its `trace` extension, after the handshake.
"""

from collections.abc import Collection
from typing import Any

import httpx2

from attest_web.client.errors import UnprovenError
from attest_web.verify.binding import certificate_spki_sha256


class UnknownTlsKeyError(Exception):
    """The server shows a TLS key that nothing is known of yet. Nothing was sent.

    Attributes:
        key: SHA-256 of its SPKI.
    """

    def __init__(self, key: bytes) -> None:
        super().__init__("unknown TLS key")
        self.key = key


class TlsGuard:
    """Stops a request whose connection is made to an unknown TLS key."""

    def __init__(self, host: str, known: Collection[bytes]) -> None:
        """Guard a request.

        Args:
            host: Whose key is looked at, in ASCII; a forward proxy on the way has one of its own.
            known: SHA-256 of the SPKI of each key that will do.
        """
        self._host = host
        self._known = known
        self._server_name = ""

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """The `trace` extension of a request (https://www.python-httpx.org/advanced/extensions/#trace).

        Raises:
            UnknownTlsKeyError: The key is none of those that are known.
        """
        if (refused := self._to_refuse(event, info)) is not None:
            stream, key = refused
            stream.close()
            raise UnknownTlsKeyError(key)

    async def atrace(self, event: str, info: dict[str, Any]) -> None:
        """The same for async clients."""
        if (refused := self._to_refuse(event, info)) is not None:
            stream, key = refused
            await stream.aclose()
            raise UnknownTlsKeyError(key)

    def _to_refuse(self, event: str, info: dict[str, Any]) -> tuple[Any, bytes] | None:
        if event.endswith(".start_tls.started"):
            self._server_name = str(info.get("server_hostname"))
        elif event.endswith(".start_tls.complete") and self._server_name == self._host:
            stream = info["return_value"]
            key = _key_of(stream)
            return (stream, key) if key not in self._known else None
        return None


def server_key(response: httpx2.Response) -> bytes | None:
    """SHA-256 of the SPKI of the certificate of whoever has sent this; None where the connection is not TLS.

    Raises:
        UnprovenError: The certificate cannot be read.
    """
    stream = response.extensions.get("network_stream")
    if stream is None or stream.get_extra_info("ssl_object") is None:
        return None
    return _key_of(stream)


def _key_of(stream: Any) -> bytes:
    try:
        return certificate_spki_sha256(stream.get_extra_info("ssl_object").getpeercert(True) or b"")
    except ValueError:
        raise UnprovenError("the server's certificate cannot be read") from None
