import contextlib
import json
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openai._streaming import SSEDecoder  # what has to agree with the gate about where a stream ends

from attest_web.client.errors import UnprovenError
from attest_web.client.stream_gate import StreamGate, says_done


def through(*pieces: bytes) -> tuple[bytes, bytes, str | None]:
    """What passes, what is held back, and the id."""
    gate = StreamGate(100_000)
    passed = b"".join(gate.feed(piece) for piece in pieces)
    assert gate.content == b"".join(pieces)
    return passed, gate.end(), gate.id


def event(**members: object) -> bytes:
    return b"data: " + json.dumps(members).encode() + b"\n\n"


TOKEN = event(id="a", choices=[{"delta": {"content": "x"}, "finish_reason": None}])
ENDS = [
    b"data: [DONE]\n\n",
    b"data:[DONE]\n\n",
    b"data: [DONE] or so\n\n",
    b"data\ndata: [DONE]\n\n"[5:],
    event(choices=[{"finish_reason": "stop"}]),
    event(choices=[{"finish_reason": None}, {"finish_reason": "length"}]),
    event(type="response.completed", response={"id": "b"}),
    b"event: message_stop\ndata: {}\n\n",
    b"event:response.failed\ndata: x\n\n",
    b'data: {"type":"response.\\u0063ompleted"}\n\n',
    b'data: {"type":\ndata: "message_stop"}\n\n',
    event(choices=[{"finish_reason": ""}]),
    event(choices=[{"delta": {"tool_calls": [{"index": 0, "function": {"name": "pay"}}]}}]),
    event(choices=[{"delta": {"function_call": {"name": "pay"}}}]),
    event(type="response.function_call_arguments.done", arguments="{}"),
    event(type="response.output_item.done", item={"type": "function_call"}),
    event(type="response.output_item.done", item={"type": "message"}),
    event(type="response.output_text.done", text="x"),
    b"event: response.completed\n" + event(type="response.output_item.done", item={"type": "reasoning"}),
    event(type="content_block_start", content_block={"type": "tool_use"}),
    event(type="message_delta", delta={"stop_reason": "tool_use"}),
    event(type="image_generation.completed"),
    event(type="transcript.text.done"),
    event(type="thread.run.requires_action"),
    # No reader that goes deeper than this one is shown what this one could not read.
    b'data: {"choices":[{"finish_reason":"stop"}],"x":' + b"[" * 20000 + b"]" * 20000 + b"}\n\n",
    b"data: nonsense\n\n",
]
BEFORE = [
    event(type="response.output_text.delta", delta="x"),
    event(type="response.reasoning_text.done", text="x"),
    event(type="response.content_part.done", part={"type": "reasoning_text"}),
    event(type="response.output_item.done", item={"type": "reasoning"}),
    event(type="response.output_item.added", item={"type": "message"}),
    event(type="content_block_start", content_block={"type": "text", "text": ""}),
    event(type="content_block_stop", index=0),
    event(choices=[{"delta": {"content": "x", "tool_calls": []}, "finish_reason": None, "stop_reason": None}]),
    event(choices=[], usage={}),
    b"event: ping\ndata: {}\n\n",
    b"data: [1]\n\n",
    b": comment\n\n",
]


def test_what_nobody_acts_on_passes() -> None:
    for each in BEFORE:
        assert through(each)[0] == each


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_the_end_is_held_back_and_all_that_follows(end: bytes, line_end: bytes) -> None:
    stream = (TOKEN + b": comment\n\n" + TOKEN).replace(b"\n", line_end)
    end = (end + TOKEN + b"data: [DONE]\n\n").replace(b"\n", line_end)
    for pieces in ((stream + end,), (stream, end), tuple(bytes([byte]) for byte in stream + end)):
        passed, held, _ = through(*pieces)
        assert passed.rstrip(b"\r\n") == stream.rstrip(b"\r\n")
        assert passed + held == stream + end


def test_an_event_passes_as_soon_as_it_is_whole() -> None:
    gate = StreamGate(1000)
    assert gate.feed(TOKEN[:20]) == b""
    assert gate.feed(TOKEN[20:-1]) == b""
    assert gate.feed(TOKEN[-1:] + b"data: {") == TOKEN
    assert gate.feed(b"}\n\n") == b"data: {}\n\n"
    assert gate.feed(b"data: {}\r\n\r") == b"data: {}\r\n\r"
    assert gate.feed(b"\n") == b"\n"
    assert gate.end() == b""


@pytest.mark.parametrize(
    ("stream", "found"),
    [
        (TOKEN, "a"),
        (event(x=1) + event(id="b") + event(id="c"), "b"),
        (event(response={"id": "r"}), "r"),
        (event(message={"id": "m"}), "m"),
        (event(id=""), None),
        (event(id="\ud800"), None),
        (event(id="x" * 513), None),
        (b"data: [1]\n\ndata: nonsense\n\ndata: " + b"[" * 5000 + b"\n\n", None),
        (TOKEN[:-1], None),
    ],
)
def test_the_id_is_that_of_the_first_event_that_has_one(stream: bytes, found: str | None) -> None:
    assert through(stream)[2] == found


def test_what_is_too_long_is_refused() -> None:
    gate = StreamGate(10)
    gate.feed(b"x" * 10)
    with pytest.raises(UnprovenError):
        gate.feed(b"x")


LINES = st.sampled_from(
    [
        *(b"data: [DONE]", b"data: {}", b'data: {"id":"x"}', b'data: {"choices":[{"finish_reason":"stop"}]}'),
        *(b"event: response.completed", b'data: {"type":"message_stop"}', b"id: 7", b"event:", b"data", b": c"),
        *(b"", b"", b"", b"\xef\xbb\xbf", b"\xef\xbb\xbfdata: x"),
    ]
)
STREAMS = st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n", b"\r"])), max_size=12).map(
    lambda lines: b"".join(line + end for line, end in lines)
)


@settings(max_examples=60)
@given(STREAMS, st.lists(st.integers(0, 200), max_size=6))
@example(b"data: [DONE]\r\n\r\n", [12, 13, 14, 15])
@example(b'\xef\xbb\xbfdata: x\ndata: {"type":"message_stop"}\n\n', [])
def test_the_sdk_never_sees_an_end_in_what_passes(stream: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    gate = StreamGate(100_000)
    passed = b"".join(gate.feed(stream[start:end]) for start, end in pairwise(places))
    for sse in SSEDecoder().iter_bytes(iter([passed])):
        assert not sse.data.startswith("[DONE]")
        assert not says_done(sse.event, {})
        with contextlib.suppress(ValueError):  # which the SDK would raise
            assert "message_stop" not in json.dumps(sse.json())
            assert "finish_reason" not in json.dumps(sse.json())
    assert passed + gate.end() == stream
