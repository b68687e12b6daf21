import pytest
from hypothesis import given

from addons.bodies.labelled_json import LabelledJsonReader
from addons.bodies.stream_formats import CHAT
from tests.support.cutting import cut, cuts

EVENTS = b'\n: hi\n\ndata: {"id":"c-1"}\n\ndata: {"usage":{"prompt_tokens":1}}\n\n'


def read(pieces: list[bytes]) -> tuple[LabelledJsonReader, list[bytes]]:
    reader = LabelledJsonReader(CHAT)
    given_back = [reader.feed(piece) for piece in pieces]
    return reader, [*given_back, reader.end()]


@given(where=cuts)
def test_labelled_json_reads_an_event_stream_labelled_as_json_as_events(where: list[int]) -> None:
    done = b"data: [DONE]\n\n"
    reader, given_back = read(cut(EVENTS + done, where))
    assert (reader.id, reader.finished) == ("c-1", True)
    assert reader.usage is not None
    assert b"".join(given_back[:-1]) == EVENTS
    assert given_back[-1] == done


def test_events_labelled_json_are_released_as_they_come() -> None:
    pieces = [b'data: {"id":"c-1"}\n\n', b"data: {}\n\n", b"data: {}\n\n"]
    _, given_back = read(pieces)
    assert given_back == [*pieces, b""]


@pytest.mark.parametrize("space", [b"", b"\n", b" \r\n"])
def test_json_labelled_json_is_read_as_json_and_white_space_before_it_is_released_at_once(space: bytes) -> None:
    pieces = [*([space] if space else []), b'{"id":"c-1","x":[]', b"}\n"]
    reader, given_back = read(pieces)
    assert reader.id == "c-1"
    assert given_back == [*pieces[:-1], b"", b"}\n"]
