"""A log has one reading: whatever else is written beside the digests of what happened is refused, or says the same.

What happened is drawn, with colons in payloads and names wherever they can be. It is then shown in another way that may
give the same digests: names and payloads divided at another colon, versions and types and registers changed, digests
stated, left out or wrong, events of the app among them.
"""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from attest_web.verify.audit import check_evidence
from attest_web.verify.dstack.boot_log import BootLog
from attest_web.verify.dstack.event_log import check_replay, parse_event_log
from attest_web.verify.evidence import Statement
from attest_web.verify.nvidia.evidence import GpuDemand
from attest_web.verify.policy import Policy
from attest_web.verify.primitives.checks import FailedError, Status
from attest_web.verify.primitives.quote import TdxQuote
from tests.attest_web.verify.minting import (
    APP_COMPOSE,
    COMPOSE_HASH,
    KMS_ID,
    OTHER_KMS_ID,
    QuoteBook,
    boot_log,
    event_log,
    evidence,
    key_provider,
    quote,
    registers,
    report,
    runtime_event,
    with_digest,
)
from tests.attest_web.verify.minting import (
    BootLog as Boot,
)

Event = tuple[str, bytes]

BOOT_NAMES = [name for name, _ in boot_log()]


def digits(size: int) -> st.SearchStrategy[bytes]:
    """Payloads of a size, many of which begin with a colon and go on with what could be text."""
    colon = st.binary(min_size=size - 1, max_size=size - 1).map(lambda rest: b":" + rest)
    texts = st.text(":abc", min_size=size, max_size=size).map(str.encode)
    return st.binary(min_size=size, max_size=size) | colon | texts


providers = st.sampled_from(
    [
        key_provider("kms", KMS_ID),
        key_provider("kms", OTHER_KMS_ID),
        key_provider("local-sgx", b"::::" * 8),
        key_provider("none"),
    ]
)
boots = st.builds(
    lambda scripts, measured, **payloads: _with(boot_log(**payloads), scripts, measured),
    st.lists(digits(32), max_size=2),
    st.lists(digits(32), max_size=2),
    app_id=digits(20),
    compose_hash=st.just(COMPOSE_HASH) | digits(32),
    gpu_policy_hash=st.none() | digits(32),
    gpu_attestation=st.none() | st.sampled_from([b'{"version":2}', b":", b"::"]),
    instance_id=st.just(b"") | digits(20),
    os_image_hash=st.none() | digits(32),
    key_provider=providers,
    storage_fs=st.sampled_from([None, b"zfs", b"ext4"]),
)
claims = st.sampled_from([("compose-hash", COMPOSE_HASH), ("key-provider", key_provider("kms", KMS_ID))])
app_events = st.lists(
    claims
    | st.tuples(
        st.sampled_from([*BOOT_NAMES, "", ":", "a:b"]) | st.text(max_size=10),
        st.just(COMPOSE_HASH) | providers | st.binary(max_size=40) | st.text(":ab", max_size=10).map(str.encode),
    ),
    max_size=4,
)


def _with(boot: Boot, scripts: list[bytes], measured: list[bytes]) -> Boot:
    done = next(place for place, (name, _) in enumerate(boot) if name == "boot-mr-done") + 1
    scripted = [("init-script-hash", script) for script in scripts]
    return [*boot[:3], *scripted, *boot[3:done], *[("mr-kms", each) for each in measured], *boot[done:]]


def readings(event: Event) -> list[Event]:
    """All names and payloads that give the event's digest of version 1."""
    whole = event[0].encode() + b":" + event[1]
    found = []
    for place, byte in enumerate(whole):
        if byte == ord(":"):
            try:
                found.append((whole[:place].decode(), whole[place + 1 :]))
            except UnicodeDecodeError:
                continue
    return found


@st.composite
def shown_logs(draw: st.DrawFn, happened: Boot) -> list[dict[str, Any]]:
    shown = []
    for event in happened:
        read = draw(st.just(event) | st.sampled_from(readings(event)))
        entry = runtime_event(*read)
        form = draw(st.sampled_from(["", "", "", "stated", "absent", "wrong", "version", "type", "register"]))
        if form == "stated":
            entry = with_digest(entry)
        elif form == "absent":
            del entry["digest"]
        elif form == "wrong":
            entry["digest"] = with_digest(runtime_event("a", b"b"))["digest"]
        elif form == "version":  # with the digest of what happened
            entry = {**entry, "version": 2, "digest": draw(st.sampled_from(["", with_digest(entry)["digest"]]))}
        elif form == "type":
            entry = {**with_digest(entry), "event_type": draw(st.sampled_from([1, 6, 10]))}
        elif form == "register":
            entry = {**with_digest(entry), "imr": draw(st.integers(0, 3))}
        shown.append(entry)
    return shown


