import json
import re
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from addons.bodies import end_detector
from addons.bodies.end_detector import EndDetector
from addons.bodies.sse_event import MAX_EVENT
from addons.bodies.stream_formats import ANY, CHAT, MESSAGES, RESPONSES, EventFormat
from addons.exchange.usage import Usage
from attest_web.response_ids import usable_id
from tests.support.cutting import cut, cuts

DONE = b"data: [DONE]\n\n"


def read(pieces: list[bytes], event_format: EventFormat = CHAT) -> tuple[EndDetector, list[bytes]]:
    """Feed the pieces to a new reader; return it and what it gave back for each, and at the end."""
    reader = EndDetector(event_format)
    given_back = [reader.feed(piece) for piece in pieces]
    return reader, [*given_back, reader.end()]


class ReferenceReader:
    """A reference implementation of the standard for a whole stream at once, without regard to speed."""

    def __init__(self, stream: bytes) -> None:
        self.id: str | None = None
        self.usage: Usage | None = None
        self.finished = False
        text = stream.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        data: list[str] = []
        for at, line in enumerate(lines):
            complete = at < len(lines) - 1
            name, _, value = line.partition(":")
            if complete and not line:
                self._dispatch("\n".join(data))
                data = []
            elif name == "data" and (complete or line):
                value = value.removeprefix(" ")
                if not "".join(data).strip(" \t") and ":" in line and value.lstrip(" \t").startswith("[DONE]"):
                    self.finished = True
                    return
                data.append(value)

    def _dispatch(self, data: str) -> None:
        try:
            event = json.loads(data.encode("utf-8", "surrogateescape"))
        except ValueError:
            return
        if isinstance(event, dict):
            if self.id is None:
                self.id = usable_id(event.get("id"))
            if isinstance(event.get("usage"), dict):
                self.usage = Usage.read(event["usage"]) or self.usage


def outcome(reader: EndDetector | ReferenceReader) -> tuple[str | None, Usage | None, bool]:
    return reader.id, reader.usage, reader.finished


line_ends = st.sampled_from([b"\n", b"\r\n", b"\r"])
usages = st.fixed_dictionaries({"prompt_tokens": st.integers(0, 9), "completion_tokens": st.integers(0, 9)})
json_events = st.fixed_dictionaries(
    {},
    optional={
        "id": st.one_of(st.sampled_from(["chatcmpl-1", "chatcmpl-2", ""]), st.none(), st.integers()),
        "usage": st.one_of(
            st.none(),
            st.fixed_dictionaries({"prompt_tokens": st.integers(0, 9), "completion_tokens": st.integers(0, 9)}),
            st.just([1]),
        ),
        "choices": st.lists(st.sampled_from(["[DONE]", "data: [DONE]\n\n", "é🙂", '"usage"', '"id":"x"', "\u2028"])),
    },
).map(lambda event: json.dumps(event, ensure_ascii=False).encode())
data_lines = st.builds(
    lambda space, value: b"data:" + space + value,
    st.sampled_from([b"", b" ", b"  ", b" \t"]),
    st.one_of(
        json_events, st.sampled_from([b"", b"{", b"[]", b"null", b"[DON", b"[DONE] ", b"[DONE]x", b'"id"', b"\xff"])
    ),
)
other_lines = st.sampled_from(
    [b": comment", b":", b"event: message", b"id: 7", b"retry: 1", b"data", b"dat", b"data :x"]
)
lines = st.one_of(data_lines, data_lines, other_lines, st.just(b""), st.just(b""))
streams = st.builds(
    lambda mark, body, end: mark + b"".join(line + line_end for line, line_end in body) + end,
    st.sampled_from([b"", b"", b"\xef\xbb\xbf"]),
    st.lists(st.tuples(lines, line_ends), max_size=20),
    st.sampled_from(
        [DONE, DONE, b"data:[DONE]\r\n\r\n", b"data: [DONE]", b"data: [DON", b"data: x", b"", DONE + b": bye\n\n"]
    ),
)


