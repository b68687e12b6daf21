import pytest

from addons.exchange.record import Exchange
from addons.exchange.route import Kind, Route

ROUTE = Route(Kind.SIGNED, "/v1/chat/completions")


@pytest.mark.parametrize(
    ("state", "reason", "found"),
    [
        (None, "cut short", ("unsigned", "cut short")),
        ("pending", "cut short", ("unsigned", "cut short")),
        ("signed", "cut short", ("signed", None)),
    ],
)
def test_what_has_been_signed_stays_signed(state: str | None, reason: str, found: tuple[str, str | None]) -> None:
    exchange = Exchange(ROUTE, state=state)  # type: ignore[arg-type]
    exchange.leave_unsigned(reason)
    assert (exchange.state, exchange.reason) == found


def test_a_record_shows_nothing_of_its_fields() -> None:
    assert "s3cret" not in repr(Exchange(ROUTE, authorization="Bearer s3cret", credential="s3cret"))


def test_a_response_is_made_here_unless_the_upstream_has_answered() -> None:
    assert Exchange(ROUTE).made_here
    assert not Exchange(ROUTE, upstream_status=200).made_here


def test_a_websocket_is_one_whose_handshake_the_upstream_has_accepted() -> None:
    assert Exchange(ROUTE, upstream_status=101).is_websocket
    assert not Exchange(ROUTE, upstream_status=200).is_websocket
