import pytest
from mitmproxy.test import tutils

from addons.access.body_pace import BodyTimes
from addons.layers.http2.streams import MAX_HELD, Http2Stream, Http2Timeouts, StreamTable
from tests.addons.clock import Clock

TIMEOUTS = Http2Timeouts(upstream=100, idle=20, body=BodyTimes(pause=10, rate=0.1, whole=1000), reading=50)


@pytest.fixture
def streams(clock: Clock) -> StreamTable:
    return StreamTable(TIMEOUTS, clock)


def begun(streams: StreamTable, stream_id: int = 1) -> Http2Stream:
    streams.begin(stream_id, tutils.treq())
    stream = streams.get(stream_id)
    assert stream is not None
    return stream


def test_stream_table_request_body_without_progress_is_overdue(streams: StreamTable, clock: Clock) -> None:
    stream = begun(streams)
    for _ in range(5):
        clock.now += 9
        assert streams.overdue() == []
        streams.body_came(stream, 1)
    clock.now += 11
    assert streams.overdue() == [1]
    stream.receiving = False
    assert streams.overdue() == []


def test_stream_table_response_without_progress_is_overdue_unless_paused(streams: StreamTable, clock: Clock) -> None:
    stream = begun(streams)
    stream.receiving = False
    clock.now += 1000
    assert streams.overdue() == []
    streams.response_came(stream)
    clock.now += 99
    assert streams.overdue() == []
    clock.now += 2
    assert streams.overdue() == [1]
    stream.paused = True
    assert streams.overdue() == []


def test_stream_table_is_idle_only_without_streams_and_after_the_timeout(streams: StreamTable, clock: Clock) -> None:
    clock.now += 19
    assert not streams.is_idle()
    begun(streams)
    clock.now += 1000
    assert not streams.is_idle()
    streams.end(1)
    assert not streams.is_idle()
    clock.now += 21
    assert streams.is_idle()


def test_stream_table_hold_limits_buffered_bytes_except_for_a_single_stream(streams: StreamTable) -> None:
    one, another = begun(streams, 1), begun(streams, 3)
    assert streams.hold(one, MAX_HELD + 1)
    assert not streams.hold(another, 1)
    streams.response_came(one)
    assert streams.hold(another, 1)
    streams.end(3)
    assert streams.hold(begun(streams, 5), MAX_HELD)
