"""The policy for one upstream, of which some endpoints may be on other servers."""

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
"""Seconds after a request's first byte within which a closed connection counts as closed because it was idle.

If the upstream closed the connection before it received the request, the close arrives within a round trip. If the
close arrives later, the upstream may have begun to process the request."""


def endpoint_overrides(settings: Settings) -> dict[str, SplitResult]:
    """The full URLs of the endpoints on other servers, by their paths at this proxy."""
    urls = {
        IMAGES: settings.vllm_images_url,
        IMAGE_EDITS: settings.vllm_images_edits_url,
        TRANSCRIPTIONS: settings.vllm_transcriptions_url,
        RERANK: settings.vllm_rerank_url,
        SCORE: settings.vllm_score_url,
    }
    return {path: urlsplit(url) for path, url in urls.items() if url is not None}


class SingleUpstream:
    """Sends each request to the upstream of `--mode`, and again over a new connection if a reused one was closed.

    An `UpstreamPolicy`.
    """

    def __init__(
        self, overrides: Mapping[str, SplitResult] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Make the policy.

        Args:
            overrides: Full URLs of the endpoints on other servers, by the names of their routes.
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
        """Choose the same server again if an idempotent request was lost with an idle connection."""
        attempt = exchange.attempts[-1]
        if body is None or not self._was_lost_idle(attempt) or not is_repeatable(request, exchange.route, body):
            return None
        return attempt.target

    def _was_lost_idle(self, attempt: Attempt) -> bool:
        # An upstream may close an idle connection while a request is being sent over it. The connection then ends
        # without a byte of a response.
        return (
            attempt.outcome is AttemptOutcome.CLOSED
            and attempt.reused
            and attempt.sent_at is not None
            and self._clock() - attempt.sent_at < IDLE_LOSS
        )
