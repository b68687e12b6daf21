"""The front page and tee-verify read event logs alike: the one in a real browser, the other in Python, any log."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser, Page

from attest_web.verify.dstack.boot_log import BootLog
from attest_web.verify.dstack.event_log import parse_event_log
from attest_web.verify.primitives.checks import FailedError
from tests.e2e.support.dstack_guest import (
    KMS_KEY,
    RUNTIME_EVENT,
    Event,
    Guest,
    RuntimeEvent,
    key_provider,
    runtime_digest,
)
from tests.e2e.support.front_page import check_guest, opened_modules

PARSE_LOG = """async (log) => {
  const { parseEventLog } = await import("/proof-page/event_log.js")
  const { toHex } = await import("/proof-page/bytes.js")
  try {
    const events = await parseEventLog(log)
    return events.map((event) => [event.register, toHex(event.digest), event.name, toHex(event.payload)])
  } catch {
    return null
  }
}"""

WHOLE = Guest(
    optional=(
        ("instance-id", ("init-script-hash", b"\1" * 32)),
        ("instance-id", ("gpu-policy-hash", b"\2" * 32)),
        ("instance-id", ("gpu-attestation", b"{}")),
        ("key-provider", ("mr-kms", b"\3" * 32)),
        ("key-provider", ("os-image-hash", b"\4" * 32)),
        ("system-ready", ("storage-fs", b"zfs")),
    )
).boot
OTHERS: list[RuntimeEvent] = [
    ("instance-id", b""),
    ("storage-fs", b"ext4"),
    ("storage-fs", b"xfs"),
    ("app-id", b"\1" * 32),
    ("compose-hash:", b"\1" * 31),
    ("key-provider", key_provider("none")),
    ("key-provider", key_provider("local-sgx", KMS_KEY)),
    ("key-provider", key_provider("kms", KMS_KEY).replace(b":", b": ")),
    ("app-event", b"\0"),
]


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    with opened_modules(browser) as opened:
        yield opened


@st.composite
def events(draw: st.DrawFn) -> Event:
    """An event of either version in one of its forms, and often with something wrong about it."""
    name, payload = draw(st.text(max_size=20)), draw(st.binary(max_size=40))
    version = draw(st.sampled_from((1, 2)))
    event: Event = {
        "imr": 3,
        "event_type": RUNTIME_EVENT,
        "event": name,
        "event_payload": payload.hex(),
        "version": version,
    }
    canonical = json.dumps(
        {"name": name, "payload": payload.hex(), "type": RUNTIME_EVENT}, separators=(",", ":"), ensure_ascii=False
    )
    wrong: st.SearchStrategy[Any] = st.sampled_from(("", "00", "0", "11" * 48, "AB" * 48, "22" * 49, None, 7, [], "zz"))
    changes: dict[str, st.SearchStrategy[Any]] = {
        "digest": st.just(runtime_digest(name, payload).hex()) | wrong,
        "version": st.sampled_from((1, 2, None, 3, "1")),
        "preimage": st.just(canonical.encode().hex()) | wrong,
        "imr": st.sampled_from((0, 2, 3, 4, -1, "3", None)),
        "event_type": st.sampled_from((1, RUNTIME_EVENT, "1", None)),
        "event": st.sampled_from(("", "\ud800", None, 7)),
        "event_payload": wrong,
    }
    for member in draw(st.lists(st.sampled_from(sorted(changes)), max_size=3, unique=True)):
        event[member] = draw(changes[member])
    return event


def in_python(entries: list[Event]) -> list[list[Any]] | None:
    try:
        read = parse_event_log(entries)
    except FailedError:
        return None
    return [[event.register, event.digest.hex(), event.name, event.payload.hex()] for event in read]


@settings(max_examples=200, deadline=None)
@given(log=st.lists(events(), max_size=3))
def test_front_page_and_tee_verify_parse_or_refuse_event_logs_alike(page: Page, log: list[Event]) -> None:
    assert page.evaluate(PARSE_LOG, json.dumps(log)) == in_python(log)


@st.composite
def boots(draw: st.DrawFn) -> list[RuntimeEvent]:
    """A boot with events left out, doubled, put elsewhere or added."""
    made = list(WHOLE)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(0, len(made) - 1)))
        put = draw(st.sampled_from(("out", "twice", "elsewhere", "replaced", "before")))
        taken = made.pop(at) if made and put in {"out", "elsewhere", "replaced"} else None
        if put == "elsewhere" and taken is not None:
            made.insert(draw(st.integers(0, len(made))), taken)
        elif put == "twice" and made:
            made.insert(at, made[at])
        elif put in {"replaced", "before"}:
            made.insert(at, draw(st.sampled_from(OTHERS)))
    return made


@settings(max_examples=200, deadline=None)
@given(boot=boots())
def test_front_page_and_tee_verify_accept_the_same_boot_logs(page: Page, boot: list[RuntimeEvent]) -> None:
    report = Guest().report(boot) if boot else Guest().report([("app-event", b"")])
    found = check_guest(page, report)["boot log"]
    try:
        read = BootLog.parse(parse_event_log(report["event_log"]))
    except FailedError:
        assert found[0] == "fails"
    else:
        assert found[0] == "holds"
        assert f"app {read.app_id.hex()}, instance {read.instance_id.hex() or 'unnamed'}" in found[1]
