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
def test_unsigned_quote_is_refused_with_a_one_line_error(root: bytes | None) -> None:
    with pytest.raises(FailedError) as refused:
        DcapVerifier(give_empty, root)(QUOTE)
    assert "\n" not in str(refused.value)
    assert str(refused.value)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64), st.integers(0, len(QUOTE)), st.sampled_from([None, b"", b"0"]))
def test_quote_with_random_changes_is_refused(noise: bytes, place: int, root: bytes | None) -> None:
    with pytest.raises(FailedError):
        DcapVerifier(give_empty, root)(QUOTE[:place] + noise + QUOTE[place + len(noise) :])


def test_dcap_library_panic_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicError(BaseException):
        pass

    def panic(*_: object) -> None:
        raise PanicError("index out of range")

    monkeypatch.setattr(dcap_qvl, "verify", panic)
    with pytest.raises(FailedError, match="index out of range"):
        DcapVerifier(give_empty)(QUOTE)


def test_keyboard_interrupt_in_the_dcap_library_is_not_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dcap_qvl, "verify", interrupt)
    with pytest.raises(KeyboardInterrupt):
        DcapVerifier(give_empty)(QUOTE)


def test_collateral_is_parsed_from_json_and_malformed_json_refused() -> None:
    assert collateral_from_json(EMPTY.to_json()).tcb_info == "{}"
    for text in ("", "{}", "[]", '{"tcb_info":1}'):
        with pytest.raises(ValueError, match="JSON"):
            collateral_from_json(text)


def test_unreachable_collateral_service_raises_not_made() -> None:
    with pytest.raises(NotMadeError, match=r"Failed to get collateral.*--collateral"):
        collateral_from_service("http://127.0.0.1:9", 20)(QUOTE)


def test_dcap_library_leaves_no_tokio_thread_behind() -> None:
    with pytest.raises(NotMadeError):
        collateral_from_service("http://127.0.0.1:9", 20)(QUOTE)
    assert not [name for task in Path("/proc/self/task").iterdir() if "tokio" in (name := (task / "comm").read_text())]


def test_collateral_service_timeout_raises_not_made() -> None:
    with pytest.raises(NotMadeError, match=r"within 0\.001 seconds"):
        collateral_from_service("http://127.0.0.1:9", 0.001)(QUOTE)


def test_collateral_fetch_without_a_runnable_python_raises_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    for python in ("", "/bin/true", "/nowhere"):
        monkeypatch.setattr("sys.executable", python)
        with pytest.raises(NotMadeError, match="cannot be run"):
            collateral_from_service("http://127.0.0.1:9", 20)(QUOTE)


def test_malformed_root_certificate_is_refused() -> None:
    for data in (b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"\x30\x82"):
        with pytest.raises(ValueError, match="PEM or DER"):
            root_certificate(data)
