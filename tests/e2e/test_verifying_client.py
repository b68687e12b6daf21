"""The verifying client, over the real openai package, before a real proxy; in between, somebody who lies."""

import asyncio
import inspect
import json
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from openai import AsyncOpenAI, AsyncStream, OpenAI, pydantic_function_tool
from openai.types.chat import ChatCompletionChunk
from pydantic import BaseModel

from attest_web.client import (
    MismatchError,
    Proof,
    ProofError,
    UnprovenError,
    VerifiedOpenAI,
    attestation_policy,
    proof_of,
    verified_async_openai,
    verified_openai,
)
from attest_web.gpu.evidence import find_gpu_python
from attest_web.verify.policy import Policy
from tests.e2e.support.lying_proxy import LyingProxy, Where, honest, lying_proxy
from tests.e2e.support.processes import (
    BIN,
    MODEL,
    ROOT,
    TOKEN,
    Proxy,
    Simulator,
    clean_env,
    running_proxy,
    running_simulator,
)
from tests.e2e.support.scripted_upstream import LAST_CHUNK, SSE_HEAD, Peer, ScriptedUpstream, chunk, json_response
from tests.support import verification
from tests.support.certificates import key_pem, self_signed
from tests.support.limits import limit

pytestmark = pytest.mark.skipif(
    find_gpu_python(ROOT) is None, reason="no .venv-gpu with NVIDIA's library: see what scripts/setup says"
)

TEXT = "once upon a time there was a lighthouse"
REPORT = "GET /v1/attestation/report"
ATTESTED = 4
"""Questions for reports that keys are attested with: by each of two algorithms, without the token and with it."""

CHAT: Any = {"model": MODEL, "messages": [{"role": "user", "content": TEXT}]}


@pytest.fixture(scope="module")
def attesting(fake_vllm: str, simulator: Simulator) -> Iterator[Proxy]:
    with running_proxy(fake_vllm, DEV="0", **simulator.settings) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def policy(simulator: Simulator) -> Policy:
    return attestation_policy(dev_root=simulator.root, collateral=simulator.collateral, gpu="canned")


@pytest.fixture(scope="module")
def between(attesting: Proxy) -> Iterator[LyingProxy]:
    with lying_proxy(attesting.port) as proxy:
        yield proxy


@pytest.fixture
def liar(between: LyingProxy, attesting: Proxy) -> LyingProxy:
    """The proxy in between, which is honest until it is told otherwise."""
    between.port, between.lie = attesting.port, honest
    between.refuse.clear()
    between.asked.clear()
    between.with_token.clear()
    return between


@pytest.fixture
def fresh(liar: LyingProxy, policy: Policy) -> Iterator[VerifiedOpenAI]:
    """A client that knows no keys yet."""
    with verified_openai(liar.url, api_key=TOKEN, policy=policy) as made:
        yield made


@pytest.fixture(scope="module")
def shared(between: LyingProxy, policy: Policy) -> Iterator[VerifiedOpenAI]:
    between.lie = honest
    with verified_openai(between.url, api_key=TOKEN, policy=policy) as made:
        yield made


@pytest.fixture
def client(liar: LyingProxy, shared: VerifiedOpenAI) -> VerifiedOpenAI:
    """A client that may know the keys already: what it takes to attest them costs a test a third of a second."""
    return shared


def check(proof: Proof) -> None:
    """Check a proof with other libraries than those that made it and those that the client has checked it with."""
    assert proof.evidence.bodies is not None
    assert len(proof.evidence.signatures) == 2
    for signature in proof.evidence.signatures:
        verification.check(json.loads(signature.body), proof.evidence.bodies.request, proof.evidence.bodies.response)


