import copy
import hashlib
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attest_web.report_data import report_data
from attest_web.verify.binding import certificate_spki_sha256, check_public_key
from attest_web.verify.checks import FailedError
from attest_web.verify.dstack.event_log import check_compose, check_replay, parse_event_log
from attest_web.verify.quote import TdxQuote, check_debug_off
from tests.attest_web.verify.minting import (
    APP_COMPOSE,
    COMPOSE_HASH,
    KEYS,
    MRTD,
    NONCE,
    SPKI,
    VECTORS,
    address,
    event_log,
    quote,
    registers,
    runtime_event,
)

RTMRS = [bytes([n]) * 48 for n in range(4)]


def test_report_data_is_that_of_the_vectors() -> None:
    assert report_data(address(KEYS, "ecdsa"), NONCE).hex() == VECTORS["report_data_ecdsa"]
    assert report_data(address(KEYS, "ecdsa"), NONCE, SPKI).hex() == VECTORS["report_data_ecdsa_with_tls"]
    assert report_data(address(KEYS, "ed25519"), NONCE).hex() == VECTORS["ed25519_public_key"] + VECTORS["nonce"]


def test_public_keys_give_their_addresses() -> None:
    check_public_key("ecdsa", KEYS.ecdsa_public_key, address(KEYS, "ecdsa"))
    check_public_key("ed25519", KEYS.ed25519_public_key, address(KEYS, "ed25519"))
    with pytest.raises(FailedError, match="gives 0x"):
        check_public_key("ecdsa", KEYS.ecdsa_public_key[::-1], address(KEYS, "ecdsa"))


def test_a_certificate_with_an_unknown_curve_is_a_clear_failure(certificate: tuple[Path, bytes]) -> None:
    der = x509.load_pem_x509_certificate(certificate[0].read_bytes()).public_bytes(Encoding.DER)
    p256 = bytes.fromhex("2a8648ce3d030107")
    assert p256 in der
    with pytest.raises(ValueError, match="unknown kind"):
        certificate_spki_sha256(der.replace(p256, p256[:-1] + b"\x77"))


def test_the_fields_of_a_quote_are_read_from_their_offsets() -> None:
    parsed = TdxQuote.parse(quote(b"R" * 64, RTMRS, b"ATTRIBUT"))
    assert parsed.report_data == b"R" * 64
    assert parsed.td_attributes == b"ATTRIBUT"
    assert parsed.mrtd == MRTD
    assert list(parsed.rtmrs) == RTMRS


@pytest.mark.parametrize(
    "data",
    [
        b"",
        quote(b"R" * 64, RTMRS)[:631],
        b"\x05" + quote(b"R" * 64, RTMRS)[1:],
        b"\x04\0\x03" + quote(b"R" * 64, RTMRS)[3:],
        b"\x04\0\x02\0\0" + quote(b"R" * 64, RTMRS)[5:],  # an SGX quote
    ],
)
def test_what_is_no_tdx_quote_of_version_4_is_refused(data: bytes) -> None:
    with pytest.raises(FailedError):
        TdxQuote.parse(data)


@pytest.mark.parametrize(("first", "why"), [(1, "debug mode"), (3, "debug mode"), (2, "not to be trusted")])
def test_a_td_that_somebody_can_look_into_is_refused(first: int, why: str) -> None:
    check_debug_off(TdxQuote.parse(quote(b"R" * 64, RTMRS, b"\0" + b"\xff" * 7)))
    with pytest.raises(FailedError, match=why):
        check_debug_off(TdxQuote.parse(quote(b"R" * 64, RTMRS, bytes([first]) + b"\0" * 7)))


def replays(events: list[dict[str, Any]], rtmrs: list[bytes]) -> None:
    parsed = TdxQuote.parse(quote(b"R" * 64, rtmrs))
    for register in range(4):
        check_replay(parse_event_log(events), register, parsed)


def test_a_log_replays_to_the_registers() -> None:
    replays(event_log(), registers(event_log()))
    replays([], [b"\0" * 48] * 4)


