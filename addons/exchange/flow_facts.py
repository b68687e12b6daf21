"""What the inspection records of an exchange whose flow is shown in mitmweb or in the console."""

from dataclasses import dataclass, field

from addons.exchange.body_digest import BodyDigest


@dataclass(slots=True, eq=False, repr=False)
class FlowFacts:
    """What is shown in a flow, and the state that this needs.

    Attributes:
        title: Method and path of the request.
        model: The model that the request names, if that is a plausible name.
        request: Digest of the request body as received.
        response: Digest of the response body as returned.
        waiting: The request body, while it is kept outside the flow until it is forwarded.
        notices: The notices that replace the bodies in the flow, by `request` and `response`.
        ended: Whether the response is complete; for a WebSocket, whether the handshake is.
        error: Why the exchange has failed, sanitised.
        comment: The comment that the inspection has written into the flow.
        mark: The mark that the inspection has given the flow.
    """

    title: str
    model: str | None = None
    request: BodyDigest = field(default_factory=BodyDigest)
    response: BodyDigest = field(default_factory=BodyDigest)
    waiting: bytes | None = None
    notices: dict[str, bytes] = field(default_factory=dict)
    ended: bool = False
    error: str | None = None
    comment: str = ""
    mark: str = ""
