"""The readers between a connection and mitmproxy's task, on real sockets."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy.connection import ConnectionState, Server
from mitmproxy.proxy import events
from mitmproxy.proxy.server import ConnectionIO
from mitmproxy.proxy.server_hooks import ServerConnectionHookData
from mitmproxy.test import tflow

from addons.layers.connections.connection_reader import MAX_CLIENT_READ, MAX_READ, ConnectionReader
from addons.layers.connections.inline_reader import InlineReader
from addons.layers.connections.read_controller import ReadController
from addons.lifecycle.connection_handlers import ConnectionHandlers
from tests.addons.layers.connections.pair import Handler, InlineHandler, Pair
from tests.support.limits import limit


@pytest.fixture(
    params=[(Handler, ConnectionReader), (Handler, InlineReader), (InlineHandler, InlineReader)],
    ids=["mitmproxy's handler", "mitmproxy's handler, inline reader", "inline handler, inline reader"],
)
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[Pair], Awaitable[None]]], None]:
    """Runs a test with a connection, under each kind of handler and reader."""

    def run(test: Callable[[Pair], Coroutine[Any, Any, None]], **options: bool) -> None:
        async def main() -> None:
            handler, reader = request.param
            async with Pair(handler(), reader, **options) as pair:
                await test(pair)

        asyncio.run(main())

    return run  # type: ignore[return-value]


def test_connection_reader_delivers_all_data_in_order(run: Callable[..., None]) -> None:
    async def test(pair: Pair) -> None:
        sent = b""
        for number in range(60):
            piece = b"%d," % number * (1 if number % 7 else 50_000)
            sent += piece
            await pair.send(piece)
            if number % 3 == 0:
                await pair.received(lambda tested: len(tested.received) == len(sent))  # noqa: B023
        tested = await pair.received(lambda tested: len(tested.received) >= len(sent))
        assert tested.received == sent
        pair.peer.shutdown(socket.SHUT_WR)
        assert (await pair.received(lambda tested: tested.ended)).received == sent

    run(test)


@pytest.mark.parametrize("size", [1, 400_000], ids=["a byte", "more than is written at once"])
@pytest.mark.parametrize("answer", [b"early", b"e" * 50_000])
def test_connection_reader_delivers_received_data_before_a_write_failure(
    run: Callable[..., None], answer: bytes, size: int
) -> None:
    async def test(pair: Pair) -> None:
        await pair.send(b"begins ")
        await pair.received(lambda tested: tested.received == b"begins ")
        pair.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sent = pair.peer.send(answer)
        pair.peer.close()
        writer: Any = pair.handler.transports[pair.connection].writer
        for _ in range(3):
            writer.write(b"x" * size)
        # As after what comes of the client, whose body this is.
        await asyncio.wait_for(pair.handler.drain_writers(), limit())  # type: ignore[no-untyped-call]
        tested = await pair.received(lambda tested: tested.ended)
        assert tested.received == b"begins " + answer[:sent]
        assert pair.connection.state is ConnectionState.CLOSED or not pair.connection.state & ConnectionState.CAN_READ

    run(test)


def test_connection_reader_delivers_received_data_while_the_task_waits_to_write(run: Callable[..., None]) -> None:
    async def test(pair: Pair) -> None:
        writer: Any = pair.handler.transports[pair.connection].writer
        writer.write(b"x" * 8_000_000)  # more than fits into the sockets
        await pair.send(b"begins ")
        await pair.received(lambda tested: tested.received == b"begins ")
        pair.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        pair.peer.send(b"early")
        pair.peer.close()
        tested = await pair.received(lambda tested: tested.ended)
        assert tested.received == b"begins early"

    run(test)


@pytest.mark.parametrize("how", ["FIN", "RST", "data"])
def test_connection_reader_has_ended_is_true_before_the_loop_has_read_the_end(
    run: Callable[..., None], how: str
) -> None:
    async def test(pair: Pair) -> None:
        await pair.send(b"an answer")
        await pair.received(lambda tested: tested.received == b"an answer")
        assert not pair.reader.has_ended
        if how == "data":
            pair.peer.send(b"x")
        else:
            linger = struct.pack("ii", int(how == "RST"), 0)
            pair.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            pair.peer.close()
        assert pair.reader.has_ended
        await pair.received(lambda tested: tested.ended or tested.received.endswith(b"x"))
        assert pair.reader.has_ended is (how != "data")

    run(test)


def test_connection_reader_has_ended_is_true_while_data_is_unread(run: Callable[..., None]) -> None:
    async def test(pair: Pair) -> None:
        pair.reader.data_received(b"many " * MAX_READ)
        assert pair.reader.has_ended
        await pair.received(lambda tested: len(tested.received) == 5 * MAX_READ)
        assert not pair.reader.has_ended
        pair.reader.eof_received()
        assert pair.reader.has_ended

    run(test)


def test_connection_reader_close_ends_the_connection_for_the_layers(run: Callable[..., None]) -> None:
    async def test(pair: Pair) -> None:
        pair.reader.close()
        assert pair.reader.has_ended
        await pair.received(lambda tested: tested.ended)

    run(test)


def test_connection_reader_delivers_data_queued_for_the_task_first(run: Callable[..., None]) -> None:
    async def test(pair: Pair) -> None:
        await pair.send(b"one ")
        await pair.received(lambda tested: tested.received == b"one ")
        many = b"many " * MAX_READ
        pair.reader.data_received(many)
        pair.reader.data_received(b"last")
        tested = await pair.received(lambda tested: len(tested.received) == len(many) + 8)
        assert tested.received == b"one " + many + b"last"

    run(test)


def test_connection_reader_delivers_data_buffered_before_its_start_first(run: Callable[..., None]) -> None:
    async def test(pair: Pair) -> None:
        early = b"early" * 20_000
        await pair.send(early)
        pair.begin()
        await pair.send(b"late")
        tested = await pair.received(lambda tested: len(tested.received) == len(early) + 4)
        assert tested.received == early + b"late"

    run(test, start=False)


def test_connection_reader_delivers_an_eof_received_before_its_start(run: Callable[..., None]) -> None:
    async def test(pair: Pair) -> None:
        await pair.send(b"early")
        pair.peer.shutdown(socket.SHUT_WR)
        io = pair.handler.transports[pair.connection]
        assert io.reader is not None
        assert await io.reader.read(1) == b"e"
        pair.begin()
        assert (await pair.received(lambda tested: tested.ended)).received == b"arly"

    run(test, start=False)


def test_connection_reader_while_paused_holds_data_and_then_delivers_it_in_order(run: Callable[..., None]) -> None:
    async def test(pair: Pair) -> None:
        await pair.send(b"one ")
        await pair.received(lambda tested: tested.received == b"one ")
        pair.reader.pause_reading()
        await pair.send(b"two ")  # mitmproxy waits for this already
        await pair.received(lambda tested: tested.received == b"one two ")
        await pair.send(b"three ")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await pair.received(lambda tested: b"three" in tested.received)
        pair.reader.resume()
        await pair.send(b"four ")
        tested = await pair.received(lambda tested: len(tested.received) == 19)
        assert tested.received == b"one two three four "

    run(test)


def test_connection_reader_data_during_an_event_waits_and_stays_in_order(run: Callable[..., None]) -> None:
    async def test(pair: Pair) -> None:
        await pair.send(b"one ")
        await pair.received(lambda tested: tested.received == b"one ")
        handler = pair.handler
        async with handler._server_event_lock:  # an event is being handled
            waiting = asyncio.get_running_loop().create_task(
                handler.server_event(events.DataReceived(handler.client, b"two "))
            )
            await asyncio.sleep(0)  # another one waits for its turn
            await pair.send(b"three ")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await pair.received(lambda tested: b"three" in tested.received)
        await waiting
        await pair.send(b"four ")
        tested = await pair.received(lambda tested: len(tested.received) == 19)
        assert tested.received == b"one two three four "

    run(test)


def test_connection_reader_stops_reading_under_write_backpressure(run: Callable[..., None]) -> None:
    async def test(pair: Pair) -> None:
        async with Pair(pair.handler, start=False) as slow:
            pair.handler.tested.echo_to = slow.connection
            sent = 0
            piece = b"x" * (MAX_READ // 4)
            moves = True
            while moves and sent < 200_000_000:
                try:
                    async with asyncio.timeout(0.5):
                        await pair.send(piece)
                    sent += len(piece)
                except TimeoutError:
                    moves = False
            assert sent < 50_000_000, "what is in between is buffers of the kernel"
            received = pair.handler.tested.received
            assert len(received) - _taken_by(slow) < 2_000_000

            async def take_all() -> int:
                loop, taken = asyncio.get_running_loop(), 0
                while taken < sent:
                    taken += len(await loop.sock_recv(slow.peer, 1_000_000))
                return taken

            async with asyncio.timeout(limit()):
                assert await take_all() >= sent

    run(test)


def _taken_by(slow: Pair) -> int:
    """Bytes that have left this process for a peer that reads nothing."""
    writer = slow.handler.transports[slow.connection].writer
    assert isinstance(writer, asyncio.StreamWriter)
    return len(slow.handler.tested.received) - writer.transport.get_write_buffer_size()


def test_fast_path_is_not_enabled_for_a_client_that_disconnected_during_a_hook() -> None:
    async def check() -> None:
        client, server, handler = tflow.tclient_conn(), Server(address=("upstream", 9000)), Handler()
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        handler.transports[server] = ConnectionIO(reader=reader, writer=writer)
        reading = ReadController(ConnectionHandlers({client.id: handler}))
        reading.server_connected(ServerConnectionHookData(client=client, server=server))
        reading.enable_fast_path(SimpleNamespace(conn=server, fast_path=None), client)
        made = handler.transports[server].reader
        assert isinstance(made, InlineReader)
        assert made._fast_path_writer is None
        writer.close()
        theirs.close()

    asyncio.run(check())


def test_connection_reader_limits_each_client_read_so_that_others_get_a_turn() -> None:
    async def run() -> None:
        handler, client = Handler(), tflow.tclient_conn()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ordinary, writer = await asyncio.open_connection(*listener.getsockname())
        handler.transports[client] = ConnectionIO(reader=ordinary, writer=writer)
        reader = ConnectionReader(client, handler)
        reader.data_received(b"x" * 2 * MAX_CLIENT_READ)
        others: list[str] = []
        for had in (0, 1):
            asyncio.get_running_loop().call_soon(others.append, "had a turn")
            assert await reader.read(MAX_READ) == b"x" * MAX_CLIENT_READ
            assert len(others) == had + 1
        writer.close()

    asyncio.run(run())
