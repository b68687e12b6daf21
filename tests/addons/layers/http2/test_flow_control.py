"""Windows that are opened again, and upstreams that are paused, for each stream; test_server.py tests the frames."""

import pytest
from mitmproxy import http
from mitmproxy.proxy import commands

from addons.layers.http2.back_pressure import BackPressure
from addons.layers.http2.flow_control import PAUSE_AT, RESUME_AT, FlowControlledHttp2Server
from addons.layers.http2.streams import Http2Stream, Http2Timeouts
from tests.addons.clock import Clock
from tests.addons.wire import make_context, no_reading


class Upstreams(BackPressure):
    """The backpressure of the streams: which are paused, and which have queued events."""

    def __init__(self) -> None:
        super().__init__({}, no_reading())
        self.paused: list[int] = []
        self.resumed: list[int] = []
        self.waiting: set[int] = set()

    def pause_reading(self, stream_id: int) -> None:
        self.paused.append(stream_id)

    def resume(self, stream_id: int) -> None:
        self.resumed.append(stream_id)

    def waits(self, stream_id: int) -> bool:
        return stream_id in self.waiting


class FakeH2:
    """hyper-h2's connection: what waits for the client, and which windows were opened."""

    def __init__(self) -> None:
        self.queues: dict[int, object] = {}
        self.to_read: dict[int, int] = {}
        self.opened: list[tuple[int, int]] = []

    def waiting(self, stream_id: int) -> int:
        return self.to_read.get(stream_id, 0)

    def acknowledge_received_data(self, size: int, stream_id: int) -> None:
        self.opened.append((stream_id, size))

    def data_to_send(self) -> bytes:
        return b"frames"


class Server(FlowControlledHttp2Server):
    """A connection with two requests under way."""

    def __init__(self) -> None:
        self.upstreams = Upstreams()
        super().__init__(make_context(b"h2"), self.upstreams, Http2Timeouts(30), Clock(), lambda: False)
        self.h2 = FakeH2()
        self.h2_conn = self.h2  # type: ignore[assignment]
        for stream_id in (1, 3):
            self._streams.begin(stream_id, http.Request.make("POST", "http://x/"))

    def stream(self, stream_id: int) -> Http2Stream:
        found = self._streams.get(stream_id)
        assert found is not None
        return found

    def halt_both(self) -> None:
        for stream_id in (1, 3):
            self.h2.to_read[stream_id] = PAUSE_AT + 1
            self.pause(stream_id, self.stream(stream_id))


@pytest.fixture
def server() -> Server:
    return Server()


def test_a_window_is_opened_by_all_that_came_when_the_stream_has_taken_it(server: Server) -> None:
    assert not server.has_pending_writes
    for stream_id, size in ((1, 10), (3, 20), (1, 5)):
        server.owe_window(stream_id, size)
    server.upstreams.waiting.add(3)
    [sent] = server.acknowledge()
    assert isinstance(sent, commands.SendData)
    assert server.h2.opened == [(1, 15)]
    assert server.has_pending_writes, "stream 3 has still to take what came"
    server.upstreams.waiting.clear()
    list(server.acknowledge())
    assert server.h2.opened == [(1, 15), (3, 20)]
    assert not server.has_pending_writes


def test_only_the_upstream_goes_on_whose_response_the_client_has_read(server: Server) -> None:
    server.halt_both()
    assert server.upstreams.paused == [1, 3]
    server.h2.to_read[1] = RESUME_AT
    server.resume_upstreams()
    assert server.upstreams.resumed == []
    server.h2.to_read[1] = RESUME_AT - 1
    server.resume_upstreams()
    assert server.upstreams.resumed == [1]
    assert not server.stream(1).paused
    assert server.stream(3).paused
    server.resume_upstreams()
    assert server.upstreams.resumed == [1], "once"


def test_the_upstream_of_a_stream_that_ends_is_halted_no_longer(server: Server) -> None:
    server.halt_both()
    assert server.end_stream(3)
    assert server.upstreams.resumed == [3]
    assert not server.end_stream(3), "it has ended already"
    assert server.upstreams.resumed == [3]


def test_a_connection_is_at_rest_when_no_stream_is_open_and_nothing_waits(server: Server) -> None:
    server.h2.queues[1] = object()
    for stream_id in (1, 3):
        assert not server.is_at_rest()
        server.end_stream(stream_id)
    assert not server.is_at_rest()
    server.h2.queues.clear()
    assert server.is_at_rest()
