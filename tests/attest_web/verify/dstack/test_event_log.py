"""Event logs, replayed: those of real guests, in each form that dstack gives them, and tampered ones."""

import copy
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest_web.verify.dstack.event_log import (
    MAX_EVENTS,
    check_replay,
    parse_event_log,
    replay,
    runtime_digest,
    runtime_preimage_v2,
)
from attest_web.verify.primitives.checks import FailedError
from attest_web.verify.primitives.quote import TdxQuote
from tests.attest_web.verify.minting import (
    APP_ID,
    DSTACK_VECTORS,
    event_log,
    quote,
    registers,
    runtime_event,
    runtime_log,
    with_digest,
)

REAL = {
    "0.6.0 guest": DSTACK_VECTORS["real_quotes"]["tdx-lite-getquote.json"]["response"],
    "0.5 guest": DSTACK_VECTORS["real_quotes"]["quote-report.json"]["response"],
    "agent V1": DSTACK_VECTORS["real_agent"]["v1"]["GetQuote"],
    "agent V2": DSTACK_VECTORS["real_agent"]["v2"]["GetQuote"],
}
DIGESTS = DSTACK_VECTORS["runtime_event_digests"]["events"]
FIRST_OF_RTMR3 = next(place for place, event in enumerate(event_log()) if event["imr"] == 3)


def replays(events: list[dict[str, Any]], rtmrs: list[bytes]) -> None:
    parsed = TdxQuote.parse(quote(b"R" * 64, rtmrs))
    for register in range(4):
        check_replay(parse_event_log(events), register, parsed)


@pytest.mark.parametrize("name", REAL)
def test_event_log_of_a_real_guest_replays_to_all_four_registers(name: str) -> None:
    parsed = TdxQuote.parse(bytes.fromhex(REAL[name]["quote"]))
    events = parse_event_log(json.loads(REAL[name]["event_log"]))
    for register in range(4):
        found = check_replay(events, register, parsed)
        assert found.endswith(parsed.rtmrs[register].hex())


def test_the_event_log_of_info_is_that_of_getquote() -> None:
    tcb_info = json.loads(DSTACK_VECTORS["real_agent"]["v1"]["Info_without_app_cert"]["tcb_info"])
    unstripped, stripped = (
        parse_event_log(log) for log in (tcb_info["event_log"], json.loads(REAL["agent V1"]["event_log"]))
    )
    for register in range(4):
        assert replay(unstripped, register) == replay(stripped, register)
    assert [event for event in unstripped if event.register == 3] == [
        event for event in stripped if event.register == 3
    ]


@pytest.mark.parametrize("row", DIGESTS, ids=lambda row: repr(row["event"]))
def test_runtime_event_digests_match_the_vectors(row: dict[str, str]) -> None:
    payload = bytes.fromhex(row["event_payload"])
    assert runtime_digest(row["event"], payload).hex() == row["v1_digest"]
    preimage = runtime_preimage_v2(row["event"], payload)
    assert preimage.decode() == row["v2_preimage_utf8"]
    assert hashlib.sha384(preimage).hexdigest() == row["v2_digest"]


def test_event_log_with_events_of_both_versions_replays(dstack_vectors: dict[str, Any]) -> None:
    mixed = dstack_vectors["mixed_replay"]
    entries = [runtime_event(name, bytes.fromhex(payload), version) for name, payload, version in mixed["events"]]
    assert replay(parse_event_log(entries), 3).hex() == mixed["rtmr3"]
    assert replay(parse_event_log([entry | {"version": 1} for entry in entries]), 3).hex() != mixed["rtmr3"]


def test_all_forms_of_a_version_2_event_parse_alike(dstack_vectors: dict[str, Any]) -> None:
    forms = dstack_vectors["v2_event_json"]
    assert len(forms) == 4
    (event,) = set(parse_event_log(list(forms.values())))
    assert event.version == 2
    stated = forms["Attest form (seen)"]["digest"]
    assert event.digest.hex() == stated
    for form in forms.values():
        with pytest.raises(FailedError, match="is not that of its name and payload"):
            parse_event_log([form | {"digest": "00" * 48}])
        with pytest.raises(FailedError, match="not the canonical JSON"):
            parse_event_log([form | {"preimage": b"{}".hex()}])


