import threading
from typing import Any

import pytest

from attest_web.dstack.cached_call import CachedCall
from tests.support.limits import limit


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Call:
    """Gives numbers, one after the other, when it is let go."""

    def __init__(self) -> None:
        self.count = 0
        self.fail = False
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()
        self.go.set()

    def __call__(self) -> int:
        self.count += 1
        self.begun.release()
        assert self.go.wait(limit())
        if self.fail:
            raise RuntimeError
        return self.count


def test_cached_call_reuses_the_result_for_its_lifetime() -> None:
    call, clock = Call(), Clock()
    cached = CachedCall(call, 10, clock)
    assert [cached(), cached()] == [1, 1]
    clock.now = 9.9
    assert cached() == 1
    clock.now = 10
    assert [cached(), cached()] == [2, 2]


def test_cached_call_does_not_cache_an_error() -> None:
    call = Call()
    cached = CachedCall(call, 10)
    call.fail = True
    with pytest.raises(RuntimeError):
        cached()
    call.fail = False
    assert cached() == 2


@pytest.mark.parametrize("fail", [False, True])
def test_concurrent_callers_share_one_call(fail: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Call()
    cached = CachedCall(call, 10)
    results: list[Any] = []
    waiting = threading.Semaphore(0)

    def ask() -> None:
        try:
            results.append(cached())
        except RuntimeError as error:
            results.append(error)

    call.go.clear()
    call.fail = fail
    threads = [threading.Thread(target=ask) for _ in range(5)]
    threads[0].start()
    assert call.begun.acquire(timeout=limit())
    future = cached._under_way
    assert future is not None
    result_of = future.result

    def result(timeout: float | None = None) -> int:
        waiting.release()
        return result_of(timeout)

    monkeypatch.setattr(future, "result", result)
    for thread in threads[1:]:
        thread.start()
    for _ in threads[1:]:
        assert waiting.acquire(timeout=limit())
    call.go.set()
    for thread in threads:
        thread.join(limit())
    assert call.count == 1
    assert len(results) == 5
    assert all(isinstance(result, RuntimeError) for result in results) if fail else results == [1] * 5
