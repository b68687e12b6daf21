"""The token usage that a response reports."""

from collections.abc import Mapping
from typing import Any, NamedTuple

MAX_TOKENS = 10**9
"""Larger numbers are ignored as implausible."""


class Usage(NamedTuple):
    """Input and output tokens; None if not reported."""

    input: int | None
    output: int | None

    @classmethod
    def read(cls, usage: Mapping[str, Any]) -> "Usage | None":
        """Read the `usage` of a response: OpenAI's chat and completions, Responses, or Anthropic's Messages."""
        read = cls(
            _count(usage.get("prompt_tokens", usage.get("input_tokens"))),
            _count(usage.get("completion_tokens", usage.get("output_tokens"))),
        )
        return None if read == (None, None) else read

    def filled_by(self, before: "Usage | None") -> "Usage":
        """This usage, with the missing numbers taken from an earlier one."""
        if before is None or None not in self:
            return self
        return Usage(*(now if now is not None else was for now, was in zip(self, before, strict=True)))


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else None
