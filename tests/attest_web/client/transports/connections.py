"""A connection over TLS that does nothing but show a certificate."""

import ssl

from cryptography.hazmat.primitives.asymmetric import ec

from attest_web.client.transports.tls_guard import TlsGuard
from attest_web.verify.primitives.certificate import certificate_spki_sha256
from tests.support.certificates import self_signed

HOST = "server.test"
CERTIFICATE = ssl.PEM_cert_to_DER_cert(self_signed(ec.generate_private_key(ec.SECP256R1())).decode())
KEY = certificate_spki_sha256(CERTIFICATE)


class Connection:
    """A connection whose handshake is done."""

    def __init__(self, certificate: bytes = CERTIFICATE, protocol: str | None = "http/1.1") -> None:
        self.certificate = certificate
        self.protocol = protocol
        self.closed = False

    def get_extra_info(self, name: str) -> "Connection":
        assert name == "ssl_object"
        return self

    def getpeercert(self, binary_form: bool) -> bytes:
        assert binary_form
        return self.certificate

    def selected_alpn_protocol(self) -> str | None:
        return self.protocol

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


def connect(guard: TlsGuard, connection: Connection, host: str) -> None:
    """Tell a guard of a new connection, as httpx2 does."""
    guard.trace("connection.start_tls.started", {"server_hostname": host})
    guard.trace("connection.start_tls.complete", {"return_value": connection})
