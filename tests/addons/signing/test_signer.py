import hashlib
import json
import re
from collections.abc import Callable, Iterable
from functools import partial

import pytest
from mitmproxy import http
from mitmproxy.addonmanager import Loader
from mitmproxy.test import taddons

from addons.bodies.signing_filter import SigningFilter
from addons.exchange.exchanges import Exchanges
from addons.routing.routes import find_route
from addons.signing.signer import Signer
from attest_web.metrics import Metrics
from attest_web.stores.signature_store import MemorySignatureStore
from tests.addons.bodies.toy_transforms import ToyJsonTransform, swapped
from tests.addons.conftest import MakeFlow, head

REQUEST = b'{"model":"demo","messages":[{"role":"user","content":"hi"}]}'
ANSWER = b'{"id":"chatcmpl-123","object":"chat.completion","choices":[]}'


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def begin(signer: Signer, flow: http.HTTPFlow) -> None:
    """Take a request through the hooks, held or streamed as the gate would have it."""
    flow.request.stream = True
    signer.requestheaders(flow)
    if callable(flow.request.stream):
        body, flow.request.data.content = flow.request.raw_content or b"", None
        pieces = [flow.request.stream(piece) for piece in (body[:5], body[5:], b"")]
        forwarded = b"".join(p if isinstance(p, bytes) else b"".join(p) for p in pieces)
        if find_route(flow.request).is_json:
            flow.request.stream = False
            flow.request.data.content = forwarded
        else:
            assert forwarded == body
    signer.request(flow)


def pass_through(signer: Signer, flow: http.HTTPFlow, response: http.Response, *pieces: bytes) -> bytes:
    """Take a flow through the hooks and its body through the stream, as mitmproxy does; return what left."""
    begin(signer, flow)
    flow.response = response
    signer.responseheaders(flow)
    left = b""
    for piece in (*pieces, b""):
        out = response.stream(piece) if callable(response.stream) else piece
        assert out != b"" or not piece, "an empty piece would end a chunked body"
        left += out if isinstance(out, bytes) else b"".join(_parts(out))
    return left


def _parts(out: Iterable[bytes]) -> list[bytes]:
    parts = list(out)
    assert b"" not in parts
    return parts


def test_signer_signs_a_json_exchange_under_its_id_and_receipt(
    signer: Signer, store: MemorySignatureStore, exchanges: Exchanges, make_flow: MakeFlow, vectors: dict[str, str]
) -> None:
    response = head()
    flow = make_flow(REQUEST)
    assert pass_through(signer, flow, response, ANSWER[:9], ANSWER[9:]) == ANSWER
    signed = store.get("chatcmpl-123")
    assert signed is not None
    assert signed["text"] == vectors["text"]
    assert signed["signature_ecdsa"] == vectors["signature_ecdsa"]
    assert signed["signature_ed25519"] == vectors["signature_ed25519"]
    receipt = response.headers["x-receipt-id"]
    assert re.fullmatch(r"rcpt-[0-9a-f]{24}", receipt)
    assert store.get(receipt) == signed
    assert exchanges.of(flow).state == "signed"
    assert exchanges.of(flow).chat_id == "chatcmpl-123"


def test_signer_hashes_an_sse_response_including_its_event_framing(
    signer: Signer, store: MemorySignatureStore, make_flow: MakeFlow, vectors: dict[str, str]
) -> None:
    body = bytes.fromhex(vectors["sse_body_hex"])
    left = pass_through(signer, make_flow(REQUEST), head(content_type="text/event-stream"), body[:30], body[30:])
    assert left == body
    signed = store.get("chatcmpl-9")
    assert signed is not None
    assert signed["text"].split(":")[1] == vectors["sse_body_sha256"]


def test_signer_signs_before_the_last_bytes_are_sent(
    signer: Signer, store: MemorySignatureStore, make_flow: MakeFlow
) -> None:
    flow = make_flow(REQUEST)
    begin(signer, flow)
    flow.response = head()
    signer.responseheaders(flow)
    assert callable(flow.response.stream)
    assert flow.response.stream(ANSWER) == ANSWER[:-1]
    assert store.get("chatcmpl-123") is None
    assert flow.response.stream(b"") == ANSWER[-1:]
    assert store.get("chatcmpl-123") is not None