@given(stream=streams, where=cuts)
@example(stream=b"data: [DONE]\r\n\r\n", where=[1, 13, 14, 15])
@example(stream=b"\xef\xbb\xbfdata: [DONE]\n\n", where=[1, 2, 3, 4])
@example(stream=b"\xef\xbb\xbfdata: [DONE]\n\n", where=[5])
@example(stream=b"data: x\rdata: [DONE]\r\r", where=[8, 9])
def test_id_usage_end_and_bytes_of_a_stream_are_the_same_for_every_split(stream: bytes, where: list[int]) -> None:
    pieces = cut(stream, where)
    reader, given_back = read(pieces)
    assert b"".join(given_back) == stream
    assert outcome(reader) == outcome(ReferenceReader(stream))


@given(stream=streams, where=cuts)
@example(stream=b"\xef\xbb\xbfdata: [DONE]\n\n", where=[15])
def test_nothing_of_the_last_event_is_released_before_the_end_of_the_message(stream: bytes, where: list[int]) -> None:
    whole, before = read([stream] if stream else [])
    _, given_back = read(cut(stream, where))
    if whole.finished:
        # As little is kept back as of the stream in one piece, but for a byte order mark that was let go early.
        assert len(b"".join(given_back[:-1])) in range(len(before[0]) if stream else 0, len(before[0]) + 4)
        assert b"[DONE]" in given_back[-1]


@given(stream=streams, where=cuts)
@example(stream=b"\xef\xbb\xbfdata: [DONE]\n\n", where=[1, 4])
def test_all_bytes_but_a_possible_beginning_of_the_done_line_are_released_at_once(
    stream: bytes, where: list[int]
) -> None:
    """After each piece, all has left but what may be the beginning of the last line."""
    reader = EndDetector(CHAT)
    came = left = b""
    for piece in cut(stream, where):
        came += piece
        left += reader.feed(piece)
        assert came.startswith(left)
        kept = came[len(left) :].lstrip(b"\xef\xbb\xbf")  # of which a part may have left early
        if not reader.finished:
            assert re.fullmatch(rb"|d|da|dat|data|data:[ \t]*(|\[|\[D|\[DO|\[DON|\[DONE)", kept)


def test_an_event_is_released_with_the_piece_that_brings_it() -> None:
    reader = EndDetector(CHAT)
    event = b'data: {"id":"chatcmpl-1","choices":[{"delta":{"content":"hi"}}]}\n\n'
    assert reader.feed(event) == event
    assert reader.feed(event[:20]) == event[:20]
    assert reader.feed(event[20:]) == event[20:]
    assert reader.feed(event) is event  # not so much as copied


def test_the_id_is_that_of_the_first_event_with_one_and_the_usage_that_of_the_last() -> None:
    events = [b": ping", b'data: {"choices":[]}', b'data: {"id":"chatcmpl-3"}', b'data: {"id":"4","usage":null}']
    events += [b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}', b"data: [DONE]"]
    reader, _ = read([event + b"\n\n" for event in events])
    assert outcome(reader) == ("chatcmpl-3", Usage(3, 4), True)


def test_end_detector_parses_no_json_once_the_id_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []

    def loads(data: bytes) -> dict[str, str]:
        parsed.append(data)
        return {"id": "chatcmpl-1"}

    monkeypatch.setattr("addons.bodies.sse_event.json.loads", loads)
    reader = EndDetector(CHAT)
    reader.feed(b'data: {"id":"chatcmpl-1"}\n\n')
    for piece in (b'data: {"id":"x","usage":null}\n\n', b'data: {"id":"x"}\n\n', b'data: {"id":', b'"x"}\r\n\r\n'):
        reader.feed(piece)
    assert len(parsed) == 1


def test_end_detector_stream_without_its_last_event_is_not_finished() -> None:
    reader, _ = read([b'data: {"id":"chatcmpl-1"}\n\n'])
    assert not reader.finished


