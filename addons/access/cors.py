"""Lets scripts of other origins in: answers preflights, and adds to all responses what browsers want to know."""

from mitmproxy import http

from addons.messages.responses import respond_early
from attest_web.middleware.cors import CorsPolicy, is_preflight


class Cors:
    """Applies the policy to all requests, answered here or upstream."""

    def __init__(self, policy: CorsPolicy) -> None:
        self._policy = policy

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Answer a preflight. It carries no token, so it must not reach the upstream."""
        header = flow.request.headers.get
        if flow.error is not None or flow.response is not None or not _is_preflight(flow.request):
            return
        answer = http.Response.make(204)
        del answer.headers["content-length"]  # a 204 has none (RFC 9110, 8.6)
        origin, method = header("origin", ""), header("access-control-request-method", "")
        answer.headers.update(self._policy.preflight_headers(origin, method, header("access-control-request-headers")))
        respond_early(flow, answer)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Add to a response that comes from the upstream."""
        if flow.response is not None:
            self.add_headers(flow.request, flow.response)

    def response(self, flow: http.HTTPFlow) -> None:
        """Add to a response that was made here: for one that was made on the headers alone, this is the only hook."""
        if flow.response is not None and flow.response.raw_content is not None:
            self.add_headers(flow.request, flow.response)

    def add_headers(self, request: http.Request | None, response: http.Response) -> None:
        """Replace what a response says to browsers, but for the headers that it exposes: ours are put beside those.

        Args:
            request: What it answers; None where that could not be read.
            response: The answer.
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