cases = st.tuples(boots, app_events).flatmap(
    lambda made: st.tuples(st.just([*made[0], *made[1]]), shown_logs([*made[0], *made[1]]))
)


def entries(happened: Boot) -> list[dict[str, Any]]:
    return [runtime_event(name, payload) for name, payload in happened]


def read(shown: list[dict[str, Any]], happened: Boot) -> BootLog:
    parsed = TdxQuote.parse(quote(b"R" * 64, registers(entries(happened))))
    events = parse_event_log(shown)
    check_replay(events, 3, parsed)
    return BootLog.parse(events)


@settings(max_examples=400, deadline=None)
@given(boots, app_events)
def test_unaltered_log_is_read_as_it_happened(boot: Boot, app: Boot) -> None:
    found = read(entries([*boot, *app]), [*boot, *app])
    assert found == BootLog.parse(parse_event_log(entries(boot)))
    assert [found.app_id, found.compose_hash] == [boot[1][1], boot[2][1]]


@settings(max_examples=400, deadline=None)
@given(cases)
def test_another_reading_of_the_log_is_refused_or_equal(case: tuple[Boot, list[dict[str, Any]]]) -> None:
    happened, shown = case
    try:
        found = read(shown, happened)
    except FailedError:
        return
    assert found == read(entries(happened), happened)


@settings(max_examples=200, deadline=None)
@given(boots, app_events, st.data())
def test_altered_app_events_do_not_change_the_boot_log(boot: Boot, app: Boot, data: st.DataObject) -> None:
    other = [data.draw(st.sampled_from(readings(event))) for event in app]
    happened = [*boot, *app]
    assert read(entries([*boot, *other]), happened) == read(entries(happened), happened)


@settings(max_examples=400, deadline=None)
@given(boots, st.data())
def test_altered_boot_event_is_refused(boot: Boot, data: st.DataObject) -> None:
    place = data.draw(st.sampled_from([n for n, event in enumerate(boot) if len(readings(event)) > 1]))
    other = data.draw(st.sampled_from([each for each in readings(boot[place]) if each != boot[place]]))
    try:
        found = read(entries([*boot[:place], other, *boot[place + 1 :]]), boot)
    except FailedError:
        return
    raise AssertionError(f"{other} was read as {found}")


def outcome(happened: Boot, log: list[dict[str, Any]]) -> tuple[bool, dict[str, str]]:
    """Whether all holds that is asked for, and what was found of the guest where it holds."""
    firmware = [event for event in event_log() if event["imr"] < 3]
    made = report("ecdsa", events=[*firmware, *entries(happened)], event_log=[*firmware, *log], app_id=None)
    policy = Policy(
        QuoteBook(made), compose_hash=COMPOSE_HASH, key_providers=frozenset({KMS_ID}), gpu=GpuDemand.UNVERIFIED
    )
    found = check_evidence(evidence(bodies=None, signatures=[], reports=[Statement(json.dumps(made).encode())]), policy)
    of_the_guest = {
        check.name: check.detail
        for check in found.checks
        if check.name.partition(" ")[2] in ("boot log", "compose hash", "key provider", "MRCONFIGID", "GPU policy")
        and check.status is Status.PASSED
    }
    return found.ok, of_the_guest


holding_boots = st.builds(
    lambda compose_hash, provider: boot_log(compose_hash=compose_hash, key_provider=provider),
    st.just(COMPOSE_HASH) | digits(32),
    providers,
)
holding_cases = st.tuples(holding_boots, app_events).flatmap(
    lambda made: st.tuples(st.just([*made[0], *made[1]]), shown_logs([*made[0], *made[1]]))
)


@settings(max_examples=200, deadline=None)
@given(holding_cases)
def test_altered_log_never_passes_more_checks_than_the_true_one(case: tuple[Boot, list[dict[str, Any]]]) -> None:
    happened, shown = case
    ok, found = outcome(happened, shown)
    true_ok, true_found = outcome(happened, entries(happened))
    payloads = dict(reversed(happened[: len(boot_log())]))
    assert true_ok is (
        payloads["compose-hash"] == COMPOSE_HASH and payloads["key-provider"] == key_provider("kms", KMS_ID)
    )
    assert true_ok or not ok
    assert found.items() <= true_found.items()


def test_compose_document_of_the_fixtures_pins_the_key_provider() -> None:
    assert json.loads(APP_COMPOSE)["key_provider_id"] == KMS_ID.hex()
    assert outcome(boot_log(), entries(boot_log()))[0]
