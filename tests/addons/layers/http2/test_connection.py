"""The send queues of an HTTP/2 connection with a client of hyper-h2. test_server.py tests the layer."""

import h2.config
import h2.events
import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from addons.layers.http2.connection import (
    CONNECTION_WINDOW,
    MAX_HEADER_TABLE,
    MAX_STREAMS,
    STREAM_WINDOW,
    QueueingConnection,
    SendQueue,
)
from addons.layers.http2.frame_budget import MAX_FRAME
from tests.addons.clock import Clock
from tests.support.patient_http2 import PatientConnection

REQUEST = [(":method", "GET"), (":scheme", "https"), (":authority", "proxy"), (":path", "/x")]
RESPONSE = [(":status", "200")]


class Pair:
    """Both sides of a connection; the client opens streams, and reads what it is sent."""

    def __init__(self, window: int = 65535) -> None:
        self.clock = Clock()
        self.server = QueueingConnection(h2.config.H2Configuration(client_side=False), self.clock)
        self.client = PatientConnection(h2.config.H2Configuration(client_side=True))
        self.server.initiate_connection()
        self.client.initiate_connection()
        self.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.events: list[h2.events.Event] = []
        self.exchange()

    def exchange(self) -> None:
        """Have each side take what the other one has sent, until neither has more."""
        while True:
            to_server, to_client = self.client.data_to_send(), self.server.data_to_send()
            if not to_server and not to_client:
                return
            if to_server:
                self.server.receive_data(to_server)
            if to_client:
                self.events += self.client.receive_data(to_client)

    def open(self, *, whole: bool = True) -> int:
        stream_id = self.client.get_next_available_stream_id()
        self.client.send_headers(stream_id, REQUEST, end_stream=whole)
        self.exchange()
        self.server.send_headers(stream_id, RESPONSE)
        self.exchange()
        return stream_id

    def received(self, stream_id: int) -> bytes:
        pieces = [one for one in self.events if isinstance(one, h2.events.DataReceived)]
        return b"".join(one.data or b"" for one in pieces if one.stream_id == stream_id)

    def read(self, size: int, stream_id: int) -> None:
        """Have the client read, and say so."""
        self.client.increment_flow_control_window(size, stream_id)
        self.client.increment_flow_control_window(size)
        self.exchange()


def test_a_queue_gives_out_what_was_put_in_in_order_and_in_any_pieces() -> None:
    clock = Clock()
    queue = SendQueue(clock())
    for piece in (b"abc", b"d", b"efgh"):
        queue.put(piece)
    assert queue.size == 8
    assert [queue.take(2, clock() + number) for number in range(5)] == [b"ab", b"c", b"d", b"ef", b"gh"]
    assert (queue.size, queue.moved_at) == (0, clock() + 4)


def test_the_client_is_told_the_limits_and_they_hold_at_once() -> None:
    pair = Pair()
    told = pair.client.remote_settings
    assert told.max_frame_size == MAX_FRAME
    assert told.initial_window_size == STREAM_WINDOW
    assert told.max_concurrent_streams == MAX_STREAMS
    assert pair.client.outbound_flow_control_window == CONNECTION_WINDOW


def test_what_a_client_has_no_window_for_waits_in_its_queue_and_goes_when_it_reads() -> None:
    pair = Pair(window=10)
    stream_id = pair.open()
    pair.server.send_data(stream_id, b"x" * 25)
    pair.server.end_stream(stream_id)
    pair.exchange()
    assert pair.received(stream_id) == b"x" * 10
    assert pair.server.waiting(stream_id) == 15
    pair.read(10, stream_id)
    assert pair.server.waiting(stream_id) == 5
    pair.read(10, stream_id)
    assert pair.received(stream_id) == b"x" * 25
    assert pair.server.waiting(stream_id) == 0
    assert any(isinstance(one, h2.events.StreamEnded) for one in pair.events)
    assert pair.server.queues == {}


def test_streams_whose_client_reads_nothing_are_known_by_the_time() -> None:
    pair = Pair(window=10)
    slow, done = pair.open(), pair.open()
    pair.server.send_data(slow, b"x" * 25)
    pair.server.send_data(done, b"x" * 10)
    pair.clock.now += 60
    assert pair.server.unread(59) == [slow]
    assert pair.server.unread(60) == []
    pair.exchange()
    pair.read(10, slow)
    assert pair.server.unread(59) == []


def test_a_window_that_a_client_makes_negative_ends_nothing() -> None:
    """RFC 9113, 6.9.2."""
    pair = Pair(window=100)
    stream_id = pair.open()
    pair.server.send_data(stream_id, b"x" * 100)
    pair.exchange()
    pair.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10})
    pair.exchange()
    pair.server.send_data(stream_id, b"y" * 5)
    pair.exchange()
    assert pair.server.waiting(stream_id) == 5
    pair.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 200})
    pair.exchange()
    assert pair.received(stream_id).endswith(b"y" * 5)


@pytest.mark.parametrize(("asked", "expected"), [(0, 0), (100, 100), (2**20, MAX_HEADER_TABLE)])
def test_the_encoders_table_is_no_larger_than_ours_whatever_the_client_allows(asked: int, expected: int) -> None:
    pair = Pair()
    pair.client.update_settings({SettingCodes.HEADER_TABLE_SIZE: asked})
    pair.exchange()
    assert pair.server.encoder.header_table_size == expected


def test_what_waits_for_a_stream_that_is_reset_is_forgotten() -> None:
    pair = Pair(window=10)
    by_client, by_server = pair.open(), pair.open()
    for stream_id in (by_client, by_server):
        pair.server.send_data(stream_id, b"x" * 25)
    pair.exchange()
    pair.client.reset_stream(by_client)
    pair.exchange()
    pair.server.reset_stream(by_server)
    assert pair.server.queues == {}
    pair.server.send_data(by_client, b"late")
    assert pair.server.queues == {}


def test_a_client_that_was_answered_before_the_end_of_its_request_is_told_not_to_go_on() -> None:
    pair = Pair()
    stream_id = pair.open(whole=False)
    pair.server.send_data(stream_id, b"no", end_stream=True)
    pair.exchange()
    [reset] = [one for one in pair.events if isinstance(one, h2.events.StreamReset)]
    assert (reset.stream_id, reset.error_code) == (stream_id, ErrorCodes.NO_ERROR)
    assert pair.received(stream_id) == b"no"


def test_a_clients_goaway_ends_no_stream() -> None:
    pair = Pair()
    stream_id = pair.open()
    pair.client.close_connection()
    pair.server.receive_data(pair.client.data_to_send())
    pair.server.send_data(stream_id, b"still", end_stream=True)
    assert pair.server.waiting(stream_id) == 0
    assert b"still" in pair.server.data_to_send()
