"""What `scripts/bench` measures, one figure at a time.

CPU is that of the proxy's process and all its children: it holds on a noisy machine, where times do not.
"""

import asyncio
import contextlib
import hashlib
import http.client
import json
import statistics
import time

from scripts.benchmarks.load import TOKEN, Connection, LoadError, chats, connections, request
from scripts.benchmarks.targets import Running
from scripts.process_stats import cpu_seconds, process_stats, tree

EVENTS = 64
"""Events of a stream without gaps."""

CLIENTS = 8
"""Concurrent clients, each of which sends one chat after the other."""

GAPPED_STREAMS = 100
GAP = 0.02
"""Seconds between two events of a stream at the speed of a model."""


def cpu_per_chat(proxy: Running, count: int, *, stream: bool) -> float:
    """CPU seconds for a chat, JSON or a stream of `EVENTS`, with `CLIENTS` at once."""
    before = _cpu(proxy)
    asyncio.run(chats(proxy.port, count, stream=stream, clients=CLIENTS))
    return (_cpu(proxy) - before) / count


def cpu_per_gapped_event(proxy: Running, seconds: float) -> float:
    """CPU seconds for an event, with `GAPPED_STREAMS` at once that send one every `GAP` seconds."""

    async def measure() -> float:
        async with connections(proxy.port, GAPPED_STREAMS) as made:
            tasks = [asyncio.create_task(connection.chat(stream=True)) for connection in made]
            while not all(connection.events > 1 for connection in made):  # noqa: ASYNC110  # an occasional check is enough
                await asyncio.sleep(GAP)
            before, events = _cpu(proxy), sum(connection.events for connection in made)
            await asyncio.sleep(seconds)
            spent, events = _cpu(proxy) - before, sum(connection.events for connection in made) - events
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            return spent / events

    return asyncio.run(measure())


def first_token(port: int, count: int) -> float:
    """Seconds until the first event of a stream, for one client; the median."""
    return statistics.median(asyncio.run(chats(port, count, stream=True)))


def memory(proxy: Running) -> int:
    """Memory of the proxy, in bytes."""
    return sum(process_stats(pid).resident for pid in tree(proxy.pid))


def memory_per_idle_client(proxy: Running, count: int) -> float:
    """Bytes for an idle client with a keep-alive connection, after a request that reached the upstream."""

    async def measure() -> float:
        async with connections(proxy.port, count // 10) as made:  # allocates what all clients share
            await asyncio.gather(*(connection.list_models() for connection in made))
        before = memory(proxy)
        async with connections(proxy.port, count) as made:
            for connection in made:
                await connection.list_models()
            return (memory(proxy) - before) / count

    return asyncio.run(measure())


def streams_held(proxy: Running, count: int) -> tuple[int, int]:
    """Hold `count` streams at once; return how many were complete, and how many signatures of a sample were wrong."""

    async def hold() -> list[bytes]:
        async with connections(proxy.port, count) as made:

            async def stream(connection: Connection) -> bytes:
                with contextlib.suppress(LoadError, OSError, TimeoutError, asyncio.IncompleteReadError):
                    return (await connection.chat(stream=True))[1]
                return b""

            return [answer for answer in await asyncio.gather(*map(stream, made)) if answer]

    whole = asyncio.run(hold())
    sample = whole[:: max(1, len(whole) // 50)]
    return len(whole), sum(not _is_signed(proxy.port, answer) for answer in sample)


def _is_signed(port: int, answer: bytes) -> bool:
    """Whether the signature of a streamed response can be fetched and is over its bytes."""
    head, _, framed = answer.partition(b"\r\n\r\n")
    receipt = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"x-receipt-id:"))
    body = b""
    while framed:
        size, _, framed = framed.partition(b"\r\n")
        body += framed[: int(size, 16)]
        framed = framed[int(size, 16) + 2 :]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    path = f"/v1/signature/{receipt.partition(b':')[2].strip().decode()}"
    connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
    response = connection.getresponse()
    found = json.loads(response.read())
    connection.close()
    sent = request(stream=True).partition(b"\r\n\r\n")[2]
    expected = f"{hashlib.sha256(sent).hexdigest()}:{hashlib.sha256(body).hexdigest()}"
    return response.status == 200 and found["text"] == expected


def warm_up(proxy: Running) -> None:
    """Send 100 chats of each kind before the measurements."""
    for stream in (False, True):
        cpu_per_chat(proxy, 100, stream=stream)
    time.sleep(0.1)


def _cpu(proxy: Running) -> float:
    return sum(map(cpu_seconds, tree(proxy.pid)))
