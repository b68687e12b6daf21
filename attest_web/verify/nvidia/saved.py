"""Saved verdicts of NVIDIA's service, to be checked as of the time when they were received.

The service's tokens are signed, and valid for about an hour. Its keys are replaced every day, and old keys are not
published, so the verifier must use its own copy of them.
"""

from collections.abc import Callable, Sequence

from attest_web.verify.nvidia.evidence import GpuPayload
from attest_web.verify.nvidia.keys import NvidiaKeys
from attest_web.verify.nvidia.tokens import Verdict, check_verdict
from attest_web.verify.primitives.checks import FailedError, NotMadeError


class SavedVerdicts:
    """Returns saved verdicts on a report's GPUs, in place of `NvidiaService`."""

    def __init__(self, answers: Sequence[bytes], keys: NvidiaKeys, issuer: str, clock: Callable[[], float]) -> None:
        """Keep the responses, unchecked.

        Args:
            answers: The service's responses, at least one.
            keys: Its keys at that time.
            issuer: The service's name; see `tokens.issuer_of`.
            clock: Seconds since 1970, as of which the tokens must be valid.
        """
        self._answers = tuple(answers)
        self._keys = keys
        self._issuer = issuer
        self._clock = clock

    def __call__(self, payload: GpuPayload, nonce: bytes) -> Verdict:
        """NVIDIA's verdict on the GPUs of a report.

        Args:
            payload: Their evidence.
            nonce: The nonce that the verdict must be about, 32 bytes.

        Raises:
            FailedError: No saved verdict verifies this evidence.
            NotMadeError: A verdict cannot be read, and no other verifies the evidence.
        """
        refused: FailedError | NotMadeError = NotMadeError("no verdict from NVIDIA was saved")
        for answer in self._answers:
            try:
                return check_verdict(
                    answer,
                    nonce,
                    self._keys,
                    now=self._clock(),
                    gpus=len(payload.evidence_nonces),
                    issuer=self._issuer,
                )
            except (FailedError, NotMadeError) as error:
                refused = error
        raise refused
