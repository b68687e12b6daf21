import pytest

from attest_web.verify.dstack.compose import check_compose
from attest_web.verify.primitives.checks import FailedError, NotMadeError
from tests.attest_web.verify.minting import APP_COMPOSE, COMPOSE_HASH


def test_compose_document_must_hash_to_the_measured_and_expected_compose_hash() -> None:
    assert check_compose(COMPOSE_HASH, APP_COMPOSE, None) == f"{COMPOSE_HASH.hex()} was measured"
    assert check_compose(COMPOSE_HASH, APP_COMPOSE, COMPOSE_HASH).endswith("was measured, as expected")
    with pytest.raises(FailedError, match="not the expected"):
        check_compose(COMPOSE_HASH, APP_COMPOSE, b"\0" * 32)


@pytest.mark.parametrize("shown", [APP_COMPOSE + " ", APP_COMPOSE[1:], "", APP_COMPOSE.replace("demo", "dem\u00f6")])
def test_compose_document_other_than_the_measured_one_is_refused(shown: str) -> None:
    for expected in (None, COMPOSE_HASH):
        with pytest.raises(FailedError, match="SHA-256 of app_compose is"):
            check_compose(COMPOSE_HASH, shown, expected)


def test_compose_document_not_shown_needs_an_expected_compose_hash() -> None:
    assert check_compose(COMPOSE_HASH, None, COMPOSE_HASH).endswith("as expected")
    with pytest.raises(FailedError, match="not the expected"):
        check_compose(COMPOSE_HASH, None, b"\0" * 32)
    with pytest.raises(NotMadeError, match="--expect-compose-hash"):
        check_compose(COMPOSE_HASH, None, None)