def test_a_register_by_hand() -> None:
    events = [runtime_event("a", b"b")]
    digest = hashlib.sha384(b"\x01\x00\x00\x08:a:b").digest()
    replays(events, [b"\0" * 48] * 3 + [hashlib.sha384(b"\0" * 48 + digest).digest()])


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("lie", ["drop", "twice", "digest", "register"])
def test_a_tampered_log_does_not(place: int, lie: str) -> None:
    events = copy.deepcopy(event_log())
    if lie == "drop":
        del events[place]
    elif lie == "twice":
        events.insert(place, events[place])
    elif lie == "digest":
        events[place]["digest"] = "00" * 48
    else:
        events[place]["imr"] = (events[place]["imr"] + 1) % 4
    with pytest.raises(FailedError):
        replays(events, registers(event_log()))


def test_events_in_another_order_do_not_replay() -> None:
    events = event_log()
    events[3], events[5] = events[5], events[3]
    with pytest.raises(FailedError):
        replays(events, registers(event_log()))


@pytest.mark.parametrize("change", [{"event_payload": "ff"}, {"event": "app-id2"}, {"event_payload": ""}])
def test_a_payload_that_was_not_measured_is_caught_though_its_digest_replays(change: dict[str, str]) -> None:
    events = event_log()
    events[3] |= change
    with pytest.raises(FailedError, match="not what its digest was made from"):
        replays(events, registers(event_log()))


@pytest.mark.parametrize(
    "change",
    [
        {"imr": 4},
        {"imr": -1},
        {"imr": True},
        {"imr": "3"},
        {"imr": None},
        {"digest": ""},
        {"digest": "00" * 49},
        {"digest": "0"},
        {"digest": "zz"},
        {"digest": 5},
        {"event_type": None},
        {"event_type": 134217729.0},
        {"event_payload": "x"},
        {"event": ["compose-hash"]},
        {"event": "\ud800"},
    ],
)
def test_a_malformed_event_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(FailedError):
        parse_event_log([runtime_event("a", b"b") | change])


def test_the_compose_file_is_the_measured_one() -> None:
    check_compose(parse_event_log(event_log()), APP_COMPOSE, None)
    check_compose(parse_event_log(event_log()), APP_COMPOSE, COMPOSE_HASH)
    with pytest.raises(FailedError, match="was measured"):
        check_compose(parse_event_log(event_log()), APP_COMPOSE + " ", None)
    with pytest.raises(FailedError, match="not the expected"):
        check_compose(parse_event_log(event_log()), APP_COMPOSE, b"\0" * 32)


def test_a_second_or_a_missing_compose_event_is_refused() -> None:
    twice = [*event_log(), runtime_event("compose-hash", COMPOSE_HASH)]
    none = [event for event in event_log() if event["event"] != "compose-hash"]
    for events in (twice, none):
        with pytest.raises(FailedError, match="instead of one"):
            check_compose(parse_event_log(events), APP_COMPOSE, None)


def test_a_compose_event_in_another_register_does_not_count() -> None:
    elsewhere = runtime_event("compose-hash", COMPOSE_HASH) | {"imr": 2}
    with pytest.raises(FailedError, match="has 0 events"):
        check_compose(parse_event_log([elsewhere]), APP_COMPOSE, None)


def test_the_first_of_two_compose_events_cannot_be_hidden_behind_another_type() -> None:
    # A TD with an evil compose file measures the good one as well, by an event of its own, and retypes the first.
    events = [runtime_event("compose-hash", b"evil"), runtime_event("compose-hash", COMPOSE_HASH)]
    for hidden in ({"event_type": 1}, {"event_type": 1, "event": "", "event_payload": ""}, {"event": "other"}):
        with pytest.raises(FailedError):
            check_compose(parse_event_log([events[0] | hidden, events[1]]), APP_COMPOSE, None)


@pytest.mark.parametrize("place", [3, 4, 5])
def test_every_event_of_rtmr3_is_a_run_time_event(place: int) -> None:
    events = event_log()
    events[place]["event_type"] = 0
    with pytest.raises(FailedError, match="not a run-time event"):
        replays(events, registers(event_log()))
