import logging

import pytest

from addons.exchange.record import Exchange
from addons.exchange.route import Kind, Route
from addons.exchange.summary import Summary
from addons.observability.request_log import log_request
from attest_web.process.json_log import SUBJECT


def over(route: str, status: int) -> Summary:
    return Summary("req-1", "GET", status, 1.0, None, Exchange(Route(Kind.PASSED, route), ("203.0.113.1", 4000)))


@pytest.mark.parametrize(
    ("route", "status", "level"),
    [
        ("/v1/models", 200, logging.INFO),
        ("/v1/models", 502, logging.INFO),
        ("/health", 200, logging.DEBUG),
        ("/ready", 200, logging.DEBUG),
        ("/metrics", 200, logging.DEBUG),
        ("/ready", 503, logging.INFO),
        ("/metrics", 404, logging.INFO),
    ],
)
def test_a_request_is_one_line_and_a_poll_that_succeeds_is_one_for_debug(
    route: str, status: int, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    summary = over(route, status)
    log_request(summary)
    [record] = caplog.records
    assert (record.levelno, record.getMessage()) == (level, str(summary))
    assert getattr(record, SUBJECT) is summary
    assert record.client == ("203.0.113.1", 4000)  # type: ignore[attr-defined]


def test_a_line_that_is_not_wanted_is_not_made(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log_request(over("/health", 200))
    assert caplog.records == []
