"""Which exchanges get a mark with the reason for a missing signature, and under which ids."""

from collections.abc import Callable
from unittest.mock import Mock

import pytest
from mitmproxy import http

from addons.exchange.exchanges import Exchanges
from addons.exchange.record import Exchange
from addons.exchange.route import Kind, Route
from addons.exchange.summary import Summary
from addons.signing.signer import Signer
from addons.signing.unsigned_marks import UnsignedMarks
from attest_web.metrics import Metrics
from attest_web.stores.signature_store import MemorySignatureStore, NotSignedError
from tests.addons.conftest import MakeFlow, head

SIGNED = Route(Kind.SIGNED)
EVENT = b'data: {"id":"chatcmpl-9"}\n\n'


@pytest.fixture
def over(store: MemorySignatureStore, exchanges: Exchanges) -> Callable[[http.HTTPFlow], None]:
    """Tells of the end of a flow, as the observer does."""

    def tell(flow: http.HTTPFlow) -> None:
        summary = Summary("x", "POST", 200, 1.0, None, exchanges.of(flow))
        UnsignedMarks(store).tell(summary)

    return tell


def cut_short(signer: Signer, flow: http.HTTPFlow, response: http.Response, *pieces: bytes) -> str:
    """Have an exchange break off after some pieces of its answer; return its receipt id."""
    begin(signer, flow, response, *pieces)
    signer.error(flow)
    receipt: str = response.headers["x-receipt-id"]
    return receipt


def begin(signer: Signer, flow: http.HTTPFlow, response: http.Response, *pieces: bytes) -> None:
    flow.request.stream = True
    signer.requestheaders(flow)
    if callable(flow.request.stream):
        for part in (flow.request.raw_content or b"", b""):
            flow.request.stream(part)
    flow.request.stream = False
    signer.request(flow)
    flow.response = response
    signer.responseheaders(flow)
    for piece in pieces:
        assert callable(response.stream)
        response.stream(piece)


def reason_for(store: MemorySignatureStore, chat_id: str) -> str:
    with pytest.raises(NotSignedError) as caught:
        store.get(chat_id)
    return caught.value.reason


def test_unsigned_mark_of_a_truncated_stream_is_stored_under_both_ids(
    signer: Signer, store: MemorySignatureStore, make_flow: MakeFlow, over: Callable[[http.HTTPFlow], None]
) -> None:
    flow = make_flow(b"{}")
    receipt = cut_short(signer, flow, head(content_type="text/event-stream"), EVENT)
    assert store.get(receipt) is None, "written once, when all is over"
    over(flow)
    assert reason_for(store, receipt) == reason_for(store, "chatcmpl-9") == "the exchange was cut short"


def test_unsigned_mark_of_a_truncated_stream_neither_blocks_nor_hides_a_signature(
    signer: Signer,
    store: MemorySignatureStore,
    metrics: Metrics,
    make_flow: MakeFlow,
    over: Callable[[http.HTTPFlow], None],
) -> None:
    done = EVENT + b"data: [DONE]\n\n"
    attack = make_flow(b"{}")
    cut_short(signer, attack, head(content_type="text/event-stream"), EVENT)
    over(attack)
    begin(signer, victim := make_flow(b"{}"), head(content_type="text/event-stream"), done, b"")
    over(victim)
    assert (signed := store.get("chatcmpl-9")) is not None
    assert metrics.registry().get_sample_value("tee_signature_store_conflicts_total") == 0
    attack = make_flow(b"{}")
    receipt = cut_short(signer, attack, head(content_type="text/event-stream"), EVENT)
    over(attack)
    assert store.get("chatcmpl-9") == signed
    assert reason_for(store, receipt) == "the exchange was cut short"


def test_reread_of_a_stored_object_is_signed_and_marked_under_its_receipts_only(  # noqa: PLR0917
    signer: Signer,
    store: MemorySignatureStore,
    metrics: Metrics,
    make_flow: MakeFlow,
    over: Callable[[http.HTTPFlow], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = b'{"id":"resp_1","object":"response"}'
    begin(signer, made := make_flow(b"{}", path="/v1/responses"), head(), answer, b"")
    over(made)
    first = store.get("resp_1")
    assert first is not None
    for path in ("/v1/responses/resp_1", "/v1/responses/resp_1/input_items", "/v1/responses/resp_1?include=x"):
        again = head()
        begin(signer, flow := make_flow(method="GET", path=path), again, b"\n" + answer, b"")
        over(flow)
        signed = store.get(again.headers["x-receipt-id"])
        assert signed is not None
        assert signed["text"] != first["text"]
    cut = make_flow(method="GET", path="/v1/responses/resp_2")
    receipt = cut_short(signer, cut, head(), b'{"id":"resp_2",')
    over(cut)
    assert reason_for(store, receipt)
    assert store.get("resp_2") is None
    assert store.get("resp_1") == first
    assert metrics.registry().get_sample_value("tee_signature_store_conflicts_total") == 0
    assert "used before" not in caplog.text


def test_signature_is_stored_once_under_both_ids_with_the_credential_as_holder(
    signer: Signer, store: MemorySignatureStore, exchanges: Exchanges, make_flow: MakeFlow
) -> None:
    exchanges.of(flow := make_flow(b"{}")).credential = "abc"
    response = head()
    begin(signer, flow, response, b'{"id":"chatcmpl-9"}', b"")
    (kept,) = store.all()
    assert kept.holder == "abc"
    assert set(kept.keys) == {"demo:chat:chatcmpl-9", f"demo:chat:{response.headers['x-receipt-id']}"}


def test_unsigned_mark_is_not_stored_for_an_upstream_error(
    signer: Signer, store: MemorySignatureStore, make_flow: MakeFlow, over: Callable[[http.HTTPFlow], None]
) -> None:
    begin(signer, flow := make_flow(b"{}"), head(500))
    over(flow)
    assert store.all() == []


@pytest.mark.parametrize("state", ["signed", "pending", None])
def test_unsigned_mark_is_not_stored_for_a_signed_or_pending_exchange(state: str | None) -> None:
    store = Mock()
    exchange = Exchange(SIGNED, state=state, reason="x", receipt_id="rcpt-1")  # type: ignore[arg-type]
    UnsignedMarks(store).tell(Summary("x", "POST", 200, 1.0, None, exchange))
    store.mark_unsigned.assert_not_called()


def test_unsigned_mark_of_a_signing_failure_has_its_holder_and_tolerates_a_store_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Mock()
    store.mark_unsigned.side_effect = RuntimeError("disk full")
    exchange = Exchange(SIGNED, state="failed", reason="signing failed", receipt_id="rcpt-1", credential="abc")
    UnsignedMarks(store).tell(Summary("x", "POST", 200, 1.0, None, exchange))
    store.mark_unsigned.assert_called_once_with(["rcpt-1"], "signing failed", "abc")
    assert "RuntimeError" in caplog.text
