"""A client's `X-Request-Id`, by which it finds its request again: it comes back with every answer, errors too."""

import re

from mitmproxy import http

# No longer than anybody's id, and nothing but visible ASCII: it comes from outside and goes into an answer.
_SANE = re.compile(r"[!-~]{1,200}")


def return_request_id(request: http.Request | None, answer: http.Response) -> None:
    """Put the id that a client has given its request into the answer, unless the upstream has given it one."""
    if request is None or "x-request-id" in answer.headers:
        return
    given = request.headers.get("x-request-id")
    if given is not None and _SANE.fullmatch(given):
        answer.headers["x-request-id"] = given
