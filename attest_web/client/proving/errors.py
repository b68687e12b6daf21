"""The errors of proving a response. None of them quotes a prompt, a response or a token."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attest_web.printable import printable
from attest_web.verify.primitives.checks import Check, Status

if TYPE_CHECKING:
    from attest_web.client.proving.proof import Proof


class ProofError(Exception):
    """A response is not proven, so it is not returned. The SDK never retries it; the caller may.

    Attributes:
        proof: The incomplete or failed proof, to be saved and inspected; None without one.
    """

    def __init__(self, message: str, proof: "Proof | None" = None) -> None:
        super().__init__(printable(message))
        self.proof = proof


class UnprovenError(ProofError):
    """There is no proof: the response is not signed, or its proof could not be fetched or checked.

    Retry; if the error persists, its message says what is missing. The response may or may not be authentic.
    """


class MismatchError(ProofError):
    """There is a proof, and it is invalid: request, response, signature or keys have been changed.

    Do not use the response, and do not retry over this connection before you know why. `error.proof.save(…)` saves
    the evidence for the server's operator.

    Attributes:
        checks: The checks that failed.
    """

    def __init__(self, message: str, checks: Sequence[Check] = (), proof: "Proof | None" = None) -> None:
        super().__init__(message, proof)
        self.checks = tuple(checks)


def not_holding(what: str, checks: Sequence[Check], proof: "Proof | None" = None) -> ProofError:
    """The error for checks that do not all hold."""
    failed = [check for check in checks if check.status is Status.FAILED]
    if failed:
        why = "; ".join(f"{check.name}: {check.detail}" for check in failed[:2])
        return MismatchError(f"{what} does not hold, do not use it: {why}", failed, proof)
    left = "; ".join(f"{check.name}: {check.detail}" for check in checks if not check.holds)
    return UnprovenError(f"{what} could not be checked: {left or 'there is nothing to check'}", proof)
