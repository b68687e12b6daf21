"""Whether the upstream answers, as `/ready` needs to know."""

import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable


class UpstreamProbe:
    """Asks the upstream for its `/health`, at most once a second however often it is called.

    `/ready` needs no token, so a client that calls it in a loop must not be able to make this proxy do the same to the
    upstream. Any status below 500 counts: a server without `/health` is still one that answers.
    """

    def __init__(
        self,
        base_url: str,
        tls: ssl.SSLContext | None = None,
        timeout: float = 2,
        max_age: float = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a probe that has not asked yet.

        Args:
            base_url: Where the upstream listens, e.g. `http://vllm:8000`.
            tls: Certificates to trust, where it is an https:// address; by default, those that this system trusts.
            timeout: Seconds to wait for its response.
            max_age: Seconds for which a result stands.
            clock: Seconds, monotonic.
        """
        self._url = base_url.rstrip("/") + "/health"
        self._timeout = timeout
        self._max_age = max_age
        self._clock = clock
        self._lock = threading.Lock()
        self._asked_at: float | None = None
        self._answers = False
        # Without this, http_proxy in the environment would send the probe elsewhere.
        no_proxy = urllib.request.ProxyHandler({})
        self._opener = urllib.request.build_opener(no_proxy, urllib.request.HTTPSHandler(context=tls))

    def __call__(self) -> bool:
        """Whether the upstream answered when last asked. Blocks while it asks; safe in any thread."""
        # While one thread asks, the others take the last result: a slow upstream holds up one caller, not all.
        if self._lock.acquire(blocking=self._asked_at is None):
            try:
                if self._asked_at is None or self._clock() - self._asked_at >= self._max_age:
                    self._answers = self._ask()
                    self._asked_at = self._clock()
            finally:
                self._lock.release()
        return self._answers

    def _ask(self) -> bool:
        try:
            with self._opener.open(self._url, timeout=self._timeout):
                return True
        except urllib.error.HTTPError as error:
            with error:
                return error.code < 500
        except (OSError, ValueError):
            return False