def test_chat_response_has_a_verified_proof(fresh: VerifiedOpenAI, liar: LyingProxy) -> None:
    answer = fresh.chat.completions.create(**CHAT)
    assert answer.choices[0].message.content == TEXT
    proof = proof_of(answer)
    assert answer.proof is proof
    check(proof)
    assert proof.response_sha256 in json.loads(proof.evidence.signatures[0].body)["text"]
    assert set(proof.signers) == {"ecdsa", "ed25519"}
    assert "ed25519 quote signature" in {check.name for check in proof.checks}
    assert any("--dev-root" in warning for warning in proof.warnings)
    assert liar.headers["accept-encoding"] == "identity"
    assert liar.asked.index(REPORT) < liar.asked.index("POST /v1/chat/completions")
    assert TEXT not in repr(proof) + json.dumps(answer.model_dump(), default=repr).replace(TEXT, "", 1)
    assert "proof" not in answer.model_dump() | answer.to_dict()


def test_stream_is_verified_before_its_end_is_delivered(client: VerifiedOpenAI, liar: LyingProxy) -> None:
    stream = client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True})
    assert stream.proof is None
    parts, asked = [], 0
    for event in stream:
        if event.choices and event.choices[0].finish_reason is not None:
            asked = liar.asked.count("GET " + next(path[4:] for path in liar.asked if "/signature/" in path))
            check(proof_of(stream))
        parts += [choice.delta.content or "" for choice in event.choices]
    assert "".join(parts) == TEXT
    assert asked == 2, "when the end was seen, both signatures had been fetched"
    check(proof_of(stream))


def test_keys_are_attested_once(fresh: VerifiedOpenAI, liar: LyingProxy) -> None:
    first = fresh.chat.completions.create(**CHAT)
    second = fresh.with_options(timeout=20).completions.create(model=MODEL, prompt="once")
    assert liar.asked.count(REPORT) == ATTESTED, "one by each algorithm"
    assert proof_of(first).evidence.nonce == proof_of(second).evidence.nonce
    assert proof_of(first).signers == proof_of(second).signers


def test_saved_proof_passes_tee_verify_and_a_tampered_one_fails(
    client: VerifiedOpenAI, simulator: Simulator, tmp_path: Path
) -> None:
    def tee_verify(file: Path) -> int:
        command: list[str | Path] = [BIN / "tee-verify", "--proof", file]
        command += ["--dev-root", simulator.root, "--gpu", "canned"]
        return subprocess.run(command, env=clean_env(), capture_output=True, timeout=limit(30), check=False).returncode

    file, lie = tmp_path / "proof.json", tmp_path / "lie.json"
    proof_of(client.chat.completions.create(**CHAT)).save(file)
    assert tee_verify(file) == 0
    assert TOKEN not in file.read_text()
    content = json.loads(file.read_text())
    lie.write_text(json.dumps(content | {"response": content["request"]}))
    assert tee_verify(lie) == 1


def flipping(where: Where, path: str, old: bytes, new: bytes) -> Callable[[Where, str, bytes], bytes]:
    assert len(old) == len(new)
    return lambda at, of, body: body.replace(old, new, 1) if (at, of) == (where, path) else body


def flipped_signature(algo: str) -> Callable[[Where, str, bytes], bytes]:
    def lie(where: Where, path: str, body: bytes) -> bytes:
        if where == "request" or "/signature/" not in path:
            return body
        answer = json.loads(body)
        if answer["signing_algo"] == algo:
            digit = answer["signature"][20]
            answer["signature"] = answer["signature"][:20] + ("0" if digit != "0" else "1") + answer["signature"][21:]
        return json.dumps(answer).encode()

    return lie


CHATS = "/v1/chat/completions"
LIES = {
    "answer": (flipping("answer", CHATS, b"lighthouse", b"lichthouse"), "response hash"),
    "request": (flipping("request", CHATS, b"lighthouse", b"lichthouse"), "request hash"),
    "ecdsa": (flipped_signature("ecdsa"), "ecdsa signature"),
    "ed25519": (flipped_signature("ed25519"), "ed25519 signature"),
}


