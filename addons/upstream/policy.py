"""The interface of upstream policies, which decide where a request is sent, and whether and where it is sent again."""

from typing import Protocol

from mitmproxy import http

from addons.exchange.attempt import Target
from addons.exchange.record import Exchange


class UpstreamPolicy(Protocol):
    """Chooses upstreams; the layers connect and send. Only for the event loop's thread.

    The outcome of each choice is in `Exchange.attempts`, which the layers write.
    """

    def choose(self, exchange: Exchange, request: http.Request) -> Target:
        """Choose where a request is sent, when its head has been accepted.

        Args:
            exchange: The record of the request.
            request: The head as received; its scheme, host and port are those of `--mode`.
        """

    def retry(self, exchange: Exchange, request: http.Request, body: bytes | None) -> Target | None:
        """Choose where a request is sent again, when an attempt has failed before the first byte of its response.

        Not called for a connection that could not be made: the client gets that error.

        Args:
            exchange: The record of the request; its last attempt is the one that has failed.
            request: The head as sent.
            body: The whole body as sent; None if it is not available any more.

        Returns:
            The target; None if the request is not sent again, and the client gets the error.
        """
