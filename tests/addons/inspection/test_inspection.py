import gc
import json
import weakref
from collections.abc import Iterator

import pytest
from mitmproxy import contentviews, flow, http
from mitmproxy.addons.view import View
from mitmproxy.test import taddons

from addons.exchange.record import Exchange, Exchanges
from addons.inspection.content_view import TeeProof
from addons.inspection.inspected_exchange import InspectedExchange
from addons.inspection.inspection import Inspection, OriginalRequestProbe
from addons.inspection.text import comment_of
from addons.routing.routes import Router
from attest_web.keys import SigningKeys
from tests.addons.conftest import MakeFlow, head

PROMPT = b'{"model":"m","messages":[{"role":"user","content":"a secret"}]}'


@pytest.fixture
def exchanges() -> Exchanges:
    return Exchanges()


@pytest.fixture
def inspection(exchanges: Exchanges) -> Iterator[Inspection]:
    view = View()
    with taddons.context(view):
        yield Inspection(view, Router(), exchanges, keeps_plaintext=False)


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


def test_a_body_is_in_its_flow_only_while_it_is_forwarded(inspection: Inspection, make_flow: MakeFlow) -> None:
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


def test_an_empty_body_stays_empty_for_nothing_else_may_be_forwarded(
    inspection: Inspection, make_flow: MakeFlow
) -> None:
    made = make_flow(method="GET", path="/v1/models")
    begin(inspection, made, b"")
    assert made.request.raw_content == b""


def test_the_body_of_a_refused_request_is_forgotten_at_once(inspection: Inspection, make_flow: MakeFlow) -> None:
    made = make_flow()
    made.request.data.content = None
    inspection.requestheaders(made)
    made.request.data.content = PROMPT
    made.response = http.Response.make(400, b"{}")
    inspection.request(made)
    assert told(made.request)["withheld"] == "the request body"
    inspection.release(made)
    assert b"secret" not in (made.request.raw_content or b"")


def test_a_body_that_waits_is_forgotten_when_the_exchange_fails(inspection: Inspection, make_flow: MakeFlow) -> None:
    made = make_flow()
    begin(inspection, made)
    made.error = flow.Error("server is gone")
    inspection.error(made)
    inspection.release(made)
    assert b"secret" not in (made.request.raw_content or b"")
    assert (made.marked, made.comment) == (":x:", "failed: server is gone · m")


def test_what_somebody_has_written_at_a_flow_stays(inspection: Inspection, make_flow: MakeFlow) -> None:
    made = make_flow()
    begin(inspection, made)
    made.comment, made.marked = "look at this", ":eyes:"
    made.error = flow.Error("server is gone")
    inspection.error(made)
    assert (made.comment, made.marked) == ("look at this", ":eyes:")


def test_what_has_been_signed_stays_so_when_the_client_goes(
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
    ("known", "status", "comment"),
    [
        (Exchange("unsigned", "the answer is empty"), 200, "unsigned: the answer is empty"),
        (Exchange("unsigned", "the upstream answered with an error"), 404, "unsigned: the upstream answered with"),
        (Exchange("unsigned", "the upstream answered with an error"), 500, "failed: the upstream answered with"),
        (Exchange("failed", "signing failed"), 200, "failed: signing failed"),
        (Exchange("pending"), 101, "pending"),
        (Exchange("unsigned", "a WebSocket frame was not valid", ended=True), 101, "unsigned: a WebSocket frame"),
    ],
)
def test_it_is_told_apart_whether_something_is_amiss(known: Exchange, status: int, comment: str) -> None:
    known.upstream_status = status
    shown = InspectedExchange(known, "POST /", due=True, status=status, is_websocket=status == 101)
    assert comment_of(shown).startswith(comment)


def test_a_receipt_of_an_upstreams_making_is_not_shown(
    inspection: Inspection, exchanges: Exchanges, make_flow: MakeFlow
) -> None:
    made = make_flow(path="/v1/tokenize")
    begin(inspection, made)
    exchanges.of(made).upstream_status = 200
    made.response = head(x_receipt_id="rcpt-forged")
    made.response.stream = True
    inspection.responseheaders(made)
    inspection.response(made)
    assert made.comment == "unsigned: this endpoint is not signed"


def test_what_is_no_longer_listed_is_gone(inspection: Inspection, make_flow: MakeFlow) -> None:
    made = make_flow()
    begin(inspection, made)
    gone = weakref.ref(inspection.exchange_of(made))
    inspection.view.clear()
    del made
    gc.collect()
    assert gone() is None


def test_the_proof_comes_before_other_views_but_not_before_what_the_proxy_says_itself(
    inspection: Inspection, make_flow: MakeFlow, keys: SigningKeys
) -> None:
    view = TeeProof(inspection, {"ecdsa": keys.ecdsa_address, "ed25519": keys.ed25519_address})
    made = make_flow()
    begin(inspection, made)
    made.response = http.Response.make(400, b'{"error":{}}')
    inspection.response(made)
    asked = contentviews.Metadata(flow=made, http_message=made.request)
    answered = contentviews.Metadata(flow=made, http_message=made.response)
    assert view.render_priority(made.request.raw_content or b"", asked) > 10
    assert view.render_priority(b'{"error":{}}', answered) < 0
    assert "state      unsigned: answered here with 400" in view.prettify(b'{"error":{}}', answered)
    stranger = contentviews.Metadata(flow=make_flow())
    assert view.render_priority(b"x", stranger) < 0
    assert view.prettify(b"x", stranger).startswith("Nothing is known here")
