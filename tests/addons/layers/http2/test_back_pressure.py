from typing import Any
from unittest.mock import Mock

import pytest
from mitmproxy.connection import Connection
from mitmproxy.test import tflow

from addons.layers.connections.read_controller import ReadController
from addons.layers.http2.back_pressure import BackPressure
from addons.lifecycle.connection_handlers import ConnectionHandlers


class Reading(ReadController):
    """Notes which connections are not read from."""

    def __init__(self) -> None:
        super().__init__(ConnectionHandlers({}))
        self.paused: set[Connection] = set()

    def pause_reading(self, connection: Connection) -> None:
        self.paused.add(connection)

    def resume(self, connection: Connection) -> None:
        self.paused.discard(connection)


@pytest.fixture
def reading() -> Reading:
    return Reading()


@pytest.fixture
def streams() -> dict[int, Any]:
    return {1: Mock(flow=tflow.tflow(), _paused_event_queue=[]), 3: Mock(flow=tflow.tflow(), _paused_event_queue=[1])}


def test_only_the_upstream_of_the_stream_is_not_read_from_until_it_is_to_go_on(
    reading: Reading, streams: dict[int, Any]
) -> None:
    back_pressure = BackPressure(streams, reading)
    assert not back_pressure.is_on
    back_pressure.pause_reading(1)
    assert reading.paused == {streams[1].flow.server_conn}
    assert back_pressure.is_on
    back_pressure.resume(3)
    assert back_pressure.is_on
    back_pressure.resume(1)
    assert reading.paused == set()
    assert not back_pressure.is_on


def test_a_stream_that_has_ended_meanwhile_lets_its_upstream_go_on(reading: Reading, streams: dict[int, Any]) -> None:
    back_pressure = BackPressure(streams, reading)
    back_pressure.pause_reading(1)
    del streams[1]
    back_pressure.resume(1)
    assert reading.paused == set()
    back_pressure.pause_reading(1)
    assert not back_pressure.is_on


def test_a_stream_waits_while_something_is_in_its_queue(reading: Reading, streams: dict[int, Any]) -> None:
    back_pressure = BackPressure(streams, reading)
    assert [back_pressure.waits(number) for number in (1, 3, 5)] == [False, True, False]


def test_a_body_passes_where_it_streams_or_is_of_no_interest_any_more(
    reading: Reading, streams: dict[int, Any]
) -> None:
    back_pressure = BackPressure(streams, reading)
    stream = streams[1]
    for state, passes in (
        (stream.state_stream_request_body, True),
        (stream.state_errored, True),
        (stream.state_consume_request_body, False),
    ):
        stream.client_state = state
        assert back_pressure.passes(1) is passes
    assert back_pressure.passes(99)
