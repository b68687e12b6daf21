"""What is known of a request and its response.

Each room writes here what it learns, and reads what others have learnt: there is no other place for it. Nothing in the
record was said in the request or the response, but for what must wait in it for a moment: a credential on its way to
the pages that check it, and a body that is kept out of its flow. So a record has no repr of its fields.
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
"""What has come of the signature of an exchange: `failed` where it should be there and could not be made."""


class PassingBody(Protocol):
    """A body on its way, as `addons.bodies.pipeline` passes it on."""

    @property
    def complete(self) -> bool:
        """Whether the whole body has passed."""

    @property
    def digests(self) -> tuple[str, str]:
        """The SHA-256 of what has come, and of what goes on, in lower-case hex."""

    def __call__(self, piece: bytes) -> bytes | list[bytes]:
        """Take the next piece, `b""` at the end of the body; return what goes on."""


class ResponseReader(Protocol):
    """Reads a response body as it passes."""

    @property
    def id(self) -> str | None:
        """The response id, once it has passed, where there is one."""


@dataclass(slots=True, eq=False, repr=False)
class Exchange:
    """One request and its response, from the request's head to the response's last byte.

    No field refers to the flow, nor to anything that does: see `addons.exchange.exchanges`.

    Attributes:
        route: The row of the table of endpoints that the request was for when it came.
        peer: The address at the other end of the client's connection; None where that has gone already.
        credential: Names the token of its client (`Tokens.credential`); empty where it had none, or none was needed.
        authorization: The `Authorization` of a request to a proof page, until the page has it; the gate takes it out
            of the flow.
        changed: Whether an operator or a rule has changed the request after it was received.
        target: Where the request is sent; None before that is known, and where it is answered here.
        attempts: The times that it was sent, the first one first.
        request_body: The request body on its way, on a signed route, until the response begins.
        given_sha256: What the client says the SHA-256 of its request body is, in hex, where that counts.
        response_reader: Reads the response body, where that is to be signed.
        state: What has come of its signature; None where nothing is to be signed.
        reason: Why it was not signed.
        receipt_id: What its signature can be fetched by.
        chat_id: The response id, which the signature can be fetched by, too.
        request_sha256: Of the request body as received, in hex, when it was to be signed.
        forwarded_sha256: Of the request body as forwarded, in hex, when it was to be signed.
        upstream_sha256: Of the response body as received from the upstream, in hex, when it was to be signed.
        response_sha256: Of the response body as returned, in hex, when it was to be signed.
        signed: The signatures, when they have been made and stored.
        usage: The tokens, where the response has told.
        times: Those of the events of a streamed response.
        upstream_status: What the upstream has answered with; None where it has not, or was not asked.
        upstream_error: What the upstream had to say about it, sanitised.
        layers_status: What the layers have answered with by themselves, before any hook told of the end.
        left_by_client: Whether it was the client that gave up.
        status: What the client got, when the exchange has ended; 499 where the client did not wait for it.
        ended: Whether it is over, and has been counted and logged.
        span: Its span, while it is under way and traced.
        shown: What is shown of it in mitmweb and the console; None under other programs.
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
        """Whether a response of server-sent events is under way, which is to be signed."""
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
        """Take note that there will be no signature, if there is none yet."""
        if self.state != "signed":
            self.state, self.reason = "unsigned", reason
