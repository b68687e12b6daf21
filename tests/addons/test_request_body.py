import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addons.request_body import MAX_CHECKED, forwarded_body


@pytest.mark.parametrize("empty", [b'"tool_calls":[]', b'"tool_calls" : [ \n ]'])
def test_empty_tool_calls_are_dropped_from_messages_and_nothing_else_is(empty: bytes) -> None:
    message = b'{"role":"assistant",%s,"content":"\\ud83d\\ude42 \xc3\xa9"}' % empty
    body = b'{"seed":12345678901234567890,"messages":[%s,{"a":1}]}' % message
    expected = json.loads(body)
    del expected["messages"][0]["tool_calls"]
    assert json.loads(forwarded_body(body)) == expected


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m",  "messages":[{"role":"user","content":"hi"}]}',
        b'{"messages":[{"tool_calls":[{"id":"call_1"}]}]}',
        b'{"messages":[{"content":"\\"tool_calls\\": []"}]}',
        b'{"tool_calls":[],"messages":[]}',  # not in a message
        b'{"messages":{"tool_calls":[]}}',
        b'{"messages":["tool_calls",[]]}',
        b'{"messages":[{"content":{"tool_calls":[]}}]}',
        b"\xff\xfe{\x00}\x00",  # UTF-16, which JSON parsers of Python's take
    ],
)
def test_any_other_body_is_the_same_object(body: bytes) -> None:
    assert forwarded_body(body) is body


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.lists(st.floats(allow_nan=False)))))
def test_any_object_without_them_is_forwarded_byte_for_byte(request: dict[str, object]) -> None:
    body = json.dumps(request, indent=1).encode()
    assert forwarded_body(body) is body


def test_what_is_too_large_to_be_parsed_is_left_to_the_upstream_unless_there_is_something_to_drop() -> None:
    nonsense = b"[" * (MAX_CHECKED + 1)
    assert forwarded_body(nonsense) is nonsense
    body = b'{"x":"%s","messages":[{"tool_calls":[]}]}' % (b"x" * MAX_CHECKED)
    assert json.loads(forwarded_body(body))["messages"] == [{}]


@pytest.mark.parametrize("body", [b"", b"{", b"nope", b"[]", b'"x"', b"7", b"{} {}", b"\xff", b"[" * 100_000])
def test_what_is_no_json_object_is_an_error_that_does_not_quote_it(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # any; the message is nobody's business
        forwarded_body(body)
