import json
import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from addons.bodies.empty_tool_calls import MAX_MEMBER, EmptyToolCallsFilter

PIECE = 32 * 1024
"""What is read from a client at once."""
PATTERNS = [
    *(b'"', b"[", b"]", b"{", b"\\", b'\\"', b"[]", b"{},", b"[0", b"[[]", b'{"":', b'"",', b",", b",,  ", b" ", b"0,"),
    *(b'"tool_calls":[],', b'{"tool_calls":[]},', b'"tool_calls":[', b'"tool\\u005fcalls"  ', b'{"messages":[{'),
    *(b"[" * 5 + b"]" * 5 + b",", b'{"a":' + b"[" * 9 + b"]" * 9 + b"},", b"[0" * 30 + b"]" * 30),
]


def filtered(body: bytes, *cuts: int, keep_length: bool = False) -> bytes:
    """The forwarded body, for a body in pieces that are cut at these offsets."""
    places = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    tool_calls = EmptyToolCallsFilter(keep_length=keep_length)
    forwarded = [tool_calls.feed(body[begin:end]) for begin, end in pairwise(places)]
    return b"".join([*forwarded, tool_calls.end()])


def in_every_split(body: bytes) -> bytes:
    [forwarded] = {filtered(body), filtered(body, *range(len(body))), *(filtered(body, at) for at in range(len(body)))}
    return forwarded


@pytest.mark.parametrize(
    ("messages", "forwarded"),
    [
        (b'{"tool_calls":[],"a":1}', b'{"a":1}'),
        (b'{"a":1,"tool_calls":[],"b":2}', b'{"a":1,"b":2}'),
        (b'{"a":1,"tool_calls":[]}', b'{"a":1}'),
        (b'{"tool_calls":[]}', b"{}"),
        (b'{"tool_calls":[],"tool_calls":[],"a":1}', b'{"a":1}'),
        (b'{"a":1,"tool_calls":[],"tool_calls":[{"id":"x"}],"tool_calls":[]}', b'{"a":1,"tool_calls":[{"id":"x"}]}'),
        (b'{ "tool_calls"\t:\r\n[ \n ] , "a" : 1 }', b'{   "a" : 1 }'),
        (b'{ "a" : 1 , "tool_calls" : [ ] }', b'{ "a" : 1  }'),
        (b'{"a":1 ,\n"tool_calls":[]\n,"b":2}', b'{"a":1 \n,"b":2}'),
        (b'{"tool\\u005fcalls":[],"a":1}', b'{"a":1}'),
        (b'{"a":1,"\\u0074\\u006F\\u006f\\u006c\\u005F\\u0063\\u0061\\u006C\\u006c\\u0073":[]}', b'{"a":1}'),
        (
            b'{"a":"\\ud83d\\ude42 \xc3\xa9 1e400","n":1e400,"tool_calls":[]}',
            b'{"a":"\\ud83d\\ude42 \xc3\xa9 1e400","n":1e400}',
        ),
        (b'{"a":1},{"tool_calls":[]},[],{"b":[[[[[[[]]]]]]],"tool_calls":[]}', b'{"a":1},{},[],{"b":[[[[[[[]]]]]]]}'),
        (
            b'[{"tool_calls":[]}],{"a":{"tool_calls":[]},"tool_calls":[]}',
            b'[{"tool_calls":[]}],{"a":{"tool_calls":[]}}',
        ),
        (b'{"a":"\\\\","tool_calls":[]}', b'{"a":"\\\\"}'),
        (b'{"a":"x\\"","tool_calls":[]}', b'{"a":"x\\""}'),
    ],
)
@pytest.mark.parametrize(
    "frame", [b'{"messages":[%s]}', b'\xef\xbb\xbf {"x":{"messages":[1]},"mess\\u0061ges" : [ %s ] ,"y":2}\n']
)
def test_an_empty_tool_calls_member_of_a_message_is_removed_with_its_comma_and_nothing_else(
    messages: bytes, forwarded: bytes, frame: bytes
) -> None:
    assert in_every_split(frame % messages) == frame % forwarded


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"model":"m",  "messages":[{"role":"user","content":"hi"}]}',
        b'{"messages":[{"tool_calls":[{"id":"call_1"}]}]}',
        b'{"messages":[{"tool_calls":[0]},{"tool_calls":{}},{"tool_calls":null},{"tool_calls":"[]"}]}',
        b'{"messages":[{"content":"\\"tool_calls\\": []"}]}',
        b'{"messages":[{"content":"tool_calls","a":[]}]}',
        b'{"messages":[{"x_tool_calls":[],"tool_calls_":[],"tool\\u005ccalls":[],"\\\\u0074ool_calls":[]}]}',
        b'{"tool_calls":[],"messages":[]}',  # not in a message
        b'{"messages":{"tool_calls":[]}}',
        b'{"messages":["tool_calls",[]]}',
        b'{"messages":[["tool_calls",[],{"tool_calls":[]}]]}',
        b'{"messages":[{"content":{"tool_calls":[]}}]}',
        b'{"messages":[],"more":[{"tool_calls":[]}]}',
        b'{"more":{"messages":[{"tool_calls":[]}]}}',
        b'{"more":"messages","a":[{"tool_calls":[]}]}',
        b'[{"messages":[{"tool_calls":[]}]}]',
        b'{} {"messages":[{"tool_calls":[]}]}',
        b'"messages":[{"tool_calls":[]}]',
        b"\xff\xfe{\x00}\x00",  # UTF-16, which JSON parsers of Python's take
        b'{"messages":[{"tool_calls":[',
        b'{"messages":[{"a":1,',
        b'{"messages":[{"a":"\\',
        b"]]]]}}}}",
    ],
)
def test_tool_calls_filter_forwards_any_other_body_byte_for_byte(body: bytes) -> None:
    assert in_every_split(body) == body


