import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest_web.verify.primitives.checks import FailedError
from attest_web.verify.primitives.quote import TdxQuote, check_debug_off, check_owner_unset
from tests.attest_web.verify.minting import MRTD, as_version_5, quote

RTMRS = [bytes([n]) * 48 for n in range(4)]
WHOLE = quote(
    b"R" * 64, RTMRS, b"ATTRIBUT", mr_config_id=b"\x21" * 48, mr_owner=b"\x22" * 48, mr_owner_config=b"#" * 48
)
SERVICE_TD = b"\x24" * 48


@pytest.mark.parametrize("data", [WHOLE, as_version_5(WHOLE), as_version_5(WHOLE, SERVICE_TD)], ids=["4", "5", "5/1.5"])
def test_the_fields_of_a_quote_are_read_from_their_offsets(data: bytes) -> None:
    parsed = TdxQuote.parse(data)
    assert parsed.report_data == b"R" * 64
    assert parsed.td_attributes == b"ATTRIBUT"
    assert parsed.mrtd == MRTD
    assert list(parsed.rtmrs) == RTMRS
    assert parsed.mr_config_id == b"\x21" * 48
    assert parsed.mr_owner == b"\x22" * 48
    assert parsed.mr_owner_config == b"#" * 48


def test_quote_mr_service_td_is_read_only_from_a_tdx_1_5_body() -> None:
    assert TdxQuote.parse(as_version_5(WHOLE, SERVICE_TD)).mr_service_td == SERVICE_TD
    for data in (WHOLE, as_version_5(WHOLE), as_version_5(WHOLE, bytes(48))):
        assert TdxQuote.parse(data).mr_service_td == bytes(48)


@pytest.mark.parametrize("name", ["tdx-lite-getquote.json", "quote-report.json"])
def test_quote_of_a_real_guest_is_read(dstack_vectors: dict[str, Any], name: str) -> None:
    guest = dstack_vectors["real_quotes"][name]
    parsed = TdxQuote.parse(bytes.fromhex(guest["response"]["quote"]))
    assert parsed.mrtd.hex() == guest["mrtd"]
    assert [rtmr.hex() for rtmr in parsed.rtmrs] == guest["rtmrs"]
    assert parsed.mr_config_id.hex() == guest["mr_config_id"]
    assert parsed.report_data.hex() == guest["response"]["report_data"]
    assert parsed.has_usual_attributes
    check_debug_off(parsed)
    check_owner_unset(parsed)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        WHOLE[:631],
        b"\x03" + WHOLE[1:],
        b"\x06" + WHOLE[1:],
        b"\x06" + as_version_5(WHOLE)[1:],
        b"\x05" + WHOLE[1:],  # no descriptor: attributes of the SEAM module where a type should be
        b"\x04\0\x03" + WHOLE[3:],
        b"\x04\0\x02\0\0" + WHOLE[5:],  # an SGX quote
        b"\x05" + as_version_5(WHOLE)[1:4] + b"\0" + as_version_5(WHOLE)[5:],
    ],
)
def test_malformed_or_unsupported_quote_is_refused(data: bytes) -> None:
    with pytest.raises(FailedError):
        TdxQuote.parse(data)


@pytest.mark.parametrize("service_td", [None, SERVICE_TD], ids=["1.0", "1.5"])
def test_a_quote_of_version_5_with_a_body_that_is_cut_is_refused(service_td: bytes | None) -> None:
    body_end = 54 + (584 if service_td is None else 648)
    TdxQuote.parse(as_version_5(WHOLE, service_td)[:body_end])
    with pytest.raises(FailedError):
        TdxQuote.parse(as_version_5(WHOLE, service_td)[: body_end - 1])


@pytest.mark.parametrize("version", [4, 5])
def test_quote_with_nonzero_trailing_bytes_is_refused(version: int) -> None:
    whole = WHOLE if version == 4 else as_version_5(WHOLE, SERVICE_TD)
    assert TdxQuote.parse(whole + bytes(70)) == TdxQuote.parse(whole), "as in those of real machines"
    for tail in (b"\1", bytes(70) + b"\1", whole):
        with pytest.raises(FailedError, match=f"{len(tail)} bytes after its end that are not all zero"):
            TdxQuote.parse(whole + tail)


@pytest.mark.parametrize("body_type", range(6))
@pytest.mark.parametrize("size", [0, 384, 583, 584, 585, 648, 2**32 - 1])
def test_quote_of_version_5_body_type_and_size_must_agree(body_type: int, size: int) -> None:
    whole = as_version_5(WHOLE, SERVICE_TD)
    bent = whole[:48] + struct.pack("<HI", body_type, size) + whole[54:]
    if (body_type, size) in ((2, 584), (3, 648)):
        TdxQuote.parse(bent)
    else:
        with pytest.raises(FailedError, match="no whole TD body of a known type"):
            TdxQuote.parse(bent)


@settings(deadline=None)
@given(st.binary(max_size=800) | st.binary(min_size=640, max_size=760).map(lambda tail: WHOLE[:8] + tail))
def test_quote_of_any_bytes_raises_no_unexpected_error(data: bytes) -> None:
    try:
        parsed = TdxQuote.parse(data)
    except FailedError:
        return
    assert len(parsed.report_data) == 64


@pytest.mark.parametrize(
    ("first", "why"),
    [
        *((1, "debug mode"), (3, "debug mode"), (0xFF, "debug mode"), (0xFE, "not to be trusted")),
        *((1 << bit, "not to be trusted") for bit in range(1, 8)),
    ],
)
def test_td_with_debug_or_untrusted_attributes_is_refused(first: int, why: str) -> None:
    check_debug_off(TdxQuote.parse(quote(b"R" * 64, RTMRS, b"\0" + b"\xff" * 7)))
    with pytest.raises(FailedError, match=why):
        check_debug_off(TdxQuote.parse(quote(b"R" * 64, RTMRS, bytes([first]) + b"\0" * 7)))


@pytest.mark.parametrize("bit", range(64))
def test_td_attributes_are_usual_only_with_sept_ve_disable_alone(bit: int) -> None:
    attributes = (1 << bit).to_bytes(8, "little")
    assert TdxQuote.parse(quote(b"R" * 64, RTMRS, attributes)).has_usual_attributes is (bit == 28)
    both = (1 << bit | 1 << 28).to_bytes(8, "little")
    assert TdxQuote.parse(quote(b"R" * 64, RTMRS, both)).has_usual_attributes is (bit == 28)


@pytest.mark.parametrize("place", [0, 47])
@pytest.mark.parametrize("field", ["MROWNER", "MROWNERCONFIG", "MRSERVICETD"])
def test_quote_owner_fields_must_be_zero(field: str, place: int) -> None:
    value = (b"\1" if place == 0 else b"") + bytes(47) + (b"\1" if place else b"")
    bent = {
        "MROWNER": quote(b"R" * 64, RTMRS, mr_owner=value),
        "MROWNERCONFIG": quote(b"R" * 64, RTMRS, mr_owner_config=value),
        "MRSERVICETD": as_version_5(quote(b"R" * 64, RTMRS), value),
    }
    check_owner_unset(TdxQuote.parse(as_version_5(quote(b"R" * 64, RTMRS, mr_config_id=value), bytes(48))))
    with pytest.raises(FailedError, match=f"{field} is {value.hex()}"):
        check_owner_unset(TdxQuote.parse(bent[field]))
