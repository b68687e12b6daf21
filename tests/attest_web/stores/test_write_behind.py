"""What waits, for how long, and how much of it, with a backend that does as it is told."""

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any
from unittest.mock import Mock

import pytest

from attest_web.signatures import SignedExchange
from attest_web.stores.backend import BackendError, Result, Write
from attest_web.stores.write_behind import WriteBehind
from tests.attest_web.stores.conftest import until
from tests.support.limits import limit


class ToldBackend:
    """Writes while it may, fails where it shall."""

    def __init__(self) -> None:
        self.may_write = threading.Event()
        self.may_write.set()
        self.failing = False
        self.written: list[str] = []

    def write(self, batch: Sequence[Write]) -> list[Result]:
        self.may_write.wait()
        self.check()
        if any(write.key == "poison" for write in batch):
            raise RuntimeError
        self.written += [write.key for write in batch if write.key != "refused"]
        return [Result.REFUSED if write.key == "refused" else Result.STORED for write in batch]

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        self.check()
        return [b"x" if key in self.written else None for key in keys]

    def check(self) -> None:
        if self.failing:
            raise BackendError("TestError")

    def close(self) -> None:
        pass


@pytest.fixture
def backend() -> Iterator[ToldBackend]:
    made = ToldBackend()
    yield made
    made.may_write.set()


def writer(backend: ToldBackend, **more: Any) -> WriteBehind:
    return WriteBehind(backend, lambda _: None, list, **more)


def write(key: str, signed: SignedExchange, lifetime: float = 60, holder: str = "") -> list[Write]:
    now = time.monotonic()
    return [Write(key, signed, now + lifetime, now, holder, 100)]


def test_barrier_waits_until_all_earlier_writes_are_stored(backend: ToldBackend, first: SignedExchange) -> None:
    behind = writer(backend, store_wait=60)
    assert behind.barrier() is None
    backend.may_write.clear()
    for number in range(10):
        behind.add(write(f"chat-{number}", first))
    barrier = behind.barrier()
    assert barrier is not None
    assert not barrier.done()
    backend.may_write.set()
    barrier.result(timeout=limit(20))
    assert backend.written == [f"chat-{number}" for number in range(10)]
    behind.close(5)


def test_a_failure_resolves_the_barriers_and_later_ones_are_none(
    backend: ToldBackend, first: SignedExchange, caplog: pytest.LogCaptureFixture
) -> None:
    behind = writer(backend, store_wait=60)
    backend.may_write.clear()
    behind.add(write("one", first))
    barrier = behind.barrier()
    assert barrier is not None
    backend.failing = True
    backend.may_write.set()
    barrier.result(timeout=limit(20))
    behind.add(write("two", first))
    assert behind.barrier() is None
    assert behind.down
    backend.failing = False
    until(lambda: not behind.down)
    until(lambda: backend.written == ["one", "two"])
    assert behind.barrier() is None
    assert [record.getMessage() for record in caplog.records] == [
        "the signature store is down: TestError. Signatures are kept here until it answers",
        "the signature store answers again",
    ]
    assert behind.outages == 1
    behind.close(5)


def test_backend_slower_than_the_store_wait_counts_as_down_and_is_not_waited_for(
    backend: ToldBackend, first: SignedExchange
) -> None:
    behind = writer(backend, store_wait=0.05)
    backend.may_write.clear()
    behind.add(write("one", first))
    until(lambda: behind.barrier() is None)
    assert behind.down
    backend.may_write.set()
    until(lambda: backend.written == ["one"])
    until(lambda: not behind.down)
    behind.close(5)


def failing(backend: ToldBackend, first: SignedExchange, **more: Any) -> WriteBehind:
    """A writer with one write in its hands, and a backend that does not take it."""
    behind = writer(backend, **more)
    backend.may_write.clear()
    behind.add(write("in hand", first))
    until(lambda: len(behind._being_written) == 1)
    backend.failing = True
    return behind


def recovered(backend: ToldBackend, behind: WriteBehind) -> list[str]:
    backend.failing = False
    backend.may_write.set()
    until(lambda: not behind.pending)
    behind.close(5)
    return backend.written


def test_pending_writes_are_bounded_and_drop_those_that_expire_first(
    backend: ToldBackend, first: SignedExchange
) -> None:
    dropped = Mock()
    behind = failing(backend, first, max_pending=500, dropped=dropped)
    for number in range(20):
        behind.add(write(f"chat-{number}", first))
    assert behind.dropped == dropped.call_count == 15
    assert recovered(backend, behind) == ["in hand", *(f"chat-{number}" for number in range(15, 20))]


def test_pending_writes_of_a_client_over_its_share_drop_its_own(backend: ToldBackend, first: SignedExchange) -> None:
    behind = failing(backend, first, max_pending=1000)
    behind.add(write("victim", first, holder="victim"))
    for number in range(50):
        behind.add(write(f"chat-{number}", first, holder="attacker"))
    assert recovered(backend, behind) == ["in hand", "victim", *(f"chat-{number}" for number in range(41, 50))]


@pytest.mark.parametrize("bad", ["refused", "poison"])
def test_write_that_fails_alone_is_set_aside_and_the_rest_is_stored(
    backend: ToldBackend, first: SignedExchange, bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    refused = Mock()
    behind = failing(backend, first, refused=refused)
    for key in ("one", bad, "two"):
        behind.add(write(key, first))
    assert recovered(backend, behind) == ["in hand", "one", "two"]
    refused.assert_called_once_with()
    assert not behind.down
    assert caplog.text.count("1 signatures cannot be stored in the signature store; they are found here alone") == 1


def test_write_that_expired_during_an_outage_is_skipped(backend: ToldBackend, first: SignedExchange) -> None:
    behind = writer(backend)
    backend.failing = True
    behind.add(write("short", first, lifetime=0.01))
    until(lambda: behind.down)
    behind.add(write("long", first))
    time.sleep(0.02)
    backend.failing = False
    until(lambda: not behind.down)
    assert backend.written == ["long"]
    assert behind.barrier() is None
    behind.close(5)


def test_many_expired_writes_are_skipped_and_later_ones_are_written(
    backend: ToldBackend, first: SignedExchange
) -> None:
    behind = failing(backend, first)
    for number in range(5000):
        behind.add(write(f"short-{number}", first, lifetime=0))
    behind.add(write("long", first))
    assert recovered(backend, behind) == ["in hand", "long"]
    assert behind.barrier() is None


def test_close_with_a_hung_backend_returns_and_logs_the_lost_signatures(
    backend: ToldBackend, first: SignedExchange, caplog: pytest.LogCaptureFixture
) -> None:
    behind = writer(backend)
    backend.may_write.clear()
    behind.add(write("one", first))
    behind.close(0.05)
    assert "1 signatures never reached" in caplog.text