def test_preimage_that_is_not_canonical_json_is_refused_even_if_its_digest_matches(
    dstack_vectors: dict[str, Any],
) -> None:
    event = dstack_vectors["v2_refuse"]["event"]
    assert hashlib.sha384(bytes.fromhex(event["preimage"])).hexdigest() == event["digest"]
    for bent in (event, event | {"digest": ""}):
        with pytest.raises(FailedError, match="not the canonical JSON"):
            parse_event_log([bent])


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("form", ["stated", "empty", "null", "absent"])
def test_missing_event_digest_is_computed(version: int, form: str) -> None:
    event = runtime_event("app-id", APP_ID, version)
    stated = with_digest(event)
    shown = {"stated": stated, "empty": event, "null": event | {"digest": None}, "absent": copy.copy(event)}[form]
    if form == "absent":
        del shown["digest"]
    (parsed,) = parse_event_log([shown])
    assert parsed.digest.hex() == stated["digest"]
    assert (parsed.name, parsed.payload, parsed.version) == ("app-id", APP_ID, version)


def test_missing_event_version_is_taken_as_1() -> None:
    event = runtime_event("a", b"b")
    assert parse_event_log([event | {"version": None}]) == parse_event_log([event | {"version": 1}])
    assert parse_event_log([event]) == parse_event_log([event | {"version": 1}])


@pytest.mark.parametrize("version", [0, 3, -1, 10**400])
def test_event_of_an_unknown_version_is_refused(version: int) -> None:
    with pytest.raises(FailedError, match="1 and 2 are known"):
        parse_event_log([runtime_event("a", b"b") | {"version": version}])


def test_event_log_replays_to_the_registers() -> None:
    for version in (1, 2):
        replays(event_log(version=version), registers(event_log(version=version)))
    replays([], [b"\0" * 48] * 4)


def test_replay_of_one_event_matches_the_formula() -> None:
    digest = hashlib.sha384(b"\x01\x00\x00\x08:a:b").digest()
    replays([runtime_event("a", b"b")], [b"\0" * 48] * 3 + [hashlib.sha384(b"\0" * 48 + digest).digest()])


def test_digest_shorter_than_a_register_is_padded_with_zeros() -> None:
    short = {"imr": 2, "event_type": 6, "digest": "33" * 32, "event": "", "event_payload": ""}
    replays([short], [b"\0" * 48] * 2 + [hashlib.sha384(b"\0" * 48 + b"\x33" * 32 + b"\0" * 16).digest(), b"\0" * 48])


LIES: dict[str, Callable[[list[dict[str, Any]], int], object]] = {
    "dropped": lambda events, place: events.pop(place),
    "doubled": lambda events, place: events.insert(place, events[place]),
    "another digest": lambda events, place: events[place].update(digest="00" * 48),
    "another register": lambda events, place: events[place].update(imr=(events[place]["imr"] + 1) % 4),
}


@pytest.mark.parametrize("place", range(len(event_log())))
@pytest.mark.parametrize("lie", LIES)
def test_a_tampered_log_does_not_replay(lie: str, place: int) -> None:
    events = event_log()
    LIES[lie](events, place)
    with pytest.raises(FailedError):
        replays(events, registers(event_log()))


def test_events_of_a_register_in_another_order_do_not_replay() -> None:
    for first, second in ((0, 1), (14, 15), (16, 17), (FIRST_OF_RTMR3 + 1, FIRST_OF_RTMR3 + 2)):
        events = event_log()
        assert events[first]["imr"] == events[second]["imr"]
        events[first], events[second] = events[second], events[first]
        with pytest.raises(FailedError):
            replays(events, registers(event_log()))


def test_the_order_among_registers_does_not_matter() -> None:
    replays(sorted(event_log(), key=lambda event: -event["imr"]), registers(event_log()))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("change", [{"event_payload": "ff"}, {"event": "app-id2"}, {"event_payload": ""}])
def test_payload_or_name_that_does_not_match_its_digest_is_refused(change: dict[str, str], version: int) -> None:
    events = event_log(version=version)
    events[FIRST_OF_RTMR3 + 1] = with_digest(events[FIRST_OF_RTMR3 + 1]) | change
    with pytest.raises(FailedError, match="is not that of its name and payload"):
        replays(events, registers(event_log(version=version)))
    events[FIRST_OF_RTMR3 + 1]["digest"] = ""
    with pytest.raises(FailedError, match="the quote has"):
        replays(events, registers(event_log(version=version)))


