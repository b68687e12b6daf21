"""What is reported of each request that has ended."""

import pytest
from mitmproxy import http
from mitmproxy.connection import ConnectionState
from mitmproxy.flow import Error

from addons.exchange.exchanges import Exchanges
from addons.exchange.summary import Summary
from addons.exchange.token_times import TokenTimes
from addons.exchange.usage import Usage
from addons.messages.request_id import return_request_id, settle_request_id
from addons.messages.responses import error_response, no_room
from addons.observability.observer import Observer
from addons.routing.routes import Router
from attest_web.metrics import BETWEEN_TOKENS, Metrics
from tests.addons.conftest import MakeFlow, head

CHATS = "/v1/chat/completions"


class Told:
    """An observer, and the summaries that it has reported."""

    def __init__(self) -> None:
        self.exchanges = Exchanges(Router().route_of)
        self.metrics = Metrics()
        self.summaries: list[Summary] = []
        self.observer = Observer(self.exchanges, self.metrics, [self.summaries.append])

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry().get_sample_value(name, labels)

    def answer(self, flow: http.HTTPFlow, response: http.Response, body: bytes = b"") -> Summary:
        """Have an upstream answer, and end."""
        flow.response = response
        self.observer.responseheaders(flow)
        if callable(response.stream):
            assert response.stream(body) == body
            assert response.stream(b"") == b""
        self.observer.response(flow)
        return self.summaries[-1]

    def fail(self, flow: http.HTTPFlow) -> Summary:
        flow.error = Error("whatever")
        self.observer.error(flow)
        return self.summaries[-1]


@pytest.fixture
def told() -> Told:
    return Told()


def test_observer_counts_a_request_by_route_method_and_status(told: Told, make_flow: MakeFlow) -> None:
    flow = make_flow(x_request_id="abc-1")
    exchange = told.exchanges.of(flow)
    exchange.state, exchange.usage = "signed", Usage(3, 4)
    summary = told.answer(flow, head())
    assert (summary.request_id, summary.route, summary.status) == ("abc-1", CHATS, 200)
    assert told.value("tee_requests_total", route=CHATS, method="POST", status="200") == 1
    assert told.value("tee_request_duration_seconds_count", route=CHATS) == 1
    assert told.value("tee_tokens_total", route=CHATS, direction="input") == 3
    assert told.value("tee_tokens_total", route=CHATS, direction="output") == 4
    assert told.value("tee_exchanges_total", state="signed", reason="") == 1


@pytest.mark.parametrize(
    ("path", "method", "labels"),
    [
        ("/v1/a/prompt/in/the/path?and=more", "GET", {"route": "other", "method": "GET"}),
        ("/v1/signature/chatcmpl-1", "GET", {"route": "/v1/signature/{id}", "method": "GET"}),
        (CHATS, "BREW", {"route": "other", "method": "other"}),
        ("/version", "GET", {"route": "/version", "method": "GET"}),
    ],
)
def test_observer_labels_contain_no_client_input(
    told: Told, make_flow: MakeFlow, path: str, method: str, labels: dict[str, str]
) -> None:
    told.answer(make_flow(path=path, method=method), head())
    assert told.value("tee_requests_total", status="200", **labels) == 1


@pytest.mark.parametrize("given", ["", "a b", "x" * 201, "é", "a\x1b"])
def test_observer_replaces_an_invalid_request_id(told: Told, make_flow: MakeFlow, given: str) -> None:
    flow = make_flow(x_request_id=given)
    assert told.answer(flow, head()).request_id == flow.id


@pytest.mark.parametrize("given", ["a/b+c==", 'a"b', "x" * 200])
def test_observer_logs_the_request_id_returned_in_the_response(told: Told, make_flow: MakeFlow, given: str) -> None:
    flow = make_flow(x_request_id=given)
    settle_request_id(flow.request)
    response = head()
    return_request_id(flow.request, response)
    assert told.answer(flow, response).request_id == response.headers["x-request-id"] == given


