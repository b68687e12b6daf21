"""The policy for requests from other origins (Fetch, 3.2: CORS).

A policy without I/O. A client in a browser is authenticated like any other: by the token in its `Authorization` header.
There is no mode with credentials, as nothing here uses cookies; so an allowed origin gains nothing that it could not
have without a browser.
"""

import re
from collections.abc import Callable

ANY = "*"

EXPOSED = "x-receipt-id, x-request-id, retry-after"
"""Response headers that a script may read besides the CORS-safelisted ones."""

MAX_AGE = "7200"
"""Seconds for which a browser may cache a preflight; no current browser takes more (Chromium: two hours)."""

MAX_EXPOSED = 100
"""Response headers of the upstream's that are exposed at most."""

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,100}")
"""RFC 9110, 5.6.2."""

_METHOD = re.compile(r"[A-Z]{1,20}")
_HEADERS = re.compile(r"[A-Za-z0-9\-_]{1,64}(?:[ \t]*,[ \t]*[A-Za-z0-9\-_]{1,64}){0,63}")
_MAX_HEADERS = 2048
_MAX_ORIGIN = 512


class CorsPolicy:
    """Which origins may read responses."""

    def __init__(self, allowed_origins: frozenset[str]) -> None:
        """Make a policy.

        Args:
            allowed_origins: As browsers send them, e.g. `https://chat.example`; `*` among them is any; empty is none.
        """
        self._any = ANY in allowed_origins
        self._allowed = allowed_origins

    def answer_headers(self, origin: str | None, exposed: str = "") -> dict[str, str]:
        """The CORS headers of a response.

        Args:
            origin: The request's `Origin`, or None.
            exposed: The upstream's own `Access-Control-Expose-Headers`.
        """
        if not self._allowed:
            return {}
        # A cache must not return the response to one origin to another.
        vary = {} if self._any else {"vary": "Origin"}
        if not origin or not (self._any or (len(origin) <= _MAX_ORIGIN and origin in self._allowed)):
            return vary
        return {
            "access-control-allow-origin": ANY if self._any else origin,
            "access-control-expose-headers": with_exposed(exposed),
            **vary,
        }

    def preflight_headers(self, origin: str, method: str, headers: str | None) -> dict[str, str]:
        """The headers of a preflight's response; they name only what is allowed.

        Args:
            origin: The request's `Origin`.
            method: Its `Access-Control-Request-Method`.
            headers: Its `Access-Control-Request-Headers`, or None.
        """
        answer = self.answer_headers(origin)
        answer.pop("access-control-expose-headers", None)
        if "access-control-allow-origin" in answer:
            if _METHOD.fullmatch(method):
                answer["access-control-allow-methods"] = method
            if headers and len(headers) <= _MAX_HEADERS and _HEADERS.fullmatch(headers):
                answer["access-control-allow-headers"] = headers
            answer["access-control-max-age"] = MAX_AGE
        return answer


def with_exposed(names: str) -> str:
    """The response headers that a script may read: those of this proxy's own responses, and others.

    Args:
        names: The others, as `Access-Control-Expose-Headers` has them (Fetch, 3.3.3). What is no name is left out, and
            so is what stands there already; `*` is a name, and stands for all.
    """
    if not names:
        return EXPOSED
    known = set(EXPOSED.split(", "))
    others: list[str] = []
    for name in map(str.strip, names.split(",")):
        if _NAME.fullmatch(name) and name.lower() not in known and len(others) < MAX_EXPOSED:
            known.add(name.lower())
            others.append(name)
    return ", ".join([EXPOSED, *others])


def is_preflight(method: str, header: Callable[[str], str | None]) -> bool:
    """Whether a request is a browser's preflight, which carries no token (Fetch, 4.8).

    Args:
        method: As it came.
        header: Gives the value of a header by its name.
    """
    return method == "OPTIONS" and header("origin") is not None and header("access-control-request-method") is not None
