import asyncio
import threading

import pytest

from addons.pages.page_queue import PageQueue, QueueFullError, ShareFullError


async def waiting(queue: PageQueue, client: str | None, go: threading.Event) -> "asyncio.Task[bool]":
    task = asyncio.create_task(queue.call(client, go.wait, 10))
    await asyncio.sleep(0)  # it is under way by now
    return task


def test_page_queue_refuses_a_client_over_its_share_and_serves_others() -> None:
    async def ask() -> None:
        queue, go = PageQueue("test page", threads=1, most=4, most_per_client=2), threading.Event()
        tasks = [await waiting(queue, "203.0.113.1", go) for _ in range(2)]
        with pytest.raises(ShareFullError):
            await queue.call("203.0.113.1", go.wait)
        tasks += [await waiting(queue, client, go) for client in ("203.0.113.2", None)]
        for client in ("203.0.113.2", None):
            with pytest.raises(QueueFullError):
                await queue.call(client, go.wait)
        go.set()
        assert await asyncio.gather(*tasks) == [True] * 4
        assert await queue.call("203.0.113.1", go.wait)
        assert not queue._by_client
        queue.close()

    asyncio.run(ask())


def test_page_queue_requests_without_a_client_are_not_limited_to_a_share() -> None:
    async def ask() -> None:
        queue, go = PageQueue("test page", threads=1, most=4, most_per_client=1), threading.Event()
        tasks = [await waiting(queue, None, go) for _ in range(4)]
        go.set()
        assert await asyncio.gather(*tasks) == [True] * 4
        queue.close()

    asyncio.run(ask())


def test_page_queue_failed_page_frees_its_place() -> None:
    def fail() -> None:
        raise LookupError

    async def ask() -> None:
        queue = PageQueue("test page", threads=1, most=1, most_per_client=1)
        for _ in range(3):
            with pytest.raises(LookupError):
                await queue.call("203.0.113.1", fail)
        queue.close()

    asyncio.run(ask())


def test_page_queue_blocked_queue_does_not_block_another() -> None:
    async def ask() -> None:
        go = threading.Event()
        held, free = (PageQueue(f"test page {n}", threads=1, most=2, most_per_client=2) for n in range(2))
        task = await waiting(held, "203.0.113.1", go)
        assert await asyncio.wait_for(free.call("203.0.113.1", lambda: "here"), 10) == "here"
        go.set()
        assert await task
        held.close()
        free.close()

    asyncio.run(ask())
