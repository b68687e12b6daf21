"""How many requests a client may make: GCRA, by throttled-py, for each client address and each budget.

Both ports share one `RateLimiter`: it is safe in any thread, and waits for nothing.
"""

import enum
import math

from throttled import MemoryStore, RateLimiterType, Throttled, rate_limiter

from attest_web.page_paths import SIGNATURE_PREFIX

NEVER_LIMITED = frozenset({"/", "/version", "/health", "/ready"})
"""Paths of pages that cost nothing and that probes ask for, whose answer must not depend on what others do."""

MAX_CLIENTS = 50_000
"""Budgets of clients that are kept at once, some 250 bytes each; the ones that were quiet for longest go first."""

TOO_MANY = "Too many requests from your address. Wait as long as Retry-After says."


class Budget(enum.Enum):
    """What a request is paid from. Each budget has the whole rate and the whole burst."""

    REQUESTS = "requests"
    SIGNATURES = "signatures"
    """A client that asks the model as often as it may can still fetch the signature of each answer."""


def budget_of(path: str) -> Budget | None:
    """What a request to a path is paid from; None where it costs nothing.

    Args:
        path: That of the request's target, without the query, as it stands.
    """
    if path in NEVER_LIMITED:
        return None
    return Budget.SIGNATURES if path.startswith(SIGNATURE_PREFIX) else Budget.REQUESTS


class RateLimiter:
    """Lets each client have so many requests a second, and so many at once after a while of silence."""

    def __init__(self, per_second: int, burst: int, *, max_clients: int = MAX_CLIENTS) -> None:
        """Make a limiter that has counted nothing yet.

        Args:
            per_second: Requests a second that are let through in the long run, 1 or more.
            burst: Requests that are let through at once, 1 or more.
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
            client: Whose it is, see `attest_web.middleware.client_address`; empty where that is not known.
            budget: What it is paid from.
        """
        result = self._throttled.limit(f"{budget.value} {client or 'unknown'}")
        return max(1, math.ceil(result.state.retry_after)) if result.limited else None
