import json
from collections.abc import Iterator

import pytest
from mitmproxy import contentviews, flow, http
from mitmproxy.addons.view import View
from mitmproxy.test import taddons

from addons.exchange.exchanges import Exchanges
from addons.exchange.flow_facts import FlowFacts
from addons.exchange.record import Exchange, State
from addons.exchange.route import Kind, Route
from addons.inspection.content_view import TeeProof
from addons.inspection.inspected_flow import InspectedFlow
from addons.inspection.inspection import Inspection, OriginalRequestProbe
from addons.inspection.text import comment_of
from attest_web.keys import SigningKeys
from tests.addons.conftest import MakeFlow, head

PROMPT = b'{"model":"m","messages":[{"role":"user","content":"a secret"}]}'


@pytest.fixture
def inspection(exchanges: Exchanges) -> Iterator[Inspection]:
    view = View()
    with taddons.context(view):
        yield Inspection(view, exchanges, keeps_plaintext=False)


def begin(inspection: Inspection, made: http.HTTPFlow, body: bytes = PROMPT) -> None:
    """Take a request whose body is held through the hooks, as mitmproxy does."""
    made.request.data.content = None
    inspection.requestheaders(made)
    inspection.view.requestheaders(made)
    made.request.data.content = body
    OriginalRequestProbe(inspection).request(made)
    inspection.request(made)


def told(message: http.Message | None) -> dict[str, object]:
    """The notice in place of a body."""
    assert message is not None
    assert message.raw_content is not None
    notice: dict[str, object] = json.loads(message.raw_content)
    return notice


def test_inspection_body_is_in_its_flow_only_while_it_is_forwarded(inspection: Inspection, make_flow: MakeFlow) -> None:
    made = make_flow()
    begin(inspection, made)
    assert told(made.request)["state"] == "pending"
    inspection.release(made)
    assert made.request.raw_content == PROMPT
    made.request.data.content = None
    inspection.forget(made)
    assert told(made.request)["bytes"] == len(PROMPT)
    inspection.release(made)
    assert told(made.request)["bytes"] == len(PROMPT), "it is gone"


def test_inspection_leaves_an_empty_body_empty(inspection: Inspection, make_flow: MakeFlow) -> None:
    made = make_flow(method="GET", path="/v1/models")
    begin(inspection, made, b"")
    assert made.request.raw_content == b""


def test_inspection_discards_the_body_of_a_refused_request_at_once(inspection: Inspection, make_flow: MakeFlow) -> None:
    made = make_flow()
    made.request.data.content = None
    inspection.requestheaders(made)
    made.request.data.content = PROMPT
    made.response = http.Response.make(400, b"{}")
    inspection.request(made)
    assert told(made.request)["withheld"] == "the request body"
    inspection.release(made)
    assert b"secret" not in (made.request.raw_content or b"")


def test_inspection_discards_a_pending_body_when_the_exchange_fails(
    inspection: Inspection, make_flow: MakeFlow
) -> None:
    made = make_flow()
    begin(inspection, made)
    made.error = flow.Error("server is gone")
    inspection.error(made)
    inspection.release(made)
    assert b"secret" not in (made.request.raw_content or b"")
    assert (made.marked, made.comment) == (":x:", "failed: server is gone · m")


def test_a_mark_or_comment_of_an_operator_is_kept(inspection: Inspection, make_flow: MakeFlow) -> None:
    made = make_flow()
    begin(inspection, made)
    made.comment, made.marked = "look at this", ":eyes:"
    made.error = flow.Error("server is gone")
    inspection.error(made)
    assert (made.comment, made.marked) == ("look at this", ":eyes:")


def test_inspection_signed_flow_stays_signed_after_a_client_disconnect(
    inspection: Inspection, exchanges: Exchanges, make_flow: MakeFlow
) -> None:
    made = make_flow()
    begin(inspection, made)
    exchanges.of(made).state = "signed"
    exchanges.of(made).receipt_id = "rcpt-1"
    made.error = flow.Error("client is gone")
    inspection.error(made)
    assert made.comment == "signed · m · rcpt-1"


@pytest.mark.parametrize(
    ("state", "reason", "status", "ended", "comment"),
    [
        ("unsigned", "the answer is empty", 200, True, "unsigned: the answer is empty"),
        ("unsigned", "the upstream answered with an error", 404, True, "unsigned: the upstream answered with"),
        ("unsigned", "the upstream answered with an error", 500, True, "failed: the upstream answered with"),
        ("failed", "signing failed", 200, True, "failed: signing failed"),
        ("pending", None, 101, False, "pending"),
        ("unsigned", "a WebSocket frame was not valid", 101, True, "unsigned: a WebSocket frame"),
    ],
)
def test_failed_and_unsigned_exchanges_have_different_marks(
    state: State, reason: str | None, status: int, ended: bool, comment: str
) -> None:
    exchange = Exchange(Route(Kind.SIGNED), state=state, reason=reason, upstream_status=status)
    exchange.status, exchange.ended = status, ended
    assert comment_of(InspectedFlow(exchange, FlowFacts("POST /", ended=True))).startswith(comment)


def test_inspection_does_not_show_a_receipt_forged_by_the_upstream(
    inspection: Inspection, exchanges: Exchanges, make_flow: MakeFlow
) -> None:
    made = make_flow(path="/v1/tokenize")
    begin(inspection, made)
    exchanges.of(made).upstream_status = exchanges.of(made).status = 200
    made.response = head(x_receipt_id="rcpt-forged")
    made.response.stream = True
    inspection.responseheaders(made)
    inspection.response(made)
    assert made.comment == "unsigned: this endpoint is not signed"


def test_inspection_finds_a_flow_from_its_first_hook_on_and_not_its_copy(
    inspection: Inspection, exchanges: Exchanges, make_flow: MakeFlow
) -> None:
    made = make_flow()
    assert inspection.find(made) is None
    exchanges.of(made)
    assert inspection.find(made) is None
    begin(inspection, made)
    inspected = inspection.find(made)
    assert inspected is not None
    assert inspected.exchange is exchanges.of(made)
    assert inspected.facts is exchanges.of(made).shown
    assert inspection.find(made.copy()) is None
    assert inspection.find(None) is None


def test_the_proof_view_is_first_except_for_responses_of_the_proxy_itself(
    inspection: Inspection, exchanges: Exchanges, make_flow: MakeFlow, keys: SigningKeys
) -> None:
    view = TeeProof(inspection, {"ecdsa": keys.ecdsa_address, "ed25519": keys.ed25519_address})
    made = make_flow()
    begin(inspection, made)
    made.response = http.Response.make(400, b'{"error":{}}')
    exchanges.of(made).status = 400
    inspection.response(made)
    asked = contentviews.Metadata(flow=made, http_message=made.request)
    answered = contentviews.Metadata(flow=made, http_message=made.response)
    assert view.render_priority(made.request.raw_content or b"", asked) > 10
    assert view.render_priority(b'{"error":{}}', answered) < 0
    assert "state      unsigned: answered here with 400" in view.prettify(b'{"error":{}}', answered)
    stranger = contentviews.Metadata(flow=make_flow())
    assert view.render_priority(b"x", stranger) < 0
    assert view.prettify(b"x", stranger).startswith("Nothing is known here")
