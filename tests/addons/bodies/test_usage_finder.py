"""Finding the token usage in the bytes of a JSON response as they pass."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addons.bodies.usage_finder import MAX_USAGE, UsageFinder
from addons.exchange.usage import Usage
from tests.support.cutting import cut, cuts


def found(body: bytes, where: list[int] | None = None) -> Usage | None:
    finder = UsageFinder()
    for piece in cut(body, where or []):
        finder.feed(piece)
    return finder.usage()


tricks = ["", "usage", '"usage"', '"usage":{"prompt_tokens":9}', "\\", '\\"usage"', "é🙂"]
texts = st.sampled_from(tricks) | st.text(max_size=9)
details = st.dictionaries(st.sampled_from(["a", "usages", "b"]), texts, max_size=3)


@given(before=texts, after=details, tokens=st.tuples(st.integers(0, 99), st.integers(0, 99)), where=cuts)
def test_usage_finder_finds_the_usage_for_every_split_and_content(
    before: str, after: dict[str, str], tokens: tuple[int, int], where: list[int]
) -> None:
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "prompt_tokens_details": None}
    answer = {"id": "x", "choices": [{"message": {"content": before}}], "usage": usage, **after}
    body = json.dumps(answer, ensure_ascii=False).encode("utf-8", "surrogatepass")
    assert found(body, where) == Usage(*tokens)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"usage":null}',
        b'{"usage":{"prompt_tokens":',
        b'{"usage"',
        b'"usage":[{"prompt_tokens":1}]',
        b'{"usage":{"x":"' + b"y" * MAX_USAGE + b'","prompt_tokens":1}}',
        b'{"usage":' + b"[" * 3000,
        b"\xff" * 100,
    ],
)
def test_usage_finder_returns_none_for_missing_or_invalid_usage(body: bytes) -> None:
    assert found(body) is None
    assert found(body, list(range(1, len(body)))) is None


def test_usage_finder_buffers_at_most_the_maximum_size_of_a_usage() -> None:
    finder = UsageFinder()
    for _ in range(10):
        finder.feed(b'{"usage":{' + b" " * MAX_USAGE)
    assert finder._found is not None
    assert len(finder._found) <= MAX_USAGE
