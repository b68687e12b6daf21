"""What the layers are given: the limits and policies that they apply, and what they ask and tell."""

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
    """Keeps request bodies out of their flows while these can be looked at."""

    def release(self, flow: http.HTTPFlow) -> None:
        """Put the body back into its flow, as it is forwarded now."""

    def forget(self, flow: http.HTTPFlow) -> None:
        """Forget the body, as it has been forwarded or never will be."""


@dataclass(frozen=True)
class RequestBodyPolicy:
    """What becomes of request bodies.

    Attributes:
        limit: Largest body of this flow's request, in bytes.
        budget: The memory that they may take.
        keeps_plaintext: Whether a body stays in its flow when it has been forwarded.
        redacted_bodies: Keeps them out of their flows while those wait to be forwarded; None where no program shows
            flows.
    """

    limit: Callable[[http.HTTPFlow], int]
    budget: BodyBudget
    keeps_plaintext: bool = False
    redacted_bodies: RedactedBodyStore | None = None


@dataclass(frozen=True)
class ClientStates:
    """What is known of the clients' connections.

    Attributes:
        deadline_of: The deadline of a connection, which the layers move.
        has_pending_writes: Whether a client's connection, or one to an upstream that it has, has bytes to write; then
            nothing is read on it from upstreams.
        waiting_for: How many bytes wait for a client to read what came before them.
        unreadable: Told of a client whose request head could not be read.
    """

    deadline_of: Callable[[Client], ClientDeadline]
    has_pending_writes: Callable[[Client], bool] = lambda _: False
    waiting_for: Callable[[Client], int] = lambda _: 0
    unreadable: Callable[[Client], None] = lambda _: None


@dataclass(frozen=True)
class LayerConfig:
    """What the layers of all connections are given.

    Attributes:
        bodies: What becomes of request bodies.
        clients: The state of the clients' connections.
        upstreams: Says where a request is sent again whose attempt has failed.
        upstream_timeout: Seconds that an upstream may take to begin its response, connecting included.
        exchanges: The records in which the layers note what they learn.
        add_standard_headers: Adds to a response that the layers make what all responses carry; the request is None
            where it could not be read.
    """

    bodies: RequestBodyPolicy
    clients: ClientStates
    upstreams: UpstreamPolicy
    upstream_timeout: float
    exchanges: Exchanges
    add_standard_headers: Callable[[http.Request | None, http.Response], None]
