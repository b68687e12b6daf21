"""The rate limit of each client address and each budget: GCRA, by throttled-py.

Both ports share one `RateLimiter`: it is thread-safe, and never blocks.
"""

import enum
import math

from throttled import MemoryStore, RateLimiterType, Throttled, rate_limiter

from attest_web.page_paths import SIGNATURE_PREFIX

NEVER_LIMITED = frozenset({"/", "/version", "/health", "/ready"})
"""Paths of cheap pages that probes poll, whose response must not depend on other clients."""

MAX_CLIENTS = 50_000
"""Budgets of clients that are kept at once, some 250 bytes each; the least recently used are evicted first."""

TOO_MANY = "Too many requests from your address. Wait as long as Retry-After says."


class Budget(enum.Enum):
    """The budget that a request counts in. Each budget has the whole rate and the whole burst."""

    REQUESTS = "requests"
    SIGNATURES = "signatures"
    """So a client that uses all of its requests to the model can still fetch each response's signature."""


def budget_of(path: str) -> Budget | None:
    """The budget of a request to a path; None where it is not limited.

    Args:
        path: That of the request's target, without the query, as it stands.
    """
    if path in NEVER_LIMITED:
        return None
    return Budget.SIGNATURES if path.startswith(SIGNATURE_PREFIX) else Budget.REQUESTS


class RateLimiter:
    """Limits each client's requests a second, with a burst."""

    def __init__(self, per_second: int, burst: int, *, max_clients: int = MAX_CLIENTS) -> None:
        """Make a limiter with full budgets.

        Args:
            per_second: Requests a second in the long run, 1 or more.
            burst: Requests at once, 1 or more.
            max_clients: How many budgets of clients are kept at once.
        """
        self._throttled = Throttled(
            using=RateLimiterType.GCRA.value,
            quota=rate_limiter.per_sec(per_second, burst=burst),
            store=MemoryStore(options={"MAX_SIZE": max_clients}),
        )

    def seconds_to_wait(self, client: str, budget: Budget = Budget.REQUESTS) -> int | None:
        """Count a request; None where it may pass, else the whole seconds after which the next one may.

        Args:
            client: The client's address, see `attest_web.middleware.client_address`; empty where it is unknown.
            budget: The budget that it counts in.
        """
        result = self._throttled.limit(f"{budget.value} {client or 'unknown'}")
        return max(1, math.ceil(result.state.retry_after)) if result.limited else None
