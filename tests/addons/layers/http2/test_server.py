"""The layer with a client of hyper-h2, without streams behind it: only tests advance the clock."""

import json

import h2.config
import h2.events
import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame, PingFrame
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http._base import HttpEvent, ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    RequestData,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
)
from mitmproxy.test import taddons, tflow

from addons.access.body_pace import BodyTimes
from addons.layers.connections.read_controller import ReadController
from addons.layers.http2.back_pressure import BackPressure
from addons.layers.http2.connection import MAX_HEADER_TABLE, STREAM_WINDOW, QueueingConnection
from addons.layers.http2.flow_control import PAUSE_AT
from addons.layers.http2.frame_budget import RESET_BURST
from addons.layers.http2.goaway import HIGHEST_STREAM, PING_TIMEOUT
from addons.layers.http2.graceful_server import GoingAway
from addons.layers.http2.server import SWEEP, ApiHttp2Server, StreamsWentOn
from addons.layers.http2.streams import MAX_HELD, Http2Timeouts
from addons.lifecycle.connection_handlers import ConnectionHandlers
from tests.addons.clock import Clock
from tests.addons.conftest import head
from tests.support.patient_http2 import PatientConnection

HEADERS = [(":method", "POST"), (":scheme", "https"), (":authority", "proxy"), (":path", "/x")]
TIMEOUTS = Http2Timeouts(upstream=100, idle=20, body=BodyTimes(pause=10, rate=0.1), reading=50)


class Upstreams(BackPressure):
    """Fake upstreams that record what the layer pauses and resumes."""

    def __init__(self) -> None:
        super().__init__({}, ReadController(ConnectionHandlers({})))
        self.paused: set[int] = set()
        self.waiting: set[int] = set()

    def pause_reading(self, stream_id: int) -> None:
        self.paused.add(stream_id)

    def resume(self, stream_id: int) -> None:
        self.paused.discard(stream_id)

    def waits(self, stream_id: int) -> bool:
        return stream_id in self.waiting

    def passes(self, stream_id: int) -> bool:
        return stream_id == 99


class Connection:
    """A client and the layer.

    Attributes:
        received: What the layer has told the streams.
        seen: What the client has seen.
        logged: What the layer has had logged.
        closed: Whether it has closed the connection.
    """

    def __init__(self, clock: Clock, window: int | None = None) -> None:
        self.upstreams = Upstreams()
        with taddons.context(Proxyserver()) as made:
            context = Context(tflow.tclient_conn(), made.options)
        self.retiring = False
        self.layer = ApiHttp2Server(
            context,
            self.upstreams,
            TIMEOUTS,
            lambda _, answer: answer.headers.update(x="y"),
            clock,
            retiring=lambda: self.retiring,
        )
        self.client = PatientConnection(
            h2.config.H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
        )
        if window is not None:
            self.client.local_settings.initial_window_size = window
            self.client.local_settings.acknowledge()
        self.client.initiate_connection()
        self.received: list[HttpEvent] = []
        self.seen: list[h2.events.Event] = []
        self.logged: list[str] = []
        self.closed = False
        self._wakeups: dict[float, commands.RequestWakeup] = {}
        self.tell(events.Start())
        self.flush()

    def tell(self, event: events.Event) -> None:
        """Have something happen to the layer."""
        for command in self.layer.handle_event(event):
            if isinstance(command, ReceiveHttp):
                self.received.append(command.event)
            elif isinstance(command, commands.SendData):
                self.seen += self.client.receive_data(command.data)
            elif isinstance(command, commands.RequestWakeup):
                self._wakeups[command.delay] = command
            elif isinstance(command, commands.CloseConnection):
                self.closed = True
            elif isinstance(command, commands.Log):
                self.logged.append(command.message)

    def flush(self) -> None:
        """Hand on what the client sends."""
        while data := self.client.data_to_send(65_535):
            self.tell(events.DataReceived(self.layer.conn, data))

    def begin(self) -> int:
        stream_id = self.client.get_next_available_stream_id()
        self.client.send_headers(stream_id, HEADERS)
        self.flush()
        return stream_id

    def send(self, stream_id: int, size: int) -> None:
        while size and stream_id in self.client.streams and not self.client.streams[stream_id].closed:
            piece = min(size, 16_384, self.client.local_flow_control_window(stream_id))
            self.client.send_data(stream_id, b" " * piece)
            self.flush()
            size -= piece

    def answer(self, stream_id: int, size: int, *, end: bool = True, **headers: str) -> None:
        self.tell(ResponseHeaders(stream_id, head(200, "application/json", **headers)))
        self.tell(ResponseData(stream_id, b"x" * size))
        if end:
            self.tell(ResponseEndOfMessage(stream_id))

    def sweep(self) -> None:
        self.tell(events.Wakeup(self._wakeups.pop(SWEEP)))

    def go_away(self) -> None:
        """Retire the connection; the client's replies are not sent yet."""
        self.retiring = True
        self.tell(GoingAway())

    def lose_patience(self) -> None:
        """Let the client's time for an answer to the PING pass."""
        self.tell(events.Wakeup(self._wakeups.pop(PING_TIMEOUT)))

    def goaways(self) -> list[tuple[int, int]]:
        """Code and last stream of each GOAWAY that the client has seen."""
        seen = (event for event in self.seen if isinstance(event, h2.events.ConnectionTerminated))
        return [(int(event.error_code or 0), event.last_stream_id or 0) for event in seen]

    def refused(self) -> set[int]:
        """The streams that were reset with REFUSED_STREAM."""
        resets = (event for event in self.seen if isinstance(event, h2.events.StreamReset))
        return {event.stream_id for event in resets if event.error_code == ErrorCodes.REFUSED_STREAM}

    def last[T](self, kind: type[T]) -> T:
        return next(event for event in reversed([*self.seen, *self.received]) if isinstance(event, kind))