@pytest.mark.parametrize("begun", [b"data: {}\n", b"data: {}\r\n", b": comment\r\ndata: x\n"])
def test_a_done_line_inside_an_event_with_other_data_is_no_end(begun: bytes) -> None:
    reader, given_back = read([b'data: {"id":"c-1"}\n\n', begun, DONE, b"data: x\n\n"])
    assert not reader.finished
    assert given_back[2:4] == [DONE, b"data: x\n\n"]


def test_a_stream_that_goes_on_after_its_end_is_released_and_not_finished() -> None:
    reader = EndDetector(CHAT)
    out = [reader.feed(DONE)]
    flood = b"data: more\n\n" * 1000
    size = 0
    while size <= end_detector.MAX_HELD + len(flood):
        out.append(reader.feed(flood))
        size += len(flood)
    assert not reader.finished
    assert out[-1] == flood
    out.append(reader.end())
    assert len(b"".join(out)) == len(DONE) + size


def in_pieces(stream: bytes, size: int) -> list[bytes]:
    return [stream[at : at + size] for at in range(0, len(stream), size)]


LONG = b"x" * (MAX_EVENT + 40_000)


@pytest.mark.parametrize("piece_size", [1000, 65_536, 1 << 20])
@pytest.mark.parametrize(
    ("event", "event_format", "found"),
    [
        (b'data: {"x":"' + LONG + b'","id":"long","usage":{"prompt_tokens":3}}', CHAT, ("long", Usage(3, None))),
        (b'data: {"id":"long",\ndata: "x":"' + LONG + b'"}', CHAT, ("long", None)),
        (b'data: {"x":{"id":"no"},\ndata: "y":"' + LONG + b'",\ndata: "id":"long"}', CHAT, ("long", None)),
        (b'data: {"response":{"x":"' + LONG + b'","id":"long"}}', RESPONSES, ("long", None)),
        (b'data: {"message":{"id":"long"},"x":"' + LONG + b'"}', ANY, ("long", None)),
        (b'data: {"message":{"id":"b"},"x":"' + LONG + b'","id":"long"}', ANY, ("long", None)),
        (b"data: [" + LONG, CHAT, (None, None)),
        (b": " + LONG, CHAT, (None, None)),
        (b"\xef\xbb\xbfdata:" + b" " * len(LONG) + b'{"id":"long"}', CHAT, ("long", None)),
    ],
)
def test_end_detector_finds_the_id_in_an_event_of_any_length(
    piece_size: int, event: bytes, event_format: EventFormat, found: tuple[str | None, Usage | None]
) -> None:
    stream = event + b"\n\n"
    reader, given_back = read(in_pieces(stream, piece_size), event_format)
    assert b"".join(given_back) == stream
    assert (reader.id, reader.usage) == found


@pytest.mark.parametrize("piece_size", [1000, 65_536, 1 << 20])
def test_end_detector_reads_the_event_after_an_oversized_one(piece_size: int) -> None:
    stream = b'data: {"x":"' + LONG + b'"}\n\n' + b'data: {"id":"short"}\n\n' + DONE
    reader, given_back = read(in_pieces(stream, piece_size))
    assert outcome(reader) == ("short", None, True)
    assert given_back[-1] == DONE


@pytest.mark.parametrize("begin", [b'{"type":"response.completed","x":"', b'{"response":{"id":"resp_1"},"x":"'])
@pytest.mark.parametrize("piece_size", [1000, 65_536, 1 << 20])
def test_end_detector_oversized_last_event_named_only_in_its_data_ends_the_stream(
    begin: bytes, piece_size: int
) -> None:
    last = b"data: " + begin + LONG + b'","type":"response.completed"}'
    reader, given_back = read(in_pieces(last + b"\n\n", piece_size), RESPONSES)
    assert reader.finished
    assert given_back[-1] == b"\n\n"
    assert b"".join(given_back) == last + b"\n\n"


