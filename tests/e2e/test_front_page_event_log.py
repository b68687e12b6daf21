"""How the front page reads and replays event logs, in a real browser: those of real guests, and malformed ones."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.e2e.support.dstack_guest import Guest, runtime_digest, shown
from tests.e2e.support.front_page import CLAIMS, REGISTERS, check_guest, opened_modules, with_status

PARSE_LOG = """async (log) => {
  const { parseEventLog } = await import("/proof-page/event_log.js")
  const { toHex } = await import("/proof-page/bytes.js")
  try {
    return (await parseEventLog(log)).map((event) => toHex(event.digest))
  } catch (error) {
    return error.message
  }
}"""


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    with opened_modules(browser) as opened:
        yield opened


def real_report(answer: dict[str, str], app_compose: str | None = None) -> dict[str, Any]:
    tcb_info = {} if app_compose is None else {"app_compose": app_compose}
    return {
        "intel_quote": answer["quote"],
        "event_log": answer["event_log"],  # JSON text, as dstack has it
        "vm_config": answer["vm_config"],
        "info": {"tcb_info": tcb_info},
    }


@pytest.mark.parametrize(
    ("capture", "config"), [("tdx-lite-getquote.json", "holds"), ("quote-report.json", "not made")]
)
def test_event_logs_of_real_guests_replay_to_their_registers(
    page: Page, dstack_vectors: dict[str, Any], capture: str, config: str
) -> None:
    real = dstack_vectors["real_quotes"][capture]
    found = check_guest(page, real_report(real["response"]))
    # Their compose files are not known, so neither can be compared.
    assert with_status(found, "fails") == {"compose hash", "key provider"}
    assert found["compose hash"][1] == "the report has no compose file"
    assert found["MRCONFIGID"][0] == config
    for number, value in enumerate(real["rtmrs"]):
        assert found[f"RTMR{number}"][1].endswith(f"events give {value}")


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_response_of_the_real_guest_agent_passes_the_guest_checks(
    page: Page, dstack_vectors: dict[str, Any], version: str
) -> None:
    answers = dstack_vectors["real_agent"][version]
    report = real_report(answers["GetQuote"], answers.get("app_compose"))
    if version == "v1":
        report["info"] = answers["Info_without_app_cert"]
    for log in (report["event_log"], json.loads(report["event_log"])):
        found = check_guest(page, report | {"event_log": log})
        assert with_status(found, "holds") == {*REGISTERS, "boot log", "compose hash"}
        assert "any KMS of the host's choice could hold these keys" in found["key provider"][1]
        assert found["MRCONFIGID"] == ["not made", "unset: the host has not stated what is to run in this TD"]


def test_event_digests_match_dstacks(page: Page, dstack_vectors: dict[str, Any]) -> None:
    for event in dstack_vectors["runtime_event_digests"]["events"]:
        entry = shown((event["event"], bytes.fromhex(event["event_payload"])))
        newer = entry | {"version": 2, "preimage": event["v2_preimage_utf8"].encode().hex()}
        log = [entry, entry | {"digest": event["v1_digest"]}, entry | {"version": 2}, newer]
        log.append(newer | {"digest": event["v2_digest"]})
        assert page.evaluate(PARSE_LOG, log) == [*[event["v1_digest"]] * 2, *[event["v2_digest"]] * 3]


def test_version_2_event_is_parsed_in_every_canonical_form(page: Page, dstack_vectors: dict[str, Any]) -> None:
    forms = dstack_vectors["v2_event_json"]
    stated = {event["digest"] for event in forms.values()} - {""}
    assert len(stated) == 1
    assert set(page.evaluate(PARSE_LOG, list(forms.values()))) == stated
    refused = page.evaluate(PARSE_LOG, [dstack_vectors["v2_refuse"]["event"]])
    assert "is not the canonical JSON" in refused


GOOD = shown(("app", b"payload"))
FIRMWARE = {"imr": 0, "event_type": 1, "digest": "11" * 48, "event": "", "event_payload": ""}
MALFORMED: dict[str, object] = {
    "a number for a log": 7,
    "an object for a log": {},
    "no JSON": "[",
    "an event that is a text": ["event"],
    "an event that is null": [None],
    "no register": [{**GOOD, "imr": None}],
    "register 4": [{**GOOD, "imr": 4}],
    "register -1": [{**FIRMWARE, "imr": -1}],
    "half a register": [{**FIRMWARE, "imr": 0.5}],
    "no name": [{**GOOD, "event": None}],
    "half of a surrogate pair": '[{"imr":3,"event_type":134217729,"event":"\\ud800","event_payload":""}]',
    "no payload": [{**GOOD, "event_payload": None}],
    "a payload that is not hex": [{**GOOD, "event_payload": "0g"}],
    "half a byte of a payload": [{**GOOD, "event_payload": "0"}],
    "a prefix": [{**GOOD, "event_payload": "0x00"}],
    "another digest": [{**GOOD, "digest": "00" * 48}],
    "the digest of another version": [{**GOOD, "version": 2, "digest": runtime_digest("app", b"payload").hex()}],
    "a digest that is null beside a false preimage": [{**GOOD, "version": 2, "digest": None, "preimage": "00"}],
    "version 3": [{**GOOD, "version": 3}],
    "a version that is a text": [{**GOOD, "version": "1"}],
    "another type in RTMR3": [{**GOOD, "event_type": 1, "digest": "00" * 48}],
    "a type that is a text": [{**GOOD, "event_type": "134217729"}],
    "a type of the firmware's that is a text": [{**FIRMWARE, "event_type": "1"}],
    "dstack's type in another register": [{**GOOD, "imr": 2, "digest": "00" * 48}],
    "no digest of the firmware": [{**FIRMWARE, "digest": ""}],
    "a digest longer than a register": [{**FIRMWARE, "digest": "00" * 49}],
    "too many events": [FIRMWARE] * 4097,
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_log_is_refused(page: Page, what: str) -> None:
    assert isinstance(page.evaluate(PARSE_LOG, MALFORMED[what]), str)
    found = check_guest(page, Guest().report() | {"event_log": MALFORMED[what]})
    assert with_status(found, "fails") == {*REGISTERS, *CLAIMS}


def test_event_log_with_an_event_removed_or_repeated_does_not_replay(page: Page) -> None:
    report = Guest().report()
    for number, event in enumerate(report["event_log"]):
        log = report["event_log"]
        name = f"RTMR{event['imr']}"
        expected = {name} | (CLAIMS if name == "RTMR3" else set())
        for changed in (log[:number] + log[number + 1 :], [*log[:number], event, *log[number:]]):
            assert with_status(check_guest(page, report | {"event_log": changed}), "fails") == expected
