"""The record of a request and its response.

Each room writes to it and reads from it; this data is kept nowhere else. The record has no content of messages, except
for two things that it holds for a short time: the credential of a request to a page that checks it, and a body that is
kept out of its flow. So its repr does not show its fields.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from mitmproxy.connection import Address

from addons.exchange.attempt import Attempt, Target
from addons.exchange.flow_facts import FlowFacts
from addons.exchange.route import Route
from addons.exchange.token_times import TokenTimes
from addons.exchange.usage import Usage
from attest_web.signatures import SignedExchange

if TYPE_CHECKING:
    from opentelemetry.trace import Span

State = Literal["pending", "signed", "unsigned", "failed"]
"""State of the signature of an exchange; `failed` if it could not be made although it was due."""


class PassingBody(Protocol):
    """The pipeline of a body; see `addons.bodies.pipeline`."""

    @property
    def complete(self) -> bool:
        """Whether the whole body has passed."""

    @property
    def digests(self) -> tuple[str, str]:
        """The SHA-256 of the body as received, and as sent on, in lower-case hex."""

    def __call__(self, piece: bytes) -> bytes | list[bytes]:
        """Process the next piece, `b""` at the end of the body; return what is sent on."""


class ResponseReader(Protocol):
    """Reads a response body as it passes."""

    @property
    def id(self) -> str | None:
        """The response id, once it has passed; None if the body has none."""


@dataclass(slots=True, eq=False, repr=False)
class Exchange:
    """One request and its response, from the request's head to the response's last byte.

    No field refers to the flow, directly or indirectly: see `addons.exchange.exchanges`.

    Attributes:
        route: The row of the table of endpoints that the request as received was for.
        peer: Address and port of the client's connection; None if that is closed already.
        credential: Identifies the client's token (`Tokens.credential`); empty if it sent none, or none was needed.
        authorization: The `Authorization` of a request to a proof page, until the page reads it; the gate removes it
            from the flow.
        changed: Whether an operator or a rule has changed the request after it was received.
        target: Where the request is sent; None before that is known, and for a response of this proxy's own.
        attempts: The attempts to send the request, in order.
        request_body: The pipeline of the request body, on a signed route, until the response begins.
        given_sha256: The SHA-256 of the request body that the client sent, in hex; None unless it is used.
        response_reader: Reads the response body; None unless that is to be signed.
        state: State of the signature; None if nothing is to be signed.
        reason: Why the exchange is not signed.
        receipt_id: The receipt id, by which the signature can be fetched.
        chat_id: The response id, by which the signature can be fetched, too.
        request_sha256: Of the request body as received, in hex, when it was to be signed.
        forwarded_sha256: Of the request body as forwarded, in hex, when it was to be signed.
        upstream_sha256: Of the response body as received from the upstream, in hex, when it was to be signed.
        response_sha256: Of the response body as returned, in hex, when it was to be signed.
        signed: The signatures, when they have been made and stored.
        usage: The token usage that the response reports; None if it reports none.
        times: The times of the events of a streamed response.
        upstream_status: Status of the upstream response; None if there is none.
        upstream_error: The upstream's error message, sanitised.
        layers_status: Status of a response that the layers made themselves, before a hook reported the end.
        left_by_client: Whether the client disconnected first.
        status: Status of the response, when the exchange has ended; 499 if the client disconnected before it.
        ended: Whether the exchange has ended, and has been counted and logged.
        span: Its trace span, while the exchange is under way and traced.
        shown: What mitmweb and the console show of it; None under other programs.
    """

    route: Route
    peer: Address | None = None
    credential: str = ""
    authorization: str | None = None
    changed: bool = False
    target: Target | None = None
    attempts: list[Attempt] = field(default_factory=list)
    request_body: PassingBody | None = None
    given_sha256: str | None = None
    response_reader: ResponseReader | None = None
    state: State | None = None
    reason: str | None = None
    receipt_id: str | None = None
    chat_id: str | None = None
    request_sha256: str | None = None
    forwarded_sha256: str | None = None
    upstream_sha256: str | None = None
    response_sha256: str | None = None
    signed: SignedExchange | None = None
    usage: Usage | None = None
    times: TokenTimes | None = None
    upstream_status: int | None = None
    upstream_error: str | None = None
    layers_status: int | None = None
    left_by_client: bool = False
    status: int | None = None
    ended: bool = False
    span: "Span | None" = None
    shown: FlowFacts | None = None

    @property
    def is_stream(self) -> bool:
        """Whether a response of server-sent events that is to be signed is under way."""
        return self.times is not None and self.upstream_status is not None and not self.ended

    @property
    def is_websocket(self) -> bool:
        """Whether the upstream has accepted the handshake of a WebSocket."""
        return self.upstream_status == 101

    @property
    def made_here(self) -> bool:
        """Whether the response, if there is one, is this proxy's own."""
        return self.upstream_status is None

    def leave_unsigned(self, reason: str) -> None:
        """Note that there will be no signature, unless there is one already."""
        if self.state != "signed":
            self.state, self.reason = "unsigned", reason
