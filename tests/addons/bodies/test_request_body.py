import hashlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addons.bodies.empty_tool_calls import EmptyToolCallsFilter
from addons.bodies.request_body import MAX_CHECKED, SignedRequestBody, is_json_object
from addons.exchange.body_digest import BodyDigest


def test_what_came_is_hashed_and_what_is_forwarded_has_no_empty_tool_calls() -> None:
    digest = BodyDigest()
    body = SignedRequestBody(digest, EmptyToolCallsFilter(keep_length=False))
    sent = [b'{"messages":[{"a":1', b',"tool_', b'calls":[', b"]}]", b"}"]
    assert [body(piece) for piece in [*sent, b""]] == [[b'{"messages":[{"a":1'], [], [], [b"}]"], [b"}"], []]
    assert digest.hex() == hashlib.sha256(b"".join(sent)).hexdigest()


def test_without_a_filter_the_pieces_pass_as_they_are() -> None:
    body = SignedRequestBody(BodyDigest())
    assert [body(piece) for piece in (b"a", b'"tool_calls":[]', b"")] == [b"a", b'"tool_calls":[]', b""]


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.lists(st.floats(allow_nan=False)))))
def test_a_json_object_is_one(request: dict[str, object]) -> None:
    assert is_json_object(json.dumps(request).encode())


@pytest.mark.parametrize("body", [b"", b"{", b"nope", b"[]", b'"x"', b"7", b"{} {}", b"\xff", b"[" * 100_000])
def test_what_is_no_json_object_is_none(body: bytes) -> None:
    assert not is_json_object(body)


def test_what_is_too_large_to_be_parsed_is_left_to_the_upstream() -> None:
    assert is_json_object(b"[" * (MAX_CHECKED + 1))


@pytest.mark.parametrize("inner", [b"[],", b"{},", b"0,", b"1e9,", b'"",', b'{"":0},', b"[" * 400 + b"]" * 400 + b","])
def test_the_check_takes_no_20_ms_whatever_is_in_it(inner: bytes) -> None:
    body = b'{"a":[' + inner * ((MAX_CHECKED - 10) // len(inner)) + b"0]}"
    times = []
    for _ in range(5):
        began = time.thread_time()
        assert is_json_object(body)
        times.append(time.thread_time() - began)
    assert min(times) < 0.02
