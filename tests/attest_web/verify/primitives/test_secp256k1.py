import pytest

from attest_web.verify.primitives.checks import FailedError
from attest_web.verify.primitives.secp256k1 import ORDER, check_scalars

HALF = ORDER // 2


def signature(r: int, s: int) -> bytes:
    return r.to_bytes(32) + s.to_bytes(32)


@pytest.mark.parametrize("r", [1, HALF, HALF + 1, ORDER - 1])
@pytest.mark.parametrize("s", [1, 2, HALF - 1, HALF])
def test_scalars_in_range_with_a_low_s_are_taken(r: int, s: int) -> None:
    check_scalars(signature(r, s), "it")
    check_scalars(signature(r, s) + b"\x1b", "it")


@pytest.mark.parametrize("s", [HALF + 1, HALF + 2, ORDER - 1])
def test_a_high_s_is_refused(s: int) -> None:
    with pytest.raises(FailedError, match="s is high in it"):
        check_scalars(signature(1, s), "it")


@pytest.mark.parametrize("value", [0, ORDER, ORDER + 1, 2**256 - 1])
def test_scalars_out_of_range_are_refused(value: int) -> None:
    with pytest.raises(FailedError, match="r is not between 1"):
        check_scalars(signature(value, 1), "it")
    with pytest.raises(FailedError, match="s is not between 1"):
        check_scalars(signature(1, value), "it")
