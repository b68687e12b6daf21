import hashlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addons.bodies.pipeline import BodyPipeline
from addons.bodies.request_body import MAX_BUFFERED, MAX_CHECKED, is_json_object, request_pipeline

TOOL_CALLS = b'{"messages":[{"tool_calls":[]}]}'


def chat(content_length: int | str | None, *, drops_tool_calls: bool = True, is_replay: bool = False) -> BodyPipeline:
    return request_pipeline(
        is_json=True,
        drops_tool_calls=drops_tool_calls,
        content_length=None if content_length is None else str(content_length),
        is_replay=is_replay,
    )


def test_a_chat_request_has_digests_with_and_without_its_empty_tool_calls() -> None:
    body = chat(None)
    sent = [b'{"messages":[{"a":1', b',"tool_', b'calls":[', b"]}]", b"}"]
    assert [body(piece) for piece in [*sent, b""]] == [b'{"messages":[{"a":1', [], [], b"}]", b"}", []]
    expected = (b"".join(sent), b'{"messages":[{"a":1}]}')
    assert body.digests == tuple(hashlib.sha256(each).hexdigest() for each in expected)


def test_request_body_without_the_tool_calls_filter_forwards_pieces_unchanged() -> None:
    body = chat(None, drops_tool_calls=False)
    assert [body(piece) for piece in (b"a", b'"tool_calls":[]', b"")] == [b"a", b'"tool_calls":[]', []]
    assert not body.changes_length


@pytest.mark.parametrize(
    ("content_length", "is_replay", "keeps_length"),
    [
        (None, False, False),
        (MAX_BUFFERED, False, False),
        (MAX_BUFFERED, True, True),
        (MAX_BUFFERED + 1, False, True),
        ("12x", False, True),
    ],
    ids=["chunked", "held", "sent again", "too large to be held", "no number"],
)
def test_request_body_forwarded_before_its_end_keeps_the_announced_length(
    content_length: int | str | None, is_replay: bool, keeps_length: bool
) -> None:
    body = chat(content_length, is_replay=is_replay)
    assert body.changes_length is not keeps_length
    forwarded = b"".join(b"".join([out] if isinstance(out, bytes) else out) for out in map(body, [TOOL_CALLS, b""]))
    assert forwarded == b'{"messages":[{' + (b" " * 15 if keeps_length else b"") + b"}]}"


def test_request_body_buffers_json_up_to_the_limit_and_nothing_else() -> None:
    assert chat(None).hold_limit == MAX_BUFFERED
    other = request_pipeline(is_json=False, drops_tool_calls=False, content_length=None, is_replay=False)
    assert other.hold_limit == 0


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.lists(st.floats(allow_nan=False)))))
def test_a_json_object_is_taken_for_one(request: dict[str, object]) -> None:
    assert is_json_object(json.dumps(request).encode())


@pytest.mark.parametrize("body", [b"", b"{", b"nope", b"[]", b'"x"', b"7", b"{} {}", b"\xff", b"[" * 100_000])
def test_a_body_that_is_not_a_json_object_is_not_taken_for_one(body: bytes) -> None:
    assert not is_json_object(body)


def test_a_body_too_large_to_be_parsed_is_left_to_the_upstream() -> None:
    assert is_json_object(b"[" * (MAX_CHECKED + 1))


@pytest.mark.parametrize("inner", [b"[],", b"{},", b"0,", b"1e9,", b'"",', b'{"":0},', b"[" * 400 + b"]" * 400 + b","])
def test_checking_a_body_of_any_content_takes_less_than_20_ms(inner: bytes) -> None:
    body = b'{"a":[' + inner * ((MAX_CHECKED - 10) // len(inner)) + b"0]}"
    times = []
    for _ in range(5):
        began = time.thread_time()
        assert is_json_object(body)
        times.append(time.thread_time() - began)
    assert min(times) < 0.02
