"""The shared part of the sync and the async httpx transport, which return only proven responses.

The transport handles the bytes of the wire: the request's body as it is sent, and the response's body after
transfer-decoding and before it is parsed.
"""

from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, field
from typing import Final

import httpx2

from attest_web.client.proving.errors import UnprovenError
from attest_web.client.proving.proof import Proof
from attest_web.client.proving.signing import Signed
from attest_web.client.proving.trust import Pin, Signers, Trust
from attest_web.client.streaming.unverified_tail_buffer import json_object
from attest_web.client.transports.tls_guard import TlsGuard
from attest_web.client.transports.tokens import refuse_headers
from attest_web.response_ids import is_path_segment, response_id
from attest_web.signatures import SIGNING_ALGOS, SigningAlgo
from attest_web.verify.certificate_verifier import CertificateVerifier
from attest_web.verify.evidence import Evidence
from attest_web.verify.primitives.http_client import MAX_BYTES
from attest_web.verify.signed_text import SignedBodies, shown_address

EXTENSION: Final = "tee_signer_proof"
"""Key of the `PendingProof` in an httpx response's extensions."""


class PendingProof:
    """The future proof of a response, which is attached to every object made from the response.

    Attributes:
        proof: The proof; None until a stream has ended, and for responses that may be unproven.
    """

    def __init__(self, on_proof: Callable[[Proof], None] | None = None) -> None:
        self._on_proof = on_proof
        self._holders: list[object] = []
        self.proof: Proof | None = None

    def attach(self, holder: object) -> None:
        """Set the `proof` attribute of an object now, and again when there is a proof."""
        if _give(holder, self.proof) and self.proof is None:
            self._holders.append(holder)

    def settle(self, proof: Proof) -> None:
        """Set the proof, also of the attached objects."""
        self.proof = proof
        for holder in self._holders:
            _give(holder, proof)
        self._holders.clear()
        if self._on_proof is not None:
            self._on_proof(proof)


@dataclass(frozen=True)
class TransportConfig:
    """The configuration of a transport.

    Attributes:
        base_url: The server's address, ending in `/v1` without a slash. Requests to other addresses fail.
        proof_url: The address of the server of signatures and reports, in the same form.
        trust: Decides which keys may sign.
        algos: The algorithms that must have signed.
        tls: Whether the server's TLS key must be the attested one.
        allow_unproven: Paths relative to `base_url` whose responses may be unproven, such as `/models`.
        max_bytes: Largest request and largest response, in bytes; both are kept for the proof.
        proof_timeout: Seconds for each request for a report or a signature, including its retries.
        public_reports: Whether the token is withheld until the server's keys are attested.
        on_proof: Called with every proof.
        verify_certificate: Returns the checks of a server's certificate; None where the transport verifies it.
    """

    base_url: str
    proof_url: str
    trust: Trust
    algos: tuple[SigningAlgo, ...] = SIGNING_ALGOS
    tls: bool = False
    allow_unproven: Collection[str] = ()
    max_bytes: int = MAX_BYTES
    proof_timeout: float = 30.0
    public_reports: bool = False
    on_proof: Callable[[Proof], None] | None = field(default=None, repr=False)
    verify_certificate: CertificateVerifier | None = None

    def guard(self, url: httpx2.URL, *, about_keys: bool = False) -> TlsGuard | None:
        """The guard of a request's new connections; None where no guard is configured.

        Args:
            url: The request's address.
            about_keys: Whether it requests a report about the keys, so that the TLS key need not be known. Its
                connection must not be shared with other requests.
        """
        bound = self.tls and _origin(url) == _origin(httpx2.URL(self.base_url))
        if not bound and self.verify_certificate is None:
            return None
        known = self.trust.tls_keys if bound and not about_keys else None
        # The name in the handshake is in ASCII: `host` would return a name like bücher.example in Unicode.
        return TlsGuard(url.raw_host.decode(), known, self.verify_certificate)

    def may_go_unattested(self, path: str) -> bool:
        """Whether a request for a path, relative to the base URL, may be sent before any keys are attested."""
        return path in self.allow_unproven and not self.tls and not self.public_reports

    def path_of(self, url: httpx2.URL) -> str:
        """The path of a request, relative to the base URL.

        Raises:
            UnprovenError: It goes to another address.
        """
        base = httpx2.URL(self.base_url)
        if _origin(url) == _origin(base):
            path = url.path
            if path.startswith(f"{base.path.rstrip('/')}/"):
                return path.removeprefix(base.path.rstrip("/"))
        raise UnprovenError(
            f"this client verifies {self.base_url} and sends nothing anywhere else; make another one for another server"
        )


