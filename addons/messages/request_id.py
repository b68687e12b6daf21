"""`X-Request-Id`, which identifies a request at client, proxy and upstream: the client's own, or one made here.

It is sent to the upstream, in every response, errors included, and in the log line of the request.
"""

import re
import secrets

from mitmproxy import http

_NAME = b"X-Request-Id"
# No longer than a response id, and only visible ASCII: it is untrusted and is put into a response.
_USABLE = re.compile(rb"[!-~]{1,200}")


def settle_request_id(request: http.Request) -> None:
    """Give a request an id, unless its client has sent a usable one."""
    fields = request.headers.fields
    given = [value for name, value in fields if name.lower() == b"x-request-id"]
    if len(given) == 1 and _USABLE.fullmatch(given[0]):
        return
    if given:
        fields = tuple(field for field in fields if field[0].lower() != b"x-request-id")
    request.headers.fields = (*fields, (_NAME, _new_id()))


def is_usable(request_id: str) -> bool:
    """Whether a text can be a request id."""
    return _USABLE.fullmatch(request_id.encode("utf-8", "surrogateescape")) is not None


def return_request_id(request: http.Request | None, response: http.Response) -> None:
    """Put the id of a request into its response, in place of any that the upstream has sent.

    Args:
        request: A request that `settle_request_id` has given an id; None if its head could not be read.
        response: The response to the client.
    """
    settled = request.headers.get("x-request-id") if request is not None else None
    response.headers["x-request-id"] = settled or _new_id().decode("ascii")


def _new_id() -> bytes:
    return secrets.token_hex(16).encode("ascii")
