import time
from collections.abc import Callable, Iterator

import pytest

from attest_web.keys import SigningKeys
from attest_web.signatures import SignedExchange, sign_text
from attest_web.stores.shared import SharedSignatureStore
from attest_web.stores.signature_store import SignatureStore
from tests.support.limits import Deadline
from tests.support.redis_servers import RedisServer, flushed, running_redis
from tests.support.tools import REDIS


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for all tests that do it no harm."""
    REDIS.require()
    with running_redis(tmp_path_factory.mktemp("redis"), password="pa55-word") as server:
        yield server


@pytest.fixture
def redis(redis_server: RedisServer) -> RedisServer:
    """The same, empty."""
    return flushed(redis_server)


@pytest.fixture
def first(keys: SigningKeys) -> SignedExchange:
    return sign_text(keys, "first")


@pytest.fixture
def second(keys: SigningKeys) -> SignedExchange:
    return sign_text(keys, "second")


def until(condition: Callable[[], object], timeout: float = 20) -> None:
    """Wait for what nothing tells of."""
    deadline = Deadline(timeout)
    while not condition():
        assert deadline.left > 0
        time.sleep(0.005)


def settle(store: SignatureStore) -> None:
    """Wait until all that was put is stored, with all the time that a busy machine needs."""
    if isinstance(store, SharedSignatureStore):
        until(lambda: store.writer.pending == 0)
