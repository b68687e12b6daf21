"""The opening handshake of WebSockets (RFC 6455, 4): which requests and which upstream responses are accepted.

No extension is offered to the upstream, so that no frame is compressed: the client decodes the bytes that were hashed.
"""

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Self

from mitmproxy import http
from wsproto.utilities import generate_accept_token

VERSION = "13"
"""The only supported version of the protocol."""

BROWSER_TOKEN = b"openai-insecure-api-key."
"""Prefix of the subprotocol in which OpenAI's browser clients send the token, as they cannot set a header."""

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""RFC 9110, 5.6.2."""


@dataclass(frozen=True)
class Handshake:
    """A client's opening handshake.

    Attributes:
        authorization: The token in its subprotocols, as a value of `Authorization`; empty if there is none, or more
            than one.
        problem: Status and message of its rejection; None if it is valid.
    """

    authorization: bytes = field(repr=False)
    problem: tuple[int, str] | None
    _key: str
    _subprotocols: tuple[bytes, ...]

    @classmethod
    def read(cls, request: http.Request) -> Self | None:
        """The handshake in a request; None if it has none that a server has to process.

        An `Upgrade` may be ignored with another method or version, or if it names another protocol (RFC 9110, 7.8).
        """
        headers = request.headers
        if (
            request.http_version != "HTTP/1.1"
            or request.data.method != b"GET"
            or b"upgrade" not in _listed(headers, "connection")
            or b"websocket" not in _listed(headers, "upgrade")
        ):
            return None
        offered = [item.strip() for item in _joined(headers, "sec-websocket-protocol").split(b",") if item.strip()]
        tokens = [item[len(BROWSER_TOKEN) :] for item in offered if item.lower().startswith(BROWSER_TOKEN)]
        subprotocols = tuple(item for item in offered if not item.lower().startswith(BROWSER_TOKEN))
        key = headers.get("sec-websocket-key", "")
        problem = None
        if headers.get("sec-websocket-version") != VERSION:
            problem = (426, f"Sec-WebSocket-Version must be {VERSION}.")
        elif not _is_key(key):
            problem = (400, "Sec-WebSocket-Key must be 16 bytes in base64.")
        elif headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            problem = (400, "A request to speak WebSocket has no body.")
        elif not all(map(_TOKEN.fullmatch, subprotocols)):
            problem = (400, "Sec-WebSocket-Protocol must be a list of names.")
        return cls(b"Bearer " + tokens[0] if len(tokens) == 1 else b"", problem, key, subprotocols)

    def write(self, request: http.Request) -> None:
        """Add the headers of the handshake to the forwarded request, from which the client's were removed."""
        request.headers["Connection"] = "Upgrade"
        request.headers["Upgrade"] = "websocket"
        request.headers["Sec-WebSocket-Version"] = VERSION
        request.headers["Sec-WebSocket-Key"] = self._key
        if self._subprotocols:
            request.headers.set_all(b"Sec-WebSocket-Protocol", [b", ".join(self._subprotocols)])


def response_problem(request: http.Request, response: http.Response) -> str | None:
    """What is wrong with an upstream's 101 (RFC 6455, 4.1); None if it is valid.

    Args:
        request: The request as forwarded.
        response: The response, of status 101.
    """
    headers = response.headers
    if "upgrade" not in request.headers:
        return "the upstream changed the protocol without a request to do so"
    if headers.get("upgrade", "").lower() != "websocket" or b"upgrade" not in _listed(headers, "connection"):
        return "the upstream has not changed to WebSocket"
    accepted = generate_accept_token(request.headers["sec-websocket-key"].encode())
    if _joined(headers, "sec-websocket-accept") != accepted:
        return "the upstream has not understood the handshake"
    if "sec-websocket-extensions" in headers:
        return "the upstream uses an extension that was not offered"
    chosen, offered = (_joined(either, "sec-websocket-protocol") for either in (headers, request.headers))
    if "sec-websocket-protocol" in headers and (not chosen or chosen not in offered.split(b", ")):
        return "the upstream uses a subprotocol that was not offered"
    if "transfer-encoding" in headers or "content-length" in headers:
        return "the upstream's change of protocol has a body"  # RFC 9110, 8.6; RFC 9112, 6.1
    return None


def _joined(headers: http.Headers, name: str) -> bytes:
    """The value of a header, as bytes."""
    return b",".join(value.strip() for key, value in headers.fields if key.lower() == name.encode())


def _listed(headers: http.Headers, name: str) -> list[bytes]:
    """The items of a list header, in lower case."""
    return [item.strip() for item in _joined(headers, name).lower().split(b",")]


def _is_key(value: str) -> bool:
    try:
        return len(value) == 24 and len(base64.b64decode(value.encode(), validate=True)) == 16
    except (binascii.Error, UnicodeError):
        return False