@pytest.fixture
def connection(clock: Clock) -> Connection:
    return Connection(clock)


def test_http2_server_closes_an_idle_connection_with_goaway_no_error(connection: Connection, clock: Clock) -> None:
    stream_id = connection.begin()
    clock.now += 9
    connection.sweep()
    connection.client.end_stream(stream_id)
    connection.answer(stream_id, 10)
    clock.now += 19
    connection.sweep()
    assert not connection.closed
    clock.now += 2
    connection.sweep()
    assert connection.closed
    assert connection.last(h2.events.ConnectionTerminated).error_code == ErrorCodes.NO_ERROR


def test_http2_server_pings_do_not_keep_an_idle_connection_open(connection: Connection, clock: Clock) -> None:
    for _ in range(30):
        clock.now += 1
        connection.client.ping(b"whatever")
        connection.flush()
    connection.sweep()
    assert connection.closed


def test_http2_server_stalled_body_gets_408_and_only_its_stream_ends(connection: Connection, clock: Clock) -> None:
    silent, busy = connection.begin(), connection.begin()
    clock.now += 11
    connection.send(busy, 1)
    connection.sweep()
    answer = connection.last(h2.events.ResponseReceived)
    assert answer.stream_id == silent
    assert (b":status", b"408") in answer.headers
    assert connection.last(RequestProtocolError).stream_id == silent
    assert not connection.closed


def test_http2_server_resets_a_stream_whose_response_is_not_read(clock: Clock) -> None:
    connection = Connection(clock, window=10)
    stream_id = connection.begin()
    connection.client.end_stream(stream_id)
    connection.flush()
    connection.answer(stream_id, PAUSE_AT + 20, end=False)
    assert connection.upstreams.paused == {stream_id}
    for _ in range(3):  # as long as it reads, however little
        clock.now += 49
        connection.client.increment_flow_control_window(1, stream_id)
        connection.flush()
        connection.sweep()
        assert connection.layer.h2_conn.queues
    clock.now += 51
    connection.sweep()
    assert not connection.layer.h2_conn.queues
    assert connection.last(h2.events.StreamReset).error_code == ErrorCodes.CANCEL
    assert connection.last(RequestProtocolError).stream_id == stream_id
    assert connection.upstreams.paused == set()


def test_http2_server_pauses_an_upstream_until_the_client_has_read(clock: Clock) -> None:
    connection = Connection(clock, window=10)
    stream_id = connection.begin()
    connection.answer(stream_id, PAUSE_AT, end=False)
    assert connection.upstreams.paused == set()
    connection.tell(ResponseData(stream_id, b"x" * 20))
    assert connection.upstreams.paused == {stream_id}
    connection.client.increment_flow_control_window(2 * PAUSE_AT, stream_id)
    connection.client.increment_flow_control_window(2 * PAUSE_AT)
    connection.flush()
    assert connection.upstreams.paused == set()
    assert (
        sum(len(event.data) for event in connection.seen if isinstance(event, h2.events.DataReceived)) == PAUSE_AT + 20
    )


