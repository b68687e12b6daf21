"""The content view "TEE proof", and which bodies it replaces."""

from collections.abc import Callable

import pytest
from mitmproxy import contentviews, http
from mitmproxy.addons.view import View
from mitmproxy.test import taddons

from addons.exchange.exchanges import Exchanges
from addons.inspection.content_view import NAME, TeeProof
from addons.inspection.inspection import Inspection, OriginalRequestProbe
from addons.inspection.text import BANNER
from attest_web.keys import SigningKeys
from tests.addons.conftest import MakeFlow

PROMPT = b'{"model":"m","messages":[{"role":"user","content":"a secret"}]}'

type MakeView = Callable[..., tuple[TeeProof, http.HTTPFlow]]


@pytest.fixture
def make_view(exchanges: Exchanges, keys: SigningKeys, make_flow: MakeFlow) -> MakeView:
    """Makes a view, and a flow that has passed."""

    def make(*, keeps_plaintext: bool, body: bytes = PROMPT) -> tuple[TeeProof, http.HTTPFlow]:
        view, made = View(), make_flow(body)
        with taddons.context(view):
            inspection = Inspection(view, exchanges, keeps_plaintext=keeps_plaintext)
            made.request.data.content = None
            inspection.requestheaders(made)
            view.requestheaders(made)
            made.request.data.content = body
            OriginalRequestProbe(inspection).request(made)
            inspection.request(made)
        return TeeProof(inspection, {"ecdsa": keys.ecdsa_address, "ed25519": keys.ed25519_address}), made

    return make


def of_request(made: http.HTTPFlow) -> contentviews.Metadata:
    return contentviews.Metadata(flow=made, http_message=made.request)


def test_a_body_that_is_withheld_is_not_shown_and_the_proof_is(make_view: MakeView) -> None:
    view, made = make_view(keeps_plaintext=False)
    shown = view.prettify(made.request.raw_content or b"", of_request(made))
    assert view.name == NAME
    assert view.render_priority(b"", of_request(made)) == 100
    assert "state      pending" in shown
    assert "secret" not in shown
    assert BANNER not in shown


@pytest.mark.parametrize("body", [PROMPT, b"no JSON: a secret"], ids=["JSON", "text"])
def test_a_body_that_is_kept_is_shown_below_the_proof_and_a_warning(make_view: MakeView, body: bytes) -> None:
    view, made = make_view(keeps_plaintext=True, body=body)
    assert view.render_priority(body, of_request(made)) == 100
    shown = view.prettify(body, of_request(made))
    assert shown.startswith(BANNER)
    assert shown.index("state ") < shown.index("a secret")


def test_the_view_can_be_chosen_by_its_name(make_view: MakeView) -> None:
    view, _ = make_view(keeps_plaintext=False)
    before = dict(contentviews.registry)
    try:
        view.load(None)
        assert contentviews.registry[NAME.lower()] is view
    finally:
        contentviews.registry._by_name.pop(NAME.lower(), None)
    assert dict(contentviews.registry) == before


def test_a_flow_that_has_not_passed_here_is_left_to_other_views(make_view: MakeView, make_flow: MakeFlow) -> None:
    view, _ = make_view(keeps_plaintext=False)
    for metadata in (contentviews.Metadata(flow=make_flow()), contentviews.Metadata()):
        assert view.render_priority(b"x", metadata) < 0
        assert view.prettify(b"x", metadata).startswith("Nothing is known here")
