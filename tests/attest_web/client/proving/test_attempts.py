import pytest

from attest_web.client.proving.attempts import Attempts
from attest_web.client.proving.errors import MismatchError, ProofError, UnprovenError


def failed(subject: str) -> Attempts:
    """Attempts of which the last one has failed."""
    attempts = Attempts()
    with pytest.raises(UnprovenError), attempts.attempt(subject, 0):
        raise UnprovenError("no report")
    return attempts


def test_attempt_that_failed_during_the_wait_for_a_turn_is_not_repeated() -> None:
    attempts = failed("keys")
    for _ in range(2):
        with pytest.raises(UnprovenError, match="no report"), attempts.attempt("keys", 0):
            pytest.fail("the attempt was made again")
    assert attempts.made == 1


def test_attempt_for_other_keys_is_made_whatever_the_last_outcome() -> None:
    attempts = failed("keys")
    with attempts.attempt("other keys", 0):
        pass
    assert attempts.made == 2
    with attempts.attempt("keys", 0):
        pass
    assert attempts.made == 3


def test_attempt_that_failed_before_the_wait_is_repeated() -> None:
    attempts = failed("keys")
    with attempts.attempt("keys", attempts.made):
        pass
    assert attempts.made == 2


def test_attempt_error_is_shared_without_its_traceback_context() -> None:
    attempts = Attempts()
    raised = MismatchError("it does not hold", ())
    with pytest.raises(MismatchError), attempts.attempt("keys", 0):
        raise raised
    with pytest.raises(ProofError) as caught, attempts.attempt("keys", 0):
        pytest.fail("the attempt was made again")
    assert caught.value is not raised
    assert isinstance(caught.value, MismatchError)
    assert (str(caught.value), caught.value.checks) == (str(raised), raised.checks)
    assert caught.value.__context__ is None
