"""The properties of an endpoint that decide how its exchanges are handled.

The table of endpoints is in `addons.routing.routes`.
"""

import enum
from dataclasses import dataclass


class Kind(enum.Enum):
    """What this proxy does with a request."""

    PROOF = "answered here, by the proof pages"
    SIGNED = "proxied; the exchange is signed"
    PASSED = "proxied, as it is"


class Size(enum.Enum):
    """Which limit applies to a request body."""

    PROOF = "of the proof pages"
    REQUEST = "VLLM_PROXY_MAX_REQUEST_SIZE"
    IMAGE = "VLLM_PROXY_MAX_IMAGE_REQUEST_SIZE"
    AUDIO = "VLLM_PROXY_MAX_AUDIO_REQUEST_SIZE"
    LARGEST = "the largest of them"


class StreamFormat(enum.Enum):
    """Which API's server-sent events a streamed response has; `addons.bodies.stream_formats` reads them."""

    CHAT = "OpenAI's chat and text completions"
    RESPONSES = "OpenAI's Responses"
    MESSAGES = "Anthropic's Messages"
    ANY = "any of them, or none"


@dataclass(frozen=True)
class Route:
    """What happens to the requests of one row of the table of endpoints.

    Attributes:
        kind: What this proxy does with them.
        name: Its name in logs and metrics: its path in the table; never a path that only a client has sent.
        needs_token: Whether the gate requires a token. The proof pages check tokens themselves.
        size: The limit of their bodies.
        is_json: Whether the body has to be a JSON object. A small one is then held until it is complete, and checked;
            all others are streamed.
        drops_tool_calls: Whether empty `tool_calls` are removed from its messages.
        stream_format: The format of the events of a streamed response.
        signs_any_type: Whether a response is signed that is neither JSON nor an event stream.
        wraps_errors: Whether upstream errors are rewritten in the shape of this proxy's own.
        path: The path at the upstream; None if it is the same.
    """

    kind: Kind
    name: str = "other"
    needs_token: bool = True
    size: Size = Size.REQUEST
    is_json: bool = False
    drops_tool_calls: bool = False
    stream_format: StreamFormat = StreamFormat.ANY
    signs_any_type: bool = False
    wraps_errors: bool = False
    path: str | None = None