@pytest.mark.parametrize("piece_size", [1, 7, 1000, 1 << 20])
@pytest.mark.parametrize(
    "last",
    [
        b"data: [DONE] ",
        b"data: [DONE]\t \t",
        b"data:   [DONE]",
        b"data:\t[DONE]",
        b"data: [DONE]x",  # of which OpenAI's libraries look at the beginning alone
        b"data:\ndata: [DONE]",
    ],
)
def test_a_done_line_with_blanks_or_text_around_done_ends_the_stream(piece_size: int, last: bytes) -> None:
    first = b'data: {"id":"c-1"}\n\n'
    for end in (b"\n\n", b""):
        reader, given_back = read(in_pieces(first + last + end, piece_size))
        assert outcome(reader) == ("c-1", None, True)
        assert b"[DONE]" in given_back[-1]
        assert b"".join(given_back) == first + last + end


def test_blanks_before_done_are_released_above_the_limit_and_done_is_not() -> None:
    line = b"data:" + b" " * (MAX_EVENT + 5000) + b"[DONE]\n\n"
    reader, given_back = read(in_pieces(line, 1000))
    assert reader.finished
    assert b"".join(given_back) == line
    assert b"[DONE]" not in b"".join(given_back[:-1])
    assert len(given_back[-1]) <= end_detector.MAX_HELD


