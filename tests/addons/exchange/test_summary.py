"""The summary of a request that has ended: as a readable line, and as fields."""

import pytest

from addons.exchange.record import Exchange, State
from addons.exchange.route import Kind, Route
from addons.exchange.summary import Summary
from addons.exchange.token_times import TokenTimes
from addons.exchange.usage import Usage

CHATS = Route(Kind.SIGNED, "/v1/chat/completions")


def summary(exchange: Exchange, *, status: int = 200, first: float | None = None) -> Summary:
    return Summary("req-1", "POST", status, 1.23456789, first, exchange)


def test_of_an_exchange_of_which_nothing_is_known_only_the_request_is_told() -> None:
    told = summary(Exchange(CHATS), status=401)
    assert told.fields() == {
        "request_id": "req-1",
        "method": "POST",
        "route": "/v1/chat/completions",
        "status": 401,
        "duration_seconds": 1.234568,
    }
    assert str(told) == "POST /v1/chat/completions 401 in 1.235 s, request req-1"


def test_of_a_signed_stream_its_times_its_tokens_and_its_receipt_are_told() -> None:
    times = TokenTimes([0.1, 1.0])
    times.counts[:] = [1, 1, 0]
    times.total = 0.5
    exchange = Exchange(CHATS, state="signed", receipt_id="rcpt-1", usage=Usage(3, 4), times=times, upstream_status=200)
    told = summary(exchange, first=0.1234567)
    assert told.fields() == {
        "request_id": "req-1",
        "method": "POST",
        "route": "/v1/chat/completions",
        "status": 200,
        "duration_seconds": 1.234568,
        "time_to_first_token_seconds": 0.123457,
        "time_between_tokens_seconds": 0.25,
        "input_tokens": 3,
        "output_tokens": 4,
        "receipt_id": "rcpt-1",
        "signature": "signed",
        "upstream_status": 200,
    }
    assert str(told) == (
        "POST /v1/chat/completions 200 in 1.235 s, first token after 0.123 s, tokens 3 in 4 out, "
        "signed rcpt-1, request req-1"
    )


@pytest.mark.parametrize("state", ["unsigned", "failed"])
def test_of_an_exchange_that_is_not_signed_the_reason_is_told(state: State) -> None:
    told = summary(Exchange(CHATS, state=state, reason="the exchange was cut short"))
    assert told.fields()["reason"] == "the exchange was cut short"
    assert "not signed: the exchange was cut short" in str(told)


def test_of_tokens_only_those_that_are_known_are_told() -> None:
    told = summary(Exchange(CHATS, usage=Usage(None, 4)))
    assert "tokens 4 out" in str(told)
    assert "input_tokens" not in told.fields()


def test_an_upstreams_error_is_told() -> None:
    told = summary(Exchange(CHATS, upstream_status=422, upstream_error="'Bad Request'"), status=422)
    assert told.fields()["upstream_error"] == "'Bad Request'"
    assert "'Bad Request'" in str(told)