@pytest.mark.parametrize("lie", LIES)
def test_flipped_byte_raises_a_mismatch_and_is_not_retried(client: VerifiedOpenAI, liar: LyingProxy, lie: str) -> None:
    liar.lie, named = LIES[lie]
    with pytest.raises(MismatchError, match=named) as caught:
        client.chat.completions.create(**CHAT)
    assert "do not use it" in str(caught.value)
    assert TEXT not in str(caught.value)
    assert caught.value.proof is not None
    assert caught.value.proof.evidence.bodies is not None, "what is left to look at"
    assert liar.asked.count(f"POST {CHATS}") == 1, "the SDK has not tried again"


@pytest.mark.parametrize("lie", LIES)
def test_stream_with_a_flipped_byte_never_delivers_its_end(client: VerifiedOpenAI, liar: LyingProxy, lie: str) -> None:
    liar.lie, named = LIES[lie]
    seen = []
    stream = client.chat.completions.create(**CHAT, stream=True)
    with pytest.raises(MismatchError, match=named):
        seen.extend(stream)
    assert len(seen) > 3, "what came before the end was handed over as it came"
    assert not any(event.choices[0].finish_reason for event in seen)
    with pytest.raises(UnprovenError):
        proof_of(stream)


def test_premature_done_event_is_not_delivered(client: VerifiedOpenAI, liar: LyingProxy) -> None:
    def lie(where: Where, path: str, piece: bytes) -> bytes:
        return piece.replace(b"data: ", b"data: [DONE]\n\ndata: ", 1) if (where, path) == ("answer", CHATS) else piece

    liar.lie = lie
    seen = []
    with pytest.raises(MismatchError):
        seen.extend(client.chat.completions.create(**CHAT, stream=True))
    assert seen == []


def test_async_client_verifies_responses_and_streams(liar: LyingProxy, policy: Policy) -> None:
    async def talk() -> None:
        async with verified_async_openai(liar.url, api_key=TOKEN, policy=policy, max_retries=0) as client:
            answers = await asyncio.gather(*(client.chat.completions.create(**CHAT) for _ in range(4)))
            for answer in answers:
                check(proof_of(answer))
            assert liar.asked.count(REPORT) == ATTESTED
            stream = await client.chat.completions.create(**CHAT, stream=True)
            parts = [event.choices[0].delta.content or "" async for event in stream]
            assert "".join(parts) == TEXT
            check(proof_of(stream))
            for lie, named in LIES.values():
                liar.lie = lie
                with pytest.raises(MismatchError, match=named):
                    await client.chat.completions.create(**CHAT)
                seen: list[ChatCompletionChunk] = []
                with pytest.raises(MismatchError, match=named):
                    await read(await client.chat.completions.create(**CHAT, stream=True), seen)
                assert seen
                assert not any(event.choices[0].finish_reason for event in seen)

    async def read(stream: AsyncStream[ChatCompletionChunk], seen: list[ChatCompletionChunk]) -> None:
        async for event in stream:
            seen.append(event)  # noqa: PERF401  # what has come is asked for where the rest does not

    asyncio.run(talk())


def test_embeddings_and_responses_are_verified(client: VerifiedOpenAI) -> None:
    check(proof_of(client.embeddings.create(model=MODEL, input=["a", "b"])))
    check(proof_of(client.responses.create(model=MODEL, input=TEXT)))
    stream = client.responses.create(model=MODEL, input=TEXT, stream=True)
    kinds: list[str] = []
    for event in stream:
        kinds.append(event.type)
        if event.type == "response.completed":
            check(proof_of(stream))
    assert kinds[-1] == "response.completed"


def test_responses_stream_with_a_flipped_byte_never_delivers_its_end(client: VerifiedOpenAI, liar: LyingProxy) -> None:
    liar.lie = flipping("answer", "/v1/responses", b"lighthouse", b"lichthouse")
    kinds: list[str] = []
    with pytest.raises(MismatchError):
        kinds.extend(event.type for event in client.responses.create(model=MODEL, input=TEXT, stream=True))
    assert kinds
    assert "response.completed" not in kinds


