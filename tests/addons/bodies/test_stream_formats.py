"""A format whose ids and types have other names than those of the table, with all else that reads events."""

import json

import pytest

from addons.bodies.end_detector import EndDetector
from addons.bodies.sse_event import MAX_EVENT
from addons.bodies.stream_formats import EventFormat

KINDS = EventFormat((("stream_id",),), type_path=("kind",), last_events=frozenset({b"final"}))


def event(**members: str) -> bytes:
    return b"data: " + json.dumps(members).encode() + b"\n\n"


@pytest.mark.parametrize("text", ["short", "x" * MAX_EVENT])
def test_event_format_reads_ids_and_types_where_its_paths_say(text: str) -> None:
    reader = EndDetector(KINDS)
    began = event(text=text, stream_id="of-the-stream", id="another")
    assert reader.feed(began) == began
    assert reader.id == "of-the-stream"
    assert not reader.finished
    final = event(kind="final", text=text)
    assert reader.feed(final) + reader.end() == final
    assert reader.finished


def test_event_format_with_its_own_type_path_is_not_ended_by_the_member_type() -> None:
    reader = EndDetector(KINDS)
    reader.feed(event(type="final"))
    assert not reader.finished
