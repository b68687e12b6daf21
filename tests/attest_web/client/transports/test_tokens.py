"""No error has the token in it, also where it is one that cannot be sent."""

import asyncio
import base64
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h11
import httpx2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from attest_web.client import (
    Proof,
    ProofError,
    VerifiedAsyncOpenAI,
    VerifiedOpenAI,
    verified_async_openai,
    verified_openai,
)
from attest_web.client.proving.attempts import Attempts
from attest_web.client.proving.trust import KnownSigners, RefusedError
from attest_web.client.transports.tokens import refuse_headers
from attest_web.client.transports.transport import PendingRequest, TransportConfig
from attest_web.verify.primitives.http_client import Answer
from tests.attest_web.client.signing_server import BASE, CHAT, LENIENT, SigningServer

SECRET = "s3cret-token"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attest_web.client.proving.signing.DELAYS", (0.0,))


TOKENS = [
    f"{SECRET}\n",
    f" {SECRET}",
    f"{SECRET}\t",
    f"{SECRET}\r\nX: y",
    f"{SECRET}\0",
    f"{SECRET}\x7f",
    f"{SECRET}ł",
    f"é{SECRET}",
]


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """An error, and all that stand behind it, shown or not."""
    yield error
    for behind in (error.__cause__, error.__context__):
        if behind is not None:
            yield from chain_of(behind)


