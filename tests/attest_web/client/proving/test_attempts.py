import pytest

from attest_web.client.proving.attempts import Attempts
from attest_web.client.proving.errors import MismatchError, ProofError, UnprovenError


def failed(subject: str) -> Attempts:
    """Attempts of which the last one has failed."""
    attempts = Attempts()
    with pytest.raises(UnprovenError), attempts.attempt(subject, 0):
        raise UnprovenError("no report")
    return attempts


def test_an_attempt_that_has_failed_while_its_turn_was_waited_for_is_not_made_again() -> None:
    attempts = failed("keys")
    for _ in range(2):
        with pytest.raises(UnprovenError, match="no report"), attempts.attempt("keys", 0):
            pytest.fail("the attempt was made again")
    assert attempts.made == 1


def test_an_attempt_about_other_keys_is_made_whatever_became_of_the_last_one() -> None:
    attempts = failed("keys")
    with attempts.attempt("other keys", 0):
        pass
    assert attempts.made == 2
    with attempts.attempt("keys", 0):
        pass
    assert attempts.made == 3


def test_an_attempt_that_has_failed_before_the_wait_is_made_again() -> None:
    attempts = failed("keys")
    with attempts.attempt("keys", attempts.made):
        pass
    assert attempts.made == 2


def test_the_error_of_an_attempt_is_given_without_the_frames_that_it_was_raised_in() -> None:
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
