"""How many requests a client may make: GCRA, by throttled-py, for each client address.

The proxied port and the side port share one `RateLimiter`: it is safe in any thread, and waits for nothing.
"""

import math

from throttled import MemoryStore, RateLimiterType, Throttled, rate_limiter

from attest_web.client_address import client_of

NEVER_LIMITED = frozenset({"/", "/version", "/health", "/ready"})
"""Paths of pages that cost nothing and that probes ask for, whose answer must not depend on what others do."""

MAX_CLIENTS = 50_000
"""Clients whose requests are counted at once, some 250 bytes each; the ones that were quiet for longest go first."""

TOO_MANY = "Too many requests from your address. Wait as long as Retry-After says."


class RateLimiter:
    """Lets each client have so many requests a second, and so many at once after a while of silence."""

    def __init__(self, per_second: int, burst: int, *, trust_proxy: bool, max_clients: int = MAX_CLIENTS) -> None:
        """Make a limiter that has seen nobody yet.

        Args:
            per_second: Requests a second that are let through in the long run, 1 or more.
            burst: Requests that are let through at once, 1 or more.
            trust_proxy: Whether a proxy in this machine's own network is believed whom it forwards for.
            max_clients: How many clients are counted at once.
        """
        self._trust_proxy = trust_proxy
        self._throttled = Throttled(
            using=RateLimiterType.GCRA.value,
            quota=rate_limiter.per_sec(per_second, burst=burst),
            store=MemoryStore(options={"MAX_SIZE": max_clients}),
        )

    def seconds_to_wait(self, peer: str, forwarded_for: str | None) -> int | None:
        """Count a request; None where it may pass, else the whole seconds after which the next one may.

        Args:
            peer: Address at the other end of the connection.
            forwarded_for: `X-Forwarded-For`, all its lines joined by commas; None where there is none.
        """
        client = client_of(peer, forwarded_for, trust_proxy=self._trust_proxy)
        result = self._throttled.limit(client or "unknown")
        return max(1, math.ceil(result.state.retry_after)) if result.limited else None
