"""The states of a graceful end; tests/addons/layers/http2/test_server.py tests them on a connection."""

import pytest
from hyperframe.frame import Frame, GoAwayFrame, PingFrame

from addons.layers.http2.goaway import HIGHEST_STREAM, GracefulEnd, State


def frames(data: bytes) -> list[Frame]:
    parsed = []
    while data:
        frame, length = Frame.parse_frame_header(memoryview(data[:9]))
        frame.parse_body(memoryview(data[9 : 9 + length]))
        parsed.append(frame)
        data = data[9 + length :]
    return parsed


def test_graceful_end_first_goaway_follows_a_ping_and_refuses_no_stream() -> None:
    end = GracefulEnd()
    ping, goaway = frames(end.announce())
    assert isinstance(ping, PingFrame)
    assert isinstance(goaway, GoAwayFrame)
    assert (goaway.last_stream_id, goaway.error_code) == (HIGHEST_STREAM, 0)
    assert end.state is State.ANNOUNCED
    assert end.is_awaited_ack(ping.opaque_data)
    assert not end.is_awaited_ack(b"whatever")
    assert not end.refuses(HIGHEST_STREAM)


@pytest.mark.parametrize("last", [0, 1, 7])
def test_graceful_end_second_goaway_names_the_last_accepted_stream(last: int) -> None:
    end = GracefulEnd()
    [ping, _] = frames(end.announce())
    [goaway] = frames(end.conclude(last))
    assert isinstance(goaway, GoAwayFrame)
    assert (goaway.last_stream_id, goaway.error_code) == (last, 0)
    assert [end.refuses(stream_id) for stream_id in (last, last + 2)] == [False, True]
    assert isinstance(ping, PingFrame)
    assert not end.is_awaited_ack(ping.opaque_data), "once"


def test_graceful_end_client_goaway_concludes_it_and_the_last_stream_is_never_raised() -> None:
    end = GracefulEnd()
    end.client_goes(5)
    assert (end.state, end.last_stream_id) == (State.CONCLUDED, 5)
    end.client_goes(9)
    assert end.last_stream_id == 5
    assert not GracefulEnd().refuses(1)
