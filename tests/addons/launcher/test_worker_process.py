"""A worker's process in its supervisor: when it counts as ready, and calls after it has ended."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr

from addons.launcher import worker_process
from addons.launcher.worker_ipc import Ready, Retire
from addons.launcher.worker_process import Worker


@asynccontextmanager
async def started(program: str = "import sys; sys.stdin.read()") -> AsyncIterator[tuple[Worker, socket.socket]]:
    """A worker's process, and the worker's end of the channel."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-ISc", program, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    with ours, theirs:
        worker = Worker(process, ours, 1)
        try:
            yield worker, theirs
        finally:
            worker.send_signal(signal.SIGKILL)
            await worker.ended()


def test_worker_process_is_ready_and_serves_after_the_ready_packet() -> None:
    async def main() -> None:
        async with started() as (worker, channel):
            assert worker.served() == 0
            channel.send(Ready(("0xaddress", "key")).packet())
            assert await worker.ready()
            assert worker.addresses == ("0xaddress", "key")
            assert worker.served() > 0

    asyncio.run(main())


@pytest.mark.parametrize("packet", [b"", b"ready", b"[]", b"{}", b'{"addresses": 1}'])
def test_worker_process_that_sends_another_packet_is_never_ready(packet: bytes) -> None:
    async def main() -> None:
        async with started() as (worker, channel):
            if packet:
                channel.send(packet)
            else:
                channel.close()
            assert not await worker.ready()
            assert worker.served() == 0

    asyncio.run(main())


def test_worker_process_that_sends_nothing_in_time_raises_timeout_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "READY_TIMEOUT", 0.01)

    async def main() -> None:
        async with started() as (worker, _):
            with pytest.raises(TimeoutError):
                await worker.ready()

    asyncio.run(main())


def test_worker_process_that_has_ended_ignores_messages_and_signals() -> None:
    async def main() -> None:
        async with started("") as (worker, channel):
            channel.close()
            assert await worker.ended() == 0
            worker.retire(Retire(SecretStr("t")))
            worker.send_signal(signal.SIGTERM)
            assert worker.told_to_stop

    asyncio.run(main())


def test_worker_process_killed_by_a_signal_has_a_negative_status_and_a_closed_channel() -> None:
    async def main() -> None:
        async with started() as (worker, channel):
            assert not worker.told_to_stop
            worker.send_signal(signal.SIGKILL)
            assert await worker.ended() == -signal.SIGKILL
            assert channel.recv(1) == b""

    asyncio.run(main())
