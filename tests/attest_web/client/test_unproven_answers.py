"""Answers that go without a proof, because they are errors or may: whatever their headers say."""

import asyncio
import gzip
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest

from attest_web.client import ProofError, UnprovenError, proof_of, verified_async_openai, verified_openai
from tests.attest_web.client.signing_server import BASE, CHAT, LENIENT, STREAM, WHOLE, SigningServer


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attest_web.client.proving.signing.DELAYS", (0.0,))


def chat(make: Callable[..., Any], server: SigningServer, **options: Any) -> Any:
    given: dict[str, Any] = {"api_key": "t", "policy": LENIENT, "max_retries": 0}
    client = make(BASE, transport=httpx2.MockTransport(server), **given | options)
    if make is verified_openai:
        return client.chat.completions.create(**CHAT)

    async def talk() -> Any:
        return await client.chat.completions.create(**CHAT)

    return asyncio.run(talk())


BOTH = pytest.mark.parametrize("make", [verified_openai, verified_async_openai])


@BOTH
@pytest.mark.parametrize("status", [100, 101, 199, 300, 301, 303, 304, 307, 308, 399, 400, 404, 500, 599, 600, 999])
def test_unproven_response_with_a_non_success_status_raises_an_error(make: Callable[..., Any], status: int) -> None:
    unproven = httpx2.Response(status, content=WHOLE, headers={"content-type": "application/json"})
    with pytest.raises((openai.APIError, ProofError)):
        chat(make, SigningServer(replaced={"/chat": unproven, "/signature": httpx2.Response(404)}))


@BOTH
@pytest.mark.parametrize("status", [200, 201, 204, 206, 226, 299])
@pytest.mark.parametrize("body", [b"", WHOLE, b'{"error":{"message":"no"}}', b'[{"id":"chatcmpl-1"}]', WHOLE + b"\n{}"])
def test_unproven_response_with_a_success_status_raises_unproven(
    make: Callable[..., Any], status: int, body: bytes
) -> None:
    replaced = {"/chat": httpx2.Response(status, content=body), "/signature": httpx2.Response(404)}
    with pytest.raises(UnprovenError):
        chat(make, SigningServer(replaced=replaced))


@BOTH
def test_compressed_error_response_is_not_decompressed(make: Callable[..., Any]) -> None:
    """A few bytes could become very many. Its status is what the SDK goes by."""
    bomb = gzip.compress(b"secret word" * 1000)
    head = {"content-encoding": "gzip", "retry-after": "7"}
    error = httpx2.Response(429, headers=head, stream=httpx2.ByteStream(bomb))
    server = SigningServer()

    def answer(request: httpx2.Request) -> httpx2.Response:
        return error if request.url.path.endswith("/chat/completions") else server(request)

    with pytest.raises(openai.RateLimitError) as caught:
        chat(make, answer)  # type: ignore[arg-type]
    assert caught.value.response.content == b""
    assert caught.value.response.headers["retry-after"] == "7"
    error.status_code = 200
    with pytest.raises(UnprovenError, match="compressed"):
        chat(make, answer, allow_unproven={"/chat/completions"})  # type: ignore[arg-type]


@BOTH
def test_error_response_in_any_charset_raises_its_status_error(make: Callable[..., Any]) -> None:
    head = {"content-type": "text/html; charset=iso-8859-1"}
    error = httpx2.Response(502, headers=head, content="défaut".encode("latin-1"))
    with pytest.raises(openai.InternalServerError, match="502"):
        chat(make, SigningServer(replaced={"/chat": error}))


@BOTH
def test_unproven_response_over_max_bytes_raises_unproven(make: Callable[..., Any]) -> None:
    server = SigningServer(replaced={"/chat": httpx2.Response(500, content=b"x" * 2000)})
    with pytest.raises(openai.InternalServerError):
        chat(make, server, max_bytes=2000)
    with pytest.raises(UnprovenError, match="more than 1999 bytes"):
        chat(make, server, max_bytes=1999)
    lenient = SigningServer(replaced={"/chat": httpx2.Response(200, content=WHOLE)})
    assert chat(make, lenient, allow_unproven={"/chat/completions"}).id == "chatcmpl-1"
    with pytest.raises(UnprovenError, match="more than 50 bytes"):
        chat(make, SigningServer(replaced=lenient.replaced), allow_unproven={"/chat/completions"}, max_bytes=50)


