"""What an endpoint promises, as far as the handling of an exchange depends on it.

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
    """Which limit a request body is held to."""

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
        name: What logs and metrics call it: its path; never one that a client has made up.
        needs_token: Whether the gate asks for a token. The proof pages ask by themselves.
        size: The limit of their bodies.
        is_json: Whether the body is a JSON object. A small one is held until it is complete then, and checked; all
            others stream through.
        drops_tool_calls: Whether empty `tool_calls` are taken out of its messages.
        stream_format: What the events of a streamed response tell.
        signs_any_type: Whether a response is signed that is neither JSON nor an event stream.
        wraps_errors: Whether the upstream's errors are given the shape of this proxy's.
        path: Where the upstream has it, if elsewhere.
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
