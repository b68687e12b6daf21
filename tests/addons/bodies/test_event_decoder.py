import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addons.bodies.event_decoder import MAX_LINE, EventDecoder
from addons.bodies.sse_event import MAX_EVENT
from addons.bodies.stream_formats import CHAT, MESSAGES
from addons.exchange.usage import Usage
from tests.support.cutting import cut, cuts

texts = st.lists(st.sampled_from([b"data: x", b"\r", b"\n", b"\r\n", b": c", b"event: e", b"\xef\xbb\xbf"])).map(
    b"".join
)


@given(texts, cuts)
def test_event_decoder_lines_are_the_same_for_every_split_and_line_ending(text: bytes, where: list[int]) -> None:
    decoder = EventDecoder(CHAT)
    found = []
    offset = 0
    for piece in cut(text, where):
        for line, start, end in decoder.lines(piece):
            decoder.read(line)
            found.append((line, offset + start, offset + end))
        offset += len(piece)
    expected = [
        (match.group(1).removeprefix(b"\xef\xbb\xbf") if match.start() == 0 else match.group(1), *match.span(1))
        for match in re.finditer(rb"([^\r\n]*)(?:\r\n|\r|\n)", text)
    ]
    assert found == expected
    unended = re.split(rb"[\r\n]", text)[-1]
    assert decoder.line_size == len(unended)
    assert decoder.line_so_far == (unended if expected else unended.removeprefix(b"\xef\xbb\xbf"))


def read(decoder: EventDecoder, text: bytes) -> list[bool]:
    return [decoder.read(line) for line, _, _ in decoder.lines(text)]


@pytest.mark.parametrize("begun", [b"d", b"data: {}\n", b"event: x\n", b"data: {}\r", b": " + b"x" * (MAX_EVENT + 1)])
def test_event_decoder_is_between_events_only_when_no_line_or_event_has_begun(begun: bytes) -> None:
    decoder = EventDecoder(CHAT)
    assert decoder.is_between_events
    read(decoder, begun)
    assert not decoder.is_between_events
    read(decoder, b"\n\n")
    assert decoder.is_between_events


def test_event_decoder_keeps_the_first_id_and_merges_usage_across_events() -> None:
    decoder = EventDecoder(CHAT)
    read(
        decoder, b'data: {"id":"a","usage":{"prompt_tokens":1}}\n\ndata: {"id":"b","usage":{"completion_tokens":2}}\n\n'
    )
    assert (decoder.id, decoder.usage) == ("a", Usage(1, 2))


def test_event_decoder_detects_the_last_event_at_the_line_completing_its_type_or_data() -> None:
    assert read(EventDecoder(MESSAGES), b"event: message_stop\ndata: {}\n\n")[:2] == [False, True]
    assert read(EventDecoder(MESSAGES), b'data: {"type":"message_stop"}\n\n')[:1] == [True]
    assert read(EventDecoder(MESSAGES), b"event: message_stop\n\n") == [False, True]
    assert read(EventDecoder(MESSAGES), b"event: message_stop\n: comment\n") == [False, False]


def test_event_decoder_drops_excess_whitespace_before_a_value_and_keeps_the_value() -> None:
    decoder = EventDecoder(CHAT)
    for _ in range(3):
        read(decoder, (b"" if decoder.line_size else b"data:") + b" " * MAX_LINE)
    read(decoder, b'{"id":"a"')
    assert decoder.line_size == len(b'data:{"id":"a"') + 3 * MAX_LINE
    assert len(decoder.line_so_far) <= len(b'data:{"id":"a"') + MAX_LINE
    read(decoder, b"}\n\n")
    assert decoder.id == "a"
