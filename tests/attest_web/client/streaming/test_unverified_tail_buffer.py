import contextlib
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openai._streaming import SSEDecoder  # what has to agree with the gate about what a stream says

from attest_web.client.proving.errors import UnprovenError
from attest_web.client.streaming.unverified_tail_buffer import MAX_EVENT, UnverifiedTailBuffer


def through(*pieces: bytes) -> tuple[bytes, bytes, str | None]:
    """What passes, what is held back, and the id."""
    tail_buffer = UnverifiedTailBuffer(3_000_000)
    passed = b"".join(tail_buffer.feed(piece) for piece in pieces)
    assert tail_buffer.content == b"".join(pieces)
    return passed, tail_buffer.end(), tail_buffer.id


def event(**members: object) -> bytes:
    return b"data: " + json.dumps(members).encode() + b"\n\n"


TOKEN = event(id="a", choices=[{"index": 0, "delta": {"content": "x"}, "finish_reason": None}])
HELD = {
    "done": b"data: [DONE]\n\n",
    "done without a blank": b"data:[DONE]\n\n",
    "done and more": b"data: [DONE] or so\n\n",
    "no JSON": b"data: nonsense\n\n",
    "no object": b"data: [1]\n\n",
    "a name and no data": b"event: ping\n\n",
    "data without a value": b"data\n\n",
    "no UTF-8": TOKEN.replace(b'"x"', b'"\xff"'),
    "UTF-16": b"data: " + '{"choices":[]}'.encode("utf-16-le") + b"\n\n",
    "two members of one name": b'data: {"choices":[],"choices":[{"index":0,"delta":{}}]}\n\n',
    "data in two lines": b'data: {"choices":\ndata: []}\n\n',
    "two names": b"event: ping\nevent: ping\n" + event(type="ping"),
    "another name than type": b"event: message_stop\n" + event(type="ping"),
    "a name of a chunk": b"event: message_stop\n" + TOKEN,
    "an id": b"id: 7\n" + TOKEN,
    "a time to wait": b"retry: 7\n" + TOKEN,
    "an unknown field": b"x: 7\n" + TOKEN,
    "a byte order mark": b"\xef\xbb\xbf" + TOKEN,
    "a line end of Unicode's": b'data: {"choices":[{"index":0,"delta":{"content":"\xe2\x80\xa8data: [DONE]"}}]}\n\n',
    "a line end of Unicode's in a comment": b": \x0cdata: [DONE]\n\n",
    "a lone CR": TOKEN.replace(b"\n\n", b"\r\r"),
    "a lone CR behind a comment": b": x\r" + TOKEN,
    "too long": b": " + b"x" * MAX_EVENT + b"\n" + TOKEN,
    "too deep": b'data: {"choices":[],"x":' + b"[" * 20000 + b"]" * 20000 + b"}\n\n",
}


@pytest.mark.parametrize("name", HELD)
def test_ambiguous_sse_event_is_held_with_everything_after_it(name: str) -> None:
    held = HELD[name] + TOKEN + b"data: [DONE]\n\n"
    every_byte = [bytes([byte]) for byte in TOKEN + held[:200]] + [held[200:]]
    for pieces in ([TOKEN + held], [TOKEN, held], every_byte):
        assert through(*pieces) == (TOKEN, held, "a")


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_harmless_sse_events_pass_however_the_stream_is_split(line_end: bytes) -> None:
    stream = (TOKEN + b": comment\n\n\n" + TOKEN + b"event: ping\n" + event(type="ping")).replace(b"\n", line_end)
    end = b"data: [DONE]\n\n".replace(b"\n", line_end)
    for pieces in ((stream + end,), (stream, end), tuple(bytes([byte]) for byte in stream + end)):
        assert through(*pieces) == (stream, end, "a")


def test_sse_event_passes_as_soon_as_it_is_complete() -> None:
    tail_buffer = UnverifiedTailBuffer(1000)
    assert tail_buffer.feed(TOKEN[:20]) == b""
    assert tail_buffer.feed(TOKEN[20:-1]) == b""
    assert tail_buffer.feed(TOKEN[-1:] + b": ") == TOKEN
    assert tail_buffer.feed(b"x\r\n\r") == b""
    assert tail_buffer.feed(b"\n") == b": x\r\n\r\n"
    assert tail_buffer.end() == b""


