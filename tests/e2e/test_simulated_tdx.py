"""The simulator's quotes, before the verifier that everybody uses."""

import json
import time
from dataclasses import dataclass

import dcap_qvl  # it has stubs, and no py.typed to say so
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.tee_simulator.collateral import collateral
from scripts.tee_simulator.pki import CPU_SVN, FMSPC, PCE_ID, PCE_SVN, SimulatedPki
from scripts.tee_simulator.tdx import SIGNED_SIZE, SimulatedPlatform, TdMeasurements, td_report, unread_bytes

REPORT_DATA = bytes(range(64))
MEASURED = TdMeasurements(b"\1" * 48, (b"\2" * 48, b"\3" * 48, b"\4" * 48, b"\5" * 48), mr_config_id=b"\6" * 48)
WHITE_SPACE = b"\t\n\v\f\r "
DAY = 24 * 3600


@dataclass(frozen=True)
class Case:
    """A quote and what verifies it."""

    quote: bytes
    collateral: dict[str, str]
    root: bytes

    def verify(self, quote: bytes | None = None, now: float | None = None) -> str:
        """The verdict on a quote, the case's own by default."""
        loaded = dcap_qvl.QuoteCollateralV3.from_json(json.dumps(self.collateral))
        return self._verify(loaded, self.quote if quote is None else quote, now)

    def accepted(self, quotes: list[bytes]) -> list[bool]:
        """Which of many quotes pass; the collateral is read once."""
        loaded = dcap_qvl.QuoteCollateralV3.from_json(json.dumps(self.collateral))
        return [self._accepts(loaded, quote) for quote in quotes]

    def _accepts(self, loaded: dcap_qvl.QuoteCollateralV3, quote: bytes) -> bool:
        try:
            self._verify(loaded, quote, None)
        except ValueError:
            return False
        return True

    def _verify(self, loaded: dcap_qvl.QuoteCollateralV3, quote: bytes, now: float | None) -> str:
        return str(dcap_qvl.verify_with_root_ca(quote, loaded, self.root, int(now or time.time())).status)


@pytest.fixture(scope="module")
def platform() -> SimulatedPlatform:
    return SimulatedPlatform()


@pytest.fixture(scope="module")
def case(platform: SimulatedPlatform) -> Case:
    return Case(platform.quote(MEASURED, REPORT_DATA), collateral(platform.pki), platform.pki.root.der)


def flipped(quote: bytes, at: int, mask: int) -> bytes:
    return quote[:at] + bytes([quote[at] ^ mask]) + quote[at + 1 :]


def test_dcap_qvl_accepts_a_quote_now_and_for_weeks(case: Case) -> None:
    assert case.verify() == "UpToDate"
    assert case.verify(now=time.time() + 29 * DAY) == "UpToDate"
    assert case.verify(now=time.time() - 1800) == "UpToDate"  # by a clock that is behind


def test_collateral_is_rejected_as_expired_after_31_days(case: Case) -> None:
    with pytest.raises(ValueError, match=r"(?i)expired"):
        case.verify(now=time.time() + 31 * DAY)


def test_quote_under_another_root_is_rejected(case: Case) -> None:
    with pytest.raises(ValueError, match="InvalidCrlSignatureForPublicKey"):
        Case(case.quote, case.collateral, SimulatedPki().root.der).verify()
    loaded = dcap_qvl.QuoteCollateralV3.from_json(json.dumps(case.collateral))
    with pytest.raises(ValueError, match="root CA CRL"):  # under Intel's root
        dcap_qvl.verify(case.quote, loaded, int(time.time()))


def test_quote_with_another_platforms_collateral_is_rejected(case: Case) -> None:
    with pytest.raises(ValueError, match="root CA CRL"):
        Case(case.quote, collateral(SimulatedPki()), case.root).verify()


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
def test_changed_collateral_fails_its_signature(case: Case, name: str) -> None:
    changed = case.collateral[name].replace("UpToDate", "Revoked")
    assert changed != case.collateral[name]
    with pytest.raises(ValueError, match=r"(?i)signature"):
        Case(case.quote, case.collateral | {name: changed}, case.root).verify()


