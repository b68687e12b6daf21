"""The token usage that a response reports."""

from typing import Any

import pytest

from addons.exchange.usage import MAX_TOKENS, Usage


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, Usage(3, 4)),
        ({"input_tokens": 3, "output_tokens": 4}, Usage(3, 4)),
        ({"prompt_tokens": 0, "total_tokens": 0}, Usage(0, None)),
        ({"completion_tokens": MAX_TOKENS}, Usage(None, MAX_TOKENS)),
        ({"prompt_tokens": True, "completion_tokens": -1}, None),
        ({"prompt_tokens": "3", "completion_tokens": MAX_TOKENS + 1}, None),
        ({"total_tokens": 5}, None),
        ({}, None),
    ],
)
def test_usage_read_takes_valid_token_counts_and_ignores_the_rest(
    usage: dict[str, Any], expected: Usage | None
) -> None:
    assert Usage.read(usage) == expected


def test_usage_filled_by_takes_missing_counts_from_the_earlier_usage() -> None:
    assert Usage(None, 9).filled_by(Usage(3, 4)) == Usage(3, 9)
    assert Usage(1, 2).filled_by(Usage(3, 4)) == Usage(1, 2)
    assert Usage(None, 9).filled_by(None) == Usage(None, 9)
