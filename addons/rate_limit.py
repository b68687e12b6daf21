"""Turns away clients that ask too often, on the headers alone, before anything looks at their token."""

from mitmproxy import http

from addons.answers import refuse
from attest_web.rate_limit import NEVER_LIMITED, TOO_MANY, RateLimiter

_NEVER_LIMITED = frozenset(path.encode() for path in NEVER_LIMITED)


class RateLimit:
    """Answers with 429 where the limiter says so."""

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Count the request, and refuse it where it is one too many."""
        path = flow.request.data.path.partition(b"?")[0]
        if flow.error is not None or flow.response is not None or path in _NEVER_LIMITED:
            return
        peername = flow.client_conn.peername
        wait = self._limiter.seconds_to_wait(
            peername[0] if peername else "", flow.request.headers.get("x-forwarded-for")
        )
        if wait is not None:
            refuse(flow, 429, TOO_MANY, {"retry-after": str(wait)})