def check_no_secret(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    for each in chain_of(error):
        assert SECRET not in str(each) + repr(each) + repr(each.args) + repr(vars(each))
    assert SECRET not in "".join(traceback.format_exception(error))
    assert SECRET not in caplog.text


def options(**more: Any) -> dict[str, Any]:
    server = SigningServer()
    made = {"api_key": "t", "policy": LENIENT, "transport": httpx2.MockTransport(server), "max_retries": 0}
    return made | more


def chat(client: VerifiedOpenAI | VerifiedAsyncOpenAI, **more: Any) -> None:
    if isinstance(client, VerifiedOpenAI):
        client.chat.completions.create(**CHAT, **more)
    else:
        asyncio.run(_achat(client, **more))


async def _achat(client: VerifiedAsyncOpenAI, **more: Any) -> None:
    await client.chat.completions.create(**CHAT, **more)


def assigned(client: Any, token: str) -> Any:
    client.api_key = token
    return client


def provider(make: Callable[..., Any], token: str) -> Callable[[], Any]:
    async def give() -> str:
        return token

    return (lambda: token) if make is verified_openai else give


WAYS: dict[str, Callable[[Callable[..., Any], str], None]] = {
    "api_key": lambda make, token: make(BASE, **options(api_key=token)),
    "provider": lambda make, token: chat(make(BASE, **options(api_key=provider(make, token)))),
    "with_options": lambda make, token: make(BASE, **options()).with_options(api_key=token),
    "assigned": lambda make, token: chat(assigned(make(BASE, **options()), token)),
    "default_headers": lambda make, token: chat(
        make(BASE, **options(default_headers={"Authorization": f"Bearer {token}"}))
    ),
    "another header": lambda make, token: chat(make(BASE, **options(default_headers={"X-Api-Key": token}))),
    "extra_headers": lambda make, token: chat(
        make(BASE, **options()), extra_headers={"Authorization": f"Bearer {token}"}
    ),
    "signers": lambda make, token: chat(make(BASE, **options(policy=None, signers=[], api_key=token))),
}
AT_ITS_BEGINNING = ("api_key", "with_options", "signers", "another header")


@pytest.mark.parametrize(
    ("way", "token"),
    [
        (way, token)
        for way in WAYS
        for token in TOKENS
        if not token.startswith(" ") or way in AT_ITS_BEGINNING  # behind `Bearer`, it is one blank more, and is sent
    ],
)
@pytest.mark.parametrize("make", [verified_openai, verified_async_openai])
def test_invalid_token_raises_value_error_that_does_not_quote_it(
    make: Callable[..., Any], token: str, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ValueError, match="api_key") as caught:
        WAYS[way](make, token)
    check_no_secret(caught.value, caplog)


@settings(deadline=None)
@given(st.binary(max_size=12).map(lambda value: b"Bearer " + value) | st.binary(max_size=12))
@example(b"a\x80")
@example(b"a\x01b")
def test_accepted_header_value_is_accepted_by_h11_too(value: bytes) -> None:
    try:
        refuse_headers(httpx2.Headers([(b"authorization", value)]))
    except ValueError:
        return
    h11.Request(method=b"GET", target=b"/", headers=[(b"host", b"x"), (b"authorization", value)])


@pytest.mark.parametrize("make", [verified_openai, verified_async_openai])
@pytest.mark.parametrize("url", [f"http://user:{SECRET}@server.test/v1", f"{BASE}?key={SECRET}", f"{BASE}#{SECRET}"])
def test_base_or_proof_url_with_a_secret_raises_value_error_that_does_not_quote_it(
    make: Callable[..., Any], url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An error tells which URL a client is for."""
    for given_urls in ((url, None), (BASE, url)):
        with pytest.raises(ValueError, match="no user") as caught:
            make(given_urls[0], proof_url=given_urls[1], **options())
        check_no_secret(caught.value, caplog)


def test_attempt_failure_with_one_token_does_not_apply_to_another_token() -> None:
    """Clients of `with_options` share a transport."""
    attempts = Attempts()
    request = httpx2.Request("POST", f"{BASE}/chat", headers={"authorization": f"Bearer {SECRET}"})
    config = TransportConfig(BASE, BASE, KnownSigners([]))
    mine = PendingRequest.of(request, config)
    request.headers["authorization"] = "Bearer another"
    anothers = PendingRequest.of(request, config)
    with pytest.raises(ProofError), attempts.attempt(anothers.depends_on(None, None), 0):
        raise RefusedError("401", Answer(401, {}, b""))
    with pytest.raises(RefusedError), attempts.attempt(anothers.depends_on(None, None), 0):
        pytest.fail("the attempt was made again")
    with attempts.attempt(mine.depends_on(None, None), 0):
        pass
    assert attempts.made == 2


@pytest.mark.parametrize("make", [verified_openai, verified_async_openai])
def test_invalid_token_from_the_environment_raises_an_error_that_does_not_quote_it(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{SECRET}\n")
    with pytest.raises(ValueError, match="api_key") as caught:
        make(BASE, **options(api_key=None))
    check_no_secret(caught.value, caplog)


@pytest.mark.parametrize("token", ["t", "sk-proj_A.b~c+d/e==", "two words", ""])
def test_valid_token_is_sent_unchanged(token: str) -> None:
    server = SigningServer()
    given = options(api_key=token, transport=httpx2.MockTransport(server))
    try:
        chat(verified_openai(BASE, **given))
    except Exception:
        assert token == ""
        return
    [sent] = {request.headers["authorization"] for request in server.asked if request.method == "POST"}
    assert sent == f"Bearer {token}"


@pytest.mark.parametrize("make", [verified_openai, verified_async_openai])
@pytest.mark.parametrize("path", ["/attestation", "/signature", "/chat"])
@pytest.mark.parametrize(
    "failure",
    [
        httpx2.LocalProtocolError(f"Illegal header value b'Bearer {SECRET}'"),
        httpx2.RemoteProtocolError(f"illegal header line: {SECRET}"),
        httpx2.Response(404, json={"error": {"code": "not_signed", "message": f"no {SECRET}"}}),
    ],
)
def test_errors_of_servers_and_libraries_are_quoted_without_the_token(
    make: Callable[..., Any], path: str, failure: Exception | httpx2.Response, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = SigningServer()

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.startswith(f"/v1{path}"):
            if isinstance(failure, Exception):
                raise failure
            return httpx2.Response(failure.status_code, headers=failure.headers, content=failure.content)
        return server(request)

    with pytest.raises(Exception) as caught:  # noqa: PT011  # of whatever kind
        chat(make(BASE, **options(api_key=SECRET, transport=httpx2.MockTransport(answer))))
    if isinstance(caught.value, ProofError):
        check_no_secret(caught.value, caplog)
    else:
        assert path == "/chat", "what the SDK makes of the chat's own answer is the SDK's"


@pytest.mark.parametrize("make", [verified_openai, verified_async_openai])
@pytest.mark.parametrize(
    "repeated",
    [
        {"signing_algo": SECRET},
        {"text": f"{SECRET}:{'0' * 64}:{'0' * 64}"},
        {"signing_address": SECRET},
        {"": SECRET},
    ],
    ids=lambda repeated: next(iter(repeated)) or "nothing that is read",
)
def test_errors_and_saved_proofs_omit_a_token_that_a_signature_response_repeats(
    make: Callable[..., Any], repeated: dict[str, str], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    server = SigningServer()
    proofs: list[Proof] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        response = server(request)
        if request.url.path.startswith("/v1/signature"):
            return httpx2.Response(200, json=response.json() | repeated)
        return response

    client = make(BASE, **options(api_key=SECRET, transport=httpx2.MockTransport(answer)), on_proof=proofs.append)
    try:
        chat(client)
    except ProofError as error:
        check_no_secret(error, caplog)
        proofs += [error.proof] if error.proof is not None else []
    [proof] = proofs
    proof.save(tmp_path / "proof.json")
    saved = json.loads((tmp_path / "proof.json").read_bytes())
    assert len(saved["signatures"]) == 2
    assert not any(SECRET.encode() in base64.b64decode(signature) for signature in saved["signatures"])


@pytest.mark.parametrize("make", [verified_openai, verified_async_openai])
def test_token_is_withheld_until_the_keys_are_attested_when_reports_are_public(
    make: Callable[..., Any],
) -> None:
    def before(server: SigningServer, **more: Any) -> dict[str, Any]:
        return options(transport=httpx2.MockTransport(server)) | more

    honest = SigningServer()
    chat(make(BASE, **before(honest)))
    assert honest.paths[:2] == ["/v1/attestation/report"] * 2
    assert "/v1/attestation/report" not in honest.sent_a_token
    false = SigningServer(replaced={"/attestation": httpx2.Response(200, json={})})
    with pytest.raises(ProofError):
        chat(make(BASE, **before(false)))
    liar = SigningServer(private=True)
    with pytest.raises(ProofError, match="public_reports"):
        chat(make(BASE, **before(liar, public_reports=True)))
    assert false.sent_a_token == liar.sent_a_token == []


@pytest.mark.parametrize("make", [verified_openai, verified_async_openai])
def test_allow_unproven_request_withholds_the_token_until_attestation(make: Callable[..., Any]) -> None:
    """Without tls_binding, nothing else would look at a server before it is sent a request for such a path."""
    lenient = {"public_reports": True, "allow_unproven": {"/chat/completions"}, "tls_binding": False}
    false = SigningServer(replaced={"/attestation": httpx2.Response(200, json={})})
    with pytest.raises(ProofError):
        chat(make("https://server.test/v1", **options(transport=httpx2.MockTransport(false)), **lenient))
    assert false.sent_a_token == []
    honest = SigningServer()
    chat(make("https://server.test/v1", **options(transport=httpx2.MockTransport(honest)), **lenient))
    assert honest.sent_a_token == ["/v1/chat/completions"]


@pytest.mark.parametrize("make", [verified_openai, verified_async_openai])
def test_a_report_that_is_not_public_is_requested_with_the_token_after_a_401(make: Callable[..., Any]) -> None:
    server = SigningServer(private=True)
    chat(make(BASE, **options(transport=httpx2.MockTransport(server))))
    reports = [request for request in server.asked if request.url.path == "/v1/attestation/report"]
    assert ["authorization" in request.headers for request in reports] == [False, True, False, True]


def test_repr_of_requests_and_config_has_no_token_or_prompt() -> None:
    request = httpx2.Request("POST", f"{BASE}/chat", headers={"authorization": f"Bearer {SECRET}"}, content=b"prompt")
    config = TransportConfig(BASE, BASE, KnownSigners([]))
    shown = repr(PendingRequest.of(request, config)) + repr(config)
    assert SECRET not in shown
    assert "prompt" not in shown
