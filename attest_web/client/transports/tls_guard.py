"""Checks the TLS key of every new connection before anything is sent over it.

Without this, a server with a trusted certificate and no attested key would be detected only by the response's proof,
after it has read the prompt. httpx reports a new connection by its `trace` extension, after the handshake.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import anyio
import httpx2

from attest_web.client.proving.errors import UnprovenError, not_holding
from attest_web.verify.primitives.certificate import certificate_spki_sha256
from attest_web.verify.primitives.checks import Check, all_hold


class UnknownTlsKeyError(Exception):
    """The server has a TLS key that is not attested yet. Nothing was sent.

    Attributes:
        key: SHA-256 of its SPKI.
    """

    def __init__(self, key: bytes) -> None:
        super().__init__("unknown TLS key")
        self.key = key


class TlsGuard:
    """Stops a request whose connection has an unknown TLS key, or a certificate that fails its checks."""

    def __init__(
        self,
        host: str,
        known: Collection[bytes] | None,
        verify_certificate: Callable[[bytes], Sequence[Check]] | None = None,
    ) -> None:
        """Guard a request.

        Args:
            host: The host whose key is checked, in ASCII; a forward proxy on the way has a key of its own.
            known: SHA-256 of the SPKI of each accepted key; None accepts any.
            verify_certificate: Returns the checks of a certificate in DER, which must hold; None where the transport
                verifies it. As the transport then accepts any certificate, that of a forward proxy is checked too.
        """
        self._host = host
        self._known = known
        self._verify_certificate = verify_certificate
        self._server_name = ""

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """The `trace` extension of a request (https://www.python-httpx.org/advanced/extensions/#trace).

        Raises:
            UnknownTlsKeyError: The key is not one of the known keys.
            ProofError: The certificate fails its checks, or HTTP/2 was negotiated.
        """
        stream = self._new_connection(event, info)
        if stream is not None:
            try:
                self._look_at(*_handshake_of(stream))
            except BaseException:
                stream.close()
                raise

    async def atrace(self, event: str, info: dict[str, Any]) -> None:
        """`trace` for async clients."""
        stream = self._new_connection(event, info)
        if stream is not None:
            try:
                # The checks of a certificate may block while Intel's collateral is fetched.
                await anyio.to_thread.run_sync(self._look_at, *_handshake_of(stream), abandon_on_cancel=True)
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await stream.aclose()
                raise

    def _new_connection(self, event: str, info: dict[str, Any]) -> Any | None:
        if event.endswith(".start_tls.started"):
            self._server_name = str(info.get("server_hostname"))
        elif event.endswith(".start_tls.complete") and (
            self._verify_certificate is not None or self._server_name == self._host
        ):
            return info["return_value"]
        return None

    def _look_at(self, certificate: bytes, protocol: str | None) -> None:
        if protocol == "h2":
            # An HTTP/2 connection is shared, so other requests could use it before its key is attested.
            raise UnprovenError("over https, this client speaks HTTP/1.1: give a transport without http2")
        if self._verify_certificate is not None:
            checks = self._verify_certificate(certificate)
            if not all_hold(checks):
                raise not_holding("the attestation in this server's certificate", checks)
        key = _key_of(certificate)
        if self._known is not None and key not in self._known:
            raise UnknownTlsKeyError(key)


def server_key(response: httpx2.Response) -> bytes | None:
    """SHA-256 of the SPKI of the certificate of the response's server; None where the connection is not TLS.

    Raises:
        UnprovenError: The certificate cannot be read.
    """
    stream = response.extensions.get("network_stream")
    if stream is None or stream.get_extra_info("ssl_object") is None:
        return None
    certificate, _ = _handshake_of(stream)
    return _key_of(certificate)


def _handshake_of(stream: Any) -> tuple[bytes, str | None]:
    """The server's certificate in DER, and the negotiated protocol (ALPN)."""
    tls = stream.get_extra_info("ssl_object")
    return tls.getpeercert(True) or b"", tls.selected_alpn_protocol()


def _key_of(certificate: bytes) -> bytes:
    try:
        return certificate_spki_sha256(certificate)
    except ValueError:
        raise UnprovenError("the server's certificate cannot be read") from None
