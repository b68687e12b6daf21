"""What the layers hold requests to, and whom they tell."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from mitmproxy import http
from mitmproxy.connection import Client

from addons.access.body_budget import BodyBudget
from addons.access.client_deadline import ClientDeadline
from addons.exchange.exchanges import Exchanges
from addons.routing.routes import Router
from addons.upstream.policy import UpstreamPolicy
from addons.upstream.single import SingleUpstream


class RedactedBodyStore(Protocol):
    """Keeps request bodies where nobody sees them who looks at flows."""

    def release(self, flow: http.HTTPFlow) -> None:
        """Put the body back into its flow, as it is forwarded now."""

    def forget(self, flow: http.HTTPFlow) -> None:
        """Forget the body, as it has been forwarded or never will be."""


@dataclass(frozen=True)
class LayerConfig:
    """What the layers hold requests to.

    Attributes:
        body_limit: Largest body of this flow's request, in bytes.
        upstream_timeout: Seconds that an upstream may take to begin its answer, connecting included.
        add_standard_headers: Adds to a response that the layers make what all responses carry; the request is None
            where it could not be read.
        deadline_of: The deadline of a client's connection.
        exchanges: Their records, in which the layers note each attempt.
        upstreams: Says where a request is sent again whose attempt has failed.
        keeps_plaintext: Whether a request body stays in its flow when it has been forwarded.
        answered: Told of a flow that the layers answer by themselves, and with what.
        client_left: Told of a flow that ends because its client gives up.
        has_pending_writes: Whether a client's connection waits for someone to read; then nothing is read on it from
            upstreams.
        unread: How many bytes wait for a client to read what came before them.
        holds: Whether the body of a flow's request is held until it is complete, if it is not large.
        bodies: The memory that request bodies may take.
        changed: Told of a flow whose request was changed here after it was received.
        unreadable: Told of a client whose request head could not be read.
        custody: Keeps request bodies out of their flows while those wait to be forwarded; None where nobody can look.
    """

    body_limit: Callable[[http.HTTPFlow], int]
    upstream_timeout: float
    add_standard_headers: Callable[[http.Request | None, http.Response], None]
    deadline_of: Callable[[Client], ClientDeadline]
    exchanges: Exchanges = field(default_factory=partial(Exchanges, Router().route_of))
    upstreams: UpstreamPolicy = field(default_factory=SingleUpstream)
    keeps_plaintext: bool = False
    answered: Callable[[http.HTTPFlow, http.Response], None] = lambda _, __: None
    client_left: Callable[[http.HTTPFlow], None] = lambda _: None
    has_pending_writes: Callable[[Client], bool] = lambda _: False
    unread: Callable[[Client], int] = lambda _: 0
    holds: Callable[[http.HTTPFlow], bool] = lambda _: False
    bodies: BodyBudget = field(default_factory=partial(BodyBudget, 2**30))
    changed: Callable[[http.HTTPFlow], None] = lambda _: None
    unreadable: Callable[[Client], None] = lambda _: None
    custody: RedactedBodyStore | None = None