def test_signer_hashes_the_received_request_and_forwards_it_without_empty_tool_calls(
    signer: Signer, store: MemorySignatureStore, make_flow: MakeFlow
) -> None:
    body = b'{"messages":[{"role":"assistant","tool_calls":[]}]}'
    flow = make_flow(body)
    begin(signer, flow)
    assert json.loads(flow.request.content or b"") == {"messages": [{"role": "assistant"}]}
    pass_through(signer, make_flow(body), head(), ANSWER)
    signed = store.get("chatcmpl-123")
    assert signed is not None
    assert signed["text"].split(":")[0] == sha256(body)


def test_the_request_as_received_and_the_response_as_returned_are_signed_and_all_four_digests_noted(
    signer: Signer,
    store: MemorySignatureStore,
    exchanges: Exchanges,
    make_flow: MakeFlow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transformed = partial(SigningFilter, transforms=[ToyJsonTransform(swapped)])
    monkeypatch.setattr("addons.signing.signer.SigningFilter", transformed)
    asked, forwarded = b'{"messages":[{"tool_calls":[]}]}', b'{"messages":[{}]}'
    flow = make_flow(asked)
    received, returned = b'{"id":"chatcmpl-123","choices":["x"]}', b'{"id":"chatcmpl-123","choices":["y"]}'
    assert pass_through(signer, flow, head(), received) == returned
    signed, exchange = store.get("chatcmpl-123"), exchanges.of(flow)
    assert signed is not None
    assert signed["text"] == f"{sha256(asked)}:{sha256(returned)}"
    assert (exchange.request_sha256, exchange.forwarded_sha256) == (sha256(asked), sha256(forwarded))
    assert (exchange.upstream_sha256, exchange.response_sha256) == (sha256(received), sha256(returned))


def test_signer_reused_id_keeps_its_first_signature_and_the_later_is_under_its_receipt(
    signer: Signer, store: MemorySignatureStore, make_flow: MakeFlow, metrics: Metrics
) -> None:
    pass_through(signer, make_flow(REQUEST), head(), ANSWER)
    first = store.get("chatcmpl-123")
    later = head()
    pass_through(signer, make_flow(b"{}"), later, ANSWER)
    assert store.get("chatcmpl-123") == first
    receipt = store.get(later.headers["x-receipt-id"])
    assert receipt is not None
    assert receipt["text"].startswith(sha256(b"{}"))
    assert metrics.registry().get_sample_value("tee_signature_store_conflicts_total") == 1
    assert metrics.registry().get_sample_value("tee_signing_seconds_count") == 2


def test_signer_does_not_store_an_upstream_id_that_looks_like_a_receipt(
    signer: Signer, store: MemorySignatureStore, make_flow: MakeFlow
) -> None:
    pass_through(signer, make_flow(REQUEST), head(), b'{"id":"rcpt-000000000000000000000000"}')
    assert store.get("rcpt-000000000000000000000000") is None
    assert len(store) == 1


def test_signer_text_begins_with_the_model_if_configured(
    store: MemorySignatureStore, make_flow: MakeFlow, make_signer: Callable[..., Signer]
) -> None:
    pass_through(make_signer(model="org/m"), make_flow(REQUEST), head(), ANSWER)
    signed = store.get("chatcmpl-123")
    assert signed is not None
    assert signed["text"] == f"org/m:{sha256(REQUEST)}:{sha256(ANSWER)}"


@pytest.mark.parametrize(("allowed", "expected"), [(False, sha256(REQUEST)), (True, "ab" * 32)])
def test_signer_uses_a_client_request_hash_only_if_allowed(
    store: MemorySignatureStore, make_flow: MakeFlow, allowed: bool, expected: str, make_signer: Callable[..., Signer]
) -> None:
    signer = make_signer(allow_request_hash_header=allowed)
    pass_through(signer, make_flow(REQUEST, x_request_hash="AB" * 32), head(), ANSWER)
    signed = store.get("chatcmpl-123")
    assert signed is not None
    assert signed["text"].split(":")[0] == expected


def test_signer_invalid_request_hash_header_gets_400(
    store: MemorySignatureStore, make_flow: MakeFlow, make_signer: Callable[..., Signer]
) -> None:
    flow = make_flow(REQUEST, x_request_hash="nope")
    make_signer(allow_request_hash_header=True).requestheaders(flow)
    assert flow.response is not None
    assert flow.response.status_code == 400


@pytest.mark.parametrize("body", [b"", b"{", b"[1]"])
def test_signer_body_that_is_not_a_json_object_gets_400(signer: Signer, make_flow: MakeFlow, body: bytes) -> None:
    flow = make_flow(body)
    begin(signer, flow)
    assert flow.response is not None
    assert flow.response.status_code == 400
    assert json.loads(flow.response.content or b"")["error"]["type"] == "bad_request"


def test_signer_forwards_and_hashes_an_encoded_request_unchanged(
    signer: Signer, store: MemorySignatureStore, make_flow: MakeFlow
) -> None:
    flow = make_flow(b"\x1f\x8b not looked into", content_encoding="gzip")
    pass_through(signer, flow, head(), ANSWER)
    signed = store.get("chatcmpl-123")
    assert signed is not None
    assert signed["text"].startswith(sha256(b"\x1f\x8b not looked into"))


@pytest.mark.parametrize(
    "response",
    [
        head(400),
        head(500),
        head(300),
        head(302),
        head(content_type="text/html"),
        head(content_encoding="gzip"),
        head(content_length="0", transfer_encoding=""),
        head(transfer_encoding="gzip, chunked"),
    ],
    ids=["400", "500", "300", "302", "html", "gzip", "empty", "transfer-encoded"],
)
def test_signer_forwards_an_ineligible_response_unsigned_and_without_a_receipt(
    signer: Signer, store: MemorySignatureStore, exchanges: Exchanges, make_flow: MakeFlow, response: http.Response
) -> None:
    if not response.headers["transfer-encoding"]:
        del response.headers["transfer-encoding"]
    flow, response = make_flow(REQUEST), response.copy()
    assert pass_through(signer, flow, response, ANSWER) == ANSWER
    assert len(store) == 0
    assert "x-receipt-id" not in response.headers
    assert exchanges.of(flow).state == "unsigned"
    assert exchanges.of(flow).reason


def test_signer_does_not_sign_a_truncated_stream(
    signer: Signer, store: MemorySignatureStore, make_flow: MakeFlow, exchanges: Exchanges
) -> None:
    flow = make_flow(REQUEST)
    begin(signer, flow)
    flow.response = head(content_type="text/event-stream")
    signer.responseheaders(flow)
    assert callable(flow.response.stream)
    flow.response.stream(b'data: {"id":"chatcmpl-9"}\n\ndata: [DONE]\n\n')
    signer.error(flow)
    assert len(store) == 0
    assert exchanges.of(flow).state == "unsigned"
    assert exchanges.of(flow).reason == "the exchange was cut short"


def test_signer_signs_a_complete_stream_without_its_last_event(
    signer: Signer, store: MemorySignatureStore, make_flow: MakeFlow
) -> None:
    event = b'data: {"id":"chatcmpl-9"}\n\n'
    assert pass_through(signer, make_flow(REQUEST), head(content_type="text/event-stream"), event) == event
    signed = store.get("chatcmpl-9")
    assert signed is not None
    assert signed["text"] == f"{sha256(REQUEST)}:{sha256(event)}"


def test_signer_does_not_sign_json_ended_only_by_the_connection(
    signer: Signer, store: MemorySignatureStore, exchanges: Exchanges, make_flow: MakeFlow
) -> None:
    flow, response = make_flow(REQUEST), head()
    del response.headers["transfer-encoding"]
    assert pass_through(signer, flow, response, ANSWER) == ANSWER
    assert len(store) == 0
    assert (exchanges.of(flow).state, exchanges.of(flow).chat_id) == ("unsigned", "chatcmpl-123")


@pytest.mark.parametrize("done", [b"", b"data: [DONE]\n\n"])
def test_signer_signs_a_stream_ended_by_the_connection_only_with_its_last_event(
    signer: Signer, store: MemorySignatureStore, exchanges: Exchanges, make_flow: MakeFlow, done: bytes
) -> None:
    flow, response = make_flow(REQUEST), head(content_type="text/event-stream")
    del response.headers["transfer-encoding"]
    pass_through(signer, flow, response, b'data: {"id":"chatcmpl-9"}\n\n' + done)
    assert (store.get("chatcmpl-9") is not None) is bool(done)
    assert exchanges.of(flow).state == ("signed" if done else "unsigned")


def test_signer_leaves_the_proxys_own_response_unchanged(signer: Signer, make_flow: MakeFlow) -> None:
    flow = make_flow(b"nope")
    begin(signer, flow)
    signer.responseheaders(flow)
    assert flow.request.raw_content is None
    assert flow.response is not None
    assert not flow.response.stream
    assert "x-receipt-id" not in flow.response.headers


def test_signer_leaves_other_routes_unsigned_and_unmodified(
    signer: Signer, store: MemorySignatureStore, make_flow: MakeFlow
) -> None:
    flow = make_flow(b"no json", path="/v1/tokenize", accept_encoding="gzip")
    pass_through(signer, flow, head(), ANSWER)
    assert flow.request.headers["accept-encoding"] == "gzip"
    assert len(store) == 0


def test_signer_requests_the_identity_content_coding(signer: Signer, make_flow: MakeFlow) -> None:
    flow = make_flow(REQUEST, accept_encoding="gzip, br")
    signer.requestheaders(flow)
    assert flow.request.headers["accept-encoding"] == "identity"


def test_signer_removes_the_request_body_from_the_flow_once_forwarded_or_failed(
    signer: Signer, make_flow: MakeFlow
) -> None:
    forwarded, failed, under_way = make_flow(REQUEST), make_flow(REQUEST), make_flow(REQUEST)
    pass_through(signer, forwarded, head(), ANSWER)
    begin(signer, failed)
    signer.error(failed)
    begin(signer, under_way)
    assert under_way.request.raw_content == REQUEST
    signer.done()
    for flow in (forwarded, failed, under_way):
        assert flow.request.raw_content is None
    assert forwarded.response is not None
    assert forwarded.response.raw_content is None


class BrokenStore(MemorySignatureStore):
    def put(self, *_: object, **__: object) -> bool:
        raise RuntimeError("disk full")


def test_signer_store_failure_forwards_the_response_and_marks_the_exchange_failed(
    make_flow: MakeFlow, caplog: pytest.LogCaptureFixture, make_signer: Callable[..., Signer], exchanges: Exchanges
) -> None:
    flow = make_flow(REQUEST)
    assert pass_through(make_signer(BrokenStore("demo", 60)), flow, head(), ANSWER) == ANSWER
    assert exchanges.of(flow).state == "failed"
    assert "unsigned" in caplog.text


def test_signer_loads_as_a_mitmproxy_addon(signer: Signer) -> None:
    with taddons.context(signer) as context:
        assert isinstance(Loader(context.master), Loader)
        assert context.master.addons.get("signer") is signer


def test_signer_hashes_a_streamed_request(signer: Signer, store: MemorySignatureStore, make_flow: MakeFlow) -> None:
    pass_through(signer, make_flow(b"--multipart", path="/v1/images/edits"), head(), ANSWER)
    signed = store.get("chatcmpl-123")
    assert signed is not None
    assert signed["text"] == f"{sha256(b'--multipart')}:{sha256(ANSWER)}"


def test_a_request_that_was_changed_after_it_was_received_is_not_signed(
    signer: Signer, store: MemorySignatureStore, make_flow: MakeFlow, exchanges: Exchanges
) -> None:
    flow = make_flow(REQUEST)
    exchanges.of(flow).changed = True
    assert pass_through(signer, flow, head(), ANSWER) == ANSWER
    assert len(store) == 0
    assert exchanges.of(flow).reason == "the request was changed here after it was received"


def test_signer_does_not_sign_a_response_that_ends_before_its_request(
    signer: Signer, store: MemorySignatureStore, make_flow: MakeFlow, exchanges: Exchanges
) -> None:
    flow = make_flow(path="/v1/images/edits")
    flow.request.stream = True
    signer.requestheaders(flow)
    assert callable(flow.request.stream)
    flow.request.stream(b"a part")
    response = flow.response = head()
    signer.responseheaders(flow)
    assert callable(response.stream)
    response.stream(ANSWER)
    response.stream(b"")
    assert len(store) == 0
    assert exchanges.of(flow).reason == "the answer ended before the request did"


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/images/generations", "/v1/files", "/v1/responses"])
def test_signer_signs_a_response_without_an_id_under_its_receipt(
    signer: Signer, store: MemorySignatureStore, make_flow: MakeFlow, path: str
) -> None:
    response = head()
    pass_through(signer, make_flow(REQUEST, path=path), response, b'{"data":[]}')
    assert len(store) == 1
    signed = store.get(response.headers["x-receipt-id"])
    assert signed is not None
    assert signed["text"] == f"{sha256(REQUEST)}:{sha256(b'{"data":[]}')}"


def test_signer_plain_text_transcription_is_streamed_and_signed_at_its_end(
    signer: Signer, store: MemorySignatureStore, make_flow: MakeFlow
) -> None:
    flow = make_flow(b"--multipart", path="/v1/audio/transcriptions")
    begin(signer, flow)
    response = flow.response = head(content_type="text/plain; charset=utf-8")
    signer.responseheaders(flow)
    assert callable(response.stream)
    assert response.stream(b"Hello wo") == b"Hello wo"
    assert response.stream(b"r") == b"r"
    assert len(store) == 0
    assert response.stream(b"") == []
    assert store.get(response.headers["x-receipt-id"]) is not None


@pytest.mark.parametrize(
    ("path", "event", "chat_id"),
    [
        ("/v1/responses", b'data: {"type":"response.completed","response":{"id":"resp_1"}}\n\n', "resp_1"),
        (
            "/v1/messages",
            b'data: {"type":"message_start","message":{"id":"msg_1"}}\n\ndata: {"type":"message_stop"}\n\n',
            "msg_1",
        ),
        ("/v1/other", b'data: {"id":"other"}\n\n', "other"),
    ],
)
def test_signer_reads_each_stream_format_on_its_route(  # noqa: PLR0917
    signer: Signer, store: MemorySignatureStore, make_flow: MakeFlow, path: str, event: bytes, chat_id: str
) -> None:
    pass_through(signer, make_flow(b"{}", path=path), head(content_type="text/event-stream"), event)
    assert store.get(chat_id) is not None


def test_signer_holds_the_last_byte_of_a_response_with_content_length(
    signer: Signer, store: MemorySignatureStore, make_flow: MakeFlow
) -> None:
    event = b'data: {"id":"other"}\n\n'
    flow = make_flow(b"{}", path="/v1/other")
    begin(signer, flow)
    response = flow.response = head(content_type="text/event-stream", content_length=str(2 * len(event)))
    del response.headers["transfer-encoding"]
    signer.responseheaders(flow)
    assert callable(response.stream)
    assert response.stream(event) == event
    assert response.stream(event) == event[:-1]
    assert len(store) == 0
    assert response.stream(b"") == event[-1:]
    assert store.get("other") is not None


def test_signer_keeps_the_prompt_in_the_flow_if_plaintext_is_allowed(
    store: MemorySignatureStore, make_flow: MakeFlow, make_signer: Callable[..., Signer]
) -> None:
    flow = make_flow(REQUEST)
    pass_through(make_signer(keeps_plaintext=True), flow, head(), ANSWER)
    assert flow.request.raw_content == REQUEST


@pytest.mark.parametrize("length", ["x", "", "-1", "\u0661"])
def test_signer_invalid_content_length_does_not_change_what_is_signed(
    signer: Signer, store: MemorySignatureStore, make_flow: MakeFlow, length: str
) -> None:
    flow = make_flow(REQUEST, content_length=length)
    pass_through(signer, flow, head(), ANSWER)
    signed = store.get("chatcmpl-123")
    assert signed is not None
    assert signed["text"].startswith(sha256(REQUEST) + ":")


def test_signer_does_not_sign_a_request_body_that_bypassed_it(
    signer: Signer, store: MemorySignatureStore, make_flow: MakeFlow
) -> None:
    """As where another addon has put a modifier of its own in the place of the signer's."""
    flow = make_flow(REQUEST)
    flow.request.stream = True
    signer.requestheaders(flow)
    flow.request.stream = False
    signer.request(flow)
    flow.response = head()
    signer.responseheaders(flow)
    assert callable(flow.response.stream)
    flow.response.stream(ANSWER)
    flow.response.stream(b"")
    assert len(store) == 0
