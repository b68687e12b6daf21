"""Queries NVIDIA's attestation service (NRAS) about GPU evidence; only signed parts of its response count."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from attest_web.verify.nvidia.evidence import GpuPayload
from attest_web.verify.nvidia.keys import MAX_JWKS, NvidiaKeys, NvidiaKeysFetcher, jwks_origin
from attest_web.verify.nvidia.tokens import MAX_ANSWER, Verdict, check_verdict, issuer_of, key_ids
from attest_web.verify.primitives.checks import NotMadeError
from attest_web.verify.primitives.http_client import FetchError, HttpClient, Origin

KeySource = Callable[[Iterable[str]], NvidiaKeys]
"""Returns NVIDIA's keys, including those with these ids if they exist. Raises `NotMadeError` if there are none."""


@dataclass
class NvidiaAnswers:
    """The responses of the service, to be saved.

    Attributes:
        answers: Its responses, as received.
        jwks: The key set that they were checked with.
    """

    answers: list[bytes] = field(default_factory=list)
    jwks: bytes = b""


class NvidiaService:
    """A client of the service, with a connection for each request."""

    def __init__(
        self,
        origin: Origin,
        timeout: float,
        keys: NvidiaKeys | None = None,
        clock: Callable[[], float] = time.time,
        kept: NvidiaAnswers | None = None,
    ) -> None:
        """Prepare the client; nothing is sent yet.

        Args:
            origin: The service's address. Its keys are fetched from the same host, unless they are given.
            timeout: Seconds that each response may take.
            keys: NVIDIA's keys.
            clock: Seconds since 1970.
            kept: Receives the responses of the service, to be saved.
        """
        self._kept = kept
        self._client = HttpClient(origin, timeout=timeout, max_bytes=MAX_ANSWER)
        self._issuer = issuer_of(origin)
        self._clock = clock
        fetcher = NvidiaKeysFetcher(HttpClient(jwks_origin(origin), timeout=timeout, max_bytes=MAX_JWKS))
        self._keys: KeySource = fetcher if keys is None else lambda _: keys

    def __call__(self, payload: GpuPayload, nonce: bytes) -> Verdict:
        """NVIDIA's verdict on the GPUs of a report.

        Args:
            payload: Their evidence.
            nonce: The nonce that the verdict must be about, 32 bytes.

        Raises:
            FailedError: NVIDIA rejects this evidence.
            NotMadeError: There is no verdict, or it cannot be checked.
        """
        try:
            answer = self._client.request("POST", "", payload.text.encode())
        except FetchError as error:
            raise NotMadeError(f"NVIDIA's service could not be queried: {error}") from None
        if answer.status != 200:
            raise NotMadeError(f"NVIDIA's service responded with status {answer.status}")
        keys = self._keys(key_ids(answer.body))
        if self._kept is not None:
            self._kept.answers.append(answer.body)
            self._kept.jwks = keys.jwks
        return check_verdict(
            answer.body,
            nonce,
            keys,
            now=self._clock(),
            gpus=len(payload.evidence_nonces),
            issuer=self._issuer,
        )