KEYS = st.sampled_from(["tool_calls", "messages", "role", '"', "\\", "tool_calls\\"]) | st.text(max_size=3)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([[], {}, "tool_calls", '"tool_calls":[]', "[", "]}", '\\"', None, 1e300]) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)
MESSAGES = st.lists(st.dictionaries(KEYS, VALUES, max_size=5) | VALUES, max_size=5)
SCRAPS = st.lists(st.sampled_from([*PATTERNS, b"}", b":", b'{"messages":[{'])).map(b"".join)
REQUESTS = st.fixed_dictionaries({"messages": MESSAGES | VALUES}, optional={"model": VALUES, "tool_calls": VALUES})


def without_empty(request: dict[str, object]) -> object:
    messages = request["messages"]
    if isinstance(messages, list):
        for message in messages:
            if isinstance(message, dict) and message.get("tool_calls") == []:
                del message["tool_calls"]
    return request


@given(
    REQUESTS, st.lists(st.integers(min_value=0), max_size=8), st.sampled_from([None, 1]), st.booleans(), st.booleans()
)
def test_the_filtered_request_is_equal_to_the_parsed_request_without_the_members(
    request: dict[str, object], cuts: list[int], indent: int | None, escaped: bool, keep_length: bool
) -> None:
    body = json.dumps(request, indent=indent, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    forwarded = filtered(body, *cuts, keep_length=keep_length)
    assert json.loads(forwarded.decode("utf-8", "surrogatepass")) == without_empty(request)
    if keep_length:
        assert len(forwarded) == len(body)
        assert forwarded.translate(None, b" ") == filtered(body).translate(None, b" ")


@given(st.binary() | SCRAPS, st.lists(st.integers(min_value=0)))
@example(b'{"messages":[{"a":1, "tool_calls" ', [])
def test_the_filtered_body_is_the_same_for_every_split(body: bytes, cuts: list[int]) -> None:
    assert filtered(body, *cuts) == filtered(body)
    assert len(filtered(body, *cuts, keep_length=True)) == len(body)


def test_a_removed_member_is_replaced_by_blanks_where_the_length_is_kept() -> None:
    body = b'{"messages":[{"tool_calls":[],"a":1,"tool_calls" : [\n]}]}'
    assert filtered(body, keep_length=True) == b'{"messages":[{' + b" " * 16 + b'"a":1' + b" " * 19 + b"}]}"


@pytest.mark.parametrize("white", [MAX_MEMBER - 20, MAX_MEMBER, 10 * MAX_MEMBER])
@pytest.mark.parametrize("body", [b'{"a":1,%b"tool_calls":[]}', b'{"tool_calls"%b:[]}', b'{"a":1,"tool_calls":[%b]}'])
def test_white_space_in_a_possible_member_is_kept_up_to_a_limit(white: int, body: bytes) -> None:
    tool_calls = EmptyToolCallsFilter(keep_length=False)
    sent = b'{"messages":[' + body % (b" " * white) + b"]}"
    forwarded = b""
    for at in range(0, len(sent), 1000):
        forwarded += tool_calls.feed(sent[at : at + 1000])
        assert at + 1000 - len(forwarded) <= MAX_MEMBER + 1000
    forwarded += tool_calls.end()
    if white < MAX_MEMBER:
        assert json.loads(forwarded) in ({"messages": [{}]}, {"messages": [{"a": 1}]})
    else:
        assert forwarded == sent


@pytest.mark.parametrize(
    "pattern",
    PATTERNS,
)
@pytest.mark.parametrize("before", [b"", b'{"a":', b'{"messages":[', b'{"messages":[{', b'{"messages":[{"a":['])
def test_filtering_a_piece_of_any_content_takes_less_than_20_ms(pattern: bytes, before: bytes) -> None:
    """Nor the later ones longer than the first."""
    body = before + pattern * (10 * PIECE // len(pattern))
    tool_calls = EmptyToolCallsFilter(keep_length=True)
    times = []
    for at in range(0, len(body), PIECE):
        began = time.thread_time()
        tool_calls.feed(body[at : at + PIECE])
        times.append(time.thread_time() - began)
    assert sorted(times)[len(times) // 2] < 0.02
    assert min(times[len(times) // 2 :]) < 2 * max(times[: len(times) // 2]) + 0.001