@dataclass(frozen=True)
class PendingRequest:
    """A request that has no proven response yet.

    Attributes:
        body: Its body.
        path: Its path, relative to the base URL.
        token: Its `Authorization`, for the requests for proof.
        model: The model that it names.
        whole: Whether it requests a response that is not streamed.
    """

    body: bytes = field(repr=False)
    path: str
    token: str | None = field(repr=False)
    model: str | None
    whole: bool

    @classmethod
    def of(cls, request: httpx2.Request, config: TransportConfig) -> "PendingRequest":
        """Make the record of a request whose body has been read, and set `Accept-Encoding: identity`.

        Raises:
            UnprovenError: It goes to another address, or is too long.
            ValueError: One of its headers cannot be sent.
        """
        refuse_headers(request.headers)
        path = config.path_of(request.url)
        body = request.content
        if len(body) > config.max_bytes:
            raise UnprovenError(f"the request has more than {config.max_bytes} bytes; max_bytes sets another limit")
        # The response is signed as it is sent: an encoding added on the way would change it.
        request.headers["accept-encoding"] = "identity"
        wanted = json_object(body)
        if wanted is not None:
            whole = not (wanted.get("stream") or wanted.get("stream_format"))
        else:  # a form may also request a stream; a request without a body, such as a GET, does so in its query
            whole = not body and request.url.params.get("stream", "false").lower() in ("", "0", "false")
        named = (wanted or {}).get("model")
        model = named if isinstance(named, str) else None
        return cls(body, path, request.headers.get("authorization"), model, whole)

    def depends_on(self, signers: Signers | None, tls_key: bytes | None) -> Hashable:
        """Key of an attempt to attest keys: the keys, and this request's token and model, which the attempt uses."""
        return None if signers is None else frozenset(signers.items()), tls_key, self.token, self.model


def may_come_in_parts(response: httpx2.Response, pending: PendingRequest) -> bool:
    """Whether a response is an event stream, and its request may have requested a stream.

    Any other response is returned once the whole of it is proven, whatever its headers say, which are not signed.
    """
    return (
        not pending.whole
        and response.headers.get("content-type", "").partition(";")[0].strip().lower() == "text/event-stream"
    )


def refuse_compression(response: httpx2.Response) -> None:
    """Reject a response that is compressed although identity was requested.

    Raises:
        UnprovenError: It is compressed.
    """
    if is_encoded(response):
        raise UnprovenError(
            "the response is compressed, though identity was requested: a server between this client and the signing"
            " proxy changes responses; configure it not to, or bypass it"
        )


def refuse_encoding(response: httpx2.Response) -> None:
    """Reject a response whose headers, which are not signed, would change the meaning of the signed bytes.

    Raises:
        UnprovenError: The response is compressed, or labelled with another charset.
    """
    refuse_compression(response)
    if (response.charset_encoding or "utf-8").lower() not in ("utf-8", "utf8"):
        raise UnprovenError("the response is labelled with another charset than UTF-8, and the label is not signed")


def is_encoded(response: httpx2.Response) -> bool:
    """Whether a response is compressed although identity was requested: a few bytes could expand to very many."""
    return response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity")


def with_stream(response: httpx2.Response, stream: httpx2.SyncByteStream | httpx2.AsyncByteStream) -> httpx2.Response:
    """A response with another body: a new object, as httpx returns the content of a response that was read."""
    headers = response.headers
    if is_encoded(response):
        lost = (b"content-encoding", b"content-length", b"transfer-encoding")
        headers = httpx2.Headers([(name, value) for name, value in headers.raw if name.lower() not in lost])
    return httpx2.Response(response.status_code, headers=headers, stream=stream, extensions=response.extensions)


def ids_of(response: httpx2.Response, own_id: str | None) -> list[str]:
    """The ids to request a signature by: the receipt id, which no other client can choose, then the response's id."""
    ids = [response.headers.get("x-receipt-id"), own_id]
    return [str(each) for each in dict.fromkeys(ids) if is_path_segment(each)]


def id_in(body: bytes) -> str | None:
    """The id of a JSON response."""
    source = json_object(body)
    return response_id(source) if source is not None else None


def may_go_unproven(response: httpx2.Response, pending: PendingRequest, config: TransportConfig) -> bool:
    """Whether a response may be returned unproven: an error, which the SDK raises, or a path in `allow_unproven`."""
    return response.status_code >= 300 or pending.path in config.allow_unproven


def whole_proof(signed: Signed, pin: Pin) -> Proof:
    """The proof of a response that attested keys have signed."""
    return Proof(
        evidence=Evidence(
            bodies=signed.bodies,
            signatures=list(signed.statements),
            reports=list(pin.evidence.reports),
            nonce=pin.evidence.nonce,
            tls_keys=pin.evidence.tls_keys,
        ),
        checks=(*signed.checks, *pin.audit.checks),
        warnings=tuple(pin.audit.warnings),
        signers={algo: shown_address(algo, address) for algo, address in signed.signers.items()},
        collateral=pin.collateral,
    )


def another_key() -> UnprovenError:
    """The error for a server with another TLS key on every connection."""
    return UnprovenError(
        "the server has another TLS key on every connection; if a load balancer terminates TLS, use tls_binding=False"
    )


def bodies_of(pending: PendingRequest, response: bytes) -> SignedBodies:
    """The bodies that the signatures must be over."""
    return SignedBodies(pending.body, response)


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _give(holder: object, proof: Proof | None) -> bool:
    try:
        # Like the SDK's `_request_id`, beside the fields, so that it is not validated, compared or dumped.
        object.__setattr__(holder, "proof", proof)
    except (AttributeError, TypeError):  # for example a string
        return False
    return True
