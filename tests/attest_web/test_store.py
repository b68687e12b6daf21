import threading
import tracemalloc
import uuid

import pytest

from attest_web.keys import SigningKeys
from attest_web.signatures import SignedExchange, sign_text
from attest_web.store import MemorySignatureStore


@pytest.fixture
def first(keys: SigningKeys) -> SignedExchange:
    return sign_text(keys, "first")


@pytest.fixture
def second(keys: SigningKeys) -> SignedExchange:
    return sign_text(keys, "second")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_was_put_is_got(first: SignedExchange) -> None:
    store = MemorySignatureStore("model", 10)
    assert store.put("chat-1", first)
    assert store.get("chat-1") == first
    assert store.get("chat-2") is None


def test_a_taken_id_is_not_overwritten(first: SignedExchange, second: SignedExchange) -> None:
    store = MemorySignatureStore("model", 10)
    assert store.put("chat-1", first)
    assert not store.put("chat-1", second)
    assert store.get("chat-1") == first


def test_a_signature_is_gone_when_its_time_is_over_and_its_id_is_free(
    first: SignedExchange, second: SignedExchange
) -> None:
    clock = Clock()
    store = MemorySignatureStore("model", 10, clock=clock)
    store.put("chat-1", first)
    clock.now = 9.9
    assert store.get("chat-1") == first
    clock.now = 10
    assert store.get("chat-1") is None
    assert store.put("chat-1", second)
    assert store.get("chat-1") == second


def test_the_number_of_signatures_is_bounded(first: SignedExchange) -> None:
    store = MemorySignatureStore("model", 10, max_signatures=3)
    for number in range(10):
        store.put(f"chat-{number}", first)
    assert len(store) == 3
    assert store.get("chat-9") == first


def test_threads_share_it(first: SignedExchange) -> None:
    store = MemorySignatureStore("model", 60, max_signatures=50)
    failures: list[BaseException] = []

    def work(offset: int) -> None:
        try:
            for number in range(2000):
                store.put(f"{offset}-{number}", first)
                store.get(f"{offset}-{number - 1}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(store) == 50


def test_the_memory_for_signatures_is_bounded(first: SignedExchange) -> None:
    store = MemorySignatureStore("model", 10, max_bytes=10_000)
    for number in range(100):
        assert store.put(f"chat-{number}", first)
    assert 2 <= len(store) <= 10
    assert store.get("chat-99") == first
    assert not store.put("x" * 10_000, first)
    assert store.get("chat-99") == first


def test_a_kept_signature_takes_no_more_than_is_counted(keys: SigningKeys) -> None:
    store = MemorySignatureStore("org/some-model", 1200, max_bytes=4 * 2**20)
    tracemalloc.start()
    try:
        number = 0
        while len(store) == number:
            store.put(f"chatcmpl-{uuid.uuid4().hex}", sign_text(keys, f"{number:0129}"))
            number += 1
        assert 0.5 < tracemalloc.get_traced_memory()[0] / (4 * 2**20) < 1.5
    finally:
        tracemalloc.stop()


def test_what_is_forgotten_frees_its_id_and_nothing_else_does(first: SignedExchange, second: SignedExchange) -> None:
    store = MemorySignatureStore("model", 10)
    store.put("chat-1", first)
    store.forget("chat-1", second)
    store.forget("chat-2", second)
    assert store.get("chat-1") == first
    assert [(kept.chat_id, kept.signed) for kept in store.all()] == [("chat-1", first)]
    store.forget("chat-1", first)
    assert store.put("chat-1", second)
