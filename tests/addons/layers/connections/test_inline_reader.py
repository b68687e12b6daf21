"""What the inline reader handles without mitmproxy's task; test_connection_reader.py tests what both readers do."""

import asyncio
import socket
from typing import Any

from addons.layers.connections.connection_reader import MAX_READ
from addons.layers.connections.inline_reader import InlineReader
from tests.addons.layers.connections.pair import Handler, InlineHandler, Pair


class FakeWriter:
    """A fast path that takes what begins with `fast`, up to the next blank."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def take(self, data: bytes) -> int:
        if not data.startswith(b"fast"):
            return 0
        taken = data.partition(b" ")[0]
        self.written.append(taken)
        return len(taken)


async def reading(pair: Pair) -> tuple[InlineReader, Any]:
    """A reader whose task waits, and its fast path."""
    assert isinstance(pair.reader, InlineReader)
    await pair.send(b"begin")
    await pair.received(lambda tested: tested.received == b"begin")
    writer: Any = FakeWriter()
    pair.reader.enable_fast_path(writer)
    while not pair.reader._task_waits:  # noqa: ASYNC110  # no event tells of it
        await asyncio.sleep(0)
    return pair.reader, writer


def test_inline_reader_passes_to_the_layers_only_what_the_fast_path_leaves() -> None:
    async def check() -> None:
        async with Pair(InlineHandler(), InlineReader) as pair:
            reader, writer = await reading(pair)
            for data in (b"fast1", b"fast2 slow1", b"slow2"):
                reader.data_received(data)
            assert writer.written == [b"fast1", b"fast2"]
            assert pair.handler.tested.received == b"begin slow1slow2"

    asyncio.run(check())


def test_inline_reader_handles_events_before_the_call_returns() -> None:
    async def check() -> None:
        async with Pair(InlineHandler(), InlineReader) as pair:
            reader, _ = await reading(pair)
            reader.data_received(b" now")
            assert pair.handler.tested.received == b"begin now"

    asyncio.run(check())


def test_inline_reader_under_mitmproxys_handler_leaves_the_rest_to_the_task() -> None:
    async def check() -> None:
        async with Pair(Handler(), InlineReader) as pair:
            reader, writer = await reading(pair)
            reader.data_received(b"fast1 later")
            assert writer.written == [b"fast1"]
            assert pair.handler.tested.received == b"begin"
            reader.data_received(b" fast2 waits for its turn")
            assert writer.written == [b"fast1"], "the task has something to read"
            await pair.received(lambda tested: tested.received == b"begin later fast2 waits for its turn")

    asyncio.run(check())


def test_inline_reader_while_paused_uses_neither_the_fast_path_nor_the_layers() -> None:
    async def check() -> None:
        async with Pair(InlineHandler(), InlineReader) as pair:
            reader, writer = await reading(pair)
            reader.pause_reading()
            reader.data_received(b"fast1")
            reader.data_received(b"slow1")
            assert (writer.written, pair.handler.tested.received) == ([], b"begin")
            reader.resume()
            await pair.received(lambda tested: tested.received == b"beginfast1slow1")

    asyncio.run(check())


def test_inline_reader_leaves_data_over_max_read_to_the_task() -> None:
    async def check() -> None:
        async with Pair(InlineHandler(), InlineReader) as pair:
            reader, writer = await reading(pair)
            reader.data_received(b"fast" + b"x" * MAX_READ)
            assert writer.written == []
            tested = await pair.received(lambda tested: len(tested.received) == 9 + MAX_READ)
            assert tested.pieces > 2

    asyncio.run(check())


def test_inline_reader_data_of_a_failed_connection_does_not_take_the_fast_path() -> None:
    async def check() -> None:
        async with Pair(InlineHandler(), InlineReader) as pair:
            reader, writer = await reading(pair)
            pair.peer.send(b"fast and last")
            pair.peer.shutdown(socket.SHUT_WR)
            reader.connection_lost(ConnectionResetError())
            await pair.received(lambda tested: tested.ended)
            assert pair.handler.tested.received == b"beginfast and last"
            assert writer.written == []

    asyncio.run(check())
