"""When a barrier opens, with a backend that writes one batch at a time and tells of each."""

import queue
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from attest_web.signatures import SignedExchange
from attest_web.stores.backend import BackendError, Result, Write
from attest_web.stores.write_behind import WriteBehind
from tests.attest_web.stores.conftest import until
from tests.support.limits import limit


class SteppedBackend:
    """Does each thing when it is let, and says what it is about to do."""

    def __init__(self) -> None:
        self.begun: queue.Queue[list[str] | str] = queue.Queue()
        self.failing = False
        self.written: set[str] = set()
        self.looked_for: list[str] = []
        self._let = threading.Semaphore(0)
        self._ended = False

    def begins(self) -> list[str] | str:
        """What it does next: the keys of a batch, or "check"."""
        return self.begun.get(timeout=limit(20))

    def let(self) -> None:
        """Let it do that."""
        self._let.release()

    def let_all(self) -> None:
        """Let it do that and all that follows."""
        self._ended = True
        self._let.release()

    def _wait(self, what: list[str] | str) -> None:
        self.begun.put(what)
        if not self._ended:
            self._let.acquire()
        if self.failing:
            raise BackendError("TestError")

    def write(self, batch: Sequence[Write]) -> list[Result]:
        self._wait([write.key for write in batch])
        self.written |= {write.key for write in batch if write.key != "refused"}
        return [Result.REFUSED if write.key == "refused" else Result.STORED for write in batch]

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        self.looked_for += keys
        return [b"x" if key in self.written else None for key in keys]

    def check(self) -> None:
        self._wait("check")

    def close(self) -> None:
        pass


class Stepped:
    """A writer in front of such a backend, which it has found to be there."""

    def __init__(self, first: SignedExchange, store_wait: float = 1000) -> None:
        self.backend = SteppedBackend()
        self.first = first
        self.rewritten: list[Write] = []
        self.everything_asked = 0
        self.behind = WriteBehind(
            self.backend, lambda _: None, self._everything, store_wait=store_wait, check_every=1000
        )
        assert self.backend.begins() == "check"
        self.backend.let()

    def _everything(self) -> list[Write]:
        self.everything_asked += 1
        return self.rewritten

    def write(self, key: str, *, again: bool = False) -> Write:
        now = time.monotonic()
        return Write(key, self.first, now + 600, None if again else now, "", 100)

    def add(self, *keys: str) -> None:
        self.behind.add([self.write(key) for key in keys])

    def fail_once(self) -> None:
        """Have the backend fail when it is asked whether it is there, and come back when it is asked again."""
        self.behind.suspect()
        assert self.backend.begins() == "check"
        self.backend.failing = True
        self.backend.let()
        assert self.backend.begins() == "check"
        assert self.behind.down
        self.backend.failing = False
        self.backend.let()


@pytest.fixture
def stepped(first: SignedExchange) -> Iterator[Stepped]:
    made = Stepped(first)
    yield made
    made.backend.let_all()
    made.behind.close(limit(5))


def test_a_barrier_opens_with_the_last_signature_that_was_added_before_it_and_no_earlier(stepped: Stepped) -> None:
    backend, behind = stepped.backend, stepped.behind
    stepped.add("one")
    assert backend.begins() == ["one"]
    stepped.add("two")
    barrier = behind.barrier()
    assert barrier is not None
    backend.let()
    assert backend.begins() == ["two"], "what came of the first batch has been taken note of"
    assert not barrier.done()
    stepped.add("three")
    backend.let()
    assert backend.begins() == ["three"]
    assert barrier.done()
    later = behind.barrier()
    assert later is not None
    backend.let()
    later.result(limit(20))
    assert behind.barrier() is None


def test_several_barriers_open_each_with_its_own_signature(stepped: Stepped) -> None:
    backend, behind = stepped.backend, stepped.behind
    stepped.add("one")
    assert backend.begins() == ["one"]
    of_one = behind.barrier()
    stepped.add("two", "three")
    of_three = behind.barrier()
    assert of_one is not None
    assert of_three is not None
    backend.let()
    assert backend.begins() == ["two", "three"]
    assert (of_one.done(), of_three.done()) == (True, False)
    backend.let()
    of_three.result(limit(20))


def test_barrier_is_not_opened_by_a_rewritten_signature(stepped: Stepped) -> None:
    backend, behind = stepped.backend, stepped.behind
    stepped.add("one")
    assert backend.begins() == ["one"]
    backend.let()
    until(lambda: not behind.pending)
    stepped.rewritten = [stepped.write(key, again=True) for key in ("one", "before", "long before")]
    backend.written.clear()
    stepped.fail_once()
    assert backend.begins() == ["one", "before", "long before"]
    assert not behind.down
    stepped.add("two")
    barrier = behind.barrier()
    assert barrier is not None
    backend.let()
    assert backend.begins() == ["two"]
    assert not barrier.done()
    backend.let()
    barrier.result(limit(20))


def test_rewrite_after_an_outage_is_skipped_if_the_last_stored_signature_is_present(stepped: Stepped) -> None:
    backend = stepped.backend
    for key in ("one", "refused"):  # of the second, nothing can be there
        stepped.add(key)
        assert backend.begins() == [key]
        backend.let()
    until(lambda: not stepped.behind.pending)
    stepped.fail_once()
    until(lambda: not stepped.behind.down)
    assert backend.looked_for == ["one"]
    assert stepped.everything_asked == 0


def test_barrier_does_not_wait_for_dropped_signatures(first: SignedExchange) -> None:
    backend = SteppedBackend()
    behind = WriteBehind(backend, lambda _: None, list, store_wait=1000, max_pending=250, check_every=1000)
    assert backend.begins() == "check"
    now = time.monotonic()
    behind.add([Write(key, first, now + 600, now, "", 100) for key in ("one", "two", "three", "four")])
    assert behind.dropped == 2
    barrier = behind.barrier()
    assert barrier is not None
    backend.let()
    assert backend.begins() == ["three", "four"]
    assert not barrier.done()
    backend.let()
    barrier.result(limit(20))
    assert behind.barrier() is None
    backend.let_all()
    behind.close(limit(5))


def test_backend_slower_than_the_store_wait_is_down_until_it_responds_in_time(first: SignedExchange) -> None:
    stepped = Stepped(first, store_wait=0.01)
    backend, behind = stepped.backend, stepped.behind
    stepped.add("one")
    assert backend.begins() == ["one"]
    until(lambda: behind.barrier() is None)
    assert behind.down
    backend.let()
    assert backend.begins() == "check", "it is asked at once whether it answers in time now"
    assert behind.down
    behind._store_wait = 1000
    backend.let()
    until(lambda: not behind.down)
    backend.let_all()
    behind.close(limit(5))
