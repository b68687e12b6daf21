"""The configuration of the layers: the limits and policies that they apply, and the functions that they call."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mitmproxy import http
from mitmproxy.connection import Client

from addons.access.body_budget import BodyBudget
from addons.access.client_deadline import ClientDeadline
from addons.exchange.exchanges import Exchanges
from addons.upstream.policy import UpstreamPolicy


class RedactedBodyStore(Protocol):
    """Keeps request bodies outside their flows while a program shows these."""

    def release(self, flow: http.HTTPFlow) -> None:
        """Put the body back into its flow, to be forwarded now."""

    def forget(self, flow: http.HTTPFlow) -> None:
        """Forget the body, after it was forwarded, or if it will not be."""


@dataclass(frozen=True)
class RequestBodyPolicy:
    """How request bodies are handled.

    Attributes:
        limit: Largest body of a flow's request, in bytes.
        budget: The memory budget of held bodies.
        keeps_plaintext: Whether a body stays in its flow after it was forwarded.
        redacted_bodies: Keeps bodies outside their flows until they are forwarded; None if no program shows flows.
    """

    limit: Callable[[http.HTTPFlow], int]
    budget: BodyBudget
    keeps_plaintext: bool = False
    redacted_bodies: RedactedBodyStore | None = None


@dataclass(frozen=True)
class ClientStates:
    """Functions of the state of client connections.

    Attributes:
        deadline_of: The deadline of a connection, which the layers move.
        has_pending_writes: Whether a client's connection, or one of its upstream connections, has bytes to write; then
            nothing is read from its upstreams.
        waiting_for: Bytes in the write buffer of a client's connection.
        unreadable: Called for a client whose request head could not be read.
    """

    deadline_of: Callable[[Client], ClientDeadline]
    has_pending_writes: Callable[[Client], bool] = lambda _: False
    waiting_for: Callable[[Client], int] = lambda _: 0
    unreadable: Callable[[Client], None] = lambda _: None


@dataclass(frozen=True)
class LayerConfig:
    """The configuration of the layers of all connections.

    Attributes:
        bodies: How request bodies are handled.
        clients: The state of client connections.
        upstreams: The upstream policy, which decides about retries.
        upstream_timeout: Seconds that an upstream may take to begin its response, including the connection.
        exchanges: The records, in which the layers note attempts and outcomes.
        add_standard_headers: Adds the headers of all responses to one that the layers make; the request is None if its
            head could not be read.
    """

    bodies: RequestBodyPolicy
    clients: ClientStates
    upstreams: UpstreamPolicy
    upstream_timeout: float
    exchanges: Exchanges
    add_standard_headers: Callable[[http.Request | None, http.Response], None]
