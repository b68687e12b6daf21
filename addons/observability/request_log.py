"""The log's line for each request."""

import logging

from addons.exchange.summary import Summary
from attest_web.process.json_log import SUBJECT

logger = logging.getLogger(__name__)

_POLLED = frozenset({"/health", "/ready", "/metrics"})
"""Pages that machines ask for all the time: where these are answered, the line is one for `debug`."""


def log_request(summary: Summary) -> None:
    """Write the line of a request that is over."""
    level = logging.DEBUG if summary.route in _POLLED and summary.status < 400 else logging.INFO
    if logger.isEnabledFor(level):
        # mitmproxy puts the client's address in front of such a line.
        logger.log(level, "%s", summary, extra={"client": summary.exchange.peer, SUBJECT: summary})
