"""What is done with the body of a request that is signed: it is hashed, empty `tool_calls` go, small JSON is checked.

What is hashed is the body as the client sent it; what is forwarded is without the empty `tool_calls` of chat messages.
"""

import json
from typing import Final

from addons.bodies.empty_tool_calls import EmptyToolCallsFilter
from addons.exchange.body_digest import BodyDigest

MAX_BUFFERED: Final = 1024 * 1024
"""Bytes of a JSON body up to which it is held until it is complete; a larger one is forwarded as it comes."""

MAX_CHECKED: Final = 128 * 1024
"""Bytes of a body up to which it is made sure that it is JSON. At this size that takes up to 8 ms, for lists in lists,
during which nothing else is done."""


class SignedRequestBody:
    """A modifier through which the body of a request passes (`flow.request.stream`), held or not.

    Attributes:
        digest: Its hash.
    """

    __slots__ = ("_tool_calls", "digest")

    def __init__(self, digest: BodyDigest, tool_calls: EmptyToolCallsFilter | None = None) -> None:
        """Begin.

        Args:
            digest: Takes the hash of what came.
            tool_calls: Changes what is forwarded; None forwards what came.
        """
        self.digest = digest
        self._tool_calls = tool_calls

    def __call__(self, piece: bytes) -> bytes | list[bytes]:
        """Take the next piece in, `b""` at the end of the body; return what is to be forwarded.

        An empty piece is never given to be forwarded, as that would be the last chunk of a chunked body.
        """
        if piece:
            self.digest.add(piece)
        else:
            self.digest.end()
        if self._tool_calls is None:
            return piece
        forwarded = self._tool_calls.feed(piece) if piece else self._tool_calls.end()
        return [forwarded] if forwarded else []


def is_json_object(body: bytes) -> bool:
    """Whether a body is a JSON object, as far as that can be told in short time: of larger ones the upstream judges."""
    if len(body) > MAX_CHECKED:
        return True
    try:
        return isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        return False
