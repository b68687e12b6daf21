"""The log's line for each request."""

import logging

from mitmproxy import http

from addons.summary import Summary
from attest_web.json_log import SUBJECT

logger = logging.getLogger(__name__)


def log_request(flow: http.HTTPFlow, summary: Summary) -> None:
    """Write the line of a request that is over."""
    if logger.isEnabledFor(logging.INFO):
        # mitmproxy puts the client's address in front of such a line.
        logger.info("%s", summary, extra={"client": flow.client_conn.peername, SUBJECT: summary})
