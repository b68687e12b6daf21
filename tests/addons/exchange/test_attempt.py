from addons.exchange.attempt import Attempt, AttemptOutcome, Target


def test_an_attempt_keeps_its_first_outcome() -> None:
    attempt = Attempt(Target("http", "vllm", 8000))
    assert attempt.outcome is None
    attempt.end(AttemptOutcome.TIMED_OUT)
    attempt.end(AttemptOutcome.ABANDONED)
    assert attempt.outcome is AttemptOutcome.TIMED_OUT
