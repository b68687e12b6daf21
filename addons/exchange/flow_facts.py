"""What the inspection keeps of an exchange whose flow is shown in mitmweb or in the console."""

from dataclasses import dataclass, field

from addons.exchange.body_digest import BodyDigest


@dataclass(slots=True, eq=False, repr=False)
class FlowFacts:
    """What is shown in a flow, and what was learnt for that.

    Attributes:
        title: Method and path of the request.
        model: The model that was asked for, where the request tells and that looks like the name of one.
        request: Of the request body, as the client sent it.
        response: Of the response body, as the client gets it.
        waiting: The request body, while it waits outside the flow to be forwarded.
        notices: What stands in place of the bodies in the flow, by the name of the message.
        ended: Whether the response is complete; or, of a WebSocket, its handshake.
        error: Why the exchange has failed, sanitised.
        comment: What has been written into the flow's comment.
        mark: What it has been marked with.
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
