"""Which request goes where: one table, and the rules for what stands in no row of it."""

import enum
from dataclasses import dataclass

from mitmproxy import http


class Kind(enum.Enum):
    """What this proxy does with a request."""

    PROOF = "answered here, by the proof pages"
    SIGNED = "proxied; the exchange is signed"
    PASSED = "proxied, as it is"


@dataclass(frozen=True)
class Route:
    """What happens to the requests of one row.

    Attributes:
        kind: What this proxy does with them.
        needs_token: Whether the gate asks for a token. The proof pages ask by themselves.
    """

    kind: Kind
    needs_token: bool = True


_PROOF = Route(Kind.PROOF, needs_token=False)
_SIGNED = Route(Kind.SIGNED)
_OPEN = Route(Kind.PASSED, needs_token=False)
_CATCH_ALL = Route(Kind.PASSED)

PROOF_PATHS = frozenset({"/", "/version", "/health", "/ready", "/metrics", "/v1/attestation/report"})
"""Paths of the proof pages, whatever the method. Those that are not there yet are 404 here, never the upstream's."""

SIGNATURE_PREFIX = "/v1/signature/"

_TABLE = {
    ("POST", "/v1/chat/completions"): _SIGNED,
    ("POST", "/v1/completions"): _SIGNED,
    ("GET", "/v1/models"): _OPEN,
    ("HEAD", "/v1/models"): _OPEN,
}


def find_route(request: http.Request) -> Route:
    """The route of a request.

    Method and path are compared as they stand, with nothing decoded or normalised: what is written otherwise is another
    resource, and goes through the catch-all.
    """
    # mitmproxy's `method` is in capitals whatever came, and the upstream gets what came.
    method = request.data.method.decode("latin-1")
    path = request.data.path.partition(b"?")[0].decode("latin-1")
    if path in PROOF_PATHS or path.startswith(SIGNATURE_PREFIX):
        return _PROOF
    route = _TABLE.get((method, path))
    if route is None:
        route = _OPEN if method == "OPTIONS" and _is_preflight(request) else _CATCH_ALL
    return route


def _is_preflight(request: http.Request) -> bool:
    """Whether this is a browser's question before a cross-origin request, which carries no token (Fetch, 4.8)."""
    return "origin" in request.headers and "access-control-request-method" in request.headers
