"""Redis in all its kinds, each of them real."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from redis import Redis

from attest_web.signatures import SignedExchange
from attest_web.store_address import RedisAddress, parse_address
from attest_web.stores.backend import MAX_VALUE
from attest_web.stores.factory import open_store
from attest_web.stores.redis_backend import RedisBackend
from attest_web.stores.shared import SharedSignatureStore
from attest_web.stores.signature_store import StoreUnavailableError
from tests.attest_web.stores.conftest import settle, until
from tests.support.certificates import key_pem, self_signed
from tests.support.redis_servers import RedisServer, free_port, needs_redis, running_redis, wire_to

pytestmark = needs_redis


@contextmanager
def shared(
    url: str,
    lifetime: float = 60,
    conflict: Callable[[], object] = list,
    fault: Callable[[str], object] = lambda _: None,
) -> Iterator[SharedSignatureStore]:
    store = open_store(parse_address(url), "org/model", lifetime, conflict, fault)
    assert isinstance(store, SharedSignatureStore)
    try:
        yield store
    finally:
        store.close()


def check_shared(url: str, signed: SignedExchange) -> None:
    with shared(url) as one, shared(url) as other:
        for number in range(20):
            one.put(f"chat-{number}", signed)
        settle(one)
        assert not one.degraded
        assert all(other.get(f"chat-{number}") == signed for number in range(20))


def test_redis_keys_and_lifetimes_match_the_contract(redis: RedisServer, first: SignedExchange) -> None:
    with shared(redis.url, lifetime=1200) as store:
        store.put("chat-1", first)
        settle(store)
    with redis.client() as client:
        assert client.keys() == [b"org/model:chat:chat-1"]
        assert 1190 < int(str(client.ttl("org/model:chat:chat-1"))) <= 1200


@pytest.mark.parametrize("value", ["nonsense", "[]", '{"text": 1}', b"\xff", "[" * 60_000, "x" * 70_000])
def test_redis_value_that_is_no_signature_counts_as_missing_and_as_a_fault(
    redis: RedisServer, value: str | bytes
) -> None:
    fault = Mock()
    with redis.client() as client, shared(redis.url, fault=fault) as store:
        client.set("org/model:chat:x", value)
        assert store.get("x") is None
    fault.assert_called_once_with("unreadable")


def test_redis_read_of_a_huge_value_is_bounded(redis: RedisServer) -> None:
    backend = RedisBackend(RedisAddress("server", (("127.0.0.1", redis.port),), password=redis.password))
    with redis.client() as client:
        client.setrange("org/model:chat:x", 50 * 2**20, b"x")
        (found,) = backend.read(["org/model:chat:x"])
    assert found is not None
    assert len(found) == MAX_VALUE + 1
    backend.close()


def test_a_key_of_another_type_does_not_affect_other_keys(redis: RedisServer, first: SignedExchange) -> None:
    fault, conflict = Mock(), Mock()
    with (
        redis.client() as client,
        shared(redis.url, fault=fault, conflict=conflict) as one,
        shared(redis.url, fault=fault) as other,
    ):
        client.lpush("org/model:chat:chat-1", "a list")
        for number in range(3):
            one.put(f"chat-{number}", first)
        settle(one)
        assert not one.degraded
        assert one.get("chat-1") == first, "what is here is found here"
        fault.assert_called_once_with("refused")
        conflict.assert_not_called()
        assert other.get("chat-0") == other.get("chat-2") == first
        assert other.get("chat-1") is None
        assert fault.call_args_list[1:] == [(("unreadable",),)]


def test_redis_that_refuses_writes_delays_signatures_until_it_accepts_them(
    redis: RedisServer, first: SignedExchange, caplog: pytest.LogCaptureFixture
) -> None:
    fault = Mock()
    with redis.client() as client, shared(redis.url, fault=fault) as one, shared(redis.url) as other:
        until(lambda: one.writer.pending == 0)
        client.config_set("min-replicas-to-write", 1)
        try:
            one.put("chat-1", first)
            until(lambda: one.degraded)
        finally:
            client.config_set("min-replicas-to-write", 0)
        settle(one)
        assert other.get("chat-1") == first
    assert caplog.text.count("is down: ResponseError") == 1
    fault.assert_not_called()


def test_redis_write_retried_after_a_lost_reply_is_no_conflict(redis: RedisServer, first: SignedExchange) -> None:
    conflict = Mock()
    with (
        wire_to(redis.port) as wire,
        shared(redis.url.replace(str(redis.port), str(wire.port)), conflict=conflict) as store,
    ):
        store.put("before", first)
        settle(store)
        wire.delay = 3.0  # on the way there, longer than the store waits: it arrives, and nobody hears of it
        store.put("chat-1", first)
        until(lambda: store.degraded)
        with redis.client() as client:
            until(lambda: client.exists("org/model:chat:chat-1"))
        wire.delay = 0.0
        until(lambda: not store.degraded)
        conflict.assert_not_called()
        assert store.get("chat-1") == first


@pytest.mark.parametrize("login", [":wr0ng-pass@", ""])
def test_redis_wrong_password_is_logged_by_error_type_only(
    redis: RedisServer, first: SignedExchange, caplog: pytest.LogCaptureFixture, login: str
) -> None:
    with caplog.at_level(logging.DEBUG), shared(f"redis://{login}127.0.0.1:{redis.port}") as store:
        until(lambda: store.degraded)
        store.put("chat-1", first)
        assert store.get("chat-1") == first
        with pytest.raises(StoreUnavailableError):
            store.get("chat-2")
    assert "AuthenticationError" in caplog.text
    assert "wr0ng-pass" not in caplog.text
    assert caplog.text.count("is down") == 1


def test_redis_over_tls_works_and_an_untrusted_certificate_is_refused(tmp_path: Path, first: SignedExchange) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "cert.pem").write_bytes(self_signed(key))
    (tmp_path / "key.pem").write_bytes(key_pem(key))
    port = free_port()
    files = ["--tls-cert-file", str(tmp_path / "cert.pem"), "--tls-key-file", str(tmp_path / "key.pem")]
    tls = ["--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no", *files]
    with running_redis(tmp_path, *tls, port=port):
        check_shared(f"rediss://127.0.0.1:{port}?ssl_ca_certs={tmp_path / 'cert.pem'}", first)
        with shared(f"rediss://127.0.0.1:{port}") as store:  # whom nobody has told to trust this certificate
            until(lambda: store.degraded)


def test_the_server_is_found_through_sentinels(tmp_path: Path, first: SignedExchange) -> None:
    with running_redis(tmp_path, password="pa55") as master:
        config = tmp_path / "sentinel.conf"
        config.write_text(f"sentinel monitor mymaster 127.0.0.1 {master.port} 1\nsentinel auth-pass mymaster pa55\n")
        with running_redis(tmp_path, sentinel=config) as sentinel:
            check_shared(f"redis+sentinel://:pa55@127.0.0.1:{sentinel.port}/mymaster/0", first)


def test_redis_cluster_stores_and_shares_signatures(tmp_path: Path, first: SignedExchange) -> None:
    with running_redis(tmp_path, "--cluster-enabled", "yes", password="pa55") as server:
        with server.client() as client:
            client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)

            def is_up() -> bool:
                info: Any = client.execute_command("CLUSTER INFO")
                return "ok" in str(info["cluster_state"] if isinstance(info, dict) else info)

            until(is_up)
        check_shared(f"redis+cluster://:pa55@127.0.0.1:{server.port}", first)


def test_redis_that_restarts_empty_regains_earlier_and_pending_signatures(
    tmp_path: Path, first: SignedExchange
) -> None:
    with running_redis(tmp_path) as server, shared(server.url) as one, shared(server.url) as other:
        one.put("before", first)
        settle(one)
        server.stop()
        one.put("during", first)
        other.writer.suspect()  # else it finds out in a few seconds
        until(lambda: one.degraded and other.degraded)
        assert one.get("before") == one.get("during") == first
        with pytest.raises(StoreUnavailableError):
            other.get("before")
        server.start()  # empty
        until(lambda: not one.degraded and not other.degraded and one.writer.pending == 0)
        assert other.get("before") == other.get("during") == first


def test_connections_are_closed(redis: RedisServer, first: SignedExchange) -> None:
    with redis.client() as client:

        def connections() -> int:
            info: Any = Redis.client_list(client)
            return len(info)

        before = connections()
        with shared(redis.url) as store:
            store.put("x", first)
            settle(store)
            assert store.get("unknown") is None
            assert connections() == before + 2
        until(lambda: connections() == before)