def test_quote_with_any_single_byte_inverted_is_rejected_except_unread_ones(case: Case) -> None:
    """All bits of every byte in turn: only those that nobody reads can be changed."""
    accepted = case.accepted([flipped(case.quote, at, 0xFF) for at in range(len(case.quote))])
    anything, _ = unread_bytes(case.quote)
    assert {at for at, passed in enumerate(accepted) if passed} == anything
    assert len(anything) == 3


@settings(max_examples=1000, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_quote_with_any_random_byte_change_is_rejected_except_unread_ones(case: Case, where: float, mask: int) -> None:
    at = int(where * len(case.quote))
    anything, line_ends = unread_bytes(case.quote)
    still_white_space = at in line_ends and case.quote[at] ^ mask in WHITE_SPACE
    if at not in anything and not still_white_space:
        assert case.accepted([flipped(case.quote, at, mask)]) == [False]


def test_unread_quote_bytes_are_few_and_outside_the_signed_part(case: Case) -> None:
    anything, line_ends = unread_bytes(case.quote)
    assert min(anything | line_ends) >= SIGNED_SIZE
    assert {case.quote[at] for at in line_ends} == {0x0A}
    assert len(anything | line_ends) < 50


def test_truncated_quote_is_rejected(case: Case) -> None:
    cuts = [case.quote[:size] for size in range(0, len(case.quote), 7)] + [case.quote[:-1]]
    assert not any(case.accepted(cuts))


def test_quote_has_no_bytes_after_its_signature_data(case: Case) -> None:
    """It would count for nothing: dcap-qvl does not look there."""
    assert case.verify(case.quote + b"anything") == "UpToDate"
    signature_size = int.from_bytes(case.quote[SIGNED_SIZE : SIGNED_SIZE + 4], "little")
    assert len(case.quote) == SIGNED_SIZE + 4 + signature_size


def test_quote_contains_the_given_measurements_and_report_data(case: Case) -> None:
    quote = dcap_qvl.parse_quote(case.quote)
    report = quote.report
    assert isinstance(report, dcap_qvl.TdReport10)
    assert (quote.header.version, quote.header.attestation_key_type, quote.header.tee_type) == (4, 2, 0x81)
    assert quote.header.qe_vendor_id.hex() == "939a7233f79c4ca9940a0db3957f0607"
    assert (report.mr_td, report.mr_config_id, report.report_data) == (b"\1" * 48, b"\6" * 48, REPORT_DATA)
    assert (report.rt_mr0, report.rt_mr1, report.rt_mr2, report.rt_mr3) == MEASURED.rtmrs
    assert report.td_attributes[0] & 1 == 0


def test_pck_certificate_identifies_the_platform(case: Case, platform: SimulatedPlatform) -> None:
    quote = dcap_qvl.parse_quote(case.quote)
    assert (quote.fmspc(), quote.ca()) == (FMSPC.hex().upper(), "platform")
    extension = quote.pck_extension()
    assert extension is not None
    assert (extension.ppid, extension.fmspc, extension.pce_id) == (platform.pki.ppid, FMSPC, PCE_ID)
    assert (extension.cpu_svn, extension.pce_svn) == (CPU_SVN, PCE_SVN)


def test_debug_td_sets_the_debug_attribute_and_is_rejected(platform: SimulatedPlatform, case: Case) -> None:
    quote = platform.quote(TdMeasurements(b"\1" * 48, MEASURED.rtmrs, debug=True), REPORT_DATA)
    report = dcap_qvl.parse_quote(quote).report
    assert isinstance(report, dcap_qvl.TdReport10)
    assert report.td_attributes[0] & 1 == 1
    with pytest.raises(ValueError, match=r"(?i)debug"):
        case.verify(quote)


@pytest.mark.parametrize("size", [0, 63, 65])
def test_report_data_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="report_data"):
        td_report(MEASURED, bytes(size))
