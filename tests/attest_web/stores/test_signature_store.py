import threading
import tracemalloc
import uuid
from collections.abc import Callable

import pytest

from attest_web.keys import SigningKeys
from attest_web.signatures import SignedExchange, sign_text
from attest_web.stores.signature_store import MemorySignatureStore, NotSignedError
from attest_web.stores.store_keys import StoreKeys


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


def test_memory_store_returns_what_was_put_under_its_id(first: SignedExchange) -> None:
    store = MemorySignatureStore("model", 10)
    assert store.put("chat-1", first)
    assert store.get("chat-1") == first
    assert store.get("chat-2") is None


def test_memory_store_does_not_overwrite_a_taken_id(first: SignedExchange, second: SignedExchange) -> None:
    store = MemorySignatureStore("model", 10)
    assert store.put("chat-1", first)
    assert not store.put("chat-1", second)
    assert store.get("chat-1") == first


def test_an_exchange_whose_id_is_taken_is_found_by_its_receipt_and_the_conflict_is_reported(
    first: SignedExchange, second: SignedExchange
) -> None:
    store = MemorySignatureStore("model", 10)
    assert store.put("chat-1", first, "a", "rcpt-1")
    assert not store.put("chat-1", second, "b", "rcpt-2")
    assert store.get("chat-1") == store.get("rcpt-1") == first
    assert store.get("rcpt-2") == second


