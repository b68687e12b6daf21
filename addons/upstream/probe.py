"""The probe of the upstream, for `/ready`."""

import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable


class UpstreamProbe:
    """Requests the upstream's `/health`, at most once in `max_age` seconds however often it is called.

    `/ready` needs no token, so a client that calls it in a loop must not cause as many requests to the upstream. Any
    status below 500 counts as success: a server without `/health` is up, too.
    """

    def __init__(
        self,
        base_url: str,
        tls: ssl.SSLContext | None = None,
        timeout: float = 2,
        max_age: float = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a probe without a result.

        Args:
            base_url: The upstream's base URL, e.g. `http://vllm:8000`.
            tls: Certificates to trust at an https upstream; by default, those that this system trusts.
            timeout: Seconds to wait for the response.
            max_age: Seconds for which a result is valid.
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
        """Whether the upstream responded to the last probe. Blocks while it probes; safe in any thread."""
        # While one thread probes, the others use the last result: a slow upstream delays one caller, not all.
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