@pytest.mark.parametrize("place", range(FIRST_OF_RTMR3, len(event_log())))
def test_event_of_rtmr3_that_is_not_a_runtime_event_is_refused(place: int) -> None:
    events = [with_digest(event) if event["imr"] == 3 else event for event in event_log()]
    for hidden in ({"event_type": 1}, {"event_type": 1, "event": "", "event_payload": ""}):
        with pytest.raises(FailedError, match="and no others, are in RTMR3"):
            replays([*events[:place], events[place] | hidden, *events[place + 1 :]], registers(event_log()))


@pytest.mark.parametrize("register", [0, 1, 2])
def test_a_run_time_event_of_another_register_is_refused(register: int) -> None:
    with pytest.raises(FailedError, match=f"is of type 0x8000001 in RTMR{register}"):
        parse_event_log([with_digest(runtime_event("a", b"b")) | {"imr": register}])


@pytest.mark.parametrize("register", [-1, 4, 5])
def test_event_of_an_unknown_register_is_refused(register: int) -> None:
    with pytest.raises(FailedError, match="there are 0 to 3"):
        parse_event_log([event_log()[0] | {"imr": register}])


def test_firmware_event_without_a_digest_is_refused() -> None:
    for digest in ("", None):
        with pytest.raises(FailedError, match="digest"):
            parse_event_log([event_log()[0] | {"digest": digest}])


@pytest.mark.parametrize(
    "change",
    [
        {"imr": 4},
        {"imr": -1},
        {"imr": True},
        {"imr": "3"},
        {"imr": None},
        {"digest": "00" * 49},
        {"digest": "0"},
        {"digest": "zz"},
        {"digest": 5},
        {"digest": []},
        {"event_type": None},
        {"event_type": 134217729.0},
        {"event_payload": "x"},
        {"event_payload": None},
        {"event": ["compose-hash"]},
        {"event": "\ud800"},
        {"event": None},
        {"version": "1"},
        {"version": True},
        {"version": 2, "preimage": "x"},
        {"version": 2, "preimage": 5},
    ],
)
def test_a_malformed_event_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(FailedError):
        parse_event_log([runtime_event("a", b"b") | change])


@pytest.mark.parametrize("entry", [None, [], "event", 5])
def test_event_that_is_no_json_object_is_refused(entry: object) -> None:
    with pytest.raises(FailedError, match="event 0 of the event log is not a JSON object"):
        parse_event_log([entry])


def test_a_log_that_is_too_long_is_refused() -> None:
    event = runtime_event("a", b"b")
    assert len(parse_event_log([event] * MAX_EVENTS)) == MAX_EVENTS
    with pytest.raises(FailedError, match="more than 4096 are not read"):
        parse_event_log([event] * (MAX_EVENTS + 1))


def test_register_other_than_the_expected_value_is_refused() -> None:
    parsed = TdxQuote.parse(quote(b"R" * 64, registers(event_log())))
    events = parse_event_log(event_log())
    for register in range(4):
        assert "as expected" in check_replay(events, register, parsed, parsed.rtmrs[register])
        with pytest.raises(FailedError, match="not the expected"):
            check_replay(events, register, parsed, b"\7" * 48)


names = st.text(st.characters(codec="utf-8"), max_size=20)
payloads = st.binary(max_size=40)


@settings(deadline=None)
@given(names, payloads)
def test_version_2_preimage_is_canonical_json_of_rfc_8785(name: str, payload: bytes) -> None:
    preimage = runtime_preimage_v2(name, payload)
    assert json.loads(preimage) == {"name": name, "payload": payload.hex(), "type": 134217729}
    shown = preimage.decode()
    assert shown.startswith('{"name":"')
    assert shown.endswith(f'","payload":"{payload.hex()}","type":134217729}}')
    # RFC 8785, 3.2.2.2: control characters, the quotation mark and the reverse solidus are escaped, and nothing else.
    short = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
    spelled = "".join(short.get(c, f"\\u{ord(c):04x}" if ord(c) < 0x20 else c) for c in name)
    assert shown[9:].startswith(f'{spelled}","payload"')


@settings(deadline=None)
@given(st.lists(st.tuples(names, payloads, st.sampled_from([1, 2])), max_size=6))
def test_event_log_of_any_events_replays_like_the_reference(events: list[tuple[str, bytes, int]]) -> None:
    entries = [runtime_event(*event) for event in events]
    assert replay(parse_event_log(entries), 3) == registers(entries)[3]
    assert parse_event_log([with_digest(entry) for entry in entries]) == parse_event_log(entries)


def test_runtime_log_alone_leaves_the_other_registers_zero() -> None:
    events = parse_event_log(runtime_log([("a", b"b")]))
    assert [replay(events, register) for register in range(3)] == [bytes(48)] * 3