@pytest.mark.parametrize("how", ["end", "reset", "close"])
def test_http2_server_resumes_a_paused_upstream_when_its_stream_ends(clock: Clock, how: str) -> None:
    connection = Connection(clock, window=10)
    stream_id = connection.begin()
    connection.answer(stream_id, 2 * PAUSE_AT, end=False)
    assert connection.upstreams.paused == {stream_id}
    if how == "end":
        connection.tell(ResponseEndOfMessage(stream_id))
    elif how == "reset":
        connection.client.reset_stream(stream_id)
        connection.flush()
    else:
        connection.tell(events.ConnectionClosed(connection.layer.conn))
    assert connection.upstreams.paused == set()


def test_http2_server_buffered_request_bytes_over_the_limit_get_429(connection: Connection) -> None:
    streams = [connection.begin() for _ in range(3)]
    for stream_id in streams[:2]:
        connection.send(stream_id, MAX_HELD // 2)
    connection.send(streams[2], 100_000)
    answer = connection.last(h2.events.ResponseReceived)
    assert (answer.stream_id, dict(answer.headers or ())[b":status"]) == (streams[2], b"429")
    assert dict(answer.headers or ())[b"retry-after"]
    assert dict(answer.headers or ())[b"x"] == b"y", "what all answers carry"
    data = [event.data or b"" for event in connection.seen if isinstance(event, h2.events.DataReceived)]
    assert json.loads(b"".join(data))["error"]["type"] == "rate_limited"
    assert connection.last(RequestProtocolError).stream_id == streams[2]
    connection.answer(streams[0], 1)
    connection.send(connection.begin(), MAX_HELD // 4)
    assert connection.last(RequestData).stream_id not in streams


def test_http2_server_flow_control_blocks_only_the_stream_whose_body_is_not_consumed(connection: Connection) -> None:
    stalled, other = connection.begin(), connection.begin()
    connection.upstreams.waiting = {stalled}
    connection.send(stalled, STREAM_WINDOW)
    assert connection.client.local_flow_control_window(stalled) == 0
    connection.send(other, 3 * STREAM_WINDOW)
    assert connection.layer.has_pending_writes
    connection.upstreams.waiting.clear()
    connection.tell(StreamsWentOn())
    assert not connection.layer.has_pending_writes
    assert connection.client.local_flow_control_window(stalled) == STREAM_WINDOW


def test_http2_server_header_table_is_limited_to_its_maximum_size(connection: Connection) -> None:
    connection.client.update_settings({SettingCodes.HEADER_TABLE_SIZE: 2**20})
    connection.flush()
    for number in range(50):
        stream_id = connection.begin()
        connection.client.end_stream(stream_id)
        connection.answer(stream_id, 1, x=f"{number}" * 500)
    assert connection.layer.h2_conn.encoder.header_table_size == MAX_HEADER_TABLE


def test_http2_server_keeps_no_state_of_finished_streams(connection: Connection) -> None:
    for _ in range(QueueingConnection.MAX_CLOSED_STREAMS + 50):
        stream_id = connection.begin()
        connection.client.end_stream(stream_id)
        connection.answer(stream_id, 1)
        connection.seen.clear()
    assert not connection.layer.streams
    assert not connection.layer.h2_conn.queues
    assert len(connection.layer.h2_conn.streams) < 5
    assert len(connection.layer.h2_conn._closed_streams) <= QueueingConnection.MAX_CLOSED_STREAMS


@pytest.mark.parametrize(
    "field", [("x", "s3cret\n"), ("X-S3cret", "1"), ("x", " s3cret"), ("x", "s3cret\x07"), (":s3cret", "1")]
)
def test_http2_server_errors_do_not_quote_invalid_headers(connection: Connection, field: tuple[str, str]) -> None:
    connection.client.send_headers(1, [*HEADERS, field])
    connection.flush()
    assert connection.logged
    assert "s3cret" not in "".join(connection.logged).lower()
    assert not [event for event in connection.received if isinstance(event, RequestHeaders)]
    for event in connection.seen:
        if isinstance(event, h2.events.ConnectionTerminated):
            assert not event.additional_data


GRACEFUL = (0, HIGHEST_STREAM)
"""The first GOAWAY: it refuses nothing."""


def begun(connection: Connection) -> list[int]:
    """The streams whose requests were taken."""
    return [event.stream_id for event in connection.received if isinstance(event, RequestHeaders)]


def test_http2_server_accepts_requests_after_the_first_goaway_and_not_after_the_second(
    connection: Connection,
) -> None:
    early = connection.begin()
    connection.go_away()
    acknowledgement = connection.client.data_to_send()
    crossing = connection.begin()
    assert begun(connection) == [early, crossing]
    connection.tell(events.DataReceived(connection.layer.conn, acknowledgement))
    assert connection.goaways() == [GRACEFUL, (0, crossing)]
    late = connection.begin()
    assert begun(connection) == [early, crossing]
    assert connection.refused() == {late}
    assert not connection.closed
    for stream_id in (early, crossing):
        connection.client.end_stream(stream_id)
        connection.flush()
        connection.answer(stream_id, 10)
    assert connection.closed
    assert connection.last(h2.events.StreamEnded).stream_id == crossing
    assert connection.goaways() == [GRACEFUL, (0, crossing)]


def test_http2_server_sends_the_second_goaway_after_a_timeout_without_a_ping_ack(connection: Connection) -> None:
    early = connection.begin()
    connection.go_away()
    connection.client.clear_outbound_data_buffer()
    connection.lose_patience()
    assert connection.goaways() == [GRACEFUL, (0, early)]
    late = connection.begin()
    assert connection.refused() == {late}


def test_http2_server_ignores_a_ping_ack_with_other_data(connection: Connection) -> None:
    connection.begin()
    connection.go_away()
    connection.client.clear_outbound_data_buffer()
    other = PingFrame(0, opaque_data=b"whatever", flags=["ACK"])
    connection.tell(events.DataReceived(connection.layer.conn, other.serialize()))
    assert connection.goaways() == [GRACEFUL]


def test_http2_server_disconnects_a_client_that_keeps_opening_streams_after_goaway(connection: Connection) -> None:
    early = connection.begin()
    connection.go_away()
    connection.flush()
    while not connection.closed:
        late = connection.begin()
        assert late < 2 * (RESET_BURST + 10)
    assert begun(connection) == [early]
    assert connection.goaways() == [GRACEFUL, (0, early), (ErrorCodes.ENHANCE_YOUR_CALM, early)], "never a higher one"


def test_http2_server_discards_the_body_of_a_refused_request(connection: Connection) -> None:
    early = connection.begin()
    connection.go_away()
    connection.flush()
    late = connection.begin()
    connection.send(late, 100)
    connection.client.reset_stream(early)
    connection.flush()
    assert not [event for event in connection.received if isinstance(event, RequestData)]
    assert connection.closed


def test_http2_server_graceful_end_closes_an_idle_connection_on_the_ping_ack(connection: Connection) -> None:
    connection.go_away()
    assert not connection.closed
    connection.flush()
    assert connection.goaways() == [GRACEFUL, (0, 0)]
    assert connection.closed


def test_http2_server_graceful_end_closes_an_idle_connection_after_a_ping_timeout(connection: Connection) -> None:
    connection.go_away()
    connection.lose_patience()
    assert connection.closed


@pytest.mark.parametrize("announced", [False, True])
def test_http2_server_client_goaway_completes_open_streams_and_then_closes(
    connection: Connection, announced: bool
) -> None:
    stream_id = connection.begin()
    connection.client.end_stream(stream_id)
    connection.flush()
    connection.answer(stream_id, 10, end=False)
    if announced:
        connection.go_away()
    connection.tell(events.DataReceived(connection.layer.conn, GoAwayFrame(0, last_stream_id=0).serialize()))
    assert not connection.closed
    connection.tell(ResponseData(stream_id, b"y" * 10))
    connection.tell(ResponseEndOfMessage(stream_id))
    assert connection.last(h2.events.StreamEnded).stream_id == stream_id
    assert connection.closed


def test_http2_server_client_goaway_on_an_idle_connection_closes_it(connection: Connection) -> None:
    connection.tell(events.DataReceived(connection.layer.conn, GoAwayFrame(0, last_stream_id=0).serialize()))
    assert connection.closed


def test_http2_server_client_goaway_with_an_error_closes_and_fails_open_streams(connection: Connection) -> None:
    stream_id = connection.begin()
    error = GoAwayFrame(0, last_stream_id=0, error_code=ErrorCodes.INTERNAL_ERROR)
    connection.tell(events.DataReceived(connection.layer.conn, error.serialize()))
    assert connection.closed
    assert connection.last(RequestProtocolError).stream_id == stream_id


def test_http2_server_closed_connection_ignores_a_graceful_end(connection: Connection) -> None:
    connection.tell(events.ConnectionClosed(connection.layer.conn))
    assert connection.closed
    connection.go_away()
    assert connection.goaways() == []


def test_http2_server_sweep_begins_the_graceful_end_of_a_retiring_connection_once(connection: Connection) -> None:
    connection.sweep()
    assert connection.goaways() == []
    connection.retiring = True
    connection.sweep()
    assert connection.goaways() == [GRACEFUL]
    connection.tell(GoingAway())
    assert connection.goaways() == [GRACEFUL], "once"