def test_the_memory_taken_by_an_event_is_bounded() -> None:
    reader = EndDetector(CHAT)
    tracemalloc.start()
    for _ in range(4 * MAX_EVENT // 100):
        reader.feed(b"data: " + b"x" * 94 + b"\n")
    for _ in range(4 * MAX_EVENT // 100):
        reader.feed(b" " * 100)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 2 * MAX_EVENT


def test_an_event_that_names_a_last_type_in_every_line_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []

    def loads(data: bytes) -> dict[str, str]:
        parsed.append(data)
        return {}

    monkeypatch.setattr("addons.bodies.sse_event.json.loads", loads)
    reader = EndDetector(RESPONSES)
    reader.feed(b'data: {"x":["response.completed",\n' + b'data: "response.completed",\n' * 1000)
    assert sum(map(len, parsed)) < 1000


@pytest.mark.parametrize(
    "event", [b'{"id":' * 100_000, b'{"id":"' + b"x" * 1000 + b'"}', b'{"id":"\\ud800"}', b'{"id":7}']
)
def test_end_detector_ignores_an_unusable_id(event: bytes) -> None:
    reader, _ = read([b"data: " + event + b"\n\n", DONE])
    assert outcome(reader) == (None, None, True)


RESPONSE_STREAM = (
    b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_1","status":"in_progress"}}\n\n'
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","item_id":"msg_1","delta":"hi"}\n\n'
    b'event: response.completed\ndata: {"type":"response.completed","response":{"id":"resp_1"}}\n\n'
)
MESSAGE_STREAM = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","content":[]}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"message_stop"}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)


def without_event_lines(stream: bytes) -> bytes:
    return b"".join(line for line in stream.splitlines(keepends=True) if not line.startswith(b"event:"))


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("change", [bytes, without_event_lines], ids=["typed", "typed in its data alone"])
@pytest.mark.parametrize("tail", [b"", b"data: [DONE]\n\n"], ids=["", "and done"])
@pytest.mark.parametrize(
    ("stream", "event_format", "chat_id"),
    [
        (RESPONSE_STREAM, RESPONSES, "resp_1"),
        (MESSAGE_STREAM, MESSAGES, "msg_1"),
        (RESPONSE_STREAM, ANY, "resp_1"),
        (MESSAGE_STREAM, ANY, "msg_1"),
    ],
    ids=["responses", "messages", "responses as any", "messages as any"],
)
@given(where=cuts)
def test_the_line_end_that_completes_a_typed_last_event_is_held_back(  # noqa: PLR0917
    stream: bytes, event_format: EventFormat, chat_id: str, tail: bytes, change: Any, line_end: bytes, where: list[int]
) -> None:
    stream = (change(stream) + tail).replace(b"\n", line_end)
    reader, given_back = read(cut(stream, where), event_format)
    assert b"".join(given_back) == stream
    assert (reader.id, reader.finished) == (chat_id, True)
    left_before = b"".join(given_back[:-1])
    told_by = stream.index(b"}" + line_end, stream.rindex(b"data: {")) + 1
    assert left_before == stream[:told_by]


@pytest.mark.parametrize("named", [b"message", b"response.output_text.delta", b"ping"])
@pytest.mark.parametrize("padding", [b"", LONG], ids=["short", "long"])
def test_end_detector_either_the_event_name_or_its_data_type_ends_the_stream(named: bytes, padding: bytes) -> None:
    last = b'event: %s\ndata: {"type":"response.completed","x":"%s"}' % (named, padding)
    reader, given_back = read([last + b"\n\n"], RESPONSES)
    assert reader.finished
    assert given_back == [last, b"\n\n"]
    last = b'event: message_stop\ndata: {"type":"%s"}' % named
    assert read([last + b"\n\n"], MESSAGES)[1] == [last, b"\n\n"]


@pytest.mark.parametrize("last", [b"response.incomplete", b"response.failed"])
def test_every_last_event_of_the_responses_api_ends_the_stream(last: bytes) -> None:
    reader, _ = read([RESPONSE_STREAM.replace(b"response.completed", last)], RESPONSES)
    assert reader.finished


@pytest.mark.parametrize(
    ("stream", "event_format"),
    [
        (RESPONSE_STREAM, MESSAGES),
        (MESSAGE_STREAM, RESPONSES),
        (MESSAGE_STREAM, CHAT),
        (RESPONSE_STREAM[:-60], RESPONSES),
        (b'event: error\ndata: {"type":"error","error":{"message":"message_stop"}}\n\n', MESSAGES),
        (b'data: {"x":{"type":"message_stop"}}\n\n', MESSAGES),
        (b"data: [DONE]\n\n", RESPONSES),
    ],
)
def test_the_last_event_of_another_format_does_not_end_the_stream(stream: bytes, event_format: EventFormat) -> None:
    reader, given_back = read([stream], event_format)
    assert not reader.finished
    assert given_back[0] == stream


def test_end_detector_oversized_last_event_ends_the_stream() -> None:
    last = b'event: response.completed\ndata: {"response":"' + b"x" * 2 * MAX_EVENT + b'"}\n\n'
    stream = RESPONSE_STREAM[:110] + b"\n\n" + last
    reader, given_back = read([stream[at : at + 65535] for at in range(0, len(stream), 65535)], RESPONSES)
    assert reader.finished
    assert given_back[-1] == b"\n\n"
    assert b"".join(given_back) == stream


@pytest.mark.parametrize(
    ("event", "chat_id"),
    [
        ({"id": "a", "response": {"id": "b"}}, "a"),
        ({"response": {"id": "b"}}, "b"),
        ({"id": 7, "message": {"id": "c"}}, "c"),
        ({"response": "b", "message": None}, None),
    ],
)
def test_any_format_takes_the_first_usable_id(event: dict[str, Any], chat_id: str | None) -> None:
    assert ANY.id_of(event) == chat_id


@pytest.mark.parametrize("split", [b"\n", b"\r\n", b"\r"])
def test_a_piece_that_ends_in_the_middle_of_an_event_does_not_pass_unread(split: bytes) -> None:
    """The rest of the event would be read without it, and its usage lost."""
    first, rest = b'data: {"choices":[],' + split, b'data: "usage":{"prompt_tokens":3}}' + 2 * split
    detector = EndDetector(CHAT)
    detector.feed(b'data: {"id":"chatcmpl-1"}' + 2 * split)
    whole = b'data: {"choices":[]}' + 2 * split
    assert detector.passing([first, rest]) == 0
    assert detector.passing([whole, first, rest]) == (0 if split == b"\r" else 1)
    assert detector.feed(first) + detector.feed(rest) == first + rest
    assert detector.usage == Usage(3, None)
    assert detector.passing([whole]) == (0 if split == b"\r" else 1)
