"""Which endpoint a request is for: a table, and the rules for requests that no row of it is for."""

from collections.abc import Callable
from dataclasses import replace

from mitmproxy import http
from mitmproxy.connection import Client

from addons.exchange.route import Kind, Route, Size, StreamFormat
from attest_web import page_paths
from attest_web.settings import Settings

MAX_PROOF_REQUEST = 64 * 1024
"""Largest body of a request to a proof page, in bytes. The pages use no body, but a client may send one."""


_JSON = Route(Kind.SIGNED, is_json=True)
_CHAT = Route(Kind.SIGNED, is_json=True, stream_format=StreamFormat.CHAT)
_OPEN = Route(Kind.PASSED, needs_token=False)
_CATCH_ALL = Route(Kind.SIGNED, size=Size.LARGEST, wraps_errors=True)

# An unknown page gets 404 from this proxy, and is never looked for at the upstream.
_PROOF = {
    name: Route(Kind.PROOF, name, needs_token=False, size=Size.PROOF)
    for name in (*page_paths.PATHS, page_paths.SIGNATURE, page_paths.FILE)
}

# At the side port, the proof pages get all requests, and respond with 404 to unknown paths.
_NO_PAGE = Route(Kind.PROOF, needs_token=False, size=Size.PROOF)

IMAGES = "/v1/images/generations"
IMAGE_EDITS = "/v1/images/edits"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
RERANK = "/v1/rerank"
SCORE = "/v1/score"

_ROWS = {
    ("POST", "/v1/chat/completions"): replace(_CHAT, drops_tool_calls=True),
    ("POST", "/v1/completions"): _CHAT,
    ("POST", "/v1/responses"): Route(Kind.SIGNED, is_json=True, stream_format=StreamFormat.RESPONSES),
    ("POST", "/v1/messages"): Route(Kind.SIGNED, is_json=True, stream_format=StreamFormat.MESSAGES),
    ("POST", "/v1/embeddings"): _JSON,
    ("POST", RERANK): _JSON,
    ("POST", SCORE): _JSON,
    ("POST", IMAGES): Route(Kind.SIGNED, is_json=True, size=Size.IMAGE),
    ("POST", IMAGE_EDITS): Route(Kind.SIGNED, size=Size.IMAGE),
    ("POST", TRANSCRIPTIONS): Route(Kind.SIGNED, size=Size.AUDIO, signs_any_type=True),
    ("POST", "/v1/tokenize"): Route(Kind.PASSED, path="/tokenize"),
    ("GET", "/v1/models"): _OPEN,
    ("HEAD", "/v1/models"): _OPEN,
    ("GET", "/v1/metrics"): Route(Kind.PASSED, needs_token=False, path="/metrics"),
    ("HEAD", "/v1/metrics"): Route(Kind.PASSED, needs_token=False, path="/metrics"),
}
_TABLE = {(method, path): replace(route, name=path) for (method, path), route in _ROWS.items()}


def body_sizes(settings: Settings) -> dict[Size, int]:
    """Largest request bodies, in bytes."""
    sizes = {
        Size.PROOF: MAX_PROOF_REQUEST,
        Size.REQUEST: settings.vllm_proxy_max_request_size,
        Size.IMAGE: settings.vllm_proxy_max_image_request_size,
        Size.AUDIO: settings.vllm_proxy_max_audio_request_size,
    }
    return {**sizes, Size.LARGEST: max(sizes.values())}


def find_route(request: http.Request) -> Route:
    """The route of a request.

    Method and path are compared literally, and neither decoded nor normalised: another spelling is another resource,
    and gets the catch-all route.
    """
    # mitmproxy's `method` is in capitals, but the upstream gets the method as received.
    method = request.data.method.decode("latin-1")
    path = request_path(request)
    page = page_paths.page_name(path)
    return _PROOF[page] if page is not None else _TABLE.get((method, path), _CATCH_ALL)


def request_path(request: http.Request) -> str:
    """The path of a request's target, not decoded, without the query."""
    return request.data.path.partition(b"?")[0].decode("latin-1")


class Router:
    """Finds the routes of requests."""

    def __init__(self, at_side_port: Callable[[Client], bool] = lambda _: False) -> None:
        """Make the router.

        Args:
            at_side_port: Whether a client's connection was accepted at the side port, which has only the proof pages.
        """
        self._at_side_port = at_side_port

    def route_of(self, flow: http.HTTPFlow) -> Route:
        """Find the route of a flow's request by its current target; see `Exchange.route`."""
        route = find_route(flow.request)
        return _NO_PAGE if route.kind is not Kind.PROOF and self._at_side_port(flow.client_conn) else route
