"""How many tokens a response has cost, by what it says itself."""

from collections.abc import Mapping
from typing import Any, NamedTuple

MAX_TOKENS = 10**9
"""More is no number of tokens."""


class Usage(NamedTuple):
    """Tokens in and out; None where it is not told."""

    input: int | None
    output: int | None

    @classmethod
    def read(cls, usage: Mapping[str, Any]) -> "Usage | None":
        """Read the `usage` of a response: OpenAI's chat and completions, or Responses, or Anthropic's Messages."""
        read = cls(
            _count(usage.get("prompt_tokens", usage.get("input_tokens"))),
            _count(usage.get("completion_tokens", usage.get("output_tokens"))),
        )
        return None if read == (None, None) else read

    def filled_by(self, before: "Usage | None") -> "Usage":
        """These, and where one is not told, what was told before."""
        if before is None or None not in self:
            return self
        return Usage(*(now if now is not None else was for now, was in zip(self, before, strict=True)))


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else None
