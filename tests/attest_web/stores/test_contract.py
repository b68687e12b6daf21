"""What every store does, and what those do that are shared, tried on each of them."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attest_web.keys import SigningKeys
from attest_web.signatures import SignedExchange, sign_text
from attest_web.store_address import parse_address
from attest_web.stores.backend import BackendError
from attest_web.stores.factory import open_store
from attest_web.stores.shared import SharedSignatureStore
from attest_web.stores.signature_store import NotSignedError, SignatureStore, StoreUnavailableError
from tests.attest_web.stores.conftest import settle, until
from tests.support.limits import limit
from tests.support.redis_servers import RedisServer

OpenStore = Callable[..., SignatureStore]


each_store = pytest.mark.parametrize("kind", ["memory", "sqlite", "redis"])
each_shared_store = pytest.mark.parametrize("kind", ["sqlite", "redis"])


@pytest.fixture
def address(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    if kind == "redis":
        server: RedisServer = request.getfixturevalue("redis")
        return server.url
    return "memory" if kind == "memory" else f"sqlite://{tmp_path}/signatures.db"


@pytest.fixture
def conflicts() -> list[str]:
    """Grows with every id that turns out to be taken by another store."""
    return []


@pytest.fixture
def opened(address: str, conflicts: list[str]) -> Iterator[OpenStore]:
    """Opens the store of one process after the other; all of them are one store, unless it is memory."""
    with ExitStack() as stack:

        def make(lifetime: float = 60, model: str = "model") -> SignatureStore:
            store = open_store(parse_address(address), model, lifetime, lambda: conflicts.append(model))
            stack.callback(store.close)
            return store

        yield make


@each_store
def test_store_returns_what_was_put_under_its_id(opened: OpenStore, first: SignedExchange) -> None:
    store = opened()
    assert store.put("chat-1", first)
    settle(store)
    assert store.get("chat-1") == first
    assert store.get("chat-2") is None
    assert not store.degraded


@each_store
def test_store_does_not_overwrite_a_taken_id(opened: OpenStore, first: SignedExchange, second: SignedExchange) -> None:
    store = opened()
    assert store.put("chat-1", first)
    assert not store.put("chat-1", second)
    settle(store)
    assert store.get("chat-1") == first


@each_store
def test_a_taken_id_of_this_process_is_no_conflict_with_another(
    opened: OpenStore, conflicts: list[str], first: SignedExchange, second: SignedExchange
) -> None:
    store = opened()
    assert store.put("chat-1", first, "client", "rcpt-1")
    assert not store.put("chat-1", second, "client", "rcpt-2")
    settle(store)
    assert conflicts == []
    for reader in [store] if not store.shared else [store, opened()]:
        assert reader.get("chat-1") == reader.get("rcpt-1") == first
        assert reader.get("rcpt-2") == second


@each_shared_store
def test_shared_store_signature_is_visible_to_others_once_storing_resolves(
    opened: OpenStore, first: SignedExchange
) -> None:
    one, other = opened(), opened()
    for number in range(50):
        one.put(f"chat-{number}", first)
        if (stored := one.storing()) is not None:
            stored.result(timeout=limit(20))
        assert one.degraded or other.get(f"chat-{number}") == first


@each_shared_store
def test_shared_store_id_taken_by_another_process_keeps_its_signature(
    opened: OpenStore, conflicts: list[str], first: SignedExchange, second: SignedExchange
) -> None:
    one, other = opened(), opened()
    one.put("chat-1", first)
    settle(one)
    other.put("chat-1", second)
    other.put("rcpt-2", second)
    settle(other)
    assert one.get("chat-1") == other.get("chat-1") == first
    assert one.get("rcpt-2") == other.get("rcpt-2") == second
    assert len(conflicts) == 1


@each_shared_store
def test_shared_store_expired_signature_is_gone_and_its_id_is_free(
    opened: OpenStore, first: SignedExchange, second: SignedExchange
) -> None:
    one, other = opened(lifetime=1), opened()
    one.put("chat-1", first)
    settle(one)
    until(lambda: other.get("chat-1") is None)
    other.put("chat-1", second)
    settle(other)
    assert one.get("chat-1") == second


@each_shared_store
def test_shared_store_models_have_separate_keys(opened: OpenStore, first: SignedExchange) -> None:
    one, other = opened(), opened(model="other")
    one.put("chat-1", first)
    settle(one)
    assert other.get("chat-1") is None


@each_shared_store
def test_shared_store_model_and_id_with_separators_do_not_collide(opened: OpenStore, first: SignedExchange) -> None:
    one, other = opened(model="org/m"), opened(model="org/m:chat:v2")
    one.put("v2:chat:x", first)
    settle(one)
    assert other.get("x") is None


def reason_for(store: SignatureStore, chat_id: str) -> str:
    with pytest.raises(NotSignedError) as caught:
        store.get(chat_id)
    return caught.value.reason


@each_store
def test_store_finds_signatures_and_unsigned_reasons_by_both_ids(opened: OpenStore, first: SignedExchange) -> None:
    one = opened()
    assert one.put("chat-1", first, "client", "rcpt-1")
    one.mark_unsigned(["rcpt-2", "chat-2"], "the exchange was cut short", "client")
    settle(one)
    stores = [one] if not one.shared else [one, opened()]
    for store in stores:
        assert store.get("chat-1") == store.get("rcpt-1") == first
        assert reason_for(store, "chat-2") == reason_for(store, "rcpt-2") == "the exchange was cut short"


@each_store
def test_unsigned_reason_under_a_chosen_id_neither_blocks_nor_hides_a_signature(
    opened: OpenStore, conflicts: list[str], first: SignedExchange, second: SignedExchange
) -> None:
    one = opened()
    other = opened() if one.shared else one
    one.mark_unsigned(["rcpt-1", "before"], "the exchange was cut short", "attacker")
    settle(one)
    assert other.put("before", first, "victim", "rcpt-2")
    assert other.put("after", second, "victim", "rcpt-3")
    settle(other)
    one.mark_unsigned(["rcpt-4", "after"], "the exchange was cut short", "attacker")
    settle(one)
    for store in (one, other):
        assert store.get("before") == first
        assert store.get("after") == second
        assert reason_for(store, "rcpt-1") == reason_for(store, "rcpt-4") == "the exchange was cut short"
    assert conflicts == []


@each_shared_store
def test_shared_store_outage_serves_local_entries_and_raises_unavailable_for_others(
    opened: OpenStore, first: SignedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = opened()
    assert isinstance(one, SharedSignatureStore)
    one.put("chat-1", first, "client", "rcpt-1")
    one.mark_unsigned(["rcpt-2", "chat-2"], "the exchange was cut short", "client")
    settle(one)
    monkeypatch.setattr(one.writer, "down", True)
    assert one.get("chat-1") == one.get("rcpt-1") == first
    assert reason_for(one, "rcpt-2") == "the exchange was cut short"
    for chat_id in ("chat-2", "chat-3"):  # another exchange of this id may have been signed elsewhere
        with pytest.raises(StoreUnavailableError):
            one.get(chat_id)


@each_shared_store
def test_shared_store_lookup_that_timed_out_is_not_repeated_for_a_second(
    opened: OpenStore, first: SignedExchange, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = opened()
    assert isinstance(one, SharedSignatureStore)
    one.put("chat-1", first)
    settle(one)
    read = Mock(side_effect=BackendError("TimeoutError"))
    monkeypatch.setattr(one._backend, "read", read)
    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            one.get("chat-2")
        assert one.get("chat-1") == first
    read.assert_called_once()
    assert caplog.text.count("cannot be looked up in the signature store: TimeoutError") == 1


@each_shared_store
def test_shared_store_close_writes_everything_pending(opened: OpenStore, first: SignedExchange) -> None:
    one = opened()
    for number in range(1000):
        one.put(f"chat-{number}", first)
    one.close()
    other = opened()
    assert all(other.get(f"chat-{number}") == first for number in range(1000))


@each_shared_store
def test_of_many_concurrent_writes_of_one_id_one_is_stored(
    opened: OpenStore, conflicts: list[str], keys: SigningKeys
) -> None:
    stores = [opened() for _ in range(4)]
    exchanges = [sign_text(keys, f"text {number}") for number in range(4)]
    start = threading.Barrier(4)

    def put(number: int) -> None:
        start.wait()
        for chat in range(50):
            stores[number].put(f"chat-{chat}", exchanges[number])

    threads = [threading.Thread(target=put, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        settle(store)
    for chat in range(50):
        found = [store.get(f"chat-{chat}") for store in stores]
        assert found[0] in exchanges
        assert found.count(found[0]) == 4
    assert len(conflicts) == 150


IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@each_store
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(puts=st.lists(st.tuples(IDS, st.integers(0, 1), st.integers(0, 3)), max_size=20))
def test_store_any_sequence_of_puts_keeps_the_first_of_each_id(
    address: str, keys: SigningKeys, puts: list[tuple[str, int, int]]
) -> None:
    model = uuid.uuid4().hex  # each example has a store to itself
    count = 1 if address == "memory" else 2
    stores = [open_store(parse_address(address), model, 60, Mock()) for _ in range(count)]
    try:
        expected: dict[str, SignedExchange] = {}
        for chat_id, where, text in puts:
            signed = sign_text(keys, f"text {text}")
            store = stores[where % count]
            store.put(chat_id, signed)
            settle(store)
            expected.setdefault(chat_id, signed)
        for store in stores:
            assert {chat_id: store.get(chat_id) for chat_id in expected} == expected
    finally:
        for store in stores:
            store.close()


@each_store
def test_store_close_takes_little_time(opened: OpenStore) -> None:
    store = opened()
    started = time.monotonic()
    store.close()
    assert time.monotonic() - started < limit(2)
