"""The log line of each request."""

import logging

from addons.exchange.summary import Summary
from attest_web.process.json_log import SUBJECT

logger = logging.getLogger(__name__)

_POLLED = frozenset({"/health", "/ready", "/metrics"})
"""Pages that are polled: successful requests for them are logged at `debug`."""


def log_request(summary: Summary) -> None:
    """Log a request that has ended."""
    level = logging.DEBUG if summary.route in _POLLED and summary.status < 400 else logging.INFO
    if logger.isEnabledFor(level):
        # mitmproxy prefixes such a line with the client's address.
        logger.log(level, "%s", summary, extra={"client": summary.exchange.peer, SUBJECT: summary})
