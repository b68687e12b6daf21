"""The policy for one upstream, some endpoints of which other servers may have."""

import time
from collections.abc import Callable, Mapping
from urllib.parse import SplitResult, urlsplit

from mitmproxy import http

from addons.exchange.attempt import Attempt, AttemptOutcome, Target
from addons.exchange.record import Exchange
from addons.routing.routes import IMAGE_EDITS, IMAGES, RERANK, SCORE, TRANSCRIPTIONS
from addons.upstream.address import port_of
from addons.upstream.repeatable import is_repeatable
from attest_web.settings import Settings

IDLE_LOSS = 0.1
"""Seconds after a request's first byte within which the loss of its connection is put down to its having been idle.

A connection that the upstream closed before the request came to it is found closed within a round trip. One that is
closed later may have carried the request to a server that has begun to work on it."""


def endpoint_overrides(settings: Settings) -> dict[str, SplitResult]:
    """The full URLs of the endpoints that other servers have, by their paths here."""
    urls = {
        IMAGES: settings.vllm_images_url,
        IMAGE_EDITS: settings.vllm_images_edits_url,
        TRANSCRIPTIONS: settings.vllm_transcriptions_url,
        RERANK: settings.vllm_rerank_url,
        SCORE: settings.vllm_score_url,
    }
    return {path: urlsplit(url) for path, url in urls.items() if url is not None}


class SingleUpstream:
    """Sends each request to the upstream of `--mode`, and once more over a new connection where an idle one was lost.

    An `UpstreamPolicy`.
    """

    def __init__(
        self, overrides: Mapping[str, SplitResult] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Make the policy.

        Args:
            overrides: Full URL of the endpoint by the name of its route, for those that other servers have.
            clock: Seconds, monotonic, as in `Attempt.sent_at`.
        """
        self._overrides = {
            name: Target(url.scheme, url.hostname, port_of(url), url.path)
            for name, url in (overrides or {}).items()
            if url.hostname is not None
        }
        self._clock = clock

    def choose(self, exchange: Exchange, request: http.Request) -> Target:
        """Choose the server that has the endpoint."""
        override = self._overrides.get(exchange.route.name)
        return override or Target(request.scheme, request.host, request.port, exchange.route.path)

    def retry(self, exchange: Exchange, request: http.Request, body: bytes | None) -> Target | None:
        """Choose the same server again where the request was lost with an idle connection and changes nothing there."""
        attempt = exchange.attempts[-1]
        if body is None or not self._was_lost_idle(attempt) or not is_repeatable(request, exchange.route, body):
            return None
        return attempt.target

    def _was_lost_idle(self, attempt: Attempt) -> bool:
        # An upstream closes a connection that has been idle for some seconds, and a request may be on its way just
        # then. The connection ends at once, with no byte of a response on it.
        return (
            attempt.outcome is AttemptOutcome.CLOSED
            and attempt.reused
            and attempt.sent_at is not None
            and self._clock() - attempt.sent_at < IDLE_LOSS
        )