def test_memory_store_expired_signature_is_gone_and_its_id_is_free(
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
    store = MemorySignatureStore("model", 10, max_exchanges=3)
    for number in range(10):
        store.put(f"chat-{number}", first)
    assert len(store) == 3
    assert store.get("chat-9") == first


def test_memory_store_is_thread_safe(first: SignedExchange) -> None:
    store = MemorySignatureStore("model", 60, max_exchanges=50)
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


def test_memory_store_bytes_are_bounded(first: SignedExchange) -> None:
    store = MemorySignatureStore("model", 10, max_bytes=10_000)
    for number in range(100):
        assert store.put(f"chat-{number}", first)
    assert 2 <= len(store) <= 10
    assert store.get("chat-99") == first
    assert not store.put("x" * 10_000, first)
    assert store.get("chat-99") == first


IDS = {
    "usual": lambda: f"chatcmpl-{uuid.uuid4().hex}",
    "emoji": lambda: "\N{GRINNING FACE}" * 480 + uuid.uuid4().hex,
    "long": lambda: "x" * 480 + uuid.uuid4().hex,
}


@pytest.mark.parametrize("make_id", IDS.values(), ids=IDS)
@pytest.mark.parametrize("megabytes", [3, 5, 8])
def test_memory_store_when_full_stays_within_max_bytes_of_memory(
    keys: SigningKeys, make_id: Callable[[], str], megabytes: int
) -> None:
    store = MemorySignatureStore("org/some-model", 1200, max_bytes=megabytes * 2**20)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        number = 0
        while len(store) == 2 * number:
            store.put(make_id(), sign_text(keys, f"{number:0129}"), "one", f"rcpt-{uuid.uuid4().hex[:24]}")
            number += 1
        assert 0.75 < (tracemalloc.get_traced_memory()[0] - before) / (megabytes * 2**20) <= 1
    finally:
        tracemalloc.stop()


def test_memory_store_counts_a_signature_with_two_ids_once(keys: SigningKeys) -> None:
    one, two = (MemorySignatureStore("m", 60, max_bytes=2**20) for _ in range(2))
    for number in range(3000):
        signed = sign_text(keys, f"{number:0129}")
        one.put(f"chat-{number}", signed, "a", f"rcpt-{number}")
        two.put(f"chat-{number}", signed, "a")
        two.put(f"rcpt-{number}", signed, "a")
    assert one.get("chat-2999") == one.get("rcpt-2999")
    assert len(one) > 1.5 * len(two)


def test_memory_store_client_over_its_share_evicts_only_its_own_signatures(first: SignedExchange) -> None:
    store = MemorySignatureStore("model", 60, max_bytes=200_000)
    for number in range(20):
        store.put(f"chat-{number}", first, "victim", f"rcpt-{number}")
    for number in range(2000):
        store.put("\N{GRINNING FACE}" * 500 + str(number), first, "attacker", f"rcpt-attacker-{number}")
        store.mark_unsigned([f"rcpt-unsigned-{number}"], "the exchange was cut short", "attacker")
    assert all(store.get(f"chat-{number}") == store.get(f"rcpt-{number}") == first for number in range(20))
    assert store.get("rcpt-attacker-0") is None
    assert store.get("rcpt-attacker-1999") == first


def test_memory_store_forget_frees_only_the_id_of_that_signature(first: SignedExchange, second: SignedExchange) -> None:
    store = MemorySignatureStore("model", 10)
    store.put("chat-1", first, "a", "rcpt-1")
    key = StoreKeys("model").signature("chat-1")
    store.forget(key, second)
    store.forget(StoreKeys("model").signature("chat-2"), second)
    assert store.get("chat-1") == first
    store.forget(key, first)
    assert store.get("chat-1") is None
    assert store.get("rcpt-1") == first
    assert [(kept.keys, kept.outcome) for kept in store.all()] == [(("model:chat:rcpt-1",), first)]
    assert store.put("chat-1", second)
    assert len(store) == 2


def reason_for(store: MemorySignatureStore, chat_id: str) -> str:
    with pytest.raises(NotSignedError) as caught:
        store.get(chat_id)
    return caught.value.reason


def test_memory_store_unsigned_reason_is_kept_under_both_ids_until_it_expires(first: SignedExchange) -> None:
    clock = Clock()
    store = MemorySignatureStore("model", 10, clock=clock)
    store.mark_unsigned(["rcpt-1", "chat-1"], "the exchange was cut short", "a")
    clock.now = 9.9
    assert reason_for(store, "rcpt-1") == reason_for(store, "chat-1") == "the exchange was cut short"
    assert len(store) == 0
    clock.now = 10
    assert store.get("rcpt-1") is None
    assert store.all() == []


def test_memory_store_unsigned_reason_neither_blocks_nor_hides_a_signature(first: SignedExchange) -> None:
    store = MemorySignatureStore("model", 10)
    store.mark_unsigned(["rcpt-1", "chosen"], "the exchange was cut short", "attacker")
    assert store.put("chosen", first, "victim", "rcpt-2")
    assert store.get("chosen") == first
    store.mark_unsigned(["rcpt-3", "chosen"], "the exchange was cut short", "attacker")
    assert store.get("chosen") == store.get("rcpt-2") == first
    assert reason_for(store, "rcpt-1") == reason_for(store, "rcpt-3")


def test_memory_store_many_expired_entries_are_hidden_at_once_and_dropped_gradually(
    first: SignedExchange, second: SignedExchange
) -> None:
    clock = Clock()
    store = MemorySignatureStore("model", 10, clock=clock)
    for number in range(1000):
        store.put(f"chat-{number}", first, "a", f"rcpt-{number}")
    clock.now = 10
    assert store.get("chat-999") is None
    assert len(store) > 1500, "the rest is dropped by later calls"
    assert store.all() == []
    assert store.put("chat-999", second, "a", "rcpt-of-the-second")
    assert store.get("chat-999") == second
    for _ in range(20):
        store.get("unknown")
    assert store.get("chat-999") == store.get("rcpt-of-the-second") == second
    assert len(store) == 2


def test_memory_store_evicts_expired_signatures_before_live_ones(first: SignedExchange) -> None:
    clock = Clock()
    store = MemorySignatureStore("model", 10, max_exchanges=200, clock=clock)
    for number in range(150):
        store.put(f"old-{number}", first, "small")
    clock.now = 5
    for number in range(50):
        store.put(f"new-{number}", first, "large")
    clock.now = 10
    for number in range(50, 200):
        store.put(f"new-{number}", first, "large")
    assert all(store.get(f"new-{number}") == first for number in range(200))


def test_memory_store_unsigned_reasons_are_bounded_in_bytes() -> None:
    store = MemorySignatureStore("model", 60, max_bytes=100_000)
    for number in range(1000):
        store.mark_unsigned([f"rcpt-{number}"], "the exchange was cut short", "a")
    assert 100 < len(store.all()) < 200