CALL = {"id": "c", "type": "function", "function": {"name": "pay", "arguments": "{}"}}
ITEM = {"type": "function_call", "id": "f", "call_id": "c", "name": "pay", "arguments": "{}", "status": "completed"}
SMUGGLED = {
    "a message in place of a delta": {
        "choices": [{"index": 0, "message": {"role": "assistant", "tool_calls": [CALL]}}]
    },
    "an item that begins complete": {"type": "response.output_item.added", "output_index": 0, "item": ITEM},
    "a type of its own": {"type": "response.call_this", "item": ITEM},
    "a response that begins completed": {
        "type": "response.created",
        "response": {"id": "r", "status": "completed", "output": [ITEM]},
    },
}


@pytest.mark.parametrize("smuggled", SMUGGLED)
def test_tool_call_smuggled_into_a_stream_is_never_delivered(
    client: VerifiedOpenAI, liar: LyingProxy, smuggled: str
) -> None:
    event = b"data: " + json.dumps(SMUGGLED[smuggled]).encode() + b"\n\n"

    def lie(where: Where, path: str, piece: bytes) -> bytes:
        return event + piece if where == "answer" and path in (CHATS, "/v1/responses") else piece

    liar.lie = lie
    seen: list[Any] = []
    with pytest.raises(MismatchError):
        seen.extend(client.chat.completions.create(**CHAT, stream=True))
    with pytest.raises(MismatchError):
        seen.extend(client.responses.create(model=MODEL, input=TEXT, stream=True))
    assert seen == []


