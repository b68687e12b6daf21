"""dcap-qvl itself, with what it must refuse. What it must accept needs signed quotes, which the simulator makes."""

from pathlib import Path
from typing import Any

import dcap_qvl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest_web.verify.collateral import (
    DcapVerifier,
    collateral_from_json,
    collateral_from_service,
    root_certificate,
)
from attest_web.verify.primitives.checks import FailedError, NotMadeError
from tests.attest_web.verify.minting import report

EMPTY = dcap_qvl.QuoteCollateralV3("", b"", b"", "", "{}", b"", "", "{}", b"")
QUOTE = bytes.fromhex(report()["intel_quote"])


def give_empty(quote: bytes) -> Any:
    return EMPTY


@pytest.mark.parametrize("root", [None, b"not a certificate"])
def test_an_unsigned_quote_is_refused_in_one_line(root: bytes | None) -> None:
    with pytest.raises(FailedError) as refused:
        DcapVerifier(give_empty, root)(QUOTE)
    assert "\n" not in str(refused.value)
    assert str(refused.value)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64), st.integers(0, len(QUOTE)), st.sampled_from([None, b"", b"0"]))
def test_no_bytes_get_anything_but_a_refusal(noise: bytes, place: int, root: bytes | None) -> None:
    with pytest.raises(FailedError):
        DcapVerifier(give_empty, root)(QUOTE[:place] + noise + QUOTE[place + len(noise) :])


def test_a_panic_inside_the_library_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicError(BaseException):
        pass

    def panic(*_: object) -> None:
        raise PanicError("index out of range")

    monkeypatch.setattr(dcap_qvl, "verify", panic)
    with pytest.raises(FailedError, match="index out of range"):
        DcapVerifier(give_empty)(QUOTE)


def test_being_interrupted_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dcap_qvl, "verify", interrupt)
    with pytest.raises(KeyboardInterrupt):
        DcapVerifier(give_empty)(QUOTE)


def test_collateral_in_json() -> None:
    assert collateral_from_json(EMPTY.to_json()).tcb_info == "{}"
    for text in ("", "{}", "[]", '{"tcb_info":1}'):
        with pytest.raises(ValueError, match="JSON"):
            collateral_from_json(text)


def test_a_service_that_is_not_there_leaves_the_quote_open() -> None:
    with pytest.raises(NotMadeError, match=r"Failed to get collateral.*--collateral"):
        collateral_from_service("http://127.0.0.1:9", 20)(QUOTE)


def test_the_library_leaves_no_thread_behind_that_python_would_crash_by_at_its_end() -> None:
    with pytest.raises(NotMadeError):
        collateral_from_service("http://127.0.0.1:9", 20)(QUOTE)
    assert not [name for task in Path("/proc/self/task").iterdir() if "tokio" in (name := (task / "comm").read_text())]


def test_a_service_that_never_answers_does_so_too() -> None:
    with pytest.raises(NotMadeError, match=r"within 0\.001 seconds"):
        collateral_from_service("http://127.0.0.1:9", 0.001)(QUOTE)


def test_where_nothing_can_be_run_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for python in ("", "/bin/true", "/nowhere"):
        monkeypatch.setattr("sys.executable", python)
        with pytest.raises(NotMadeError, match="cannot be run"):
            collateral_from_service("http://127.0.0.1:9", 20)(QUOTE)


def test_what_is_no_root_certificate_is_refused() -> None:
    for data in (b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"\x30\x82"):
        with pytest.raises(ValueError, match="PEM or DER"):
            root_certificate(data)
