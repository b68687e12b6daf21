"""CORS for scripts of other origins: responds to preflights, and adds the CORS headers to all responses."""

from mitmproxy import http

from addons.messages.responses import respond_early
from attest_web.middleware.cors import CorsPolicy, is_preflight


class Cors:
    """Applies the CORS policy to all requests, those that this proxy responds to itself included."""

    def __init__(self, policy: CorsPolicy) -> None:
        self._policy = policy

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Respond to a preflight. It has no token, so it must not reach the upstream."""
        header = flow.request.headers.get
        if flow.error is not None or flow.response is not None or not _is_preflight(flow.request):
            return
        response = http.Response.make(204)
        del response.headers["content-length"]  # a 204 has none (RFC 9110, 8.6)
        origin, method = header("origin", ""), header("access-control-request-method", "")
        requested = header("access-control-request-headers")
        response.headers.update(self._policy.preflight_headers(origin, method, requested))
        respond_early(flow, response)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Add the headers to an upstream response."""
        if flow.response is not None:
            self.add_headers(flow.request, flow.response)

    def response(self, flow: http.HTTPFlow) -> None:
        """Add the headers to a response of this proxy's own: an early response runs no other hook."""
        if flow.response is not None and flow.response.raw_content is not None:
            self.add_headers(flow.request, flow.response)

    def add_headers(self, request: http.Request | None, response: http.Response) -> None:
        """Replace the CORS headers of a response; the headers that it exposes are kept, and this proxy's are added.

        Args:
            request: The request; None if its head could not be read.
            response: The response.
        """
        if request is not None and _is_preflight(request) and response.status_code == 204:
            return
        headers = response.headers
        exposed = headers.get("access-control-expose-headers", "")
        if any(name[:15].lower() == b"access-control-" for name, _ in headers.fields):
            headers.fields = tuple(field for field in headers.fields if field[0][:15].lower() != b"access-control-")
        added = self._policy.answer_headers(request.headers.get("origin") if request is not None else None, exposed)
        if (vary := added.pop("vary", None)) is not None and vary.lower() not in headers.get("vary", "").lower():
            headers.add("vary", vary)
        headers.update(added)


def _is_preflight(request: http.Request) -> bool:
    return is_preflight(request.data.method.decode("latin-1"), request.headers.get)
