"""Servers of other makes, and whatever else an answer can be like."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from attest_web.client import (
    MismatchError,
    UnprovenError,
    VerifiedOpenAI,
    proof_of,
    verified_async_openai,
    verified_openai,
)
from attest_web.client.proving.signing import DELAYS, MAX_REASON
from tests.attest_web.client.signing_server import BASE, CHAT, LENIENT, SigningServer
from tests.attest_web.verify.minting import KEYS, OTHER_KEYS


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attest_web.client.proving.signing.DELAYS", (0.0,) * len(DELAYS))


def before(server: SigningServer, **options: Any) -> VerifiedOpenAI:
    given: dict[str, Any] = {
        "api_key": "t",
        "policy": LENIENT,
        "transport": httpx2.MockTransport(server),
        "max_retries": 0,
    }
    return verified_openai(BASE, **(given | options))


def said(client: VerifiedOpenAI) -> str:
    """What comes of a chat, whole and streamed."""
    whole = client.chat.completions.create(**CHAT)
    stream = client.chat.completions.create(**CHAT, stream=True)
    parts = [event.choices[0].delta.content or "" for event in stream]
    assert whole.choices[0].message.content == "".join(parts)
    assert proof_of(whole).signers == proof_of(stream).signers
    return "".join(parts)


@pytest.mark.parametrize("model", [None, "m", "org/m:1:latest"])
@pytest.mark.parametrize("receipt", [True, False])
def test_signed_text_with_or_without_the_model_name_is_accepted(model: str | None, receipt: bool) -> None:
    assert said(before(SigningServer(model=model, receipt=receipt))) == "hello"


def test_late_signature_is_polled_until_the_last_delay() -> None:
    """NEAR AI's and Phala's proxies store it when the answer has gone."""
    server = SigningServer(late=3, receipt=False)
    assert said(before(server)) == "hello"
    server.late = 1000
    with pytest.raises(UnprovenError, match="returned 404"):
        before(server).chat.completions.create(**CHAT)


def test_gateways_report_list_is_searched_and_the_model_is_named_in_requests() -> None:
    server = SigningServer(gathered=True, receipt=False)
    client = before(server)
    assert said(client) == "hello"
    for request in server.asked:
        if request.method == "GET":
            assert request.url.params["model"] == CHAT["model"]
            if "/signature/" in request.url.path:
                assert request.headers["authorization"] == "Bearer t"
    signers = proof_of(client.chat.completions.create(**CHAT)).signers
    assert signers == {"ecdsa": KEYS.ecdsa_address, "ed25519": KEYS.ed25519_address}


def test_a_server_with_one_algorithm_serves_clients_that_require_no_other() -> None:
    server = SigningServer(algos=("ecdsa",))
    with pytest.raises(UnprovenError, match="the ed25519 signature"):
        before(server).chat.completions.create(**CHAT)
    client = before(server, algos=["ecdsa"])
    assert said(client) == "hello"
    assert list(proof_of(client.chat.completions.create(**CHAT)).signers) == ["ecdsa"]


def test_a_report_about_another_key_is_an_error() -> None:
    server = SigningServer()
    client = before(server)
    client.chat.completions.create(**CHAT)
    report = SigningServer(keys=OTHER_KEYS)
    server.keys = OTHER_KEYS
    server._report = SigningServer()._report  # type: ignore[method-assign]
    with pytest.raises(MismatchError, match="another key"):
        client.chat.completions.create(**CHAT)
    server._report = report._report  # type: ignore[method-assign]
    assert said(client) == "hello"


def test_concurrent_threads_attest_the_keys_once() -> None:
    server = SigningServer()
    client = before(server)
    with ThreadPoolExecutor(4) as threads:
        proofs = list(threads.map(lambda _: proof_of(client.chat.completions.create(**CHAT)), range(8)))
    assert server.paths.count("/v1/attestation/report") == 2
    assert {proof.evidence.nonce for proof in proofs} == {proofs[0].evidence.nonce}


def test_response_without_an_id_raises_unproven() -> None:
    with pytest.raises(UnprovenError, match="neither an x-receipt-id nor an id"):
        before(SigningServer(receipt=False, body=b'{"choices":[]}')).chat.completions.create(**CHAT)
    with pytest.raises(UnprovenError, match="neither an x-receipt-id nor an id"):
        list(before(SigningServer(receipt=False, body=b"data: {}\n\n")).chat.completions.create(**CHAT, stream=True))
    for useless in ("", "x" * 600):
        server = SigningServer(receipt=False, body=b'{"choices":[]}', head={"x-receipt-id": useless})
        with pytest.raises(UnprovenError, match="neither an x-receipt-id nor an id"):
            before(server).chat.completions.create(**CHAT)


def test_compressed_response_raises_unproven() -> None:
    with pytest.raises(UnprovenError, match="compressed"):
        before(SigningServer(head={"content-encoding": "gzip"})).chat.completions.create(**CHAT)


def test_response_in_a_charset_other_than_utf_8_raises_unproven() -> None:
    """Headers are not signed."""
    for charset in ("utf-7", "utf-16", "cp500", "us-ascii"):
        server = SigningServer(head={"content-type": f"text/plain; charset={charset}"})
        with pytest.raises(UnprovenError, match="charset"):
            before(server).chat.completions.create(**CHAT)


def test_a_stream_that_was_not_requested_is_returned_whole() -> None:
    """The header that says so is not signed."""
    server = SigningServer(head={"content-type": "text/event-stream"}, body=b'{"id":"chatcmpl-1"}\n\n\n')
    with before(server).chat.completions.with_streaming_response.create(**CHAT) as honest:
        assert next(iter(honest.iter_lines())) == '{"id":"chatcmpl-1"}'
    server.replaced["/signature"] = httpx2.Response(400)
    seen: list[str] = []
    with pytest.raises(UnprovenError):
        with before(server).chat.completions.with_streaming_response.create(**CHAT) as response:
            seen.extend(response.iter_lines())
    assert seen == []


def test_request_or_response_over_max_bytes_raises_unproven() -> None:
    with pytest.raises(UnprovenError, match="the response has more than 200 bytes"):
        before(SigningServer(body=b'{"id":"chatcmpl-1"' + b" " * 300 + b"}"), max_bytes=200).chat.completions.create(
            **CHAT
        )
    with pytest.raises(UnprovenError, match="the response has more than 200 bytes"):
        list(before(SigningServer(), max_bytes=200).chat.completions.create(**CHAT, stream=True))
    with pytest.raises(UnprovenError, match="the request has more than 20 bytes"):
        before(SigningServer(), max_bytes=20).chat.completions.create(**CHAT)


def test_redirects_are_not_followed_and_other_urls_get_no_request() -> None:
    server = SigningServer(replaced={"/chat": httpx2.Response(307, headers={"location": "http://elsewhere.test/v1/x"})})
    with pytest.raises(Exception, match="307"):
        before(server).chat.completions.create(**CHAT)
    assert {request.url.host for request in server.asked} == {"server.test"}
    server.asked.clear()
    client = before(server)
    for url in (
        "http://elsewhere.test/v1",
        "https://server.test/v1",
        "http://server.test:81/v1",
        "http://server.test/v2",
    ):
        with pytest.raises(UnprovenError, match="nothing anywhere else"):
            client.with_options(base_url=url).chat.completions.create(**CHAT)
    assert server.asked == []


def test_nothing_is_sent_to_a_server_without_reports() -> None:
    server = SigningServer(replaced={"/attestation": httpx2.Response(404, json={})})
    with pytest.raises(UnprovenError, match=r"report returned 404.*end in /v1"):
        before(server).chat.completions.create(**CHAT)
    assert server.paths == ["/v1/attestation/report"]


def test_the_sdk_retries_where_a_busy_server_refuses_its_report() -> None:
    server = SigningServer(replaced={"/attestation": httpx2.Response(429, headers={"retry-after-ms": "1"}, json={})})
    client = before(server, max_retries=2)
    with pytest.raises(Exception, match="429"):
        client.chat.completions.create(**CHAT)
    assert len(server.asked) == 3
    server.replaced.clear()
    assert said(client) == "hello"


def test_the_reason_why_a_response_is_not_signed_is_reported_without_a_retry() -> None:
    def server_that_says(error: object) -> SigningServer:
        return SigningServer(replaced={"/signature": httpx2.Response(404, json={"error": error})})

    said = "the client went away\n✓ all is well \x1b[2J" + "x" * 1000
    server = server_that_says({"code": "not_signed", "message": said})
    with pytest.raises(
        UnprovenError, match="the server has no ecdsa signature of this response: the client went away"
    ) as caught:
        before(server).chat.completions.create(**CHAT)
    assert str(caught.value).isprintable()
    assert str(caught.value).endswith("xxx…")
    assert len(str(caught.value)) < MAX_REASON + 100
    assert sum("/signature/" in path for path in server.paths) == 1, "asking again changes nothing"
    without: list[object] = [{"code": "not_signed", "message": message} for message in (["x"], " ", None)]
    for error in without:
        with pytest.raises(UnprovenError, match="no reason given"):
            before(server_that_says(error)).chat.completions.create(**CHAT)
    others: list[object] = [{"code": "not_found", "message": "secret word"}, "not_signed", ["not_signed"], None]
    for error in others:
        with pytest.raises(UnprovenError, match="the signature endpoint returned 404") as caught:
            before(server_that_says(error)).chat.completions.create(**CHAT)
        assert "secret word" not in str(caught.value)


def test_a_failed_connection_for_the_proof_is_an_error() -> None:
    def gone(request: httpx2.Request) -> httpx2.Response:
        if "/signature/" in request.url.path:
            raise httpx2.ConnectError("refused")
        return SigningServer()(request)

    client = verified_openai(BASE, api_key="t", policy=LENIENT, transport=httpx2.MockTransport(gone))
    with pytest.raises(UnprovenError, match="ConnectError"):
        client.chat.completions.create(**CHAT)


def test_a_signature_by_another_algorithm_or_malformed_is_an_error() -> None:
    for body, named in ((b"{}", "signing_algo"), (b"\xff", "not JSON"), (b'{"signing_algo":"ed25519"}', "has no")):
        server = SigningServer(replaced={"/signature": httpx2.Response(200, content=body)})
        with pytest.raises(MismatchError, match=named):
            before(server).chat.completions.create(**CHAT)


def test_a_response_without_reports_is_accepted_with_configured_signers() -> None:
    server = SigningServer()
    known = [KEYS.ecdsa_address.lower().replace("0X", "0x"), KEYS.ed25519_address]
    assert said(before(server, policy=None, signers=known)) == "hello"
    assert "/v1/attestation/report" not in server.paths
    for unknown in (known[:1], known[1:], [OTHER_KEYS.ecdsa_address, KEYS.ed25519_address], []):
        with pytest.raises(MismatchError, match="not one of the known signers"):
            before(server, policy=None, signers=unknown).chat.completions.create(**CHAT)


def test_async_client_polls_for_signatures_and_raises_the_same_errors() -> None:
    async def talk() -> None:
        server = SigningServer(late=2)
        transport = httpx2.MockTransport(server)
        async with verified_async_openai(BASE, api_key="t", policy=LENIENT, transport=transport) as client:
            assert proof_of(await client.chat.completions.create(**CHAT)).signers["ecdsa"] == KEYS.ecdsa_address
            server.replaced["/signature"] = httpx2.Response(500)
            with pytest.raises(UnprovenError, match="returned 500"):
                await client.chat.completions.create(**CHAT)
            server.receipt, server.body = False, b"{}"
            with pytest.raises(UnprovenError, match="allow_unproven"):
                await client.models.list()

    asyncio.run(talk())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"algos": []}, "algos"),
        ({"algos": ["rsa"]}, "algos"),
        ({"signers": ["0x12"]}, "signers"),
        ({"signers": ["7"], "policy": None}, "signers"),
        ({"signers": ["0x" + "1" * 40], "policy": None, "public_reports": True}, "public_reports"),
        ({"proof_url": "ftp://server.test/v1"}, "URL"),
        ({"http_client": None}, "http_client"),
    ],
    ids=str,
)
def test_client_with_invalid_arguments_raises_value_error(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        before(SigningServer(), **options)


def test_errors_contain_neither_response_text_nor_token() -> None:
    server = SigningServer(replaced={"/signature": httpx2.Response(200, content=json.dumps({"text": "x"}).encode())})
    with pytest.raises(MismatchError) as caught:
        before(server, api_key="s3cret").chat.completions.create(**CHAT)
    shown = str(caught.value) + repr(caught.value) + repr(caught.value.proof)
    assert "hello" not in shown
    assert "s3cret" not in shown
