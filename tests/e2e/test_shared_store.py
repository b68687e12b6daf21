"""Several proxies with one signature store: what one has signed, all find, the moment the last byte is there."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.e2e.support.metrics import Scrape
from tests.e2e.support.processes import (
    BIN,
    MODEL,
    PROGRAMS,
    SCRIPT,
    TOKEN,
    Process,
    Proxy,
    clean_env,
    running_proxy,
    start_proxy,
)
from tests.e2e.support.raw_client import Asker, RawClient, chat_body, chat_request, signature_status
from tests.e2e.support.realtime_upstream import running_realtime_upstream
from tests.e2e.support.scripted_upstream import (
    LAST_CHUNK,
    SSE_HEAD,
    Peer,
    ScriptedUpstream,
    chunk,
    events,
    json_response,
)
from tests.support import verification
from tests.support.limits import Deadline, limit
from tests.support.redis_servers import RedisServer, needs_redis, running_redis, wire_to
from tests.support.tools import REDIS

TIMES = 100


def answer(peer: Peer) -> None:
    """JSON or a stream, as is asked for, under the id that `user` names; a stream breaks off where that is asked for.

    What is read by a GET is a stored object: it has the id that its path ends with.
    """
    while (received := peer.read_request()) is not None:
        asked = json.loads(received.body or b"{}")
        asked.setdefault("user", received.head.split()[1].rpartition("/")[2])
        if asked.get("breaks_off"):
            peer.send(SSE_HEAD + chunk(events(asked["user"], "a")[0]))
            return
        if asked.get("stream"):
            peer.send(SSE_HEAD + b"".join(chunk(event) for event in events(asked["user"], "a", "b")) + LAST_CHUNK)
        else:
            peer.send(json_response(json.dumps({"id": asked["user"], "choices": []}).encode()))


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    with ScriptedUpstream(answer) as running:
        yield running.url


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    REDIS.require()
    with running_redis(tmp_path_factory.mktemp("redis"), password="pa55-word") as running:
        yield running


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def pair(
    request: pytest.FixtureRequest, upstream: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Proxy]]:
    """Two proxies with one store."""
    if request.param == "redis":
        address = request.getfixturevalue("server").url
    else:
        address = f"sqlite://{tmp_path_factory.mktemp('store')}/signatures.db"
    with ExitStack() as stack:
        yield [
            stack.enter_context(running_proxy(upstream, program="tee-signer", SIGNATURE_STORE=address))
            for _ in range(2)
        ]


def have_chat(client: RawClient, chat_id: str, *, stream: bool) -> None:
    """Have a chat, and read just as far as a client must to have it all."""
    client.send(chat_request(chat_body(user=chat_id, stream=stream)))
    client.read_until(b"[DONE]" if stream else b'"choices": []}')


def ready(proxy: Proxy) -> dict[str, Any]:
    with Asker(proxy.side_port) as asker:
        status, _, body = asker.get("/ready", token=None)
    assert status in (200, 503)
    found: dict[str, Any] = body
    return found


def until(condition: Callable[[], object], timeout: float = 20) -> None:
    deadline = Deadline(timeout)
    while not condition():
        assert deadline.left > 0
        time.sleep(0.01)


@pytest.mark.parametrize("stream", [False, True])
def test_signature_is_at_the_other_proxy_when_the_last_byte_arrives(pair: list[Proxy], stream: bool) -> None:
    found = 0
    with RawClient(pair[0].port) as client, Asker(pair[1].port) as asker:
        for number in range(TIMES):
            have_chat(client, f"chat-{stream}-{number}", stream=stream)
            found += asker.signature(f"chat-{stream}-{number}")[0] == 200
            if stream:
                client.read_until(LAST_CHUNK)
    assert found == TIMES
    assert ready(pair[0])["signature_store"] == "ok"


def test_signatures_of_concurrent_clients_are_at_the_other_proxy_at_once(pair: list[Proxy]) -> None:
    missing: list[str] = []

    def work(worker: int) -> None:
        with RawClient(pair[worker % 2].port) as client, Asker(pair[1 - worker % 2].side_port) as asker:
            for number in range(20):
                have_chat(client, f"many-{worker}-{number}", stream=True)
                if asker.signature(f"many-{worker}-{number}")[0] != 200:
                    missing.append(f"{worker}-{number}")
                client.read_until(LAST_CHUNK)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert missing == []


def test_signature_of_an_id_that_the_other_proxy_signed_is_not_overwritten(pair: list[Proxy]) -> None:
    texts = []
    for proxy in pair:
        with RawClient(proxy.port) as client:
            client.send(chat_request(chat_body(f"said to {proxy.port}", user="chosen-by-a-client")))
            status, headers, _ = client.read_response()
            assert status == 200
        with Asker(pair[0].port) as asker:
            texts.append(asker.signature("chosen-by-a-client")[1]["text"])
            assert asker.signature(headers["x-receipt-id"])[0] == 200
    assert texts[0] == texts[1]
    pair[1].process.wait_for("a response id was used before")


def error_until_it_is_not_signed(proxy: Proxy, chat_id: str) -> Any:
    """What is said of an exchange that has just broken off, once the proxy has noticed that."""
    deadline = Deadline()
    with Asker(proxy.side_port) as asker:
        while True:
            status, _, body = asker.get(f"/v1/signature/{chat_id}")
            assert status == 404
            if body["error"]["code"] is not None:
                return body["error"]
            assert deadline.left > 0
            time.sleep(0.01)


def test_truncated_exchange_is_unsigned_at_both_proxies_until_its_id_is_signed(pair: list[Proxy]) -> None:
    with RawClient(pair[0].port) as client:
        client.send(chat_request(chat_body(user="tried-twice", stream=True, breaks_off=True)))
        head = client.read_until(b"\r\n\r\n").decode()
        client.read_to_end()
    receipt = head.partition("x-receipt-id: ")[2].partition("\r\n")[0]
    for proxy in pair:
        for chat_id in (receipt, "tried-twice"):
            assert error_until_it_is_not_signed(proxy, chat_id) == {
                "message": "This exchange is not signed: the exchange was cut short.",
                "type": "not_found",
                "param": None,
                "code": "not_signed",
            }
    with RawClient(pair[1].port) as client:
        have_chat(client, "tried-twice", stream=True)
    assert [signature_status(proxy, "tried-twice") for proxy in pair] == [200, 200]
    assert [signature_status(proxy, receipt) for proxy in pair] == [404, 404]


def test_reading_a_stored_response_causes_no_store_conflict(pair: list[Proxy]) -> None:
    conflicts = [Scrape(proxy.side_url)("tee_signature_store_conflicts_total") for proxy in pair]
    with RawClient(pair[0].port) as client:
        client.send(chat_request(json.dumps({"user": "resp_1"}).encode(), path="/v1/responses"))
        assert client.read_response()[0] == 200
    with Asker(pair[1].port) as asker:
        made = asker.signature("resp_1")
        status, headers, body = asker.get("/v1/responses/resp_1")
        assert (status, body["id"]) == (200, "resp_1")
        receipt = asker.signature(headers["x-receipt-id"])
        assert receipt[0] == 200
        assert receipt != made
        assert asker.signature("resp_1") == made
    assert [Scrape(proxy.side_url)("tee_signature_store_conflicts_total") for proxy in pair] == conflicts


def test_websocket_signature_is_at_the_other_proxy_after_the_close(tmp_path: Path) -> None:
    address = f"sqlite://{tmp_path}/signatures.db"
    with running_realtime_upstream() as upstream, running_proxy(upstream.url, SIGNATURE_STORE=address) as one:
        with running_proxy(upstream.url, SIGNATURE_STORE=address) as other, Asker(other.port) as asker:
            for _ in range(20):
                headers = {"Authorization": f"Bearer {TOKEN}"}
                url = f"ws://127.0.0.1:{one.port}/v1/echo"
                with connect(url, additional_headers=headers, proxy=None) as client:
                    client.send("hello")
                    assert client.recv() == "hello"
                    assert client.response is not None
                    receipt = client.response.headers["x-receipt-id"]
                status, signed = asker.signature(receipt)
                assert status == 200
                verification.check(signed, b"hello", b"hello")


def test_signatures_of_a_killed_proxy_are_found_at_the_other_proxy(upstream: str, tmp_path: Path) -> None:
    address = f"sqlite://{tmp_path}/signatures.db"
    answered = []
    with running_proxy(upstream, SIGNATURE_STORE=address) as other:
        killed = start_proxy(upstream, SIGNATURE_STORE=address)
        port = int(killed.wait_for(r"listening at 127\.0\.0\.1:(\d+)")[1])
        with RawClient(port) as client:
            for number in range(50):
                have_chat(client, f"chat-{number}", stream=False)
                answered.append(f"chat-{number}")
            killed.stop(signal.SIGKILL)
        with Asker(other.port) as asker:
            assert [chat_id for chat_id in answered if asker.signature(chat_id)[0] != 200] == []
        with RawClient(other.port) as client:
            have_chat(client, "after", stream=True)
        assert signature_status(other, "after") == 200
    assert len(answered) == 50


@needs_redis
@pytest.mark.timeout(120)
def test_redis_outage_under_load_loses_no_signature(upstream: str, tmp_path: Path) -> None:
    answered: list[list[str]] = [[], []]
    missing: list[str] = []
    stop = threading.Event()

    with running_redis(tmp_path) as server, ExitStack() as stack:
        proxies = [
            stack.enter_context(running_proxy(upstream, program=one, SIGNATURE_STORE=server.url)) for one in PROGRAMS
        ]

        def work(worker: int) -> None:
            at = worker % 2
            with RawClient(proxies[at].port) as client, Asker(proxies[at].port) as asker:
                number = 0
                while not stop.is_set():
                    chat_id = f"chat-{worker}-{(number := number + 1)}"
                    have_chat(client, chat_id, stream=True)
                    if asker.signature(chat_id)[0] != 200:
                        missing.append(chat_id)
                    client.read_until(LAST_CHUNK)
                    answered[at].append(chat_id)

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()

        def more_chats(count: int = 50) -> None:
            before = [len(ids) for ids in answered]
            until(lambda: all(len(ids) >= old + count for ids, old in zip(answered, before, strict=True)))

        more_chats()
        server.stop()  # kill -9, and nothing was on its disk
        more_chats()
        assert [ready(proxy) for proxy in proxies] == [
            {"status": "ready", "keys": True, "upstream": True, "signature_store": "kept here alone"}
        ] * 2
        server.start()
        until(lambda: all(ready(proxy)["signature_store"] == "ok" for proxy in proxies))
        more_chats()
        stop.set()
        for thread in threads:
            thread.join()
        assert missing == []
        deadline = Deadline(20)
        for at, proxy in enumerate(proxies):
            with Asker(proxy.port) as asker:
                for chat_id in answered[1 - at]:
                    while asker.signature(chat_id)[0] != 200:  # what Redis has lost comes after what is new
                        assert deadline.left > 0, chat_id
                        time.sleep(0.01)
            assert proxy.process.output.count("the signature store is down") == 1


@needs_redis
def test_slow_store_is_waited_for_and_an_unreachable_one_is_not(upstream: str, server: RedisServer) -> None:
    with wire_to(server.port) as wire:
        address = server.url.replace(str(server.port), str(wire.port))
        with running_proxy(upstream, SIGNATURE_STORE=address) as one:
            with running_proxy(upstream, SIGNATURE_STORE=server.url) as other:
                with RawClient(one.port) as client, Asker(other.port) as asker:
                    wire.delay = 0.05
                    for number in range(10):
                        have_chat(client, f"slow-{number}", stream=False)
                        assert asker.signature(f"slow-{number}")[0] == 200
                    wire.delay = 0.0
                    wire.die()
                    started = time.monotonic()
                    for number in range(40):
                        have_chat(client, f"dead-{number}", stream=False)
                        assert signature_status(one, f"dead-{number}") == 200
                    assert time.monotonic() - started < limit(10), "each one has waited"
                    with Asker(one.port) as elsewhere:
                        status, headers, _ = elsewhere.get("/v1/signature/of-another")
                    assert (status, headers["retry-after"]) == (503, "1")
                    assert ready(one)["signature_store"] == "kept here alone"
                    wire.revive()
                    until(lambda: ready(one)["signature_store"] == "ok")
                    for number in range(40):
                        assert asker.signature(f"dead-{number}")[0] == 200


@needs_redis
def test_client_disconnect_during_a_store_write_affects_no_other_client(upstream: str, server: RedisServer) -> None:
    with wire_to(server.port) as wire:
        address = server.url.replace(str(server.port), str(wire.port))
        with running_proxy(upstream, SIGNATURE_STORE=address) as proxy:
            wire.delay = 0.2
            for number in range(5):
                with RawClient(proxy.port) as client:
                    client.send(chat_request(chat_body(user=f"gone-{number}", stream=True)))
                    client.read_until(b"\r\n\r\n")
            with RawClient(proxy.port) as client:
                have_chat(client, "stays", stream=True)
            assert signature_status(proxy, "stays") == 200


@needs_redis
def test_store_password_is_not_in_the_log_or_the_options(upstream: str, server: RedisServer) -> None:
    for address in (server.url, server.url.replace("pa55-word", "pa55-word-not")):
        with running_proxy(upstream, "-vv", "--set", f"tee_signature_store={address}") as proxy:
            with RawClient(proxy.port) as client:
                have_chat(client, f"chat-{len(address)}", stream=False)
            assert signature_status(proxy, f"chat-{len(address)}") == 200
            assert signature_status(proxy, "unknown") in (404, 503)
        assert "pa55" not in proxy.process.output
    settings = {"MODEL_NAME": MODEL, "TOKEN": TOKEN, "DEV": "1", "SIGNATURE_STORE": server.url}
    given = ["--set", f"tee_signature_store={server.url}"]
    shown = Process(
        [BIN / "mitmdump", "-s", SCRIPT, *given, "--mode", f"reverse:{upstream}", "--options"], clean_env(**settings)
    )
    assert shown.wait() == 0
    assert "tee_signature_store" in shown.output
    assert "pa55" not in shown.output