@BOTH
def test_cookies_are_not_kept(make: Callable[..., Any]) -> None:
    """Who sets one need not be proven, and their number has no bound."""
    head = {"set-cookie": "a=b; Path=/", "retry-after-ms": "1"}
    server = SigningServer(replaced={"/chat": httpx2.Response(429, headers=head)})
    with pytest.raises(openai.RateLimitError):
        chat(make, server, max_retries=1)
    assert server.paths.count("/v1/chat/completions") == 2
    assert not any("cookie" in request.headers for request in server.asked)


@BOTH
def test_proof_member_in_a_response_body_is_no_proof(make: Callable[..., Any]) -> None:
    body = WHOLE[:-1] + b',"proof":{"signers":{}},"_request_id":"x"}'
    lenient = SigningServer(replaced={"/chat": httpx2.Response(200, content=body)})
    with pytest.raises(UnprovenError):
        proof_of(chat(make, lenient, allow_unproven={"/chat/completions"}))


def test_a_request_without_a_body_or_a_stream_parameter_gets_no_stream() -> None:
    """The header that says so is not signed."""
    event = b'data: {"type":"ping"}\n\n'
    head = {"content-type": "text/event-stream"}
    replaced = {"/responses": httpx2.Response(200, headers=head, content=event), "/signature": httpx2.Response(404)}
    server = SigningServer(replaced=replaced)
    client = verified_openai(BASE, api_key="t", policy=LENIENT, transport=httpx2.MockTransport(server), max_retries=0)
    seen: list[str] = []
    with pytest.raises(UnprovenError):
        with client.responses.with_streaming_response.retrieve("resp_1") as response:
            seen.extend(response.iter_lines())
    assert seen == []
    with pytest.raises(UnprovenError):
        seen.extend(event.type for event in client.responses.retrieve("resp_1", stream=True))
    assert seen == ["ping"]


@BOTH
def test_response_already_read_by_the_transport_is_still_verified(make: Callable[..., Any]) -> None:
    """A transport of one's own may cache, or read an answer to look at it."""
    head = {"content-type": "text/event-stream", "x-receipt-id": "rcpt-1"}
    server = SigningServer(replaced={"/signature": httpx2.Response(404)})

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/chat/completions"):
            return httpx2.Response(200, headers=head, content=STREAM)
        return server(request)

    client = make(BASE, api_key="t", policy=LENIENT, transport=httpx2.MockTransport(answer), max_retries=0)
    seen: list[str | None] = []

    def talk() -> None:
        for event in client.chat.completions.create(**CHAT, stream=True):
            seen.append(event.choices[0].finish_reason)  # noqa: PERF401  # what has come is asked for

    async def atalk() -> None:
        async for event in await client.chat.completions.create(**CHAT, stream=True):
            seen.append(event.choices[0].finish_reason)  # noqa: PERF401

    with pytest.raises(UnprovenError):
        talk() if make is verified_openai else asyncio.run(atalk())
    assert seen == [None, None]


@BOTH
def test_hostile_response_id_cannot_change_the_path_of_the_signature_request(make: Callable[..., Any]) -> None:
    for hostile in ("..", "../attestation/report", "a/../../x", "a%2f..", "?x=", "#"):
        server = SigningServer(body=b'{"id":"%s"}' % hostile.encode(), head={"x-receipt-id": hostile})
        with pytest.raises(UnprovenError):
            chat(make, server)
        asked = {request.url.raw_path.partition(b"?")[0] for request in server.asked if request.method == "GET"}
        asked.discard(b"/v1/attestation/report")
        assert all(path.startswith(b"/v1/signature/") and path.count(b"/") == 3 for path in asked), asked