def test_observer_measures_time_to_first_token_and_between_tokens(
    told: Told, make_flow: MakeFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = make_flow()
    times = told.exchanges.of(flow).times = TokenTimes(BETWEEN_TOKENS)
    for now, how_many in ((0.25, 1), (0.27, 1), (0.27, 3), (0.2, 1)):
        monkeypatch.setattr("addons.exchange.token_times.time.time", lambda now=now: flow.request.timestamp_start + now)
        times.came(how_many)
    flow.response = head(content_type="text/event-stream")
    told.observer.responseheaders(flow)
    assert told.exchanges.open_streams() == 1
    told.observer.response(flow)
    assert told.exchanges.open_streams() == 0
    assert told.summaries[0].first_token_seconds == pytest.approx(0.25)
    assert told.value("tee_time_to_first_token_seconds_sum", route=CHATS) == pytest.approx(0.25)
    assert told.value("tee_time_between_tokens_seconds_count", route=CHATS) == 5
    assert told.value("tee_time_between_tokens_seconds_sum", route=CHATS) == pytest.approx(0.02, rel=1e-3)
    assert told.value("tee_time_between_tokens_seconds_bucket", route=CHATS, le="0.015") == 4
    assert told.value("tee_time_between_tokens_seconds_bucket", route=CHATS, le="0.03") == 5


@pytest.mark.parametrize(
    ("status", "path", "reason"),
    [
        (401, CHATS, "unauthorized"),
        (401, "/v1/signature/x", "unauthorized"),
        (413, CHATS, "payload_too_large"),
        (429, CHATS, "rate_limited"),
        (404, "/v1/signature/x", None),
    ],
)
def test_observer_counts_the_proxys_own_refusals_by_reason(
    told: Told, make_flow: MakeFlow, status: int, path: str, reason: str | None
) -> None:
    flow = make_flow(path=path)
    flow.response = error_response(status, "No.")
    told.observer.responseheaders(flow)
    told.observer.response(flow)
    assert told.summaries[0].status == status
    counts = {
        sample.labels["reason"]: sample.value
        for family in told.metrics.registry().collect()
        for sample in family.samples
        if sample.name == "tee_refusals_total" and sample.value
    }
    assert counts == ({reason: 1} if reason else {})


def test_observer_counts_a_503_for_lack_of_memory_as_a_refusal_not_an_upstream_error(
    told: Told, make_flow: MakeFlow
) -> None:
    flow = make_flow()
    flow.response = no_room(flow.request)
    told.observer.response(flow)
    assert told.value("tee_refusals_total", reason="unavailable") == 1
    assert all(told.value("tee_upstream_errors_total", kind=kind) == 0 for kind in ("unreachable", "status_5xx"))


def test_observer_does_not_count_a_proof_pages_503_as_a_refusal(told: Told, make_flow: MakeFlow) -> None:
    flow = make_flow(path="/ready", method="GET")
    flow.response = error_response(503, "No.")
    told.observer.response(flow)
    assert told.value("tee_refusals_total", reason="unavailable") == 0


def test_observer_does_not_count_upstream_errors_as_refusals(told: Told, make_flow: MakeFlow) -> None:
    told.answer(make_flow(), head(401), b'{"error":{"message":"m","type":"t"}}')
    assert told.value("tee_refusals_total", reason="unauthorized") == 0
    assert told.value("tee_upstream_errors_total", kind="status_5xx") == 0
    told.answer(make_flow(), head(503), b"{}")
    assert told.value("tee_upstream_errors_total", kind="status_5xx") == 1
    assert told.value("tee_refusals_total", reason="unavailable") == 0


def test_an_upstreams_error_is_logged_up_to_its_first_quote(told: Told, make_flow: MakeFlow) -> None:
    error = b'{"error":{"message":"max_tokens is too large for \\"my secret prompt\\"","type":"BadRequestError"}}'
    summary = told.answer(make_flow(), head(400), error)
    assert summary.fields()["upstream_error"].startswith("BadRequestError: max_tokens is too large for ")
    assert "secret" not in str(summary)
    assert "secret" not in repr(summary.fields())


def test_observer_does_not_log_an_encoded_upstream_error(told: Told, make_flow: MakeFlow) -> None:
    assert "upstream_error" not in told.answer(make_flow(), head(400, content_encoding="gzip"), b"x").fields()


def make_gone(flow: http.HTTPFlow) -> None:
    flow.client_conn.state = ConnectionState.CLOSED


def test_a_closed_client_connection_counts_as_no_error(told: Told, make_flow: MakeFlow) -> None:
    flow = make_flow()
    make_gone(flow)
    assert told.fail(flow).status == 499
    other = make_flow()
    told.exchanges.of(other).left_by_client = True
    assert told.fail(other).status == 499
    assert all(told.value("tee_upstream_errors_total", kind=kind) == 0 for kind in ("unreachable", "timeout", "broken"))


@pytest.mark.parametrize(("connected", "kind"), [(None, "unreachable"), (1.0, "broken")])
def test_observer_counts_an_unreachable_or_broken_upstream(
    told: Told, make_flow: MakeFlow, connected: float | None, kind: str
) -> None:
    flow = make_flow()
    flow.server_conn.timestamp_tcp_setup = connected
    assert told.fail(flow).status == 502
    assert told.value("tee_upstream_errors_total", kind=kind) == 1


def test_observer_counts_an_upstream_timeout(told: Told, make_flow: MakeFlow) -> None:
    flow = make_flow()
    flow.server_conn.timestamp_tcp_setup = 1.0
    exchange = told.exchanges.of(flow)
    exchange.layers_status = 504
    exchange.left_by_client = True  # so it is told to the stream, which lets go of the upstream then
    assert told.fail(flow).status == 504
    assert told.value("tee_upstream_errors_total", kind="timeout") == 1


def test_observer_truncated_response_keeps_its_status_and_counts_as_broken(told: Told, make_flow: MakeFlow) -> None:
    flow = make_flow()
    flow.server_conn.timestamp_tcp_setup = 1.0
    flow.response = head()
    told.observer.responseheaders(flow)
    assert told.fail(flow).status == 200
    assert told.value("tee_upstream_errors_total", kind="broken") == 1


def test_a_request_is_reported_once(told: Told, make_flow: MakeFlow) -> None:
    flow = make_flow()
    told.answer(flow, head())
    told.fail(flow)
    assert len(told.summaries) == 1


def test_a_websocket_is_reported_when_it_is_over(told: Told, make_flow: MakeFlow) -> None:
    flow = make_flow(method="GET", path="/v1/realtime")
    flow.response = head(101)
    told.observer.responseheaders(flow)
    told.observer.response(flow)
    assert told.summaries == []
    told.observer.websocket_end(flow)
    assert told.summaries[0].status == 101


def test_observer_counts_an_unreadable_request(told: Told) -> None:
    told.observer.count_unreadable(400)
    assert told.value("tee_requests_total", route="other", method="other", status="400") == 1
    assert told.value("tee_refusals_total", reason="bad_request") == 1