@pytest.mark.parametrize(
    ("stream", "found"),
    [
        (TOKEN, "a"),
        (event(x=1) + event(id="b") + event(id="c"), "b"),
        (event(response={"id": "r"}), "r"),
        (event(message={"id": "m"}), "m"),
        (b'data: {"id":"joined",\rdata: "x":1}\r\r: \r\r', "joined"),
        (event(id=""), None),
        (event(id="\ud800"), None),
        (event(id="x" * 513), None),
        (event(id="x" * MAX_EVENT) + event(id="y"), "y"),
        (b"data: [1]\n\ndata: nonsense\n\ndata: " + b"[" * 5000 + b"\n\n", None),
        (TOKEN[:-1], None),
    ],
)
def test_response_id_is_that_of_the_first_event_with_one_even_if_held(stream: bytes, found: str | None) -> None:
    assert through(stream)[2] == found


def test_tail_buffer_is_bounded_in_bytes() -> None:
    tail_buffer = UnverifiedTailBuffer(1000)
    tail_buffer.feed(b"data: [DONE]\n\n")
    for _ in range(986):
        tail_buffer.feed(b"x")
    with pytest.raises(UnprovenError):
        tail_buffer.feed(b"x")
    assert len(tail_buffer.content) == 1000
    with pytest.raises(UnprovenError):
        UnverifiedTailBuffer(10).feed(b"x" * 11)


LINES = st.sampled_from(
    [
        *(b"data: [DONE]", b"data: {}", b'data: {"choices":[]}', b'data: {"choices":[{"finish_reason":"stop"}]}'),
        *(b"event: response.completed", b'data: {"type":"message_stop"}', b"id: 7", b"event:", b"data", b": c"),
        *(
            b"",
            b"",
            b"",
            b"\xef\xbb\xbf",
            b"\xef\xbb\xbfdata: x",
            b'data: {"type":"ping"}',
            b"event: ping",
            b"retry: 1",
        ),
        *(TOKEN.strip(), b'data: {"choices":[],"choices":[{"finish_reason":"stop"}]}'),
    ]
)
ENDS = st.sampled_from([b"\n", b"\n", b"\r\n", b"\r"])
STREAMS = st.lists(st.tuples(LINES, ENDS), max_size=12).map(lambda lines: b"".join(line + end for line, end in lines))


@settings(max_examples=150, deadline=None)
@given(STREAMS, st.lists(st.integers(0, 200), max_size=6))
@example(b"data: [DONE]\r\n\r\n", [12, 13, 14, 15])
@example(b'\xef\xbb\xbfdata: x\ndata: {"type":"message_stop"}\n\n', [])
def test_passed_events_parse_as_the_same_harmless_events_for_every_reader(stream: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    tail_buffer = UnverifiedTailBuffer(100_000)
    passed = b"".join(tail_buffer.feed(stream[start:end]) for start, end in pairwise(places))
    assert passed + tail_buffer.end() == stream
    assert passed == through(stream)[0]
    seen: list[Any] = [sse.json() for sse in SSEDecoder().iter_bytes(iter([passed]))]
    harmless = [{"type": "ping"}, {"choices": []}, json.loads(TOKEN[6:])]
    assert all(each in harmless for each in seen)
    lines = passed.decode().splitlines()  # as many read who use no decoder
    assert [json.loads(line[6:]) for line in lines if line.startswith("data: ")] == seen


@settings(deadline=None)
@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=3))
def test_tail_buffer_loses_no_byte_of_any_stream(stream: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    tail_buffer = UnverifiedTailBuffer(100)
    passed = b"".join(tail_buffer.feed(stream[start:end]) for start, end in pairwise(places))
    with contextlib.suppress(StopIteration):
        next(SSEDecoder().iter_bytes(iter([passed])))
    assert passed + tail_buffer.end() == stream == tail_buffer.content