def test_raw_and_streamed_responses_have_proofs(client: VerifiedOpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(**CHAT)
    check(proof_of(raw))
    assert raw.parse().choices[0].message.content == TEXT
    assert raw.headers["x-receipt-id"].startswith("rcpt-")
    with client.chat.completions.with_streaming_response.create(**CHAT) as response:
        assert json.loads(response.read())["choices"][0]["message"]["content"] == TEXT
        check(proof_of(response))


def test_stream_helper_reports_its_proof_to_the_callback(liar: LyingProxy, policy: Policy) -> None:
    proofs: list[Proof] = []
    with verified_openai(liar.url, api_key=TOKEN, policy=policy, on_proof=proofs.append) as client:
        with client.chat.completions.stream(**CHAT) as stream:
            assert stream.get_final_completion().choices[0].message.content == TEXT
        [proof] = proofs
        check(proof)


class Weather(BaseModel):
    """What the weather is."""

    city: str
    degrees: int


def test_structured_output_is_parsed_and_verified(client: VerifiedOpenAI) -> None:
    said: Any = [{"role": "user", "content": '{"city":"Ålesund","degrees":7}'}]
    answer = client.chat.completions.parse(model=MODEL, messages=said, response_format=Weather)
    assert answer.choices[0].message.parsed == Weather(city="Ålesund", degrees=7)
    check(proof_of(answer))


def test_tool_calls_are_parsed_and_verified(simulator: Simulator, policy: Policy) -> None:
    call = {
        "id": "call-1",
        "type": "function",
        "function": {"name": "Weather", "arguments": '{"city":"Oslo","degrees":1}'},
    }
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    whole = {"id": "chatcmpl-1", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}

    def event(delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return b"data: " + json.dumps({"id": "chatcmpl-2", "choices": [choice]}).encode() + b"\n\n"

    def answer(peer: Peer) -> None:
        while received := peer.read_request():
            if json.loads(received.body).get("stream"):
                pieces = [event({"tool_calls": [{"index": 0} | call]}), event({}, "tool_calls"), b"data: [DONE]\n\n"]
                peer.send(SSE_HEAD + b"".join(map(chunk, pieces)) + LAST_CHUNK)
            else:
                peer.send(json_response(json.dumps(whole).encode()))

    with ScriptedUpstream(answer) as upstream, running_proxy(upstream.url, DEV="0", **simulator.settings) as proxy:
        with verified_openai(f"{proxy.url}/v1", api_key=TOKEN, policy=policy) as client:
            tools = [pydantic_function_tool(Weather)]
            made = client.chat.completions.parse(**CHAT, tools=tools)
            [tool_call] = made.choices[0].message.tool_calls or []
            assert tool_call.function.parsed_arguments == Weather(city="Oslo", degrees=1)
            check(proof_of(made))
            stream = client.chat.completions.create(**CHAT, tools=tools, stream=True)
            names = [c.function.name for e in stream for c in e.choices[0].delta.tool_calls or [] if c.function]
            assert names == ["Weather"]
            check(proof_of(stream))


def test_refused_request_is_retried_by_the_sdk_and_verified(client: VerifiedOpenAI, liar: LyingProxy) -> None:
    liar.refuse = [503, 429]
    answer = client.chat.completions.create(**CHAT)
    check(proof_of(answer))
    assert liar.asked.count(f"POST {CHATS}") == 3


def test_errors_raise_the_sdks_exceptions(attesting: Proxy, policy: Policy, client: VerifiedOpenAI) -> None:
    with verified_openai(f"{attesting.url}/v1", api_key="wrong", policy=policy) as stranger:
        with pytest.raises(openai.AuthenticationError):
            stranger.chat.completions.create(**CHAT)
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.chat.completions.create(**CHAT | {"model": "another"})


def test_proof_url_fetches_the_proof_from_the_side_port(attesting: Proxy, liar: LyingProxy, policy: Policy) -> None:
    side = f"{attesting.side_url}/v1"
    with verified_openai(liar.url, api_key=TOKEN, policy=policy, proof_url=side) as client:
        check(proof_of(client.chat.completions.create(**CHAT)))
    assert liar.asked == [f"POST {CHATS}"]


def test_tls_key_of_the_proxy_is_checked_against_the_reports(
    fake_vllm: str, simulator: Simulator, policy: Policy, tmp_path: Path
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate, both = tmp_path / "cert.pem", tmp_path / "both.pem"
    certificate.write_bytes(self_signed(key))
    both.write_bytes(certificate.read_bytes() + key_pem(key))
    served = {"TLS_CERT_PATH": str(certificate)} | simulator.settings
    with running_proxy(fake_vllm, "--certs", f"*={both}", **served) as proxy:
        trusting = httpx2.HTTPTransport(verify=ssl.create_default_context(cafile=str(certificate)))
        url = f"https://127.0.0.1:{proxy.port}/v1"
        with verified_openai(url, api_key=TOKEN, policy=policy, transport=trusting) as client:
            proof = proof_of(client.chat.completions.create(**CHAT))
    check(proof)
    assert {"ecdsa TLS key", "ed25519 TLS key"} <= {made.name for made in proof.checks}


def test_sdk_has_the_internals_that_the_client_relies_on() -> None:
    for sdk in (OpenAI, AsyncOpenAI):
        names = inspect.signature(sdk._process_response).parameters
        assert "response" in names
        assert all(parameter.kind is parameter.KEYWORD_ONLY for name, parameter in names.items() if name != "self")
        assert list(inspect.signature(sdk._build_headers).parameters) == ["self", "options", "retries_taken"]
        assert callable(sdk._websocket_query_params)
        assert callable(sdk._websocket_query_params_fallback)


def test_changed_keys_are_attested_again_or_refused_if_signers_are_pinned(
    fresh: VerifiedOpenAI, liar: LyingProxy, attesting: Proxy, fake_vllm: str, simulator: Simulator
) -> None:
    first = proof_of(fresh.chat.completions.create(**CHAT))
    with running_proxy(fake_vllm, DEV="1", **simulator.settings) as another:
        liar.port = another.port
        second = proof_of(fresh.chat.completions.create(**CHAT))
        assert second.signers != first.signers
        assert second.evidence.nonce != first.evidence.nonce
        assert liar.asked.count(REPORT) == 2 * ATTESTED
        with verified_openai(liar.url, api_key=TOKEN, signers=list(first.signers.values())) as knowing:
            with pytest.raises(MismatchError, match="not one of the known signers"):
                knowing.chat.completions.create(**CHAT)
            liar.port = attesting.port
            assert proof_of(knowing.chat.completions.create(**CHAT)).evidence.reports == []


def test_public_reports_are_requested_without_the_token(
    fake_vllm: str, simulator: Simulator, policy: Policy, liar: LyingProxy
) -> None:
    with running_proxy(fake_vllm, DEV="0", ATTESTATION_PUBLIC="1", **simulator.settings) as public:
        liar.port = public.port
        with verified_openai(liar.url, api_key=TOKEN, policy=policy, public_reports=True) as client:
            check(proof_of(client.chat.completions.create(**CHAT)))
        assert liar.asked.count(REPORT) == 2
        assert not any(path == REPORT for path in liar.with_token)
        assert liar.with_token


def test_chat_is_not_sent_to_a_proxy_that_fails_attestation(
    liar: LyingProxy, simulator: Simulator, tmp_path: Path
) -> None:
    with running_simulator(tmp_path) as another:
        foreign = attestation_policy(dev_root=another.root, collateral=another.collateral, gpu="canned")
    strict = attestation_policy(dev_root=simulator.root, collateral=simulator.collateral, gpu="unverified")
    wrong = attestation_policy(
        dev_root=simulator.root, collateral=simulator.collateral, gpu="canned", compose_hash="00" * 32
    )
    for policy, named in ((foreign, "quote signature"), (strict, "canned"), (wrong, "compose hash")):
        with verified_openai(liar.url, api_key=TOKEN, policy=policy) as client:
            with pytest.raises(MismatchError, match=named):
                client.chat.completions.create(**CHAT)
    assert not any(path.startswith("POST") for path in liar.asked)


def test_flipped_quote_byte_raises_a_mismatch_and_no_chat_is_sent(fresh: VerifiedOpenAI, liar: LyingProxy) -> None:
    def lie(where: Where, path: str, body: bytes) -> bytes:
        if (where, path) != ("answer", "/v1/attestation/report"):
            return body
        head, *quotes = body.split(b'"intel_quote":"')  # in the lists, too, which have to agree with the top level
        assert len(quotes) in (0, 3)
        flipped = [each[:1000] + (b"0" if each[1000:1001] != b"0" else b"1") + each[1001:] for each in quotes]
        return b'"intel_quote":"'.join([head, *flipped])  # a digit of the measurements

    liar.lie = lie
    with pytest.raises(MismatchError, match="quote signature"):
        fresh.chat.completions.create(**CHAT)
    assert not any(path.startswith("POST") for path in liar.asked)


def test_unsigned_response_is_withheld_unless_allowed(client: VerifiedOpenAI, liar: LyingProxy, policy: Policy) -> None:
    with pytest.raises(UnprovenError, match="allow_unproven"):
        client.models.list()
    with verified_openai(liar.url, api_key=TOKEN, policy=policy, allow_unproven={"/models"}) as lenient:
        assert [model.id for model in lenient.models.list()] == [MODEL]
        with pytest.raises(UnprovenError):
            proof_of(lenient.models.list())
        check(proof_of(lenient.chat.completions.create(**CHAT)))


def test_client_options_and_websockets_cannot_bypass_the_checks(client: VerifiedOpenAI, attesting: Proxy) -> None:
    plain = OpenAI(base_url=f"{attesting.url}/v1", api_key=TOKEN)
    ways: list[Callable[[], object]] = [
        lambda: client.with_options(base_url=f"{attesting.url}/v1").chat.completions.create(**CHAT),
        lambda: client.with_options(http_client=plain._client).chat.completions.create(**CHAT),
        lambda: VerifiedOpenAI(base_url=f"{attesting.url}/v1", api_key=TOKEN).chat.completions.create(**CHAT),
        lambda: client.realtime.connect(model=MODEL).__enter__(),
        lambda: client.responses.connect().__enter__(),
    ]
    for way in ways:
        with pytest.raises(ProofError):
            way()
    with pytest.raises(ValueError, match="http_client"):
        verified_openai(f"{attesting.url}/v1", api_key=TOKEN, http_client=plain._client)
    plain.close()
