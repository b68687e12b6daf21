"""The interface of what decides to which upstream a request goes, and whether and where it is sent again."""

from typing import Protocol

from mitmproxy import http

from addons.exchange.attempt import Target
from addons.exchange.record import Exchange


class UpstreamPolicy(Protocol):
    """Chooses upstreams. It decides and notes; the layers connect and send. For the event loop alone.

    It learns what came of each choice from `Exchange.attempts`, which the layers write.
    """

    def choose(self, exchange: Exchange, request: http.Request) -> Target:
        """Choose where a request goes, when its head has been let in.

        Args:
            exchange: Its record.
            request: Its head, as received; its scheme, host and port are those of `--mode`.
        """

    def retry(self, exchange: Exchange, request: http.Request, body: bytes | None) -> Target | None:
        """Choose where a request goes once more, when an attempt has failed before a byte of its response.

        A connection that could not be made is not asked about: its failure is told to the client as it is.

        Args:
            exchange: Its record; the last of its attempts is the one that has failed.
            request: Its head, as it was sent.
            body: All of the body that was sent; None where that is not at hand any more.

        Returns:
            None where the failure is to be told to the client.
        """
